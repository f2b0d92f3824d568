"""Bounds the work under way: what is accepted is answered soon, and the rest is refused at once.

A bound in bytes or requests says nothing about time: 64 MiB of callbacks take half a second on one disk and twenty on
another. So the bound follows how long requests took. It shrinks when a request that waited behind others took too long.
It grows while a full queue is worked off quickly. Congestion windows are found in the same way (AIMD, RFC 5681), from
the delay as in CoDel (RFC 8289).

An example: at 50,000 rows a second, 8,000 rows under way take 0.16 s, and the bound grows. On a machine that does
10,000 a second they take 0.8 s. Then the bound falls to 4,000 at once, which take 0.4 s.
"""

from relay.core.clock import elapsed_s
from relay.web.refusal import Refusal

# Work is counted in rows: one row is about 20 us of loop and writer together.
_REQUEST_ROWS = 5  # parsing a request and answering it
_ROW_PER_BYTES = 2048  # bytes that cost as much as a row
_TYPICAL_LINE_BYTES = 400  # until the lines of an NDJSON body have been counted
_SLOW_S = 0.6  # a client should wait 1 s at most; the rest is for the time before its head was read
_AIM_S = 0.4
_SHRINK_MOST = 0.2  # at one time the bound falls to a fifth at most: one slow moment proves little
_GROW = 0.1  # of the work done while the queue was full
# This many small requests may always be under way: a client with four connections that waits for its answers is no
# overload, however slow the machine is.
_FEW = 4
_FEW_ROWS = 10_000


def rows_of(size: int, bulk: bool) -> int:
    """Return how many rows of work a body of ``size`` bytes is taken for."""
    return _REQUEST_ROWS + size // _ROW_PER_BYTES + (size // _TYPICAL_LINE_BYTES if bulk else 0)


class Line:
    """Requests of one kind under way. Large and small work have lines of their own: large never shuts out small."""

    __slots__ = ("_least", "_most", "_shrunk_at", "allowed", "requests", "under_way")

    def __init__(self, *, allowed: int, least: int, most: int) -> None:
        """At first ``allowed`` rows may be under way; later the bound moves between ``least`` and ``most``."""
        self.allowed = float(allowed)
        self.requests = 0
        self.under_way = 0
        self._least = least
        self._most = most
        self._shrunk_at = 0.0

    def check(self) -> None:
        """Raise ``Refusal`` (``overloaded``) if another request would have to wait too long."""
        if self.under_way > self.allowed and (self.requests >= _FEW or self.under_way > _FEW_ROWS):
            raise Refusal("overloaded", "more arrives than can be stored; repeat in a moment, nothing was accepted")

    def finished(self, rows: int, began_s: float, before: int) -> None:
        """Move the bound after a request of ``rows`` was committed; ``before`` rows were ahead of it when it began.

        The bound shrinks once for all requests that began before it did: they waited in the same queue.
        """
        now_s = elapsed_s()
        took_s = now_s - began_s
        if took_s > _SLOW_S and before and began_s >= self._shrunk_at:  # once per queue
            self._shrunk_at = now_s
            self.allowed = max(self._least, self.allowed * max(_SHRINK_MOST, _AIM_S / took_s))
        elif took_s < _AIM_S and before + rows > self.allowed / 2:
            self.allowed = min(self._most, self.allowed + rows * _GROW)


class Pressure:
    """The lines, and which one a request stands in."""

    def __init__(self) -> None:
        self.small = Line(allowed=4_000, least=600, most=40_000)
        self.large = Line(allowed=8_000, least=1_000, most=64_000)
        # For payloads that a thread searches in pure Python: how long depends on the payload, not on the disk.
        self.searched = Line(allowed=4_000, least=500, most=64_000)

    def line(self, size: int | None, bulk: bool, searched: bool) -> Line:
        """Return the line for a body of ``size`` bytes; None: its head does not say how many."""
        if size is not None and size <= SMALL_BYTES:
            return self.large if bulk else self.small
        return self.searched if searched else self.large


# From this size on a JMESPath takes milliseconds in a payload: a thread does it, not the loop.
SMALL_BYTES = 16 * 1024
