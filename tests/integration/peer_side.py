"""A platform over raw sockets that does what a test says, and the requests sent to it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from relay.delivery.sender import Request

Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection as the platform sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, platform: "Platform") -> None:
        self.reader = reader
        self.writer = writer
        self.platform = platform

    async def request(self) -> tuple[str, bytes]:
        """Read one request; return its head and body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = next((line for line in head.lower().split("\r\n") if line.startswith("content-length:")), "x:0")
        body = await self.reader.readexactly(int(length.partition(":")[2]))
        self.platform.requests.append((head, body))
        return head, body

    def answer(self, status: str, body: bytes = b"", *headers: str) -> None:
        """Write a whole answer."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """Close with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Platform:
    """A server that does with each connection what the test says."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[tuple[str, bytes]] = []
        self.ended: asyncio.Queue[BaseException | None] = asyncio.Queue()
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/callbacks"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.handler(Peer(reader, writer, self))
            self.ended.put_nowait(None)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.ended.put_nowait(error)
        finally:
            writer.close()


@asynccontextmanager
async def platform(handler: Handler, *, buffer_bytes: int | None = None) -> AsyncIterator[Platform]:
    """Serve ``handler`` on a free port; ``buffer_bytes`` keeps the kernel from taking much that is not read."""
    served = Platform(handler)
    listening = socket.socket()
    if buffer_bytes is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(served.serve, sock=listening)
    served.port = listening.getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        await server.wait_closed()


def post(url: str, *, method: str = "POST", body: bytes = b"[1]", timeout_s: float = 30.0) -> Request:
    """Return a request to ``url``."""
    return Request(url, method, {"Content-Type": "application/json", "X-Test": "1"}, body, timeout_s)
