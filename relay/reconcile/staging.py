"""Writes what a side shows in one plain form for the engine, and notes what of it cannot be read."""

import csv
from pathlib import Path

import msgspec

from relay.reconcile.job import Comparison, ExportSide, SideProblem
from relay.reconcile.rows import ExportRow, SideUnread, export_rows

_MOST_TOLD = 1000  # problems of one side that are told one by one
_FUTURE_S = 86400.0  # a time so far ahead of ours comes from a clock that is off


class StagedSide(msgspec.Struct):
    """A side as the engine reads it. ``whole`` is False where a line could have been any order."""

    file: str
    rows: int = 0
    nameless: int = 0  # lines without a key: none of them is in the file
    whole: bool = True
    usable: bool = True  # False: nothing of it may be compared
    problems: list[SideProblem] = []


def staged(side: ExportSide, name: str, wanted: Comparison, *, now: float) -> StagedSide:
    """Read ``side`` to its end or its fault and write its rows into the run's folder."""
    found = StagedSide(str(Path(wanted.folder) / f"{name}.csv"))
    ranks = {word: rank for rank, word in enumerate(wanted.order)}
    shown, faults, within = Path(side.file).name, 0, 0
    with open(found.file, "w", encoding="utf-8", newline="") as into:
        writer = csv.writer(into)
        try:
            for row in export_rows(side, order=frozenset(ranks), tz=wanted.tz):
                fault = row.fault or _clock_fault(row, now)
                within += not fault and wanted.since <= row.at <= wanted.until
                if fault:
                    faults += 1
                    if faults <= _MOST_TOLD:
                        found.problems.append(SideProblem(name, f"{shown}:{row.line}", fault))
                if row.key:
                    found.rows += 1
                    place = f"{shown}:{row.line}" if fault else ""
                    writer.writerow([row.key, row.status, ranks.get(row.status, -1), row.at, place, *row.also])
                else:
                    found.nameless += 1
        except SideUnread as unread:
            found.usable = False
            found.problems.append(SideProblem(name, f"{shown}:{unread.line}" if unread.line else shown, unread.text))
    if faults > _MOST_TOLD:
        found.problems.append(SideProblem(name, shown, f"{faults - _MOST_TOLD} more lines cannot be read"))
    if found.usable and not within:
        text = "no row that can be read changed between `since` and `until`: is it the export of another date?"
        found.problems.append(SideProblem(name, shown, text))
        found.usable = False
    found.whole = found.usable and not found.nameless
    return found


def _clock_fault(row: ExportRow, now: float) -> str:
    return "its time lies more than a day ahead: is the clock of this side off?" if row.at > now + _FUTURE_S else ""
