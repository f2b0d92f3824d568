"""The platform of the benchmarks: answers 200, counts the callbacks in each request and notes when each one arrived.

A process of its own, ``python -m benchmarks.sink``; prints its URL when it listens. It does far less per request than
``relay sandbox``, so that it is not what is measured. ``GET /stats`` tells what arrived; ``GET /items`` only how many
callbacks, for who asks while it is measured. A payload's ``"sent"`` is the poster's ``CLOCK_MONOTONIC``, the same on
this machine for all processes, and arrival is when the request's first bytes were read.
"""

import asyncio
import json
import re
import time
from typing import cast

import uvloop
from relay.wire.compress import decompress

_SENT = re.compile(rb'"sent":([0-9.]+)')
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CODING = re.compile(rb"\r\ncontent-encoding: *([a-z]+)", re.IGNORECASE)
_MOST_BYTES = 64 * 1024 * 1024
_MARK = b'"order_id"'  # once in every payload
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Arrivals:
    """What arrived so far."""

    def __init__(self) -> None:
        self.items = 0
        self.requests: list[float] = []
        self.waits_s: list[tuple[float, float]] = []

    def add(self, at: float, body: bytes) -> None:
        """Note one request."""
        self.requests.append(at)
        self.items += body.count(_MARK)
        self.waits_s += [(at, at - float(sent)) for sent in _SENT.findall(body)]

    def as_json(self) -> bytes:
        """Return everything, for the process that asks."""
        told = {"items": self.items, "requests": self.requests, "waits_s": self.waits_s}
        return json.dumps(told).encode()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection whose requests carry a Content-Length or no body."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._data = bytearray()
        self._at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without the name

    def data_received(self, data: bytes) -> None:
        """Take bytes; answer every request that is whole."""
        if not self._data:
            self._at = time.monotonic()
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._data[:end])
            declared = _LENGTH.search(head)
            size = end + 4 + (int(declared[1]) if declared else 0)
            if len(self._data) < size:
                return
            body = bytes(self._data[end + 4 : size])
            del self._data[:size]
            self._answer(head, body)
            self._at = time.monotonic()

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            told = b"%d" % self._arrivals.items if head.startswith(b"GET /items ") else self._arrivals.as_json()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
            return
        at = self._at
        self._transport.write(_OK)
        coding = _CODING.search(head)
        if coding is not None:
            body = decompress(body, coding[1].decode(), _MOST_BYTES)
        self._arrivals.add(at, body)


async def _serve() -> None:
    arrivals = Arrivals()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(arrivals), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
