"""What a simulated run leaves behind: requests, delays and the backlog over time, in times from its start."""

from array import array
from collections import Counter
from typing import NamedTuple

from relay.core.model import Batch


class Arrived(NamedTuple):
    """One request at the platform; ``taken`` says that its callbacks were applied, ``limited`` that it was over.

    ``counted`` is False while the platform is down: then no limit sees the request.
    """

    at_s: float
    items: int
    answer: str
    taken: bool
    limited: bool
    counted: bool


class Found(NamedTuple):
    """A limit nobody configured, believed from ``at_s`` on; ``rates`` is empty when one is no longer believed."""

    at_s: float
    source: str
    rates: tuple[str, ...]
    enforced: bool
    confidence: float


class Level(NamedTuple):
    """The backlog from ``at_s`` on; ``waiting`` is the part of it that is in no request under way."""

    at_s: float
    pending: int
    waiting: int


class Record:
    """Filled while the run goes on. Nothing in it grows with anything but requests and callbacks."""

    def __init__(self) -> None:
        self.requests: list[Arrived] = []
        self.delays = array("d")  # seconds from acceptance to the first request the platform took
        self.found: list[Found] = []
        self.repeats = 0  # callbacks the platform applied once more
        self.ends: Counter[str] = Counter()  # callbacks by why they were given up
        self._at = array("d")
        self._pending = array("q")
        self._waiting = array("q")
        self._taken: set[int] = set()  # applied without a clear answer: they may come again

    @property
    def end_s(self) -> float:
        """When something last happened."""
        return max(self._at[-1] if self._at else 0.0, self.requests[-1].at_s if self.requests else 0.0)

    def arrived(self, request: Arrived, batch: Batch, *, at: float, clear: bool) -> None:
        """A request reached the platform ``at`` (relay clock); ``clear``: the relay will know what came of it."""
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
        """The backlog is so from ``at_s`` on; of several levels at one time the last one counts."""
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
