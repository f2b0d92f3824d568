"""Windows that count what requests carry (items, bytes, points), and windows that begin at a fixed time.

They are as strict as ``strict_window``: what a request weighs is held from before its first byte until one window after
its answer was seen. In a calendar window (``100000/day@+08:00``) it is held until the end of the period in which its
answer was seen, and one answer time longer: the platform's clock, and the way there, may be late. So a request that was
on its way at midnight counts on both days.

Example: ``items: 6000/min``, and 5900 are held. A batch of 100 may go now, one of 500 when 400 more are free again.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from relay.core.model import Rate, Weight


class HeldWeight(NamedTuple):
    """What a request holds: when its answer was seen (None: under way), after how long, its kind and weight."""

    token: int
    at: float | None
    answer_s: float
    kind: int
    weight: Weight


class WeighedWindow:
    """The log of one rate. Times are seconds on one clock; ``shift_s`` is how far wall time is ahead of it."""

    __slots__ = ("_back", "_calendar", "_counts", "_open", "_shift_s", "_sum", "limit", "unit", "window_s")

    def __init__(self, rate: Rate, shift_s: Callable[[], float]) -> None:
        self.limit = rate.limit
        self.window_s = rate.window_s
        self.unit = rate.unit
        self._calendar = rate.calendar
        self._shift_s = shift_s
        self._open: dict[int, tuple[int, int]] = {}
        self._back: list[tuple[float, int, int]] = []  # sorted: when free again, weight, kind
        self._counts: dict[int, int] = {}
        self._sum = 0

    @property
    def calendar_text(self) -> str:
        """The period as the configuration writes it; empty for any window."""
        return "" if self._calendar is None else str(self._calendar)

    def weight(self, weight: Weight) -> int:
        """Return how much of the window something weighs."""
        found: int = getattr(weight, self.unit)
        return found

    def used(self, now: float) -> int:
        """Return how much is not free: under way, or answered less than a window ago."""
        freed = bisect_right(self._back, (now, math.inf, 0))
        if freed:
            for _, weight, kind in self._back[:freed]:
                self._sum -= weight
                self._counts[kind] -= weight
            del self._back[:freed]
        return self._sum

    def left(self, now: float) -> int:
        """Return how much is free."""
        return max(0, self.limit - self.used(now))

    def room_at(self, now: float, weight: int) -> float:
        """Return ``now`` when so much is free, else when it is; infinite when that depends on an answer.

        What is heavier than the whole window, after a reload, goes when the window is empty.
        """
        lacking = self.used(now) + min(weight, self.limit) - self.limit
        if lacking <= 0:
            return now
        for free_at, freed, _ in self._back:
            lacking -= freed
            if lacking <= 0:
                return free_at
        return math.inf

    def kinds(self, now: float) -> Mapping[int, int]:
        """Return how much of what is used is of each kind."""
        self.used(now)
        return self._counts

    def take(self, token: int, kind: int, weight: Weight) -> None:
        """Hold the weight of the request ``token``."""
        mine = self.weight(weight)
        self._open[token] = kind, mine
        self._add(kind, mine)

    def release(self, token: int, at: float, answer_s: float, wire_bytes: int = 0) -> None:
        """Start the way back of what ``token`` holds; ``wire_bytes``: how many it was found to send, 0: not known."""
        found = self._open.pop(token, None)
        if found is None:
            return
        kind, held = found
        mine = min(held, wire_bytes) if self.unit == "bytes" and wire_bytes else held
        self._add(kind, mine - held)
        self._put_back(at, answer_s, kind, mine)

    def forget(self, token: int) -> None:
        """Give it back at once: the request was never sent."""
        found = self._open.pop(token, None)
        if found is not None:
            self._add(found[0], -found[1])

    def lend(self, until: float, kind: int) -> None:
        """Hold what a request of somebody else weighs, who is answered by ``until`` at the latest."""
        mine = self.weight(Weight())
        self._add(kind, mine)
        self._put_back(until, 0.0, kind, mine)

    def take_back(self, until: float, kind: int) -> None:
        """Give back what was lent; nothing happens where it is free already."""
        entry = (self._free_at(until, 0.0), self.weight(Weight()), kind)
        place = bisect_left(self._back, entry)
        if place < len(self._back) and self._back[place] == entry:
            del self._back[place]
            self._add(kind, -entry[1])

    def resize(self, limit: int) -> None:
        """Put another limit over the same window in force; what was sent under the old one keeps counting."""
        self.limit = limit

    def restore(self, entries: Iterable[HeldWeight], now: float) -> None:
        """Replace the log by ``entries``."""
        self._open, self._back, self._counts, self._sum = {}, [], {}, 0
        for entry in entries:
            mine = self.weight(entry.weight)
            if entry.at is None:
                self.take(entry.token, entry.kind, entry.weight)
            elif self._free_at(entry.at, entry.answer_s) > now:
                self._add(entry.kind, mine)
                self._put_back(entry.at, entry.answer_s, entry.kind, mine)

    def empty_at(self, at: float) -> float:
        """Return when nothing counts any more of what was answered by ``at``."""
        return self._free_at(at, 0.0)

    def _free_at(self, at: float, answer_s: float) -> float:
        if self._calendar is None:
            return at + self.window_s
        shift_s = self._shift_s()
        return self._calendar.end(at + shift_s) - shift_s + answer_s

    def _put_back(self, at: float, answer_s: float, kind: int, mine: int) -> None:
        entry = (self._free_at(at, answer_s), mine, kind)
        self._back.insert(bisect_right(self._back, entry), entry)

    def _add(self, kind: int, mine: int) -> None:
        self._sum += mine
        self._counts[kind] = self._counts.get(kind, 0) + mine
