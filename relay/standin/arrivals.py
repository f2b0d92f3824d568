"""What arrived: one JSON line per request, and running figures that need no log to be read again."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from relay.core.raw import JsonObject

_FLUSH_S = 0.05  # lines of this time share one write, so that the log does not slow the platform
_KEPT_LINES = 1_000  # enough to look at by hand; the file has them all


class Arrival(msgspec.Struct, omit_defaults=True):
    """One request as the platform saw it.

    ``at`` is the boot time in seconds when its headers were there. All processes of one machine share that clock.
    """

    n: int
    at: float
    wall: float
    method: str
    path: str
    batch: str | None  # the Idempotency-Key header
    attempt: str | None  # the Relay-Attempt header
    count: int
    items: list[str]  # SHA-1 of each payload
    raw: int  # bytes after decoding
    wire: int  # bytes of the body as it came
    encoding: str
    answer: str
    applied: bool
    limited: bool = False  # it came above the limit
    delay: float = 0.0  # seconds the answer was held back
    ids: list[Any] | None = None  # the field that names a callback, where one is configured
    taken: list[str] | None = None  # those of ``items`` that were applied; None: all or none, as ``applied`` says


class ArrivalLog:
    """Writes arrivals in batches and keeps the last ones in memory."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[bytes] | None = path.open("ab") if path else None
        self._unwritten: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=_KEPT_LINES)
        self._encoder = msgspec.json.Encoder()

    def add(self, arrival: Arrival) -> None:
        """Take a record; it is in the file within a twentieth of a second."""
        line = self._encoder.encode(arrival)
        self._recent.append((arrival.n, line))
        if self._file is None:
            return
        self._unwritten.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def since(self, n: int) -> Iterable[bytes]:
        """Return the lines kept in memory that follow arrival ``n``."""
        return (line for number, line in self._recent if number > n)

    def flush(self) -> None:
        """Write what is waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file is not None and self._unwritten:
            self._file.write(b"\n".join(self._unwritten) + b"\n")
            self._file.flush()
            self._unwritten.clear()

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()


class Peak:
    """The most arrivals that any window of one length has held. Two arrivals a whole window apart share no window."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.most = 0
        self._times: deque[float] = deque()

    def arrive(self, at: float) -> None:
        """Count an arrival; times never go back."""
        times = self._times
        times.append(at)
        while times[0] <= at - self.window_s:
            times.popleft()
        self.most = max(self.most, len(times))


class PathTotals:
    """Running totals of one path. A duplicate is an item applied again."""

    def __init__(self, windows_s: Sequence[float]) -> None:
        self.requests = self.accepted = self.rejected = self.callbacks = self.duplicates = 0
        self.raw_bytes = self.wire_bytes = self.open = self.peak_open = 0
        self.answers: Counter[str] = Counter()
        self.peaks: dict[float, Peak] = {}
        self._seen: set[str] = set()
        self.watch(windows_s)

    def watch(self, windows_s: Iterable[float]) -> None:
        """Follow these windows too; those already followed keep their peaks."""
        for window_s in windows_s:
            self.peaks.setdefault(window_s, Peak(window_s))

    def arrive(self, at: float) -> None:
        """Count a request whose headers are there."""
        self.requests += 1
        for peak in self.peaks.values():
            peak.arrive(at)
        self.open += 1
        self.peak_open = max(self.peak_open, self.open)

    def leave(self) -> None:
        """Count a request that is answered or gone."""
        self.open -= 1

    def decide(self, arrival: Arrival) -> None:
        """Count what was done with a request."""
        self.answers[arrival.answer] += 1
        self.raw_bytes += arrival.raw
        self.wire_bytes += arrival.wire
        self.rejected += arrival.limited
        if not arrival.applied:
            return
        self.accepted += 1
        taken = arrival.items if arrival.taken is None else arrival.taken
        self.callbacks += len(taken)
        before = len(self._seen)
        self._seen.update(taken)
        self.duplicates += len(taken) - (len(self._seen) - before)

    def as_dict(self) -> JsonObject:
        """Return the figures for JSON; ``peaks`` maps the window in seconds to its most arrivals."""
        return {
            "requests": self.requests,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "open": self.open,
            "peak_open": self.peak_open,
            "callbacks": self.callbacks,
            "distinct": len(self._seen),
            "duplicates": self.duplicates,
            "raw_bytes": self.raw_bytes,
            "wire_bytes": self.wire_bytes,
            "answers": dict(self.answers),
            "peaks": {f"{peak.window_s:g}": peak.most for peak in self.peaks.values()},
        }
