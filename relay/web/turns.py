"""Bytes that cost more to parse than to read: fed to the parser in small parts, one part per turn for all connections.

A body of one-byte chunks is 40,000 chunks in one read of the socket, which hold the loop for 0.2 s; twenty connections
that do so hold it for seconds. Bytes with so many line ends go through here. Their order is kept, and the transport
reads no more until they are through, so that nothing piles up.
"""

import asyncio
from collections import deque
from typing import Protocol

_PART_BYTES = 4096  # at worst 700 chunks: 4 ms
_LONG_BYTES = 16 * 1024
_BYTES_PER_END = 64  # fewer are a waste for whoever sends them, and no sane client does
_SAMPLED = 17  # of so many bytes one is looked at: 20 us for 256 KiB, and a prime, which no pattern avoids by chance


class Fed(Protocol):
    """A connection whose bytes are fed in parts."""

    def feed(self, most_bytes: int) -> bool:
        """Parse some bytes of what is kept; return whether there are more."""
        ...


def is_costly(data: bytes) -> bool:
    """Tell whether ``data`` is made of very short lines or chunks."""
    return len(data) > _LONG_BYTES and data[::_SAMPLED].count(b"\r") * _SAMPLED * _BYTES_PER_END > len(data)


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
        connection = self._waiting[0]
        more = connection.feed(_PART_BYTES)
        self._waiting.popleft()
        if more:
            self._waiting.append(connection)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
