"""The order center of the benchmarks, a process of its own: ``python -m benchmarks.client MODE URL ...``.

* ``closed``: one callback per POST, every connection posts again as soon as it is answered (where `wrk` is missing).
* ``bulk``: NDJSON posts, each connection as soon as it is answered. ``--prepared N`` builds N bodies before the clock
  starts and goes round them; without it each is built on the way, so that every callback has a key of its own.
* ``lines``: the same lines over plain TCP, for peers that take no HTTP; nothing is answered.
* ``paced``: one callback per POST at a steady rate, each stamped with the time it was sent.

Sockets and bytes only, so that the client is not what is measured. Prints one JSON object.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from urllib.parse import urlsplit

import uvloop

from benchmarks.payloads import bulk_body, payload


class Post(asyncio.Protocol):
    """One connection to the relay; posts one body after the other."""

    def __init__(self, url: str, content_type: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n".encode()
        self._answer = bytearray()
        self._answered: asyncio.Future[int] | None = None

    async def __aenter__(self) -> "Post":
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def __call__(self, body: bytes) -> "asyncio.Future[int]":
        """Post ``body``; the future gets the status."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body))
        return self._answered

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer."""
        answer = self._answer
        answer += data
        end = answer.find(b"\r\n\r\n")
        if end < 0 or self._answered is None:
            return
        at = answer.lower().index(b"content-length:", 0, end) + 15
        if len(answer) >= end + 4 + int(answer[at : answer.index(b"\r\n", at)]):
            status = int(answer[9:12])
            answer.clear()
            self._answered.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for an answer."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("the relay closed the connection"))


class Tally:
    """What came of the posts."""

    def __init__(self) -> None:
        self.accepted = self.failed = 0
        self.began_at = time.monotonic()

    def add(self, status: int, callbacks: int) -> None:
        """Count one answer."""
        if status == 202:
            self.accepted += callbacks
        else:
            self.failed += callbacks

    def show(self) -> None:
        """Print the figures."""
        told = {
            "accepted": self.accepted,
            "failed": self.failed,
            "began_at": self.began_at,
            "ended_at": time.monotonic(),
        }
        print(json.dumps(told), flush=True)


async def closed(url: str, *, connections: int, seconds: float, size: int) -> Tally:
    """Post one callback at a time on each connection for ``seconds``."""
    numbers, tally = count(), Tally()

    async def one() -> None:
        async with Post(url, "application/json") as post:
            while time.monotonic() - tally.began_at < seconds:
                tally.add(await post(payload(next(numbers), size=size)), 1)

    await asyncio.gather(*(one() for _ in range(connections)))
    return tally


async def bulk(
    url: str, *, connections: int, seconds: float, size: int, lines: int, total: int, prepared: int, first: int
) -> Tally:
    """Post NDJSON until ``total`` or for ``seconds``; so many bodies are ``prepared``; 0: each built fresh."""
    numbers: Iterator[int] = count(first, lines)
    if prepared:
        bodies = cycle([bulk_body(next(numbers), lines=lines, size=size) for _ in range(prepared)])
        make: Callable[[], bytes] = lambda: next(bodies)  # noqa: E731
    else:
        make = lambda: bulk_body(next(numbers), lines=lines, size=size)  # noqa: E731
    tally = Tally()
    left = total

    async def one() -> None:
        nonlocal left
        async with Post(url, "application/x-ndjson") as post:
            while left > 0 and time.monotonic() - tally.began_at < seconds:
                left -= lines
                tally.add(await post(make()), lines)

    await asyncio.gather(*(one() for _ in range(connections)))
    return tally


async def lines_over_tcp(url: str, *, connections: int, size: int, lines: int, total: int) -> Tally:
    """Send ``total`` lines to ``tcp://HOST:PORT`` as fast as they are taken; they are made before the clock starts."""
    parts = urlsplit(url)
    bodies = [bulk_body(first, lines=lines, size=size) for first in range(0, total, lines)]
    tally = Tally()

    async def one(own: list[bytes]) -> None:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for body in own:
            writer.write(body)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one(bodies[number::connections]) for number in range(connections)))
    tally.accepted = total
    return tally


async def paced(url: str, *, rate: float, total: int, size: int) -> Tally:
    """Post ``total`` callbacks, ``rate`` a second, on one connection."""
    tally = Tally()
    async with Post(url, "application/json") as post:
        for number in range(total):
            await asyncio.sleep(max(0.0, tally.began_at + number / rate - time.monotonic()))
            tally.add(await post(payload(number, size=size, sent=time.monotonic())), 1)
    return tally


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client")
    parser.add_argument("mode", choices=["closed", "bulk", "lines", "paced"])
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--total", type=int, default=10**9)
    parser.add_argument("--prepared", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rate", type=float, default=50.0)
    return parser.parse_args()


async def _main(given: argparse.Namespace) -> None:
    match given.mode:
        case "closed":
            work = closed(given.url, connections=given.connections, seconds=given.seconds, size=given.size)
        case "bulk":
            work = bulk(
                given.url,
                connections=given.connections,
                seconds=given.seconds,
                size=given.size,
                lines=given.lines,
                total=given.total,
                prepared=given.prepared,
                first=given.first,
            )
        case "lines":
            work = lines_over_tcp(
                given.url, connections=given.connections, size=given.size, lines=given.lines, total=given.total
            )
        case _:
            work = paced(given.url, rate=given.rate, total=given.total, size=given.size)
    (await work).show()


if __name__ == "__main__":
    uvloop.run(_main(_arguments()))
