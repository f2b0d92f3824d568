"""A TCP proxy that spoils connections in both directions: late, in single bytes, cut, reset or half closed.

Whatever else happens to a spoiled connection, it ends after some hundred or thousand bytes.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from relay.core.clock import boottime_s

KINDS = ("late", "bytes", "cut", "reset", "half")
_LINGER_RESET = struct.pack("ii", 1, 0)
_LATE_S = (0.01, 0.3)


@dataclass
class Proxy:
    """Stands before ``port`` of this machine. A ``share`` of the connections is spoiled, each in its own way."""

    port: int
    rng: random.Random
    share: float
    address: str = ""
    broken: list[float] = field(default_factory=list)  # when a connection was, in boot time
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            behind, beyond = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        kind = self.rng.choice(KINDS) if self.rng.random() < self.share else ""
        backwards = self.rng.random() < 0.5  # which of the two directions is spoiled
        ways = [(reader, beyond, "" if backwards else kind), (behind, writer, kind if backwards else "")]
        if kind:
            self.kinds[kind] += 1
        passing = [asyncio.create_task(self._pass(*way)) for way in ways]
        try:
            await asyncio.wait(passing)
        finally:
            for task in passing:
                task.cancel()
            for each in (writer, beyond):
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> None:
        left = self.rng.randrange(1, 5000)  # bytes until it ends
        with suppress(OSError):
            while data := await reader.read(65536):
                if kind == "late":
                    await asyncio.sleep(self.rng.uniform(*_LATE_S))
                if kind and len(data) >= left:
                    writer.write(data[:left])
                    await writer.drain()
                    self._break(writer, kind)
                    return
                left -= len(data)
                if kind == "bytes":
                    for at in range(len(data)):
                        writer.write(data[at : at + 1])
                        await writer.drain()
                        await asyncio.sleep(0)
                else:
                    writer.write(data)
                    await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    def _break(self, writer: asyncio.StreamWriter, kind: str) -> None:
        self.broken.append(boottime_s())
        if kind == "half":
            writer.write_eof()
        elif kind == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            writer.transport.abort()
        else:
            writer.close()


@asynccontextmanager
async def spoiling(address: str, rng: random.Random, *, share: float) -> AsyncIterator[Proxy]:
    """Serve a proxy before ``address``, a URL with a port, until the block ends."""
    proxy = Proxy(int(address.rpartition(":")[2]), rng, share)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
