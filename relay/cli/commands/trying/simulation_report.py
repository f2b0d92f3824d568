"""How simulated runs are told: figures side by side and a plot for people, JSON for programs, an SVG."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf

import click

from relay.cli.support.human import duration
from relay.cli.support.output import printable
from relay.cli.support.table import terminal_columns, wrapped
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
    click.echo(f"{_HEADING}: platform {scenario.platform}, seed {scenario.seed}")
    for topic, text in stated.items():
        _say(f"  {topic:<9} {printable(text)}", indent=12)
    for number, assumption in enumerate(_assumed(runs)):
        _say(f"  {'' if number else 'assumed':<9} {assumption}", indent=12)
    click.echo()
    columns = [_rows(run.figures) for run in runs]
    if len(runs) > 1:
        columns = [{"": run.file, **column} for run, column in zip(runs, columns, strict=True)]
    names = list(dict.fromkeys(name for column in columns for name in column))
    widths = [max(len(text) for text in column.values()) for column in columns]
    room = terminal_columns()
    beside = room is None or 23 + sum(widths) + 3 * (len(widths) - 1) <= room
    for name in names:
        if beside or len(columns) == 1:
            cells = (column.get(name, "-").ljust(width) for column, width in zip(columns, widths, strict=True))
            _say(f"  {name:<20} {'   '.join(cells)}".rstrip(), indent=23)
            continue
        for at, column in enumerate(columns):
            _say(f"  {'' if at else name:<20} {column.get(name, '-')}", indent=23)
    for line in plot.terminal(_drawn(runs, plot.COLUMNS), label=duration):
        click.echo(plot.drawable(line, sys.stdout.encoding))


def _say(text: str, *, indent: int) -> None:
    for line in wrapped(text, indent=indent):
        click.echo(line)


def _rows(found: RunFigures) -> dict[str, str]:
    """Return the figures as a person reads them."""
    rows = {"callbacks": _counted(found)}
    if found.dead_reasons:
        rows["given up"] = printable("; ".join(f"{n:,} {reason}" for reason, n in found.dead_reasons.items()))
    rows["accept -> arrival"] = "  ".join(
        f"{name} {_delay(value)}"
        for name, value in (("p50", found.p50_s), ("p90", found.p90_s), ("p99", found.p99_s), ("max", found.max_s))
    )
    if found.in_time is not None:
        rows["in time"] = f"{percent(found.in_time)}, objective {found.objective}"
    rows["backlog peak"] = f"{found.backlog_peak:,} at {duration(found.backlog_peak_at_s)}"
    for number, drained in enumerate(found.drained, 1):
        name = "drained" if len(found.drained) == 1 else f"drained ({number})"
        after = "not within the run" if drained.after_s is None else f"{duration(drained.after_s)} after the outage"
        rows[name] = after
    rows["requests"] = f"{found.requests:,}, {found.items_per_request:.1f} callbacks each"
    rows["answers"] = "  ".join(f"{number:,} x {answer}" for answer, number in found.answers.items())
    if found.peaks:
        rows["most in any window"] = "  ".join(f"{most:,} of {rate}" for rate, most in found.peaks.items())
    if found.slots_of:
        used = "no backlog to tell by" if found.slots_used is None else f"{found.slots_used:.1%} of {found.slots_of}"
        rows["slots used"] = used
    if found.found:
        rows["limit found"] = _limit(found.found)
    rows["turned away"] = f"{found.rejects:,}, {found.rejects_per_hour:,.1f} per hour"
    rows["applied again"] = f"{found.repeats:,}"
    return rows


def _limit(found: Sequence[Found]) -> str:
    """Return the limit that the relay learned last and, if there was another, the first one."""
    last = found[-1]
    since = f"from {duration(last.at_s)} on"
    if not last.rates:
        text = f"none any more {since}"
    else:
        text = f"{', '.join(last.rates)} ({last.source}), {'in force' if last.enforced else 'not enforced'} {since}"
    return text if len(found) == 1 else f"{text}; first {', '.join(found[0].rates)} at {duration(found[0].at_s)}"


def _counted(found: RunFigures) -> str:
    parts = [f"{found.accepted:,} accepted", f"{found.delivered:,} delivered"]
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
    notes = [f"{topic}: {text}" for topic, text in stated.items()]
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
