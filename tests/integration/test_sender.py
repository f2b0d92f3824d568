"""The HTTP sender against real sockets that misbehave."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
from peer_side import Peer, platform, post
from relay.core.clock import monotonic_s
from relay.delivery.sender import HttpSender, Outbound
from relay.wire.answers.answer import MAX_ANSWER_BYTES, Answer, Failure


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    """Open a sender and close it afterwards."""
    opened = HttpSender(concurrency=4, user_agent="callback-relay/test")
    yield opened
    await opened.close()


async def test_answer_and_request_as_sent(sender: HttpSender) -> None:
    """The body and headers arrive as given, once, and the answer comes back with headers looked up in any case."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer("429 Slow Down", b'{"wait":3}', "Retry-After: 3", "X-A: 1", "X-A: 2")

    async with platform(handler) as served:
        result = await sender.send(post(served.url + "?a=%7e%20b+c"))
    assert isinstance(result, Answer)
    assert (result.status, result.body, result.complete) == (429, b'{"wait":3}', True)
    assert result.headers["RETRY-AFTER"] == "3"
    assert result.headers["x-a"] == "1, 2"
    [(head, body)] = served.requests
    assert head.startswith("POST /callbacks?a=%7e%20b+c HTTP/1.1\r\n")
    assert body == b"[1]"
    lines = head.lower().split("\r\n")
    assert "user-agent: callback-relay/test" in lines
    assert "accept-encoding: identity" in lines
    assert "content-type: application/json" in lines
    assert not any(line.startswith(("cookie", "transfer-encoding")) for line in lines)


async def test_connection_is_used_again_and_bounded(sender: HttpSender) -> None:
    """Connections are kept for the next request, and there are never more than ``concurrency``."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.answer("200 OK", b"", "Set-Cookie: a=1")

    async with platform(handler) as served:
        for _ in range(3):
            assert isinstance(await sender.send(post(served.url)), Answer)
        assert served.connections == 1
        await asyncio.gather(*(sender.send(post(served.url)) for _ in range(20)))
        await sender.close()
    assert served.connections <= 4
    assert not any("cookie" in head.lower() for head, _ in served.requests)


async def test_idle_connection_is_left_before_the_platform_leaves_it(
    sender: HttpSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many servers close after 5 s without a request: one that is sent just then is an ambiguous attempt."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.answer("200 OK")

    later_s = 0.0
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: monotonic_s() + later_s)  # its clock of idleness
    async with platform(handler) as served:
        await sender.send(post(served.url))
        later_s += 3.0
        await sender.send(post(served.url))
        assert served.connections == 1
        later_s += 4.9
        await sender.send(post(served.url))
        assert served.connections == 2
        await sender.close()


async def test_cookies_are_not_kept(sender: HttpSender) -> None:
    """What one answer sets does not go with the next request; of a name, as an address would get none anyway."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.answer("200 OK", b"", "Set-Cookie: session=1; Path=/")

    async with platform(handler) as served:
        for _ in range(2):
            assert isinstance(await sender.send(post(served.url.replace("127.0.0.1", "localhost"))), Answer)
        await sender.close()
    assert len(served.requests) == 2
    assert not any("cookie" in head.lower() for head, _ in served.requests)


