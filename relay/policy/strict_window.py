"""The strict window: at most N requests arrive in any W seconds, whatever the network delays.

A slot is held from the moment it is taken (before the first byte) until one full window after the answer was seen. A
request arrives somewhere between the two, so two uses of one slot arrive at least W apart (SPEC 6, "Limits are
strict"). A token bucket cannot promise that: with a burst of N it lets nearly 2N into one window.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable

from relay.core.model import Rate

# Freed entries are cut off the front of the log when they are this many and half of it: each is moved once on average.
_CUT_FROM = 256


class StrictWindow:
    """The log of one rate's slots. Times are seconds on one clock that never goes back.

    ``_back`` holds, sorted, when each answered slot is free again; what lies before ``_head`` is free already. Answers
    come nearly in order, so an insert touches the end only. Every operation is O(log n) or amortised O(1), and a log
    of 100,000 slots takes 800 KB.
    """

    __slots__ = ("_back", "_head", "_open", "limit", "window_s")

    def __init__(self, rate: Rate) -> None:
        self.limit = rate.limit
        self.window_s = rate.window_s
        self._open: set[int] = set()
        self._back: array[float] = array("d")
        self._head = 0

    def used(self, now: float) -> int:
        """Return how many slots are not free: in flight, or answered less than a window ago."""
        back = self._back
        head = self._head
        if head < len(back) and back[head] <= now:
            self._head = head = bisect_right(back, now, head)
            if head >= _CUT_FROM and head * 2 >= len(back):
                del back[:head]
                self._head = head = 0
        return len(self._open) + len(back) - head

    def free_at(self, now: float) -> float:
        """Return ``now`` when a slot is free, else when the next one is; infinite when that depends on an answer."""
        lacking = self.used(now) - self.limit + 1
        if lacking <= 0:
            return now
        index = self._head + lacking - 1
        return self._back[index] if index < len(self._back) else math.inf

    def take(self, token: int) -> None:
        """Hold a slot for the request ``token``. It is the caller's to have asked ``free_at``."""
        self._open.add(token)

    def release(self, token: int, at: float) -> None:
        """Start the way back of the slot ``token`` held: its answer was seen ``at``. Unknown tokens are ignored."""
        if token not in self._open:
            return
        self._open.discard(token)
        free_at = at + self.window_s
        back = self._back
        if self._head == len(back) or back[-1] <= free_at:
            back.append(free_at)
        else:
            back.insert(bisect_right(back, free_at, self._head), free_at)

    def forget(self, token: int) -> None:
        """Give a slot back at once: the request was never sent."""
        self._open.discard(token)

    def resize(self, limit: int) -> None:
        """Put another limit over the same window in force; what was sent under the old one keeps counting."""
        self.limit = limit

    def restore(self, entries: Iterable[tuple[int, float | None]], now: float) -> None:
        """Replace the log by ``entries``: tokens, each with when its answer was seen or None while in flight."""
        window_s = self.window_s
        self._open = set()
        back = []
        for token, at in entries:
            if at is None:
                self._open.add(token)
            elif at + window_s > now:
                back.append(at + window_s)
        back.sort()
        self._back = array("d", back)
        self._head = 0
