"""The ingest listener under load and attack, over real sockets: bodies, uploads, decoding, searches, connections."""

import asyncio
import gc
import gzip
import io
import socket
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from backports import zstd
from relay.core.model import Accepted, NewCallback
from relay.ingest.rows import PlatformIntake
from relay.web import admit
from relay.web.connection import protocol
from relay.wire.payload.extract import KeyPath
from tests.integration.test_ingest import NDJSON, PLATFORMS, POST, Relay, running, until

HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n" % POST.encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Client:
    """One connection that sends what it likes, as slowly as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, relay: Relay, stack: AsyncExitStack) -> "Client":
        """Connect; the connection is cut at the end of ``stack``."""
        made = cls(*await asyncio.open_connection(*relay.endpoint))
        stack.callback(made.writer.transport.abort)
        return made

    async def answer(self) -> bytes:
        """Return the head and body of the answer."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            return head + await self.reader.readexactly(length)


async def test_a_chunked_body_without_end_is_cut_off():
    """A body that says no length is read up to the limit and no further, with 413; nothing of it stays in memory."""
    async with running(max_bulk=100_000) as relay, AsyncExitStack() as stack:
        client = await Client.connect(relay, stack)
        client.writer.write(CHUNKED)
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        for _ in range(40):
            client.writer.write(chunk)
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 413 ")
        room = relay.intake.admission.room
        await until(lambda: room.uploading_bytes == 0)
        assert (room.held_bytes, relay.inbox.rows) == (0, [])


async def test_tiny_chunks_are_parsed_in_turns(monkeypatch: pytest.MonkeyPatch):
    """A body of one-byte chunks arrives whole, and is parsed a few kilobytes in a turn."""
    parts: list[int] = []
    feed = protocol.HttpConnection.feed

    def watched(self: Any, most_bytes: int) -> bool:
        parts.append(most_bytes)
        return feed(self, most_bytes)

    monkeypatch.setattr(protocol.HttpConnection, "feed", watched)
    async with running() as relay, AsyncExitStack() as stack:
        client = await Client.connect(relay, stack)
        body = b'{"order_id":1}\n' * 2000
        client.writer.write(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert len(relay.inbox.rows) == 2000
        assert len(parts) > 100
        assert max(parts) <= 1024


async def test_uploads_that_never_end_refuse_nobody_else():
    """Stalled uploads, large or many, with a length or chunked, leave room for complete posts and for other uploads."""
    async with running(bounds={"max_uploading_bytes": 100_000}) as relay, AsyncExitStack() as stack:
        slow = [await Client.connect(relay, stack) for _ in range(6)]
        for number, client in enumerate(slow):
            head = CHUNKED + b"7d00\r\n" if number % 2 else HEAD + b"Content-Length: 33000\r\n\r\n"
            client.writer.write(head + b"x" * 30_000)
        room = relay.intake.admission.room
        await until(lambda: room.uploading_bytes == 90_000)
        assert (await relay.post(b'{"order_id": 1}'))[0] == 202
        quick = await Client.connect(relay, stack)
        body = b'{"order_id":"%b"}' % (b"1" * 700)
        quick.writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) * 100 + 99) + body)
        await until(lambda: room.uploading_bytes > 90_000)  # it is an upload too, and not here whole
        quick.writer.write((b"\n" + body) * 99)
        assert (await quick.answer()).startswith(b"HTTP/1.1 202 ")
        answers = [asyncio.create_task(client.answer()) for client in slow]
        await until(lambda: sum(answer.done() for answer in answers) >= 3)
        told = [answer.result() for answer in answers if answer.done()]
        for answer in answers:
            answer.cancel()
        for answer in told:  # whoever made way is told so, and not that the disk is slow
            assert b" 503 " in answer.split(b"\r\n")[0]
            assert b"Retry-After: 1" in answer
            assert b'"code":"overloaded"' in answer
            assert b"unfinished uploads" in answer
            assert b"disk" not in answer


async def test_more_work_than_can_be_done_is_refused_at_its_head():
    """Too much under way: a bulk post is refused before its body is sent, a small one still passes, and so later."""
    async with running() as relay, AsyncExitStack() as stack:
        relay.inbox.gate = asyncio.Event()
        lines = b"\n".join(b'{"order_id":%d}' % number for number in range(11_000))
        first = asyncio.create_task(relay.post(lines, **NDJSON))
        large = relay.intake.admission.pressure.large
        await until(lambda: large.under_way > 10_000)
        asking = await Client.connect(relay, stack)
        asking.writer.write(HEAD + b"Content-Length: 5000000\r\n\r\n")
        answer = await asking.answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answer
        assert b'"code":"overloaded"' in answer
        small = asyncio.create_task(relay.post(b'{"order_id": 1}'))
        await until(lambda: len(relay.intake.admission.watch._waiting) == 2)
        relay.inbox.gate.set()
        assert [(await first)[0], (await small)[0]] == [202, 202]
        assert (large.under_way, relay.intake.admission.pressure.small.under_way) == (0, 0)
        assert (await relay.post(lines, **NDJSON))[0] == 202


