"""How much work may be under way, so that what is accepted is answered soon and the rest is refused at once.

A queue measured in bytes or requests says nothing about time: 64 MiB of callbacks are half a second on one disk and
twenty on another. So the bound is found from how long requests took, as congestion windows are (AIMD, RFC 5681; the
measure is the delay, as in CoDel, RFC 8289): it shrinks when a request that had others before it took too long, and
grows while a full queue is worked off quickly.

Worked example: at 50,000 rows a second 8,000 rows under way take 0.16 s, and the bound grows. On a machine of a fifth
of that the first ones take 0.8 s; the bound falls to 4,000 at once, which take 0.4 s.
"""

from relay.core.clock import elapsed_s
from relay.web.refusal import Refusal

# Work is counted in rows: one row is about 20 us of loop and writer together.
_REQUEST_ROWS = 5  # parsing a request and answering it
_ROW_PER_BYTES = 2048  # bytes that cost as much as a row
_TYPICAL_LINE_BYTES = 400  # until the lines of an NDJSON body have been counted
_SLOW_S = 0.6  # of the second a client should wait at most: the rest is for what came before its head was read
_AIM_S = 0.4
_SHRINK_MOST = 0.2  # one slow moment is not the rule
_GROW = 0.1  # of the work done while the queue was full
# So few may always be under way, unless they are huge: a client with four connections waits for its answers, and is no
# overload however slow the machine is.
_FEW = 4
_FEW_ROWS = 10_000


def rows_of(size: int, bulk: bool) -> int:
    """Return the work that a body of ``size`` bytes will be."""
    return _REQUEST_ROWS + size // _ROW_PER_BYTES + (size // _TYPICAL_LINE_BYTES if bulk else 0)


class Line:
    """Requests of one kind under way. Large work stands in another line than small, and shuts it out never."""

    __slots__ = ("_least", "_most", "_shrunk_at", "allowed", "requests", "under_way")

    def __init__(self, *, allowed: int, least: int, most: int) -> None:
        """``allowed`` rows may be under way at first, and from ``least`` to ``most`` later."""
        self.allowed = float(allowed)
        self.requests = 0
        self.under_way = 0
        self._least = least
        self._most = most
        self._shrunk_at = 0.0

    def check(self) -> None:
        """Raise ``Refusal`` (``overloaded``) when so much is under way that another would wait for too long."""
        if self.under_way > self.allowed and (self.requests >= _FEW or self.under_way > _FEW_ROWS):
            raise Refusal("overloaded", "more arrives than can be stored; repeat in a moment, nothing was accepted")

    def finished(self, rows: int, began_s: float, before: int) -> None:
        """Learn from a request of ``rows`` that began with ``before`` rows ahead of it, and is on disk now."""
        now_s = elapsed_s()
        took_s = now_s - began_s
        if took_s > _SLOW_S and before and began_s >= self._shrunk_at:  # once a round: the others saw the same queue
            self._shrunk_at = now_s
            self.allowed = max(self._least, self.allowed * max(_SHRINK_MOST, _AIM_S / took_s))
        elif took_s < _AIM_S and before + rows > self.allowed / 2:
            self.allowed = min(self._most, self.allowed + rows * _GROW)


class Pressure:
    """The lines a request may stand in."""

    def __init__(self) -> None:
        self.small = Line(allowed=4_000, least=600, most=40_000)
        self.large = Line(allowed=8_000, least=1_000, most=64_000)
        # Read by pure Python beside the loop, at a speed that depends on the payload: a line whose slowness is its own.
        self.searched = Line(allowed=4_000, least=500, most=64_000)

    def line(self, size: int | None, bulk: bool, searched: bool) -> Line:
        """Return the line for a body of ``size`` bytes, None where its head does not say."""
        if size is not None and size <= SMALL_BYTES:
            return self.large if bulk else self.small
        return self.searched if searched else self.large


# From here on looking inside a payload with a JMESPath takes milliseconds: it is done beside the loop.
SMALL_BYTES = 16 * 1024