async def test_proxies_of_the_environment_are_not_used(sender: HttpSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever shell the relay was started from: a proxy is what the configuration names."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer("200 OK")

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with platform(handler) as served:
        assert isinstance(await sender.send(post(served.url)), Answer)
        await sender.close()


async def test_refused(sender: HttpSender) -> None:
    """Nobody listens: refused, never connected."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = await sender.send(post(f"http://127.0.0.1:{unused.getsockname()[1]}/"))
    assert isinstance(result, Failure)
    assert (result.kind, result.connected) == ("refused", False)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".invalid"])
async def test_unknown_host(sender: HttpSender, host: str) -> None:
    """A name that does not resolve, or cannot: dns, never connected."""
    result = await sender.send(post(f"http://{host}/"))
    assert isinstance(result, Failure)
    assert (result.kind, result.connected) == ("dns", False)


async def test_unusable_url_keeps_its_token(sender: HttpSender) -> None:
    """A URL that cannot be requested is a failure, and its text, which may hold a token, is not repeated."""
    result = await sender.send(post("ftp://host.invalid/?access_token=SECRET"))
    assert isinstance(result, Failure)
    assert not result.connected
    assert "SECRET" not in repr(result)


async def test_no_tls_at_the_other_end(sender: HttpSender) -> None:
    """A TLS handshake with a server that speaks something else: tls, and no request was written."""

    async def handler(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with platform(handler) as served:
        served.scheme = "https"
        result = await sender.send(post(served.url))
    assert isinstance(result, Failure)
    assert (result.kind, result.connected) == ("tls", False)


async def test_silent_tls_handshake_is_not_connected() -> None:
    """A handshake that never ends was no connection: the request cannot have been applied."""

    async def handler(peer: Peer) -> None:
        await peer.reader.read()

    sender = HttpSender(concurrency=1, user_agent="t", outbound=Outbound(tls=ssl.create_default_context()))
    async with platform(handler) as served:
        served.scheme = "https"
        result = await sender.send(post(served.url, timeout_s=0.2))
        await sender.close()
    assert result == Failure("unreachable", connected=False, detail="no connection within 0.2 s")


async def test_reset_before_an_answer(sender: HttpSender) -> None:
    """A reset after the request: it may have been applied."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
    assert isinstance(result, Failure)
    assert (result.kind, result.connected) == ("reset", True)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "POST"])
async def test_nothing_is_sent_again_after_a_disconnect(sender: HttpSender, method: str) -> None:
    """Not even idempotent methods, on a fresh or a kept connection: one call is one request."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        if len(peer.platform.requests) == 1:
            peer.answer("200 OK")
            await peer.request()

    async with platform(handler) as served:
        assert isinstance(await sender.send(post(served.url, method=method)), Answer)
        on_kept = await sender.send(post(served.url, method=method))
        on_fresh = await sender.send(post(served.url, method=method))
    for result in (on_kept, on_fresh):
        assert isinstance(result, Failure)
        assert (result.kind, result.connected) == ("reset", True)
    assert (served.connections, len(served.requests)) == (2, 3)


@pytest.mark.parametrize("cut", ["close", "reset"])
async def test_answer_that_does_not_end(sender: HttpSender, cut: str) -> None:
    """An answer that stops before its Content-Length is truncated, however the connection ends."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await peer.writer.drain()
        if cut == "reset":
            await asyncio.sleep(0.02)
            peer.reset()

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
    assert isinstance(result, Failure)
    assert (result.kind, result.connected) == ("truncated", True)


