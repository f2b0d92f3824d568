"""Platforms that attack who talks to them, and one that does not."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@cache
def bomb() -> bytes:
    """Return 64 MiB in 64 KiB. To make it takes a fifth of a second: do that before anything is timed."""
    return gzip.compress(bytes(64 << 20))


async def good(writer: asyncio.StreamWriter) -> None:
    """Answer as a platform should."""
    writer.write(_OK)


async def endless_interim_answers(writer: asyncio.StreamWriter) -> None:
    """Say that the answer will come, for ever."""
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 500)
        await writer.drain()


async def an_answer_that_decodes_to_much(writer: asyncio.StreamWriter) -> None:
    """64 MiB in 64 KiB."""
    body = bomb()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def an_answer_without_end(writer: asyncio.StreamWriter) -> None:
    """A body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def a_head_without_end(writer: asyncio.StreamWriter) -> None:
    """Header lines, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: value\r\n" * 1000)
        await writer.drain()


async def a_redirect_to_itself(writer: asyncio.StreamWriter) -> None:
    """Send the callback elsewhere: to our own admin side."""
    writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")


async def answers_nobody_asked_for(writer: asyncio.StreamWriter) -> None:
    """Two answers for one request."""
    writer.write(_OK * 2)


HOSTILE: tuple[Callable[[asyncio.StreamWriter], "asyncio.Future[None] | object"], ...] = (
    endless_interim_answers,
    an_answer_that_decodes_to_much,
    an_answer_without_end,
    a_head_without_end,
    a_redirect_to_itself,
    answers_nobody_asked_for,
)


class Platform:
    """A server that answers every request as ``answer`` does. ``seen`` counts them."""

    def __init__(self, answer: Callable[[asyncio.StreamWriter], object]) -> None:
        self.seen = 0
        self.url = ""
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                self.seen += 1
                await self.answer(writer)  # type: ignore[misc]
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def serving(answer: Callable[[asyncio.StreamWriter], object]) -> AsyncIterator[Platform]:
    """Serve a platform until the block ends."""
    platform = Platform(answer)
    server = await asyncio.start_server(platform.serve, "127.0.0.1", 0)
    platform.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield platform
    finally:
        server.close()
