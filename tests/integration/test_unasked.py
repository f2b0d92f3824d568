"""What comes on a connection without being asked for is no answer, and what comes back is read within bounds."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator

import pytest
from peer_side import Peer, platform, post
from relay.delivery.connection import NeverAsked, PlatformConnection
from relay.delivery.sender import HttpSender
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.framing import MAX_HEAD_BYTES, MAX_HEAD_LINES, MAX_INTERIM

OK = b'{"errcode":0}'
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + OK
STRAYS = {
    "another answer": STRAY,
    "408": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n",
    "garbage": b"\x00\xff garbage \r\n\r\n",
    "part of an answer": b"HTTP/1.1 200 OK\r\n",
    "line end": b"\r\n",
}


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    """Open a sender and close it afterwards."""
    opened = HttpSender(concurrency=4, user_agent="callback-relay/test")
    yield opened
    await opened.close()


@pytest.mark.parametrize("turns", [0, 3], ids=["unread", "read"])
@pytest.mark.parametrize("stray", STRAYS)
async def test_bytes_on_an_idle_connection_are_no_answer(sender: HttpSender, stray: str, turns: int) -> None:
    """Whether the loop has read them already or not: the connection is given up, the request goes over another."""
    peers = []

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        await peer.request()
        peer.answer("200 OK", OK if len(peers) == 1 else b'{"errcode":9}')
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        assert isinstance(await sender.send(post(served.url)), Answer)
        peers[0].writer.write(STRAYS[stray])  # goes to the kernel at once
        for _ in range(turns):
            await asyncio.sleep(0)
        second = await sender.send(post(served.url, body=b"[2]"))
    assert isinstance(second, Answer)
    assert second.body == b'{"errcode":9}'
    assert [body for _, body in served.requests] == [b"[1]", b"[2]"]
    assert served.connections == 2


async def test_requests_without_a_body_look_too(sender: HttpSender) -> None:
    """A read-back by GET is written at once, and goes over another connection all the same."""
    peers = []

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        await peer.request()
        peer.answer("200 OK", OK if len(peers) == 1 else b'{"errcode":9}')
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        first = await sender.send(post(served.url, method="GET", body=b""))
        peers[0].writer.write(STRAY)
        second = await sender.send(post(served.url, method="GET", body=b""))
    assert [answer.body for answer in (first, second) if isinstance(answer, Answer)] == [OK, b'{"errcode":9}']
    assert (served.connections, len(served.requests)) == (2, 2)


async def test_many_spoilt_connections_are_all_passed_over(sender: HttpSender) -> None:
    """Every kept connection is looked at, one after the other; none of them carries a request."""
    peers = []
    together = asyncio.Event()

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        await peer.request()
        if len(peers) == 4:
            together.set()
        await together.wait()
        peer.answer("200 OK", OK)
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        await asyncio.gather(*(sender.send(post(served.url)) for _ in range(4)))
        for peer in peers:
            peer.writer.write(STRAY)
        assert isinstance(await sender.send(post(served.url)), Answer)
    assert (served.connections, len(served.requests)) == (5, 5)


@pytest.mark.parametrize("stray", STRAYS)
async def test_bytes_behind_an_answer_are_not_the_next(sender: HttpSender, stray: str) -> None:
    """The answer in front of them counts, whatever they are; its connection is not used again."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        body = OK if peer.platform.connections == 1 else b'{"errcode":9}'
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + body + STRAYS[stray])
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        answers = [await sender.send(post(served.url)), await sender.send(post(served.url))]
    assert [answer.body for answer in answers if isinstance(answer, Answer)] == [OK, b'{"errcode":9}']
    assert served.connections == 2


async def test_kept_connection_that_was_closed_is_passed_over(sender: HttpSender) -> None:
    """The platform closed while idle: the next request goes over a new connection, it is no ambiguous attempt."""
    closing = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer("200 OK", OK)
        if peer.platform.connections == 1:
            await closing.wait()

    async with platform(handler) as served:
        assert isinstance(await sender.send(post(served.url)), Answer)
        closing.set()
        await asyncio.wait_for(served.ended.get(), 20)
        assert isinstance(await sender.send(post(served.url)), Answer)
    assert (served.connections, len(served.requests)) == (2, 2)


