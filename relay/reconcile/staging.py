"""Writes what a side shows in one plain form for the engine, and notes what of it cannot be read."""

import csv
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from relay.core.plural import count
from relay.reconcile.job import ComparedSide, Comparison, FileSource, PlatformReply, Question, SideProblem
from relay.reconcile.sources.moments import Moments
from relay.reconcile.sources.opening import opened
from relay.reconcile.sources.record import SideUnread, SourceRows, text_of

_MOST_TOLD = 1000  # problems of one side that are told one by one
_JUST_NOW_S = 3600.0  # a window that ends so lately ends now
_FUTURE_S = 86400.0  # a time so far ahead of ours comes from a clock that is off


class StagedRow(msgspec.Struct, array_like=True):
    """A row as the engine reads it. ``fault`` says why it cannot be compared, else it is empty; without a key it could
    be any order."""

    key: str
    status: str
    rank: int
    at: float
    fault: str
    also: Sequence[str]


class StagedSide(msgspec.Struct):
    """A side as the engine reads it. ``whole`` is False where a line could have been any order."""

    file: str
    rows: int = 0
    nameless: int = 0  # lines without a key: none of them is in the file
    whole: bool = True
    measure: int = 0  # rows that the next run's are measured against: of an export all, else those of the window
    usable: bool = True  # False: nothing of it may be compared
    problems: list[SideProblem] = []


class RowReader:
    """Reads the values of one side's rows into what is compared."""

    def __init__(self, side: ComparedSide, wanted: Comparison, *, now: float) -> None:
        self._side = side
        self._ranks = {word: rank for rank, word in enumerate(wanted.order)}
        self._statuses: dict[str, tuple[str, int, str]] = {}
        self._moment = Moments(ZoneInfo(wanted.tz)).read
        self._latest = now + _FUTURE_S

    def read(self, values: Sequence[Any], fault: str) -> StagedRow:
        """Return a row; ``values`` are key, status, time and the further columns, none where ``fault`` says why."""
        if fault:
            return StagedRow("", "", -1, 0.0, fault, ())
        key, word, moment, *also = [text_of(value) if type(value) is not str else value.strip() for value in values]
        if not key:
            return StagedRow("", word, -1, 0.0, f"no value in {self._side.key}", also)
        status, rank, fault = self._statuses.get(word) or self._status(word)
        if fault:
            return StagedRow(key, status, rank, 0.0, fault, also)
        at = self._moment(moment)
        if at is None:
            return StagedRow(key, status, rank, 0.0, f"no time in {self._side.at}", also)
        if at > self._latest:
            fault = "its time lies more than a day ahead: is the clock of this side off?"
        return StagedRow(key, status, rank, at, fault, also)

    def _status(self, word: str) -> tuple[str, int, str]:
        known = word in self._side.status_map or word in self._ranks
        status = self._side.status_map.get(word, word)
        fault = "" if known else f"status_map does not know the status {word!r}"
        found = self._statuses[word] = (status, self._ranks.get(status, -1), fault)
        return found


def staged(
    side: ComparedSide,
    name: str,
    wanted: Comparison,
    *,
    now: float,
    last_rows: float | None,
    ask: Callable[[Question], PlatformReply],
) -> StagedSide:
    """Read ``side`` to its end or its fault and write its rows into the run's folder.

    ``last_rows`` is how many rows it had last time; with under ``wanted.fewest_rows`` of them it is refused.
    """
    found = StagedSide(str(Path(wanted.folder) / f"{name}.csv"))
    zone = ZoneInfo(wanted.tz)
    records = opened(side, since=wanted.asked_since, until=wanted.until, zone=zone, ask=ask)
    within = 0
    try:
        # What changes while it is read is no export of another date
        last = wanted.until if wanted.until < now - _JUST_NOW_S else math.inf
        within = _written(records, RowReader(side, wanted, now=now), name, (wanted.since, last), found)
    except SideUnread as unread:
        found.problems.append(SideProblem(name, unread.place, unread.text))
        found.usable = False
    if isinstance(side.source, FileSource):
        found.measure = found.rows + found.nameless
    if found.usable and last_rows is not None and found.measure < last_rows * wanted.fewest_rows:
        last_run = f"{wanted.fewest_rows:.0%} of the {last_rows:.0f} of the last run"
        text = f"has {count(found.measure, 'row')}, under {last_run}: is it whole?"
        found.problems.append(SideProblem(name, records.name, text))
        found.usable = False
    if found.usable and not within:
        text = "no row that can be read changed between `since` and `until`: is it the export of another date?"
        found.problems.append(SideProblem(name, records.name, text))
        found.usable = False
    found.whole = found.usable and not found.nameless
    return found


def _written(records: SourceRows, reader: RowReader, name: str, window: tuple[float, float], found: StagedSide) -> int:
    """Write all rows; return how many of them changed within the window."""
    faults = within = 0
    (since, until), read = window, reader.read
    with open(found.file, "w", encoding="utf-8", errors="replace", newline="") as into:
        write = csv.writer(into).writerow
        for number, values, fault in records:
            row = read(values, fault)
            place = ""
            if row.fault:
                faults += 1
                place = records.place(number)
                if faults <= _MOST_TOLD:
                    found.problems.append(SideProblem(name, place, row.fault))
            elif since <= row.at <= until:
                within += 1
            if row.key:
                found.rows += 1
                write((row.key, row.status, row.rank, row.at, place, *row.also))
            else:
                found.nameless += 1
    found.measure = within + faults
    if faults > _MOST_TOLD:
        found.problems.append(SideProblem(name, records.name, f"{faults - _MOST_TOLD} more rows cannot be read"))
    return within


def rows_of(side: ComparedSide, wanted: Comparison, keys: Collection[str], *, now: float) -> Iterator[StagedRow]:
    """Yield the rows of ``keys`` in a second read without the bounds of the window; raises ``SideUnread``."""
    reader = RowReader(side, wanted, now=now)
    zone = ZoneInfo(wanted.tz)
    for _, values, fault in opened(side, since=0.0, until=now + _FUTURE_S, zone=zone, ask=_asks_nobody):
        row = reader.read(values, fault)
        if row.key in keys and not row.fault:
            yield row


def _asks_nobody(question: Question) -> PlatformReply:
    raise AssertionError(f"a second read asks no platform ({question})")
