"""Decodes bodies of strangers: beside the event loop, few at a time, and never a piece that has no room.

A kilobyte may decode to 32 MiB, and sixty of them to two gigabytes. So memory is reserved before each piece is made,
and only one large body is decoded at a time: many at once would each hold a part and none have room to end.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from relay.web.body import Reserve
from relay.web.refusal import Refusal

PIECE_BYTES = 256 * 1024
# A body so small is tried on the loop first: two pieces take less than a millisecond, a thread costs a tenth of one.
_TRIED_BYTES = 4096
# Bodies of single callbacks do not wait behind bulk requests.
_QUICK_LIMIT_BYTES = 1024 * 1024
_PATIENCE_S = 0.5  # waiting for longer than this would make the answer come too late

Pieces = Callable[[bytes, str, int], Iterator[bytes]]
"""``(body, content_coding, limit) -> pieces`` of at most ``PIECE_BYTES``; raises ``Refusal``."""


class Decoder:
    """A ``Decode`` for ``web.body``."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        # A pool of its own: a flood of bodies holds up no reload and no token that is to be saved.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        self._quick = asyncio.Lock()
        self._slow = asyncio.Lock()

    async def __call__(self, body: bytes, coding: str, limit: int, reserve: Reserve) -> list[bytes]:
        """Return the decoded body in pieces; raises ``Refusal``."""
        if len(body) <= _TRIED_BYTES:
            pieces = self._pieces(body, coding, limit)
            first = next(pieces, b"")
            if next(pieces, None) is None:
                reserve.grow(len(first))
                return [first]
        turn = self._quick if limit <= _QUICK_LIMIT_BYTES else self._slow
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await turn.acquire()
        except TimeoutError:
            raise Refusal(
                "overloaded", "too many compressed bodies wait to be decoded; send it again in a moment"
            ) from None
        try:
            return await self._decoded(self._pieces(body, coding, limit), reserve)
        finally:
            turn.release()

    async def _decoded(self, pieces: Iterator[bytes], reserve: Reserve) -> list[bytes]:
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        while True:
            reserve.grow(PIECE_BYTES)
            part = await loop.run_in_executor(self._pool, next, pieces, None)
            reserve.grow((0 if part is None else len(part)) - PIECE_BYTES)
            if part is None:
                return parts
            parts.append(part)

    def close(self) -> None:
        """Let the thread end once it is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)
