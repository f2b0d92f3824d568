"""The bodies that targets want: a text for robots and apprise, JSON for machines. Nothing is sent here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from relay.alerts.board import Status
from relay.alerts.words import Sentences, local_time
from relay.config.schema.alerts import AnyTarget, AppriseTarget, FeishuTarget, Language
from relay.core.raw import JsonObject

_WORDS: Final = {
    "en": {"firing": "ALERT", "resolved": "resolved", "drill": "DRILL", "note": "note"},
    "zh-CN": {"firing": "告警", "resolved": "已恢复", "drill": "演练", "note": "备查"},
}
_MOST_BYTES: Final = 1700  # WeCom's texts hold 2048 bytes with the title; the others hold more, and nobody reads more
_MOST_LINES: Final = 8
_MOST_NAMES_BYTES: Final = 500
# An Alertmanager ends what is not told again; Prometheus, too, gives it four times its own interval.
_LASTS_S: Final = 300.0


class Told(NamedTuple):
    """One piece of news, worded for a target. Times in seconds since the epoch; ``until`` None: it lasts."""

    rule: str
    status: Status
    platform: str
    group: str
    since: float
    until: float | None
    said: Sentences
    labels: Mapping[str, str] = {}


def bodies(target: AnyTarget, news: Sequence[Told], *, host: str, wall: float) -> list[bytes]:
    """Return the payloads that tell ``news`` to a target: one text for all, or a JSON object for each."""
    if target.kind == "webhook":
        return [_encoded(_as_json(each, host)) for each in news]
    if target.kind == "alertmanager":
        return [_encoded(_as_alert(each, host, wall)) for each in news]
    title, text = as_text(news, target.lang, host=host)
    if isinstance(target, AppriseTarget):
        return [_encoded({"title": title, "body": text})]
    whole = f"{title}\n{text}"
    if isinstance(target, FeishuTarget):
        return [_encoded({"msg_type": "text", "content": {"text": whole}})]
    return [_encoded({"msgtype": "text", "text": {"content": whole}})]


def as_text(news: Sequence[Told], language: Language, *, host: str) -> tuple[str, str]:
    """Return title and text. One piece of news is told whole; many become a digest with all their platforms."""
    words = _WORDS[language]
    if len(news) == 1:
        (one,) = news
        lines = [*_times(one, language), one.said.meaning, f"→ {one.said.todo}"]
        return f"[{words[one.status]}] {one.said.summary}", _cut("\n".join([*lines, host]))
    statuses = list(dict.fromkeys(each.status for each in news))
    about = list(dict.fromkeys(each.platform for each in news if each.platform))
    many = f"{len(news)} alerts" if language == "en" else f"{len(news)} 条告警"
    title = f"[{'/'.join(words[status] for status in statuses)}] {many}"
    lines = [_names(about, language)] if about else []
    lines += [f"· [{words[each.status]}] {each.said.summary}" for each in news[:_MOST_LINES]]
    return title, _cut("\n".join([*lines, "→ relay alerts", host]))


def _times(one: Told, language: Language) -> list[str]:
    if one.status in ("drill", "note"):
        return []
    since, until = local_time(one.since), None if one.until is None else local_time(one.until)
    if language == "en":
        return [f"since {since}" if until is None else f"from {since} to {until}"]
    return [f"自 {since}" if until is None else f"{since} 至 {until}"]


def _names(about: Sequence[str], language: Language) -> str:
    """Return every name, or as many as a message has room for and how many more there are."""
    shown: list[str] = []
    room = _MOST_NAMES_BYTES
    for name in about:
        room -= len(name.encode()) + 2
        if room < 0:
            break
        shown.append(name)
    more = len(about) - len(shown)
    if not more:
        return ", ".join(shown)
    return f"{', '.join(shown)} and {more} more" if language == "en" else f"{', '.join(shown)} 等，另有 {more} 个"


def _cut(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= _MOST_BYTES else raw[:_MOST_BYTES].decode(errors="ignore") + "…"


def _labels(told: Told, host: str) -> dict[str, str]:
    return {"host": host, **told.labels} | ({"group": told.group} if told.group else {})


def _as_json(told: Told, host: str) -> JsonObject:
    return {
        "rule": told.rule,
        "status": told.status,
        "platform": told.platform or None,
        "since": _instant(told.since),
        "until": None if told.until is None else _instant(told.until),
        **told.said._asdict(),
        "labels": _labels(told, host),
    }


def _as_alert(told: Told, host: str, wall: float) -> JsonObject:
    """Return what ``POST /api/v2/alerts`` takes; see prometheus.io/docs/alerting/clients."""
    ends = told.until if told.until is not None else wall + (_LASTS_S if told.status == "firing" else 60.0)
    name = "relay-drill" if told.status == "drill" else f"relay-{told.rule}"
    platform = {"platform": told.platform} if told.platform else {}
    return {
        "labels": {"alertname": name, **platform, **_labels(told, host)},
        "annotations": {"summary": told.said.summary, "description": told.said.meaning, "todo": told.said.todo},
        "startsAt": _instant(told.since),
        "endsAt": _instant(ends),
    }


def _instant(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value)
