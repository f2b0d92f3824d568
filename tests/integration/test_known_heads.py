"""Posts whose head is known are served without aiohttp, over real sockets: nobody can tell that from the answers."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from relay.core.model import NewCallback
from relay.ingest.fan_out import Routing
from relay.ingest.intake import IngestSettings
from relay.ingest.posts import Directory
from relay.web.connection.remembered import Cut, KnownHead, cut, length_of
from tests.integration.test_ingest import PLATFORMS, POST, Relay, running, until

LINE = b"POST %b HTTP/1.1\r\n" % POST.encode()
BODY = b'{"order_id": 7}'
HEALTH = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post(body: bytes = BODY, *lines: bytes, first: bytes = LINE, length: bytes | None = None) -> bytes:
    """Return a request with these header lines before Content-Length."""
    size = b"Content-Length: %d" % len(body) if length is None else length
    return first + b"\r\n".join((b"Host: localhost", *lines, size)) + b"\r\n\r\n" + body


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def connect(cls, relay: Relay) -> AsyncIterator["Client"]:
        """Connect; the connection is cut at the end of the block."""
        made = cls(*await asyncio.open_connection(*relay.endpoint))
        try:
            yield made
        finally:
            made.writer.transport.abort()

    async def ask(self, request: bytes) -> bytes:
        """Send a request in one piece; return its answer, or what came until the connection ended."""
        self.writer.write(request)
        async with asyncio.timeout(20):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
                return head + await self.reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            except asyncio.IncompleteReadError as ended:
                return ended.partial

    async def rest(self, request: bytes) -> bytes:
        """Send bytes and return all that comes until the connection ends."""
        self.writer.write(request)
        async with asyncio.timeout(20):
            return await self.reader.read()


class Watched:
    """A relay that knows the head of ``post()``, and counts what was served because of it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.router = relay.server._router
        self.known = 0
        begin = self.router.begin

        def counted(known: KnownHead, part: Cut) -> Any:
            self.known += 1
            return begin(known, part)

        self.router.begin = counted  # type: ignore[method-assign]

    async def teach(self, *requests: bytes) -> None:
        """Send each request until its head is known."""
        async with Client.connect(self.relay) as client:
            for request in requests or (post(),):
                known = self.known
                for _ in range(4):
                    assert (await client.ask(request)).startswith(b"HTTP/1.1 2")
                assert self.known > known


def same(answer: bytes) -> bytes:
    """Return an answer without what differs each time: its time and the ids."""
    answer = re.sub(rb"Date: [^\r]*", b"Date: then", answer)
    return re.sub(rb"[0-9A-Z]{15,16}", b"ID", answer)


