"""Attacks on the ingest side, for a process of its own: ``python -m tests.faults.attackers PORT [NAME ...]``.

Each goes on until the process is killed, and is moderate in what it costs the attacker. Without names all go at once.
"""

import asyncio
import gzip
import sys
from collections.abc import Awaitable, Callable
from itertools import cycle

from backports import zstd
from tests.faults.daemon import call

NDJSON = "application/x-ndjson"
SEARCHED = "/v1/platforms/searched/callbacks"
PLAIN = "/v1/platforms/attacked/callbacks"
_HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n" % PLAIN.encode()

Attack = Callable[[int], Awaitable[None]]
"""Attacks an ingest port."""


async def small_bodies_that_decode_to_much(port: int) -> None:
    """Bodies of a kilobyte that decode to 32 MiB, in both codings, in one member and in many, ten at once."""
    blank = bytes(32 << 20).replace(b"\0", b" ")
    bodies = cycle(
        [
            ("gzip", gzip.compress(blank)),
            ("zstd", zstd.compress(blank)),
            ("gzip", gzip.compress(blank[: 1 << 20]) * 40),
            ("zstd", zstd.compress(b"") * 9000 + zstd.compress(blank)),
        ]
    )

    async def post() -> None:
        while True:
            coding, body = next(bodies)
            await call(port, "POST", PLAIN, body, Content_Type=NDJSON, Content_Encoding=coding)

    await asyncio.gather(*(post() for _ in range(10)))


async def lines_that_take_long_to_search(port: int) -> None:
    """Bulk requests whose lines are as large as allowed and made for the platform's JMESPath."""
    over = b'{"items":[' + b"{}," * 340_000 + b"{}]}\n"
    under = b'{"items":[' + b"{}," * 20_000 + b"{}]}\n"
    while True:
        for body in (over * 12, under * 100, over[:-1]):
            await call(port, "POST", SEARCHED, body, Content_Type=NDJSON)


async def uploads_that_never_end(port: int) -> None:
    """Two uploads of the largest size that stop before their end, and forty that drip, chunked and not."""

    async def drip(start: bytes, drop: bytes) -> None:
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(start)
                while not writer.transport.is_closing():
                    await asyncio.sleep(0.2)
                    writer.write(drop)
                    await writer.drain()
            except OSError:
                pass  # the relay had enough of it
            finally:
                writer.transport.abort()

    large = _HEAD + b"Content-Length: 33554432\r\n\r\n" + b"\n" * 33_000_000
    small = _HEAD + b"Content-Length: 900000\r\n\r\n" + b"\n" * 100_000
    chunked = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n\n\r\n" * 20_000
    await asyncio.gather(
        *(drip(large, b"\n") for _ in range(2)),
        *(drip(small, b"\n") for _ in range(20)),
        *(drip(chunked, b"1\r\n\n\r\n") for _ in range(20)),
    )


async def heads_that_never_end(port: int) -> None:
    """More connections than a listener serves, each with the start of a head."""
    writers: list[asyncio.StreamWriter] = []
    try:
        while True:
            if len(writers) < 700:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_HEAD + b"X-Long: " + b"x" * 6000)
                writers.append(writer)
            else:
                await asyncio.sleep(0.1)
            writers = [writer for writer in writers if not writer.transport.is_closing()]
    finally:
        for writer in writers:
            writer.transport.abort()


async def more_than_can_be_stored(port: int) -> None:
    """Bulk posts at a steady rate, whatever the answers; each on a connection of its own."""
    lines = b"\n".join(b'{"order_id":"o%d","note":"%b"}' % (number, b"x" * 90) for number in range(500))
    under_way: set[asyncio.Task[tuple[int, bytes]]] = set()
    while True:
        if len(under_way) < 150:
            task = asyncio.create_task(call(port, "POST", PLAIN, lines, Content_Type=NDJSON))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.sleep(0.02)


async def as_many_lines_as_allowed(port: int) -> None:
    """One request after the other that is all lines and no content."""
    while True:
        await call(port, "POST", PLAIN, b"{}\n" * 99_999, Content_Type=NDJSON)
        await call(port, "POST", PLAIN, b"\n" * 5_000_000, Content_Type=NDJSON)


async def huge_names(port: int) -> None:
    """Keys of a megabyte, in payloads, lines and envelopes."""
    payload = b'{"order_id":"%b"}' % (b"k" * 1_000_000)
    line = b'{"payload":{},"key":"%b"}' % (b"k" * 1_000_000)
    while True:
        await call(port, "POST", PLAIN, payload)
        await call(port, "POST", PLAIN, payload, Content_Type=NDJSON)
        await call(port, "POST", PLAIN, line, Content_Type=NDJSON, Relay_Envelope="1")
        await asyncio.sleep(0.1)


async def pipelined_requests(port: int) -> None:
    """Requests without end on one connection, whose answers nobody reads."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in range(200):
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
                async with asyncio.timeout(1):
                    await writer.drain()
        except (OSError, TimeoutError):
            pass  # it takes no more, as it should
        finally:
            writer.transport.abort()
        await asyncio.sleep(0.5)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        small_bodies_that_decode_to_much,
        lines_that_take_long_to_search,
        uploads_that_never_end,
        heads_that_never_end,
        more_than_can_be_stored,
        as_many_lines_as_allowed,
        huge_names,
        pipelined_requests,
    )
}


async def _attack(port: int, names: list[str]) -> None:
    attacks = asyncio.gather(*(ATTACKS[name](port) for name in names or ATTACKS))
    await asyncio.sleep(0)  # each made what it sends
    print("attacking", flush=True)
    await attacks


if __name__ == "__main__":
    asyncio.run(_attack(int(sys.argv[1]), sys.argv[2:]))