async def test_the_rows_of_a_request_are_the_stores_alone(monkeypatch: pytest.MonkeyPatch):
    """While a bulk request waits for its commit, nothing but the store keeps its rows."""

    def rows_kept() -> int:
        gc.collect()  # what other tests left in cycles
        return sum(type(each) is NewCallback for each in gc.get_objects())

    async with running() as relay:
        stored: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        counts: list[int] = []

        def accept(rows: Sequence[NewCallback]) -> asyncio.Future[Accepted]:
            counts.append(len(rows))
            return stored

        monkeypatch.setattr(relay.inbox, "accept", accept)
        before = rows_kept()
        post = asyncio.create_task(relay.post(b'{"order_id":1}\n' * 3000, **NDJSON))
        await until(lambda: counts == [3000])
        assert rows_kept() == before
        stored.set_result(Accepted([str(number) for number in range(3000)], frozenset()))
        assert (await post)[:2][1]["accepted"] == 3000


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
async def test_many_small_bodies_that_decode_to_much(relay_peak: list[int], coding: str, pack):
    """Sixty bodies of a few kilobytes that each decode to the limit never take more than the room, all at once."""
    bounds = {"max_waiting_bytes": 4 << 20}
    async with running(bounds=bounds, max_bulk=2 << 20) as relay:
        bomb = pack(b" " * (2 << 20))
        many = pack(b"") * 200 + bomb
        posts = [relay.post(io.BytesIO(body), Content_Encoding=coding, **NDJSON) for body in [bomb, many] * 30]
        answers = await asyncio.gather(*posts)
        assert {status for status, _, _ in answers} <= {400, 413, 503}
        assert max(relay_peak) <= bounds["max_waiting_bytes"]
        assert relay.intake.admission.room.held_bytes == 0
        assert (await relay.post(b'{"order_id": 1}'))[0] == 202


@pytest.fixture
def relay_peak(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every figure of bytes held."""
    from relay.ingest.room import Room

    seen = [0]
    hold = Room.hold

    def watched(self: Room, size: int, had: int) -> None:
        hold(self, size, had)
        seen.append(self.held_bytes)

    monkeypatch.setattr(Room, "hold", watched)
    return seen


async def test_codings_in_codings_and_huge_windows_are_refused(relay: Relay):
    """A coding within a coding is 415; a zstd frame that asks for a window of gigabytes is 400 and gets none."""
    nested = gzip.compress(gzip.compress(b"{}"))
    assert (await relay.post(nested, Content_Encoding="gzip, gzip"))[0] == 415
    assert (await relay.post(b"{}", Content_Encoding="br"))[0] == 415
    window = zstd.compress(b"x" * 100, options={zstd.CompressionParameter.window_log: 27})
    frame = bytes([*window[:4], 0x00, 0xA8, *window[6:]])  # no single segment; window descriptor: 2 GiB
    status, problem, _ = await relay.post(frame, Content_Encoding="zstd")
    assert (status, problem["code"]) == (400, "bad_encoding")


async def test_a_search_beside_the_loop(monkeypatch: pytest.MonkeyPatch):
    """Large payloads of a platform with a searched key are read by another thread, in turns; small ones on the loop."""
    path_of_key = KeyPath("items[?main].id | [0]")
    read_by: list[str] = []

    def key(payload: bytes) -> str | None:
        read_by.append(threading.current_thread().name)
        return path_of_key(payload)

    searched = PlatformIntake(
        name="searched", needs_json=True, expires_s=60.0, max_bytes=2 << 20, key=key, searches=True
    )
    monkeypatch.setitem(PLATFORMS, "searched", searched)
    path = "/v1/platforms/searched/callbacks"
    line = b'{"items":[' + b"{}," * 10_000 + b'{"main":true,"id":"k"}]}'
    async with running() as relay:
        assert (await relay.post(line, path=path))[0] == 202
        assert (await relay.post(b"\n".join([line] * 12), path=path, **NDJSON))[0] == 202
        assert {row.key for row in relay.inbox.rows} == {"k"}
        assert read_by == ["ingest-search_0"] * 13
        assert (await relay.post(b'{"items":[{"main":1,"id":7}]}', path=path))[0] == 202
        assert read_by[13:] == [threading.current_thread().name]
        status, problem, _ = await relay.post(line[:-1] + b',"x":[' + b"{}," * 20_000 + b"{}", path=path)
        assert (status, problem["code"]) == (400, "invalid_json")
        assert relay.intake.admission.pressure.searched.under_way == 0


@pytest.fixture
async def relay():
    """A listener with the usual settings."""
    async with running() as relay:
        yield relay


async def test_connections_are_bounded_and_idle_ones_make_way(monkeypatch: pytest.MonkeyPatch):
    """Of too many connections the longest idle is closed, slow heads first; those at work stay."""
    monkeypatch.setattr(admit, "_MOST_CONNECTIONS", 4)
    async with running() as relay, AsyncExitStack() as stack:
        relay.inbox.gate = asyncio.Event()
        busy = await Client.connect(relay, stack)
        body = b'{"order_id":1}'
        busy.writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await until(lambda: len(relay.intake.admission.watch._waiting) == 1)
        slow = [await Client.connect(relay, stack) for _ in range(3)]
        for client in slow:
            client.writer.write(HEAD)
        more = await Client.connect(relay, stack)
        more.writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await more.answer()).startswith(b"HTTP/1.1 200 ")
        assert await slow[0].reader.read() == b""
        relay.inbox.gate.set()
        assert (await busy.answer()).startswith(b"HTTP/1.1 202 ")


async def test_all_who_wait_are_taken_in_one_turn():
    """Connections that wait together are served together, not one by each turn of the loop."""
    async with running() as relay:
        waiting = [socket.create_connection(relay.endpoint) for _ in range(40)]
        connections = relay.server._listener._connections
        for _ in range(20):  # not 40; the kernel may be late with one
            if len(connections._open) < 40:
                await asyncio.sleep(0)
        assert len(connections._open) == 40
        for client in waiting:
            client.close()
