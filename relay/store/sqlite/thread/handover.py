"""Lets the writing thread have the GIL while the loop is busy.

A loop that always has something ready takes the GIL again before the writer wakes up from a statement; measured, a
group of 500 rows then took seconds. So while a group is outstanding for longer than a quiet one takes, the loop blocks
for a moment between its rounds, on a lock the writer opens when the group is done (docs/decisions).
"""

import asyncio
import threading

_QUIET_S = 0.004  # a group of some dozen posts is done by then, with its fsync; blocking earlier costs a tenth
_BLOCK_S = 0.0005  # long enough for a few statements, short against any latency the relay promises
# A group of thousands of rows takes tens of milliseconds, and each look of the loop costs both threads a switch or two:
# looks every 0.5 ms are a twentieth of the store's CPU. So once the first block was not enough, the next are longer.
_NEXT_BLOCK_S = 0.002


class HandOver:
    """Counts what the loop has sent to the writer and yields to it when that takes long."""

    __slots__ = ("_armed", "_finished", "_gate", "_loop", "_outstanding")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._gate = threading.Lock()  # locked: no group has finished since the loop last looked
        self._outstanding = 0
        self._finished = 0
        self._armed = False

    def sent(self, count: int) -> None:
        """Note on the loop that ``count`` requests went to the writer."""
        self._outstanding += count
        if not self._armed:
            self._arm()

    def finished(self, count: int) -> None:
        """Note on the loop that ``count`` requests are answered."""
        self._outstanding -= count
        self._finished += 1

    def release(self) -> None:
        """Open the gate; called by the writer when a group is done and the loop has been told so."""
        if self._gate.locked():
            self._gate.release()

    def _arm(self) -> None:
        self._armed = True
        self._gate.acquire(blocking=False)
        self._loop.call_later(_QUIET_S, self._yield, self._finished)

    def _yield(self, seen: int, block_s: float = _BLOCK_S) -> None:
        if self._outstanding <= 0:
            self._armed = False
        elif self._finished != seen:
            self._arm()
        else:
            self._gate.acquire(timeout=block_s)
            self._loop.call_soon(self._yield, seen, _NEXT_BLOCK_S)
