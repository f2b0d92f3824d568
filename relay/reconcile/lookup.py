"""Looks an order up on the other side before it is called missing or unknown: it may only lie outside of a window.

1. The platform is asked about it (``confirm``), one request each, under all its limits.
2. A query is asked once more, without the bounds of the window. A file was read whole in the first place.
3. What the relay vouches for is never unknown (``engine``).
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from relay.reconcile.answered import Standing, row_in, standing
from relay.reconcile.engine import Engine
from relay.reconcile.job import (
    SIDES,
    Comparison,
    PlatformReply,
    Question,
    SideProblem,
    SqlSource,
)
from relay.reconcile.sources.record import SideUnread
from relay.reconcile.staging import RowReader, StagedRow, rows_of

_MOST_ASKED = 500  # at 20 a minute that is 25 minutes


class _Looked(NamedTuple):
    """What asking about single orders came to."""

    rows: list[StagedRow]
    same: list[str]  # there, as the order center has them
    open: list[str]  # no answer says anything


def look_up(
    engine: Engine, wanted: Comparison, *, now: float, ask: Callable[[Question], PlatformReply]
) -> list[SideProblem]:
    """Look up what only one side lists, and judge again. Return what of it could not be looked up."""
    problems: list[SideProblem] = []
    changed = False
    for name, kind, side in zip(SIDES[::-1], ("missing", "unknown"), (wanted.shown, wanted.order_center), strict=True):
        found = engine.one_sided(kind)
        if not found:
            continue
        if kind == "missing" and wanted.confirms:
            looked = _asked(found[:_MOST_ASKED], wanted, now=now, ask=ask)
            if len(found) > _MOST_ASKED:
                text = f"{len(found) - _MOST_ASKED} more orders were not looked up one by one"
                problems.append(SideProblem(name, "confirm", text))
            _add(engine, name, wanted, looked.rows)
            engine.add_same(looked.same)
            engine.leave(looked.open)
            changed = True
        elif isinstance(side.source, SqlSource):
            keys = {key for key, _ in found}
            try:
                _add(engine, name, wanted, rows_of(side, wanted, keys, now=now))
            except SideUnread as unread:
                problems.append(SideProblem(name, unread.place, f"the second read: {unread.text}"))
                engine.leave(sorted(keys))
            changed = True
    if changed:
        engine.judge()
    return problems


def _add(engine: Engine, name: str, wanted: Comparison, rows: Iterable[StagedRow]) -> None:
    file = str(Path(wanted.folder) / f"{name}-looked.csv")
    with open(file, "w", encoding="utf-8", errors="replace", newline="") as into:
        write = csv.writer(into).writerow
        for row in rows:
            write((row.key, row.status, row.rank, row.at, "", *row.also))
    engine.add(name, file)


def _asked(
    orders: Sequence[tuple[str, str | None]],
    wanted: Comparison,
    *,
    now: float,
    ask: Callable[[Question], PlatformReply],
) -> _Looked:
    looked = _Looked([], [], [])
    read = RowReader(wanted.shown, wanted, now=now).read
    for key, callback in orders:
        reply = ask(Question(order=key, callback=callback or ""))
        row = row_in(reply, key, read) if reply.outcome else None
        if row is not None:
            looked.rows.append(row)
            continue
        match standing(reply):
            case Standing.SAME:
                looked.same.append(key)
            case Standing.OPEN:
                looked.open.append(key)
            case Standing.GONE | Standing.UNASKED:
                pass  # what the listing said stands
    return looked