class FakeTransport(asyncio.Transport):
    """A transport without a network, that remembers what was done to it."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        super().__init__({"socket": self.near})
        self.aborted = False
        self.paused = False

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def release(self) -> None:
        self.near.close()
        self.far.close()


async def test_a_platform_that_speaks_first_is_not_asked() -> None:
    """On a new connection too: nothing is sent, so nothing was applied."""
    transport = FakeTransport()
    connection = PlatformConnection(asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.data_received(STRAY)
    connection.set_response_params()
    with pytest.raises(NeverAsked, match="spoke before it was asked") as raised:
        await connection.hold()
    assert raised.value.fresh
    assert (transport.aborted, connection.ask()) == (True, False)
    transport.release()


async def test_what_comes_between_looking_and_writing_is_no_answer() -> None:
    """The body is written a turn of the loop after the connection was looked at: what comes there is not asked for."""
    transport = FakeTransport()
    connection = PlatformConnection(asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.set_response_params()
    await connection.hold()
    connection.data_received(STRAY)
    assert not connection.ask()
    connection.connection_lost(None)
    with pytest.raises(NeverAsked):
        await connection.read()
    transport.release()


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 Whatever"])
async def test_interim_answers_are_bounded(sender: HttpSender, status: str) -> None:
    """A handful comes before an answer; of an endless number the attempt fails and the connection is reset."""
    interim = f"HTTP/1.1 {status}\r\nLink: </a>\r\n\r\n".encode()

    async def handler(peer: Peer) -> None:
        await peer.request()
        if peer.platform.connections == 1:
            peer.writer.write(interim * MAX_INTERIM)
            peer.answer("200 OK", OK, "Connection: close")
            return
        while True:
            peer.writer.write(interim * 1000)
            await peer.writer.drain()

    async with platform(handler) as served:
        first = await sender.send(post(served.url))
        second = await sender.send(post(served.url))
        assert await asyncio.wait_for(served.ended.get(), 20) is None
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionError)
    assert isinstance(first, Answer)
    assert first.body == OK
    words = f"more than {MAX_INTERIM} interim answers came before the answer"
    assert second == Failure("truncated", connected=True, detail=words)


async def test_one_turn_reads_a_bounded_part() -> None:
    """However much arrives at once, in however small chunks: a turn of the loop reads 16 KiB of it, then the others."""
    transport = FakeTransport()
    connection = PlatformConnection(asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.set_response_params()
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000)
    _, payload = await connection.read()
    sizes = [payload.total_bytes]
    assert transport.paused
    while payload.total_bytes < 40_000:
        await asyncio.sleep(0)
        sizes.append(payload.total_bytes)
        await payload.readany()
    assert max(after - before for before, after in zip([0, *sizes], sizes, strict=False)) <= 16 * 1024 // 6 + 1
    assert not transport.paused
    connection.data_received(b"0\r\n\r\n")
    assert payload.is_eof()
    transport.release()


async def test_long_heads_are_read(sender: HttpSender) -> None:
    """One field of 200,000 bytes, or 9,000 fields: a browser or Go reads them, so they are read."""
    heads = [["Content-Security-Policy: " + "x" * 200_000], [f"X-H{i}: v" for i in range(9_000)]]

    async def handler(peer: Peer) -> None:
        for head in heads:
            await peer.request()
            peer.answer("200 OK", OK, *head)

    async with platform(handler) as served:
        answers = [await sender.send(post(served.url)) for _ in heads]
    assert [answer.body for answer in answers if isinstance(answer, Answer)] == [OK, OK]
    assert served.connections == 1


ENDLESS = {
    "one field": (b"X-A: ", b"x" * 65536, f"the answer's head is longer than {MAX_HEAD_BYTES} bytes"),
    "fields": (b"", b"a:\r\n" * 10_000, f"the answer's head has more than {MAX_HEAD_LINES} lines"),
    "chunk extension": (b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 5000, "size line is longer than 4096 bytes"),
    "extensions": (b"Transfer-Encoding: chunked\r\n\r\n", b"1;x=" + b"y" * 90 + b"\r\na\r\n", "more framing than data"),
    "trailers": (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 1000, "the answer's trailer is longer"),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_endless_parts_of_an_answer_are_bounded(sender: HttpSender, what: str) -> None:
    """Head, chunk lines, trailers: each ends the attempt at its bound, not at the timeout."""
    begin, part, words = ENDLESS[what]

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\n" + begin)
        while True:
            peer.writer.write(part)
            await peer.writer.drain()

    async with platform(handler) as served:
        result = await sender.send(post(served.url, timeout_s=60))
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionError)
    assert isinstance(result, Failure)
    assert (result.kind, result.connected) == ("truncated", True)
    assert words in result.detail


@pytest.mark.parametrize("rest", [b"", b"SECRET\r\n", b"\r\n\r\n", b"\r\nHTTP/1.1 200 OK\r\n\r\n"])
async def test_what_is_no_answer_is_not_read_on(
    sender: HttpSender, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The first line that is none ends it, whatever lies behind it, and the loop has nothing to complain of."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"SECRET SECRET\r\n" + rest)
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), OSError)
    await asyncio.sleep(0)
    assert result == Failure("not_http", connected=True, detail="the answer is not HTTP")
    assert caplog.records == []


async def test_an_early_answer_that_goes_on_does_not_stop_the_body(sender: HttpSender) -> None:
    """A platform may begin its answer before it has read everything: it still gets the whole body."""
    body = b"x" * 3_000_000

    async def handler(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n")
        await peer.writer.drain()
        assert await peer.reader.readexactly(len(body)) == body
        peer.writer.write(OK)

    async with platform(handler) as served:
        result = await sender.send(post(served.url, body=body))
    assert isinstance(result, Answer)
    assert result.body == OK


async def test_an_answer_is_taken_before_the_write_error(sender: HttpSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """413 and a reset while the body is being written, seen by the write first: the answer counts."""
    listening = socket.create_server(("127.0.0.1", 0))
    go, reset = threading.Event(), threading.Event()
    look = PlatformConnection._readable
    looks = []

    def serve() -> None:
        taken, _ = listening.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += taken.recv(4096)
        assert go.wait(40)
        taken.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()
        reset.set()

    def too_late(connection: PlatformConnection) -> bool:
        """Look just before the answer and the reset arrive."""
        found = look(connection)
        looks.append(found)
        if len(looks) == 3:  # one of the idle connection, one before the first piece, one before the second
            go.set()
            assert reset.wait(40)
        return found

    monkeypatch.setattr(PlatformConnection, "_readable", too_late)
    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    result = await sender.send(post(url, body=b"x" * 8_000_000))
    thread.join()
    listening.close()
    assert looks[:3] == [False, False, False]
    assert isinstance(result, Answer)
    assert (result.status, result.body) == (413, b"big")
