"""The report as one HTML file: no script, nothing from elsewhere, readable on a phone, in Chinese and English."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from relay.reconcile.job import KINDS
from relay.reconcile.report import words
from relay.reconcile.report.words import Both
from relay.reconcile.results import DifferenceLine, OrderLine, RunSummary

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--bad:#c0392b}
body{font:16px/1.5 system-ui,-apple-system,"PingFang SC","Microsoft YaHei",sans-serif;margin:0 auto;padding:1rem;
max-width:64rem}
input[name=l]{margin-left:1rem}
#zh:checked~main .en,#en:checked~main .zh{display:none}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
.counts{display:flex;flex-wrap:wrap;gap:.5rem;padding:0;list-style:none}
.counts li{background:var(--soft);border-radius:.4rem;padding:.4rem .8rem}.counts b{font-size:1.3rem;display:block}
.bad{color:var(--bad)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
td:first-child{font-family:ui-monospace,monospace;word-break:break-all}
svg{width:100%;height:5rem;background:var(--soft);border-radius:.4rem}rect{fill:#2980b9}rect.bad{fill:var(--bad)}
"""
_BAR = 10


def page(summary: RunSummary, shown: Mapping[str, Sequence[DifferenceLine]], trend: Sequence[RunSummary]) -> str:
    """Return the report; ``shown`` has the first differences of each kind, ``trend`` the earlier runs' summaries."""
    body = "".join(
        (
            _head(summary),
            _counts(summary),
            _problems(summary),
            _repairs(summary),
            _verified(summary),
            _trend([*trend, summary]),
            *(_kind(kind, summary["counts"][kind], shown.get(kind, ())) for kind in KINDS if kind in summary["counts"]),
        )
    )
    title = f"{summary['platform']} {summary['run']}"
    return (
        '<!doctype html><html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        '<input type="radio" name="l" id="zh" checked><label for="zh">中文</label>'
        '<input type="radio" name="l" id="en"><label for="en">English</label>'
        f"<main>{body}</main></body></html>\n"
    )


def _both(text: Both, **values: Any) -> str:
    zh, en = (escape(each.format(**values) if values else each) for each in text)
    return f'<span class="zh" lang="zh-CN">{zh}</span><span class="en" lang="en">{en}</span>'


def _head(summary: RunSummary) -> str:
    label = words.LABELS
    state = "complete" if summary["complete"] else "incomplete"
    emphasis = "" if summary["complete"] else ' class="bad"'
    return (
        f"<h1>{_both(label['title'])} · {escape(summary['platform'])}</h1>"
        f"<p>{escape(str(summary['since']))} – {escape(str(summary['until']))} · {escape(summary['run'])}</p>"
        f"<p{emphasis}>{_both(label[state])}</p>"
    )


def _counts(summary: RunSummary) -> str:
    label = words.LABELS
    items = [f"<li><b>{summary['agree']:,}</b>{_both(label['agree'])}</li>"]
    items += [f"<li><b>{count:,}</b>{_both(words.KINDS[kind])}</li>" for kind, count in summary["counts"].items()]
    read = ", ".join(f"{_both(label[side])} {count:,}" for side, count in summary["read"].items())
    nothing = "" if summary["counts"] else f"<p>{_both(label['nothing'])}</p>"
    return f'<ul class="counts">{"".join(items)}</ul>{nothing}<p>{_both(label["read"])}: {read}</p>'


def _problems(summary: RunSummary) -> str:
    if not summary["problems"]:
        return ""
    rows = (
        f"<li>{escape(each['side'])} · {escape(each['place'])}: {escape(each['text'])}</li>"
        for each in summary["problems"][:100]
    )
    return f"<h2>{_both(words.LABELS['problems'])}</h2><ul>{''.join(rows)}</ul>"


def _repairs(summary: RunSummary) -> str:
    made = summary.get("repair")
    if not made:
        return ""
    counted = _both(words.LABELS["sent"], sent=made["sent"], applied=made["applied"], proposed=made["proposed"])
    refused = f'<p class="bad">{escape(made["refused"])}</p>' if made["refused"] else ""
    return f"<h2>{_both(words.LABELS['repairs'])}</h2><p>{counted}</p>{refused}"


def _verified(summary: RunSummary) -> str:
    """Tell what became of what an earlier run sent again, those that are not repaired by their numbers."""
    checked = summary.get("verified")
    if not checked:
        return ""
    counts = "".join(f"<li><b>{n:,}</b>{_both(words.RESULTS[name])}</li>" for name, n in checked["counts"].items())
    left = [each for each in summary.get("verified_orders", ()) if each["result"] != "repaired"]
    told = ((escape(each["key"]), _both(words.RESULTS[each["result"]])) for each in left)
    rows = "".join(f"<tr><td>{key}</td><td>{result}</td></tr>" for key, result in told)
    table = f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>' if rows else ""
    return f'<h2>{_both(words.LABELS["verified"], run=checked["of"])}</h2><ul class="counts">{counts}</ul>{table}'


def _trend(summaries: Sequence[RunSummary]) -> str:
    counts = [sum(count for kind, count in each["counts"].items() if kind != "unsettled") for each in summaries]
    most = max([*counts, 1])
    bars = []
    for place, (each, count) in enumerate(zip(summaries, counts, strict=True)):
        height = max(1.0, 40.0 * count / most)
        bad = "" if each["complete"] else ' class="bad"'
        bars.append(
            f'<rect x="{place * _BAR + 1}" y="{44 - height:.1f}" width="{_BAR - 2}" height="{height:.1f}"{bad}>'
            f"<title>{escape(each['run'])}: {count}</title></rect>"
        )
    width = max(30, len(summaries)) * _BAR
    return (
        f"<h2>{_both(words.LABELS['trend'])}</h2>"
        f'<svg viewBox="0 0 {width} 46" preserveAspectRatio="none" role="img">{"".join(bars)}</svg>'
    )


def _kind(kind: str, count: int, lines: Sequence[DifferenceLine]) -> str:
    label = words.LABELS
    heads = ("key", "why", "order_center", "platform", "relay", "do", "since")
    head = "".join(f"<th>{_both(label[name])}</th>" for name in heads)
    more = f"<p>{_both(label['first'], shown=len(lines))}</p>" if count > len(lines) else ""
    return (
        f"<h2>{_both(words.KINDS[kind])} · {count:,}</h2><p>{_both(words.MEANS[kind])}</p>{more}"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(_rows(lines))}</tbody></table></div>'
    )


def _rows(lines: Iterable[DifferenceLine]) -> Iterable[str]:
    for line in lines:
        sent = line["relay"]
        told = words.PROPOSALS.get(line["proposal"])
        cells = (
            escape(line["key"]),
            escape(line["why"] or ""),
            _side(line["order_center"]),
            _side(line["platform"]),
            "" if sent is None else escape(" ".join((sent["state"], sent["id"], sent["reason"] or ""))),
            escape(line["proposal"]) if told is None else _both(told),
            escape((line["first_seen"] or "")[:16]),
        )
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _side(side: OrderLine | None) -> str:
    return "" if side is None else f"{escape(side['status'])}<br><small>{escape((side['at'] or '')[:16])}</small>"