async def test_answer_that_is_not_http(sender: HttpSender) -> None:
    """An answer that is no HTTP at all is a failure after the connection, without its text."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"SECRET SECRET\r\n\r\n")

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
    assert result == Failure("not_http", connected=True, detail="the answer is not HTTP")


async def test_a_port_that_speaks_tls_is_told_from_an_answer_cut_off(sender: HttpSender) -> None:
    """``http`` was written for ``https``: the alert that comes back has no line end, and then the connection ends."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"\x15\x03\x01\x00\x02\x02\x46")

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
    assert result == Failure("not_http", connected=True, detail="the answer is not HTTP")


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"])
async def test_timeout_covers_the_whole_answer(sender: HttpSender, begun: bytes) -> None:
    """However far the answer came, the total time is over: timeout, and the platform sees a reset."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(begun)
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        result = await sender.send(post(served.url, timeout_s=0.5))
        assert result == Failure("timeout", connected=True, detail="timeout after 0.5 s")
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionResetError)


async def test_given_up_body_stops_arriving(sender: HttpSender) -> None:
    """What of a large body was not sent when the time was over never reaches a platform that read slowly."""
    read_on = asyncio.Event()
    got = bytearray()

    async def handler(peer: Peer) -> None:
        await read_on.wait()
        while part := await peer.reader.read(65536):
            got.extend(part)

    async with platform(handler, buffer_bytes=4096) as served:
        result = await sender.send(post(served.url, body=b"x" * 20_000_000, timeout_s=1.0))
        assert result == Failure("timeout", connected=True, detail="timeout after 1 s")
        read_on.set()
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionResetError)
    assert len(got) < 400_000  # what this side had already taken in; closing alone would go on sending


async def test_cancelling_resets_the_connection(sender: HttpSender) -> None:
    """A cancelled send passes the cancellation on, takes its connection with it and leaves the sender usable."""
    arrived = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        if len(peer.platform.requests) > 1:
            peer.answer("200 OK")
            return
        arrived.set()
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        task = asyncio.create_task(sender.send(post(served.url)))
        await asyncio.wait_for(arrived.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionResetError)
        assert isinstance(await sender.send(post(served.url)), Answer)


async def test_close_resets_idle_connections(sender: HttpSender) -> None:
    """Closing the sender resets what it kept open: nothing lingers in the kernel."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer("200 OK")
        await peer.reader.readexactly(1)

    async with platform(handler) as served:
        assert isinstance(await sender.send(post(served.url)), Answer)
        await sender.close()
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionResetError)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_answers(sender: HttpSender, status: int) -> None:
    """A redirect is handed back, never followed."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(f"{status} Elsewhere", b"", f"Location: {peer.platform.url}/other")

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
    assert isinstance(result, Answer)
    assert result.status == status
    assert len(served.requests) == 1


async def test_answer_is_cut_at_64_kib(sender: HttpSender) -> None:
    """Of an endless answer the first 64 KiB are kept, it counts as incomplete, and its connection is reset."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            peer.writer.write(b"y" * 65536)
            await peer.writer.drain()

    async with platform(handler) as served:
        result = await sender.send(post(served.url))
        assert isinstance(result, Answer)
        assert (result.status, len(result.body), result.complete) == (200, MAX_ANSWER_BYTES, False)
        assert isinstance(await asyncio.wait_for(served.ended.get(), 20), ConnectionError)


async def test_compressed_answers_are_decoded_within_the_bound(sender: HttpSender) -> None:
    """gzip is decoded though not asked for; a bomb gives 64 KiB; a broken one gives what there was."""
    bodies = [gzip.compress(b'{"ok":1}'), gzip.compress(bytes(10_000_000)), b"\x1f\x8b not gzip"]

    async def handler(peer: Peer) -> None:
        for body in bodies:
            await peer.request()
            peer.answer("200 OK", body, "Content-Encoding: gzip")

    async with platform(handler) as served:
        results = [await sender.send(post(served.url)) for _ in bodies]
    got = [(len(result.body), result.complete) for result in results if isinstance(result, Answer)]
    assert got == [(8, True), (MAX_ANSWER_BYTES, False), (0, False)]


async def test_answers_coded_on_the_way_are_decoded(sender: HttpSender) -> None:
    """gzip as a transfer coding below chunked, alone and over a content coding: chunks are put together first."""
    once = gzip.compress(b'{"ok":1}')

    async def handler(peer: Peer) -> None:
        for body, extra in ((once, b""), (gzip.compress(once), b"Content-Encoding: gzip\r\n")):
            await peer.request()
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            peer.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n%b\r\n%b" % (extra, chunks))

    async with platform(handler) as served:
        results = [await sender.send(post(served.url)) for _ in range(2)]

    assert [(result.body, result.complete) for result in results if isinstance(result, Answer)] == [
        (b'{"ok":1}', True)
    ] * 2


async def test_answer_before_the_body_was_read(sender: HttpSender) -> None:
    """A platform that refuses a large body at once is heard, and the rest of the body is not sent."""

    async def handler(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.answer("413 Content Too Large", b"big")
        await peer.writer.drain()
        await asyncio.Event().wait()

    async with platform(handler, buffer_bytes=4096) as served:
        result = await asyncio.wait_for(sender.send(post(served.url, body=b"x" * 20_000_000)), 20)
    assert isinstance(result, Answer)
    assert (result.status, result.body) == (413, b"big")
