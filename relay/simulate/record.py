"""Records a simulated run: its requests, delays and backlog. Times are seconds from its start."""

from array import array
from collections import Counter
from typing import NamedTuple

from relay.core.model import Batch, Weight


class Arrived(NamedTuple):
    """One request at the platform.

    ``taken``: its callbacks were applied. ``limited``: it was above a limit. ``counted``: a limit counted it, which
    none does while the platform is down.
    """

    at_s: float
    weight: Weight
    answer: str
    taken: bool
    limited: bool
    counted: bool


class Found(NamedTuple):
    """A limit that was learned at ``at_s``; empty ``rates``: it no longer holds."""

    at_s: float
    source: str
    rates: tuple[str, ...]
    enforced: bool
    confidence: float


class Level(NamedTuple):
    """The backlog from ``at_s`` on. ``waiting`` is the part of it that is in no request under way."""

    at_s: float
    pending: int
    waiting: int


class Record:
    """Filled during the run. It grows only with requests, callbacks and changes of the backlog."""

    def __init__(self) -> None:
        self.requests: list[Arrived] = []
        self.delays = array("d")  # seconds from acceptance to the first request that was applied
        self.found: list[Found] = []
        self.late = 0  # delivered later than the platform's objective allows
        self.repeats = 0  # callbacks that the platform applied again
        self.ends: Counter[str] = Counter()  # callbacks that were given up, by reason
        self._at = array("d")
        self._pending = array("q")
        self._waiting = array("q")
        self._taken: set[int] = set()  # applied without a clear answer, so they may come again

    @property
    def end_s(self) -> float:
        """When something last happened."""
        return max(self._at[-1] if self._at else 0.0, self.requests[-1].at_s if self.requests else 0.0)

    def arrived(self, request: Arrived, batch: Batch, *, at: float, clear: bool) -> None:
        """Record a request that reached the platform ``at`` (relay clock). ``clear``: the relay learns its result."""
        self.requests.append(request)
        if not request.taken:
            return
        first_time = batch.attempt == 1
        for item in batch.items:
            if not (first_time and item.attempts == 0) and item.seq in self._taken:
                self.repeats += 1
                continue
            self.delays.append(at - item.accepted_at)
            if not clear:
                self._taken.add(item.seq)

    def level(self, at_s: float, *, pending: int, waiting: int) -> None:
        """Record the backlog from ``at_s`` on. Of several levels at one time the last one counts."""
        if self._at and (self._pending[-1], self._waiting[-1]) == (pending, waiting):
            return
        if self._at and self._at[-1] == at_s:
            self._pending[-1], self._waiting[-1] = pending, waiting
            return
        self._at.append(at_s)
        self._pending.append(pending)
        self._waiting.append(waiting)

    def levels(self) -> list[Level]:
        """Return every change of the backlog, in order."""
        return [Level(*each) for each in zip(self._at, self._pending, self._waiting, strict=True)]
