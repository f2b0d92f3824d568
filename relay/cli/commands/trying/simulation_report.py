"""How simulated runs are told: figures side by side and a plot for people, JSON for programs, an SVG."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf

import click

from relay.cli.support.human import duration
from relay.cli.support.output import printable
from relay.cli.support.table import padded, print_wrapped, terminal_columns, width_of
from relay.cli.words.daemon_words import heard
from relay.cli.words.sentences import say
from relay.simulate import plot
from relay.simulate.figures import RunFigures, assumptions, series
from relay.simulate.record import Found, Record
from relay.simulate.run import Scenario
from relay.views.past.objective import percent

_HEADING = "modelled, not measured"


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """One simulated file: what was tried, what happened, and its figures."""

    file: str
    scenario: Scenario
    record: Record
    figures: RunFigures


def _assumed(runs: Sequence[SimulatedRun]) -> list[str]:
    return list(dict.fromkeys(line for run in runs for line in assumptions(run.scenario)))


def print_runs(runs: Sequence[SimulatedRun], stated: dict[str, str]) -> None:
    """Print the runs as a table of figures side by side, with a plot; ``stated`` are the options in words."""
    scenario = runs[0].scenario
    words = "modelled, not measured: platform {platform}, seed {seed}"
    click.echo(say(words, platform=scenario.platform, seed=scenario.seed))
    for topic, text in stated.items():
        print_wrapped(f"  {padded(say(topic), 9)} {printable(text)}", indent=12)
    for number, assumption in enumerate(_assumed(runs)):
        print_wrapped(f"  {padded('' if number else say('assumed'), 9)} {heard(assumption)}", indent=12)
    click.echo()
    columns = [_rows(run.figures) for run in runs]
    if len(runs) > 1:
        columns = [{"": run.file, **column} for run, column in zip(runs, columns, strict=True)]
    names = list(dict.fromkeys(name for column in columns for name in column))
    widths = [max(width_of(text) for text in column.values()) for column in columns]
    room = terminal_columns()
    beside = room is None or 23 + sum(widths) + 3 * (len(widths) - 1) <= room
    for name in names:
        if beside or len(columns) == 1:
            cells = (padded(column.get(name, "-"), width) for column, width in zip(columns, widths, strict=True))
            print_wrapped(f"  {padded(name, 20)} {'   '.join(cells)}".rstrip(), indent=23)
            continue
        for at, column in enumerate(columns):
            print_wrapped(f"  {padded('' if at else name, 20)} {column.get(name, '-')}", indent=23)
    for line in plot.terminal(_drawn(runs, plot.COLUMNS), label=duration, titled=heard):
        click.echo(plot.drawable(line, sys.stdout.encoding))


def _rows(found: RunFigures) -> dict[str, str]:
    """Return the figures as a person reads them."""
    rows = {say("callbacks"): _counted(found)}
    if found.dead_reasons:
        rows[say("given up")] = printable("; ".join(f"{n:,} {reason}" for reason, n in found.dead_reasons.items()))
    rows[say("accept -> arrival")] = "  ".join(
        f"{name} {_delay(value)}"
        for name, value in (("p50", found.p50_s), ("p90", found.p90_s), ("p99", found.p99_s), ("max", found.max_s))
    )
    if found.in_time is not None:
        words = "{part}, objective {objective}"
        rows[say("in time")] = say(words, part=percent(found.in_time), objective=found.objective)
    peak, at = f"{found.backlog_peak:,}", duration(found.backlog_peak_at_s)
    rows[say("backlog peak")] = say("{count} at {when}", count=peak, when=at)
    for number, drained in enumerate(found.drained, 1):
        name = say("drained") if len(found.drained) == 1 else say("drained ({number})", number=number)
        after = say("not within the run")
        if drained.after_s is not None:
            after = say("{time} after the outage", time=duration(drained.after_s))
        rows[name] = after
    requests, items = f"{found.requests:,}", f"{found.items_per_request:.1f}"
    rows[say("requests")] = say("{count}, {items} callbacks each", count=requests, items=items)
    rows[say("answers")] = "  ".join(f"{number:,} x {answer}" for answer, number in found.answers.items())
    if found.peaks:
        most = (say("{most} of {rate}", most=f"{most:,}", rate=rate) for rate, most in found.peaks.items())
        rows[say("most in any window")] = "  ".join(most)
    if found.slots_of:
        used = say("no backlog to tell by")
        if found.slots_used is not None:
            used = say("{part} of {rate}", part=f"{found.slots_used:.1%}", rate=found.slots_of)
        rows[say("slots used")] = used
    if found.found:
        rows[say("limit found")] = _limit(found.found)
    turned = f"{found.rejects:,}", f"{found.rejects_per_hour:,.1f}"
    rows[say("turned away")] = say("{count}, {hourly} per hour", count=turned[0], hourly=turned[1])
    rows[say("applied again")] = f"{found.repeats:,}"
    return rows


def _limit(found: Sequence[Found]) -> str:
    """Return the limit that the relay learned last and, if there was another, the first one."""
    last = found[-1]
    since = duration(last.at_s)
    if not last.rates:
        text = say("none any more from {when} on", when=since)
    else:
        words = "{rates} ({source}), in force from {when} on"
        if not last.enforced:
            words = "{rates} ({source}), not enforced from {when} on"
        text = say(words, rates=", ".join(last.rates), source=say(last.source), when=since)
    if len(found) == 1:
        return text
    words = "{last}; first {rates} at {when}"
    return say(words, last=text, rates=", ".join(found[0].rates), when=duration(found[0].at_s))


def _counted(found: RunFigures) -> str:
    parts = [say("{count} accepted", count=f"{found.accepted:,}"), f"{found.delivered:,} delivered"]
    for word in ("superseded", "dead", "expired", "pending", "held"):
        count = getattr(found, word)
        if count or word in ("dead", "expired"):
            parts.append(f"{count:,} {word}")
    return ", ".join(parts)


def _delay(seconds: float | None) -> str:
    if seconds is None or isinf(seconds):
        return "-"
    return f"{seconds:.2f}s" if seconds < 60 else duration(seconds)


def _drawn(runs: Sequence[SimulatedRun], columns: int) -> list[plot.Drawn]:
    end_s = max(run.figures.ran_s for run in runs)
    return [
        plot.Drawn(
            run.file,
            series(run.record, columns, end_s),
            [(each.start_s, each.end_s) for each in run.scenario.outages],
        )
        for run in runs
    ]


def svg_of(runs: Sequence[SimulatedRun], stated: dict[str, str]) -> str:
    """Return the plot of the runs as an SVG."""
    notes = [f"{say(topic)}: {text}" for topic, text in stated.items()]
    title = f"{_HEADING}: platform {runs[0].scenario.platform}"
    return plot.svg(_drawn(runs, plot.SVG_COLUMNS), title=title, notes=notes, label=duration)


def runs_as_dict(runs: Sequence[SimulatedRun], stated: dict[str, str]) -> dict[str, object]:
    """Return the runs for JSON."""
    drawn = _drawn(runs, plot.COLUMNS)
    return {
        "note": _HEADING,
        "platform": runs[0].scenario.platform,
        "seed": runs[0].scenario.seed,
        "stated": stated,
        "assumptions": _assumed(runs),
        "runs": [
            {"config": run.file, "figures": run.figures.as_dict(), "series": each.series._asdict()}
            for run, each in zip(runs, drawn, strict=True)
        ],
    }
