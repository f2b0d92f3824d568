"""The strict window: at most N requests arrive in any W seconds, whatever the network delays.

A slot is held from the moment it is taken (before the first byte) until one full window after the answer was seen. A
request arrives somewhere between the two, so two uses of one slot arrive at least W apart (SPEC 6, "Limits are
strict"). A token bucket cannot promise that: with a burst of N it lets nearly 2N into one window.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

from relay.core.model import Rate

# Freed entries are cut off the front of the log when they are this many and half of it: each is moved once on average.
_CUT_FROM = 256


class StrictWindow:
    """The log of one rate's slots. Times are seconds on one clock that never goes back.

    ``_back`` holds, sorted, when each answered slot is free again; what lies before ``_head`` is free already. Answers
    come nearly in order, so an insert touches the end only. Every operation is O(log n) or amortised O(1), and a log
    of 100,000 slots takes 1 MB. ``_kinds`` says of each entry of ``_back`` what its slot was used for.
    """

    __slots__ = ("_back", "_counts", "_head", "_kinds", "_open", "limit", "window_s")

    def __init__(self, rate: Rate) -> None:
        self.limit = rate.limit
        self.window_s = rate.window_s
        self._open: dict[int, int] = {}
        self._back: array[float] = array("d")
        self._kinds: array[int] = array("I")
        self._counts: dict[int, int] = {}
        self._head = 0

    def used(self, now: float) -> int:
        """Return how many slots are not free: in flight, or answered less than a window ago."""
        back = self._back
        head = self._head
        if head < len(back) and back[head] <= now:
            freed = head
            self._head = head = bisect_right(back, now, head)
            for kind in self._kinds[freed:head]:
                self._counts[kind] -= 1
            if head >= _CUT_FROM and head * 2 >= len(back):
                del back[:head], self._kinds[:head]
                self._head = head = 0
        return len(self._open) + len(back) - head

    def free_at(self, now: float) -> float:
        """Return ``now`` when a slot is free, else when the next one is; infinite when that depends on an answer."""
        return self.room_at(now, 1)

    def room_at(self, now: float, count: int) -> float:
        """Return the same for so many slots at once."""
        lacking = self.used(now) - self.limit + count
        if lacking <= 0:
            return now
        index = self._head + lacking - 1
        return self._back[index] if index < len(self._back) else math.inf

    def kinds(self, now: float) -> Mapping[int, int]:
        """Return how many of the used slots there are of each kind; a kind that is gone may stand there with 0."""
        self.used(now)
        return self._counts

    def take(self, token: int, kind: int = 0) -> None:
        """Hold a slot for the request ``token``, used for ``kind``. It is the caller's to have asked ``free_at``."""
        self._open[token] = kind
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def release(self, token: int, at: float) -> None:
        """Start the way back of the slot ``token`` held: its answer was seen ``at``. Unknown tokens are ignored."""
        kind = self._open.pop(token, None)
        if kind is not None:
            self._put_back(at + self.window_s, kind)

    def lend(self, until: float, kind: int) -> None:
        """Hold a slot for somebody whose request is answered by ``until`` at the latest: its way back starts then."""
        self._put_back(until + self.window_s, kind)
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def take_back(self, until: float, kind: int) -> None:
        """Give a lent slot back at once; nothing happens where it is free already."""
        free_at = until + self.window_s
        back = self._back
        place = bisect_left(back, free_at, self._head)
        while place < len(back) and back[place] == free_at:
            if self._kinds[place] == kind:
                del back[place], self._kinds[place]
                self._counts[kind] -= 1
                return
            place += 1

    def _put_back(self, free_at: float, kind: int) -> None:
        back = self._back
        if self._head == len(back) or back[-1] <= free_at:
            back.append(free_at)
            self._kinds.append(kind)
        else:
            place = bisect_right(back, free_at, self._head)
            back.insert(place, free_at)
            self._kinds.insert(place, kind)

    def forget(self, token: int) -> None:
        """Give a slot back at once: the request was never sent."""
        kind = self._open.pop(token, None)
        if kind is not None:
            self._counts[kind] -= 1

    def resize(self, limit: int) -> None:
        """Put another limit over the same window in force; what was sent under the old one keeps counting."""
        self.limit = limit

    def restore(self, entries: Iterable[tuple[int, float | None, int]], now: float) -> None:
        """Replace the log by ``entries``: tokens, when each one's answer was seen (None: in flight), and its kind."""
        window_s = self.window_s
        self._open = {}
        back = []
        for token, at, kind in entries:
            if at is None:
                self._open[token] = kind
            elif at + window_s > now:
                back.append((at + window_s, kind))
        back.sort()
        self._back = array("d", (free_at for free_at, _ in back))
        self._kinds = array("I", (kind for _, kind in back))
        self._counts = dict(Counter([*self._open.values(), *self._kinds]))
        self._head = 0
