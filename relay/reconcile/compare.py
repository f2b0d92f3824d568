"""Compares what a ``Comparison`` names, in a process of its own: the engine's library never comes near the daemon."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from relay.core.plural import count
from relay.reconcile import ours
from relay.reconcile.engine import Engine
from relay.reconcile.job import (
    KINDS,
    ROWS,
    SEEN,
    SENT,
    SIDES,
    Comparison,
    PagedSource,
    PlatformReply,
    Question,
    SideProblem,
    SqlSource,
)
from relay.reconcile.lookup import look_up
from relay.reconcile.results import CallbackLine, DifferenceLine, RunSummary
from relay.reconcile.staging import StagedSide, staged
from relay.store.sent import SentCallback

_PROPOSALS = {
    "not_posted": "post", "pruned": "post", "waiting": "wait", "held": "resolve", "dead": "retry", "expired": "retry",
    "not_applied": "resend",
}  # fmt: skip
_SAME_SPAN = 0.1  # of the span: rows of a query are compared with those of a run over about as long a time
_MANY = 20  # rows from before a side begins: fewer may have been lost one by one


def compared(
    wanted: Comparison,
    sent: Iterable[SentCallback],
    *,
    now: float,
    shift_s: float,
    ask: Callable[[Question], PlatformReply],
) -> Iterator[DifferenceLine | RunSummary]:
    """Yield every difference, then the summary. ``sent`` is what the relay's store holds of the platform.

    What the next run must know is written into the run's folder (``SEEN``, ``ROWS``) when the run is complete. The
    summary's ``agreeing`` are those of ``wanted.watched`` that agree; it is for who started this, not for people.
    """
    folder = Path(wanted.folder)
    last = _last_rows(folder, wanted)
    sides = []
    for side, name in zip((wanted.order_center, wanted.shown), SIDES, strict=True):
        sides.append(staged(side, name, wanted, now=now, last_rows=last.get(name), ask=ask))
    center, shown = sides
    problems = [*center.problems, *shown.problems]
    summary: RunSummary = {
        "run": wanted.run,
        "platform": wanted.platform,
        "since": instant(wanted.since),
        "until": instant(wanted.until),
        "complete": center.whole and shown.whole,
        "read": dict.fromkeys(SIDES, 0),
        "agree": 0,
        "counts": {},
        "sides": {name: {} for name in SIDES},
        "problems": [],
    }
    if center.usable and shown.usable:
        engine = Engine(wanted.folder)
        engine.load(wanted, center, shown)
        problems += _short(engine, wanted)
        unknown = ours.write(
            sent, str(folder / SENT), wanted.relay, order=wanted.order, shift_s=shift_s, only=engine.suspects()
        )
        if unknown:
            told = count(unknown, "callback")
            text = f"status_map does not know the status in {told}: they explain nothing here"
            problems.append(SideProblem("relay", "the store", text))
        (folder / SEEN).touch()
        engine.load_ours()
        engine.judge()
        problems += look_up(engine, wanted, now=now, ask=ask)
        _fill(summary, engine, center, shown)
        summary["agreeing"] = engine.agreeing()
        yield from _remembered(engine, folder, keep=summary["complete"], follow=wanted.follow)
    if summary["complete"]:
        rows = {name: side.measure for name, side in zip(SIDES, sides, strict=True)}
        (folder / ROWS).write_bytes(msgspec.json.encode({**rows, "span": wanted.until - wanted.since}))
    summary["problems"] = [{"side": each.side, "place": each.place, "text": each.text} for each in problems]
    yield summary


def _short(engine: Engine, wanted: Comparison) -> Iterator[SideProblem]:
    """Tell of a side that begins long after ``since`` where the other has many rows from before.

    It may be so: then the orders from before are missing there. Or the export is a shorter one.
    """
    for name, other, side in zip(SIDES, SIDES[::-1], (wanted.order_center, wanted.shown), strict=True):
        source = side.source
        if isinstance(source, PagedSource) or (isinstance(source, SqlSource) and source.bounded):
            continue  # it was asked for all since then
        oldest, before = engine.reach(name, other)
        late = oldest is not None and oldest - wanted.since > _SAME_SPAN * (wanted.until - wanted.since)
        if late and before >= _MANY:
            what = (
                "the query names no :since, and its rows begin" if isinstance(source, SqlSource) else "its rows begin"
            )
            text = (
                f"{what} at {instant(oldest)}, where the other side has {count(before, 'row')} from before, since "
                f"{instant(wanted.since)}: does it reach back so far? If not, such orders are not missing or unknown"
            )
            yield SideProblem(name, "since", text)


def _last_rows(folder: Path, wanted: Comparison) -> dict[str, float]:
    file = folder / ROWS
    if not file.exists():
        return {}
    try:
        last = msgspec.json.decode(file.read_bytes(), type=dict[str, float])
    except msgspec.DecodeError:
        return {}  # damaged: this run writes it anew
    span = wanted.until - wanted.since
    return last if abs(last["span"] - span) <= _SAME_SPAN * span else {}


def _remembered(engine: Engine, folder: Path, *, keep: bool, follow: bool) -> Iterator[DifferenceLine]:
    """Yield the differences, and write down since when there is each.

    A run over another time than usual (not ``follow``) leaves what is known of all other orders.
    """
    with open(folder / SEEN, "a" if not keep else "w", encoding="utf-8", newline="") as into:
        write = csv.writer(into).writerow
        if keep and not follow:
            for left in engine.not_compared():
                write(left)
        for row in engine.found():
            *_, first_seen, runs, carried = row
            if keep:
                write((row[0], first_seen, runs, carried))
            yield _difference(row)


def _fill(summary: RunSummary, engine: Engine, center: StagedSide, shown: StagedSide) -> None:
    counts = {kind: rows for kind, *rows in engine.counts()}
    agreeing = counts.pop(None, [0, 0, 0])
    summary["agree"] = agreeing[0]
    summary["counts"] = {kind: counts[kind][0] for kind in KINDS if kind in counts}
    for at, (name, side) in enumerate(zip(SIDES, (center, shown), strict=True), start=1):
        rows = {kind: counts[kind][at] for kind in KINDS if kind in counts and counts[kind][at]}
        if side.nameless:
            rows["unreadable"] = rows.get("unreadable", 0) + side.nameless
        summary["sides"][name] = rows
        summary["read"][name] = agreeing[at] + sum(rows.values())


def _difference(row: tuple[Any, ...]) -> DifferenceLine:
    key, kind, why, a_status, a_at, p_status, p_at, place, last, first_seen, runs, _ = row
    if kind == "unreadable":
        proposal = place
    elif kind == "unsettled":
        proposal = "next run"
    else:
        proposal = _PROPOSALS.get(why, "ask") if kind in ("missing", "behind") else "ask"
    return {
        "key": key,
        "kind": kind,
        "why": why,
        "order_center": None if a_status is None else {"status": a_status, "at": instant(a_at)},
        "platform": None if p_status is None else {"status": p_status, "at": instant(p_at)},
        "relay": None if last is None else _callback(last),
        "proposal": proposal,
        "first_seen": instant(first_seen),
        "runs": runs,
    }


def _callback(last: Mapping[str, Any]) -> CallbackLine:
    return {
        "id": last["id"],
        "state": last["state"],
        "at": instant(last["at"]),
        "reason": last["reason"],
        "status": last["status"],
    }


def instant(at: float | None) -> str | None:
    """Return a time as text; None where there is none (a line that could not be read has time 0)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
