"""One client of ``GET /v1/events``: its connection carries events until one of both sides ends it."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from aiohttp.web import BaseRequest

from relay.admin.access import Caller
from relay.admin.standing.feed import COMMENT, Feed
from relay.web.refusal import Refusal
from relay.web.response import Response

_MOST_WAITING_BYTES: Final = 64 * 1024  # beside the first event; a client that reads slower is cut off
_KERNEL_BYTES: Final = 32 * 1024  # what the kernel holds back is not seen, so it is kept small
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
)


class EventStream(Response):
    """An answer that ends with its connection; written without waiting, so that nobody holds up the others."""

    __slots__ = ("_ended", "_feed", "_identify", "_since_state", "_watched")

    def __init__(self, feed: Feed, identify: Callable[[BaseRequest], Caller]) -> None:
        """``identify`` says again whether who asks may still watch; raises ``Refusal`` when not."""
        super().__init__(200, close=True)
        self._feed = feed
        self._identify = identify
        self._watched: BaseRequest | None = None
        self._since_state = -1  # bytes sent after the first event; -1: that one is not sent yet
        self._ended = asyncio.Event()

    async def prepare(self, request: BaseRequest) -> None:
        """Take the request this answers; aiohttp calls it."""
        self._watched = request

    async def write_eof(self) -> None:
        """Send events until the client is gone, is cut off or may not watch any more; aiohttp calls it."""
        request = self._watched
        if request is None or request.transport is None:
            return
        connection = request.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        request.transport.write(_HEAD)
        if request.method == "HEAD":
            return
        try:
            await self._feed.join(self)
            await self._ended.wait()
        finally:
            self._feed.leave(self)

    def send(self, event: bytes) -> bool:
        """Write an event; return False when the client is gone or was cut off."""
        transport = None if self._watched is None else self._watched.transport
        if transport is None or transport.is_closing() or (event == COMMENT and not self._still_allowed()):
            self.end()
            return False
        # What waits goes in order: of it no more can be younger than the first event than was sent after that. It is
        # measured before the next event, so that one large event to a client that reads does not end it.
        if min(transport.get_write_buffer_size(), self._since_state) > _MOST_WAITING_BYTES:
            transport.abort()
            self.end()
            return False
        transport.write(event)
        self._since_state = 0 if self._since_state < 0 else self._since_state + len(event)
        return True

    def end(self) -> None:
        """Send no more; the connection is closed."""
        self._ended.set()

    def _still_allowed(self) -> bool:
        assert self._watched is not None, "it is being sent to"
        try:
            self._identify(self._watched)
        except Refusal:
            return False
        return True
