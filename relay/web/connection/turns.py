"""Feeds bytes that are slow to parse to the parser in small parts: one part per turn of the loop, for all connections.

A body of one-byte chunks brings 40,000 chunks in one read of the socket, and parsing them takes 0.2 s. Twenty such
connections would hold the loop for seconds. So bytes with very many line ends are fed in parts. They keep their order,
and the transport reads no more until they are parsed, so nothing piles up.
"""

import asyncio
from collections import deque
from typing import Protocol

_PART_BYTES = 1024  # at worst 170 chunks: 1 ms. A new connection waits for four turns until its request is answered
LONG_BYTES = 16 * 1024  # what is shorter is parsed at once
_BYTES_PER_END = 64  # bytes per line end: no sane client sends shorter lines on average
_SAMPLED = 17  # one byte of so many is looked at: 20 us for 256 KiB. A prime, which no regular pattern escapes


class Fed(Protocol):
    """A connection whose bytes are fed in parts."""

    def feed(self, most_bytes: int) -> bool:
        """Parse some of the bytes that were kept; return whether more are left."""
        ...


def is_costly(data: bytes) -> bool:
    """Return whether ``data`` consists of very short lines or chunks."""
    return len(data) > LONG_BYTES and data[::_SAMPLED].count(b"\r") * _SAMPLED * _BYTES_PER_END > len(data)


class ParserTurns:
    """Connections that wait for their next part."""

    def __init__(self) -> None:
        self._waiting: deque[Fed] = deque()

    def add(self, connection: Fed) -> None:
        """Feed a connection from the next turn on."""
        self._waiting.append(connection)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        connection = self._waiting.popleft()
        if self._waiting:  # first, so that the others go on whatever becomes of this one
            asyncio.get_running_loop().call_soon(self._turn)
        if connection.feed(_PART_BYTES):
            self.add(connection)
