"""Decodes compressed bodies in a thread: few at a time, and each piece only after memory is reserved for it.

A kilobyte may decode to 32 MiB, and sixty such bodies to two gigabytes. So memory is reserved before each piece is
made. Only one large body is decoded at a time: of many at once each would hold a part, and none would have room to
finish.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from relay.web.body import Reserve
from relay.web.refusal import Refusal

PIECE_BYTES = 256 * 1024
# So small a body is tried on the loop first: two pieces take less than 1 ms, and a thread would cost 0.1 ms.
_TRIED_BYTES = 4096
# Bodies of single callbacks do not wait behind bulk requests.
_QUICK_LIMIT_BYTES = 1024 * 1024
_PATIENCE_S = 0.5  # after a longer wait the answer would come too late

Pieces = Callable[[bytes, str, int], Iterator[bytes]]
"""``(body, content_coding, limit) -> pieces`` of at most ``PIECE_BYTES``; raises ``Refusal``."""


class Decoder:
    """A ``Decode`` for ``web.body``."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        # A thread of its own, so that many bodies do not delay a reload or the saving of a token.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        self._quick = asyncio.Lock()
        self._slow = asyncio.Lock()

    async def __call__(self, body: bytes, coding: str, limit: int, reserve: Reserve) -> list[bytes]:
        """Return the decoded body in pieces, which take the place of ``body``; raises ``Refusal``."""
        if len(body) <= _TRIED_BYTES:
            pieces = self._pieces(body, coding, limit)
            first = next(pieces, b"")
            if next(pieces, None) is None:
                reserve.grow(len(first) - len(body))
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
            parts = await self._decoded(self._pieces(body, coding, limit), reserve)
        finally:
            turn.release()
        reserve.grow(-len(body))
        return parts

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
        """Let the thread end when its work is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)
