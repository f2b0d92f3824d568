"""Searches payloads beside the loop, in one thread and for at most half of the time.

A search is pure Python (JMESPath), so the loop shares the GIL with it. Searches without a pause take half of what all
other requests need. So after each the thread rests for as long as it took: after one of 80 ms, 80 ms are for others.
Nobody waits for that rest but the next search.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from relay.core.clock import elapsed_s
from relay.ingest.admission import Held

# Memory that the values of a JSON text take per byte of it: `{},` is 3 bytes, a dictionary in a list 88.
_VALUES_PER_BYTE = 30

_Found = TypeVar("_Found")


class SearchThread:
    """The thread for searches; what a search makes of a payload is counted like all other bytes of its request."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest-search")
        self._free = asyncio.Lock()  # first come, first served

    async def run(self, read: Callable[[], _Found], held: Held, size: int) -> _Found:
        """Return what ``read`` finds in ``size`` bytes. Raises what it raises, and ``Refusal`` (``overloaded``)."""
        loop = asyncio.get_running_loop()
        await self._free.acquire()
        took_s = 0.0
        try:
            held.grow(size * _VALUES_PER_BYTE)
            began_s = elapsed_s()
            try:
                return await loop.run_in_executor(self._thread, read)
            finally:
                took_s = elapsed_s() - began_s
                held.grow(-size * _VALUES_PER_BYTE)
        finally:
            loop.call_later(took_s, self._free.release)

    def close(self) -> None:
        """Let the thread end when its work is done."""
        self._thread.shutdown(wait=False, cancel_futures=True)