KEYED = post(BODY, b"Idempotency-Key: k1", b"Content-Type: application/json")
CORPUS = {
    "as known": post(),
    "another length": post(b'{"order_id": "seven", "more": true}'),
    "with a key": KEYED,
    "the key again": post(BODY, b"Idempotency-Key: again"),
    "the key again, another body": post(b'{"order_id": 8}', b"Idempotency-Key: again"),
    "names in capitals": post(BODY, b"IDEMPOTENCY-KEY: k2", length=b"CONTENT-LENGTH: %d" % len(BODY)),
    "a key with a space": post(BODY, b"Idempotency-Key: k 3"),
    "a key with a tab after it": post(BODY, b"Idempotency-Key: k4\t"),
    "two keys": post(BODY, b"Idempotency-Key: k5", b"Idempotency-Key: k6"),
    "an empty key": post(BODY, b"Idempotency-Key: "),
    "a long key": post(BODY, b"Idempotency-Key: " + b"k" * 255),
    "a longer key": post(BODY, b"Idempotency-Key: " + b"k" * 256),
    "a key that is not ASCII": post(BODY, "Idempotency-Key: schlüssel".encode()),
    "a key that goes on in the next line": post(BODY, b"Idempotency-Key: k7\r\n more"),
    "a line that goes on after the key is cut": post(BODY, b"X-A: 1", b"Idempotency-Key: k8\r\n\tmore"),
    "a length that goes on": post(BODY, length=b"Content-Length: 15\r\n 1"),
    "two lengths": post(BODY, b"Content-Length: 15"),
    "two other lengths": post(BODY, b"Content-Length: 3"),
    "a length in words": post(BODY, length=b"Content-Length: fifteen"),
    "a length with a sign": post(BODY, length=b"Content-Length: +15"),
    "a length with a zero before it": post(BODY, length=b"Content-Length: 015"),
    "a length with a list": post(BODY, length=b"Content-Length: 15, 15"),
    "a length with spaces": post(BODY, length=b"Content-Length:   15  "),
    "a space before the colon": post(BODY, length=b"Content-Length : 15"),
    "no space after the colon": post(BODY, length=b"Content-Length:15"),
    "too short a length": post(BODY, length=b"Content-Length: 14"),
    "chunked as well": post(BODY, b"Transfer-Encoding: chunked"),
    "chunked": post(b"f\r\n" + BODY + b"\r\n0\r\n\r\n", length=b"Transfer-Encoding: chunked"),
    "a line feed alone": post(BODY, b"X-A: 1\nX-B: 2"),
    "a carriage return alone": post(BODY, b"X-A: 1\rX-B: 2"),
    "a head that ends early": post(BODY, b"X-A: 1\n", b"X-B: 2"),
    "a byte that is no text": post(BODY, b"X-A: \x00"),
    "an empty line first": b"\r\n" + post(),
    "two empty lines first": b"\r\n\r\n" + post(),
    "no body": post(b""),
    "no JSON": post(b"{"),
    "no UTF-8": post(b'{"order_id": "\xff"}'),
    "a key that is too long": post(b'{"order_id": "%b"}' % (b"k" * 1025)),
    "too large": post(b'{"order_id": "%b"}' % (b"k" * 3000)),
    "in Chinese": post(b"{", b"Accept-Language: zh-CN"),
    "as NDJSON": post(BODY, b"Content-Type: application/x-ndjson"),
    "an envelope": post(BODY, b"Relay-Envelope: 1"),
    "a priority": post(BODY, b"Relay-Priority: high"),
    "a priority that is none": post(BODY, b"Relay-Priority: urgent"),
    "an encoding": post(BODY, b"Content-Encoding: gzip"),
    "it waits for 100": post(BODY, b"Expect: 100-continue"),
    "an older version": post(first=LINE.replace(b"1.1", b"1.0")),
    "a newer version": post(first=LINE.replace(b"1.1", b"2.0")),
    "another method": post(first=LINE.replace(b"POST", b"PUT")),
    "a method in small letters": post(first=LINE.replace(b"POST", b"post")),
    "another platform": post(first=LINE.replace(b"shop-a", b"shop-b")),
    "a platform in a group": post(first=LINE.replace(b"shop-a", b"grouped")),
    "a query": post(first=LINE.replace(b" HTTP", b"?a=1 HTTP")),
    "the whole URL": post(first=LINE.replace(b"/v1", b"http://localhost/v1")),
    "another host": post().replace(b"localhost", b"shop.example"),
    "no host": post().replace(b"Host: localhost\r\n", b""),
    "two hosts": post(BODY, b"Host: localhost"),
    "from a page": post(BODY, b"Origin: https://shop.example"),
    "it ends the connection": post(BODY, b"Connection: close"),
    "it wants another protocol": post(BODY, b"Connection: upgrade", b"Upgrade: websocket"),
    "two at once": post() + post(),
    "one and a half": post() + post()[:30],
    "a question about it": b"GET /v1/callbacks/none HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


async def exchange(relay: Relay, request: bytes) -> bytes:
    """Return all that comes for a request on a connection that was used before and is used again after it."""
    async with Client.connect(relay) as client:
        assert (await client.ask(post())).startswith(b"HTTP/1.1 202 ")
        answer = await client.ask(request) + await client.rest(HEALTH)
    return same(answer)


async def compared(requests: dict[str, bytes]) -> int:
    """Compare a relay that knows heads with one that parses each; return how often one was known."""
    async with running(max_body=2000) as knows, running(max_body=2000) as parses:
        parses.server._router.recall = lambda _rest: None  # type: ignore[method-assign]
        watched = Watched(knows)
        await watched.teach(post(), KEYED, post(BODY, b"Accept-Language: zh-CN"))
        async with Client.connect(parses) as client:
            for request in (post(), KEYED, post(BODY, b"Accept-Language: zh-CN")) * 4:
                await client.ask(request)
        watched.known = 0
        knows.inbox.rows.clear()
        parses.inbox.rows.clear()
        for what, request in requests.items():
            assert await exchange(knows, request) == await exchange(parses, request), what
        assert knows.inbox.rows == parses.inbox.rows
        return watched.known - len(requests)  # each of them came after one that is known


async def test_a_known_head_changes_no_answer():
    """Ordinary, odd and malformed requests get the same bytes, and store the same rows, whether heads are known."""
    assert await compared(CORPUS) >= 12


async def test_a_head_that_is_nearly_known_changes_no_answer():
    """So do requests that differ from known ones in one byte."""
    rng = random.Random(1)
    requests: dict[str, bytes] = {}
    for number in range(120):
        request = bytearray(rng.choice((post(), KEYED)))
        at = rng.randrange(len(request))
        match rng.randrange(3):
            case 0:
                request[at] = rng.choice(b"\r\n \t:,0/x\x00\xff")
            case 1:
                del request[at]
            case _:
                request.insert(at, rng.choice(b"\r\n \t:1x"))
        head, end, body = bytes(request).partition(b"\r\n\r\n")
        said = re.search(rb"content-length: *([0-9]+)", head.lower())
        if end and (said is None or int(said[1]) <= len(body)):  # else the relay waits for more
            requests[f"{number}: {bytes(request)!r}"] = bytes(request)
    await compared(requests)


async def test_what_is_known_is_stored_as_if_it_were_parsed():
    """A post with a known head is stored with its own body and idempotency key and with what the head says."""
    async with running() as relay:
        watched = Watched(relay)
        lines = b"Relay-Event: paid", b"Content-Type: text/plain"
        await watched.teach(post(BODY, b"Idempotency-Key: k1", *lines))
        relay.inbox.rows.clear()
        async with Client.connect(relay) as client:
            answer = await client.ask(post(b'{"order_id": 9}', b"Idempotency-Key: k9", *lines))
            again = await client.ask(post(b'{"order_id": 9}', b"Idempotency-Key: k9", *lines))
    assert watched.known >= 3
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"Idempotent-Replayed: true" in again
    assert again.endswith(answer.partition(b"\r\n\r\n")[2])
    assert relay.inbox.rows == [
        NewCallback("shop-a", b'{"order_id": 9}', "9", "paid", 1, 86400.0, "k9", "text/plain", None, "")
    ]


async def test_what_holds_for_a_moment_is_not_remembered():
    """A moment before which a callback must not go is another each time, as seen from now: such heads are parsed."""
    async with running() as relay:
        watched = Watched(relay)
        async with Client.connect(relay) as client:
            for _ in range(4):
                await client.ask(post(BODY, b"Relay-Not-Before: 2999-01-01T00:00:00Z"))
                await client.ask(post(BODY, b"Relay-Not-Before: 30m"))
        assert watched.known == 0


async def test_a_reload_forgets_what_was_known():
    """After a reload with a token, posts without it are refused, also on a connection that was let in before."""
    async with running() as relay:
        watched = Watched(relay)
        await watched.teach()
        async with Client.connect(relay) as client:
            assert (await client.ask(post())).startswith(b"HTTP/1.1 202 ")
            settings = IngestSettings(listen=relay.settings.listen, token="t")
            relay.server.configure(settings=settings, directory=Directory(Routing(), PLATFORMS))
            assert (await client.ask(post())).startswith(b"HTTP/1.1 401 ")
            await watched.teach(post(BODY, b"Authorization: Bearer t"))
            assert (await client.ask(post(BODY, b"Authorization: Bearer x"))).startswith(b"HTTP/1.1 401 ")


async def test_a_body_in_pieces_is_parsed_and_the_next_post_is_known_again():
    """A body that comes after its head goes through aiohttp. Once it is complete, heads are looked up again."""
    async with running() as relay:
        watched = Watched(relay)
        await watched.teach()
        watched.known = 0
        async with Client.connect(relay) as client:
            request = post()
            assert (await client.ask(request)).startswith(b"HTTP/1.1 202 ")
            client.writer.write(request[:-5])
            await until(lambda: len(relay.intake.admission.room._uploads) == 1)
            assert (await client.ask(request[-5:])).startswith(b"HTTP/1.1 202 ")
            assert watched.known == 1
            assert (await client.ask(request)).startswith(b"HTTP/1.1 202 ")
            assert watched.known == 2


@pytest.mark.parametrize("how", ["pipelined", "closing", "gone"])
async def test_a_known_post_that_waits_for_its_commit(how: str):
    """What comes meanwhile is answered after it; a stop waits for it; a client that goes away leaves nothing behind."""
    async with running() as relay:
        watched = Watched(relay)
        await watched.teach()
        stored, server = len(relay.inbox.rows), relay.server
        async with Client.connect(relay) as client:
            assert (await client.ask(post())).startswith(b"HTTP/1.1 202 ")
            *_, connection = server._listener._connections._open
            task = connection._task_handler
            gate = relay.inbox.gate = asyncio.Event()
            client.writer.write(post())
            await until(lambda: relay.intake.admission.room.held_bytes > 0)
            if how == "pipelined":
                client.writer.write(post(b"{"))
                gate.set()
                first = await client.ask(b"")
                assert first.startswith(b"HTTP/1.1 202 ")
                assert (await client.ask(b"")).startswith(b"HTTP/1.1 400 ")
            elif how == "closing":
                stopping = asyncio.ensure_future(server.close(5.0))
                await asyncio.sleep(0)
                gate.set()
                assert b"Connection: close\r\n" in await client.rest(b"")
                assert await stopping == 0
            else:
                client.writer.transport.abort()
                await until(lambda: not server._listener._connections._open)
                gate.set()
                await until(task.done)
            await until(lambda: len(relay.inbox.rows) == stored + 2)
            assert relay.intake.admission.room.held_bytes == 0


async def test_a_connection_that_never_repeats_a_head_is_not_looked_at_for_ever():
    """A client whose heads differ each time is parsed without a look after some requests, and fills no memory."""
    async with running() as relay:
        async with Client.connect(relay) as client:
            for number in range(100):
                assert (await client.ask(post(BODY, b"X-Request: %d" % number))).startswith(b"HTTP/1.1 202 ")
        assert len(relay.server._router._heads._known) <= 16


async def test_an_idle_connection_that_served_known_posts_is_closed(monkeypatch: pytest.MonkeyPatch):
    """The time of an idle connection runs from its last answer, known or not."""
    monkeypatch.setattr("relay.web.listen._KEEPALIVE_S", 0.8)
    async with running() as relay:
        await Watched(relay).teach()
        async with Client.connect(relay) as client:
            for _ in range(2):
                assert (await client.ask(post())).startswith(b"HTTP/1.1 202 ")
            assert await client.rest(b"") == b""


def test_a_request_is_cut_only_where_it_is_complete():
    """Its head is found without the two lines that differ, and its body as its length says; else it is not cut."""
    rest = LINE + b"Host: localhost\r\n"
    assert cut(post()) == Cut(rest, None, BODY)
    assert cut(post(BODY, b"idempotency-key:k")) == Cut(rest, "k", BODY)
    for other in (post()[:-1], post() + b"x", post(length=b"X: 15"), b"", post(BODY, b"X: " + b"x" * 2048)):
        assert cut(other) is None


def test_the_length_of_a_request():
    """It is known where the head is complete and says it, or says nothing of a body."""
    assert length_of(post()[:-9]) == len(post())
    assert length_of(HEALTH) == len(HEALTH)
    for other in (post()[:20], post(length=b"Transfer-Encoding: chunked"), post(length=b"Content-Length: x")):
        assert length_of(other) == -1
