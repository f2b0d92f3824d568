"""What RFC 9110 and RFC 9112 say a server must do, on a bare listener: no token, no store."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from pathlib import Path

import pytest
from aiohttp.web import BaseRequest
from relay.admin.http.endpoint import _no_coding
from relay.core.errors import RelayError
from relay.web.body import Unbounded, read_body
from relay.web.dispatch import Router, Routes
from relay.web.guard import Guard
from relay.web.inherited import Inherited, inherited_sockets, shared_out
from relay.web.listen import Listener, open_listener
from relay.web.refusal import KINDS
from relay.web.response import Response
from relay.web.sockets import bind

HOST = b"Host: 127.0.0.1\r\n"
CLOSE = b"Connection: close\r\n"
TWO = b"Content-Length: 2\r\n"
MOST_BODY = 1000


class Bare:
    """A listener with two routes, and what it told."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.refused: list[str] = []
        self.listener: Listener
        routes = Routes()
        routes.add("GET", "/", self.get)
        routes.add("GET", "/look", self.get)
        routes.add_below("/ui/", self.get)
        routes.add("POST", "/take", self.take)
        self.router = Router(
            routes=routes,
            checks=(Guard(listen="127.0.0.1:0", hosts=["relay.example"], origins=["https://good.example"]).check,),
            refused=self.refused.append,
            failed=lambda _route, _error: None,
        )

    async def get(self, _request: BaseRequest, _values: Mapping[str, str]) -> Response:
        return Response(200, b"seen")

    async def take(self, request: BaseRequest, _values: Mapping[str, str]) -> Response:
        parts = await read_body(request, limit=MOST_BODY, timeout_s=5.0, decode=_no_coding, reserve=Unbounded())
        self.bodies.append(b"".join(parts))
        return Response(202)

    async def ask(self, data: bytes) -> tuple[int, bytes, str]:
        """Send bytes over a connection of their own; return status, whole answer and the problem's code."""
        host, _, port = self.listener.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        code = json.loads(body)["code"] if b"problem+json" in head and body else ""
        return int(head.split()[1]), answer, code


@pytest.fixture
async def bare() -> AsyncIterator[Bare]:
    """A bare listener that runs."""
    made = Bare()
    made.listener = await open_listener(
        "127.0.0.1:0", serve=made.router, refused=made.refused.append, failed=lambda _route, _error: None
    )
    yield made
    await made.listener.close(1.0)


def request(line: bytes, *headers: bytes, body: bytes = b"", host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    """Return a request that asks for the connection to be closed."""
    return b"%b HTTP/%b\r\n%b%b%b\r\n%b" % (line, version, host, b"".join(headers), CLOSE, body)


@pytest.mark.parametrize(
    "target",
    [
        b"http://127.0.0.1:8787/take",
        b"http://127.0.0.1/take",
        b"HTTP://LOCALHOST/take",
        b"https://relay.example/take",
        b"http://127.0.0.1/take?x=1",
    ],
)
async def test_a_target_in_absolute_form_is_served(bare: Bare, target: bytes):
    """A server MUST accept it (RFC 9112 section 3.2.2); its host counts and Host is not looked at."""
    for host in (HOST, b"Host: evil.example\r\n"):
        assert (await bare.ask(request(b"POST " + target, TWO, body=b"{}", host=host)))[0] == 202
    assert bare.bodies == [b"{}", b"{}"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://evil.example/take", 403),
        (b"http://127.0.0.1.evil.example/take", 403),
        (b"http://evil.example:80/take", 403),
        (b"http://127.0.0.1@evil.example/take", 400),
        (b"http://evil.example@127.0.0.1/take", 400),
        (b"ftp://127.0.0.1/take", 400),
        (b"http:///take", 400),
        (b"http://127.0.0.1", 405),  # the path is /
        (b"http://127.0.0.1?/take", 405),
        (b"http://127.0.0.1/http://127.0.0.1/take", 404),
    ],
)
async def test_the_host_of_an_absolute_target_is_checked(bare: Bare, target: bytes, status: int):
    """A good Host header beside it opens nothing."""
    assert (await bare.ask(request(b"POST " + target, TWO, body=b"{}")))[0] == status
    assert bare.bodies == []


@pytest.mark.parametrize(
    ("host", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (HOST + HOST, 400, "bad_request"),
        (HOST + b"Host: evil.example\r\n", 400, "bad_request"),
        (b"Host: 127.0.0.1/x\r\n", 400, "bad_request"),
        (b"Host: a b\r\n", 400, "bad_request"),
        (b"Host: x@127.0.0.1\r\n", 400, "bad_request"),
        (b"Host: 127.0.0.1, evil.example\r\n", 400, "bad_request"),
        (b"Host:\r\n", 403, "forbidden_host"),
        (b"Host: evil.example\r\n", 403, "forbidden_host"),
    ],
)
async def test_a_missing_second_or_impossible_host(bare: Bare, host: bytes, status: int, code: str):
    """400 for what is no Host at all (RFC 9112 section 3.2), 403 for one that is not served."""
    answered, _, told = await bare.ask(request(b"POST /take", TWO, body=b"{}", host=host))
    assert (answered, told) == (status, code)
    assert bare.bodies == []


async def test_a_host_that_is_left_out_of_http_1_0(bare: Bare):
    """HTTP/1.0 may leave it out: 403 without, served with a Host in the header or in the target."""
    data = b"POST %b HTTP/1.0\r\n%bContent-Length: 2\r\n\r\n{}"
    assert (await bare.ask(data % (b"/take", b"")))[::2] == (403, "forbidden_host")
    assert bare.bodies == []
    assert (await bare.ask(data % (b"/take", HOST)))[0] < 300
    assert (await bare.ask(data % (b"http://localhost/take", b"")))[0] < 300
    assert bare.bodies == [b"{}", b"{}"]


FAULTY = {
    "folded line": request(b"POST /take", TWO, b"X-A: b\r\n c\r\n", body=b"{}"),
    "space before the colon": request(b"POST /take", b"Content-Length : 2\r\n", body=b"{}"),
    "length and coding": request(b"POST /take", TWO, b"Transfer-Encoding: chunked\r\n", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "two lengths": request(b"POST /take", TWO, b"Content-Length: 3\r\n", body=b"{}"),
    "list of lengths": request(b"POST /take", b"Content-Length: 2, 2\r\n", body=b"{}"),
    "signed length": request(b"POST /take", b"Content-Length: +2\r\n", body=b"{}"),
    "chunked is not last": request(
        b"POST /take", b"Transfer-Encoding: chunked, gzip\r\n", body=b"2\r\n{}\r\n0\r\n\r\n"
    ),
    "chunked twice": request(
        b"POST /take", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body=b"2\r\n{}\r\n0\r\n\r\n"
    ),
    "hidden chunked": request(b"POST /take", b"Transfer-Encoding: xchunked\r\n", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "coding in 1.0": request(
        b"POST /take", b"Transfer-Encoding: chunked\r\n", body=b"2\r\n{}\r\n0\r\n\r\n", version=b"1.0"
    ),
    "chunk length": request(b"POST /take", b"Transfer-Encoding: chunked\r\n", body=b"zz\r\n{}\r\n0\r\n\r\n"),
    "bare line feeds": b"POST /take HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 2\n\n{}",
    "a NUL": request(b"POST /take", TWO, b"X: a\0b\r\n", body=b"{}"),
}


@pytest.mark.parametrize("name", FAULTY)
async def test_faulty_framing_is_refused_and_the_connection_closed(bare: Bare, name: str):
    """What two readers could cut differently is 400, and nothing behind it is read as another request."""
    smuggled = request(b"POST /take", TWO, body=b"no")
    status, answer, code = await bare.ask(FAULTY[name] + smuggled)
    assert (status, code) == (400, "bad_request")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert bare.bodies == []
    assert bare.refused == ["bad_request"]


async def test_codings_and_versions_that_are_not_read(bare: Bare):
    """A coding beneath chunked would be taken for the payload: 501 (RFC 9112 section 6.1); another version is 505."""
    coded = request(b"POST /take", b"Transfer-Encoding: gzip, chunked\r\n", body=b"2\r\n{}\r\n0\r\n\r\n")
    assert (await bare.ask(coded))[::2] == (501, "not_supported")
    assert (await bare.ask(request(b"GET /look", version=b"2.0")))[::2] == (505, "version_not_supported")
    assert bare.bodies == []


@pytest.mark.parametrize(
    ("data", "status", "code", "limit"),
    [
        (request(b"GET /" + b"a" * 9000), 414, "target_too_long", b"8190 bytes"),
        (request(b"GET /look", b"X: " + b"a" * 9000 + b"\r\n"), 431, "head_too_large", b"8192 bytes"),
        (request(b"GET /look", b"X" * 9000 + b": a\r\n"), 431, "head_too_large", b"8192 bytes"),
        (request(b"GET /look", b"X: a\r\n" * 200), 431, "head_too_large", b"128 header lines"),
    ],
)
async def test_a_head_that_is_too_large_says_which_limit(bare: Bare, data: bytes, status: int, code: str, limit: bytes):
    """431 for its lines (RFC 6585 section 5), 414 for its target, with the number; the connection ends."""
    answered, answer, told = await bare.ask(data)
    assert (answered, told) == (status, code)
    assert limit in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert bare.refused == [code]


@pytest.mark.parametrize(
    ("languages", "title"),
    [
        (b"zh-CN,zh;q=0.9,en;q=0.8", "这个路径上什么都没有"),
        (b"en,zh;q=0.5", "There is nothing here"),
        (b"", "There is nothing here"),
    ],
)
async def test_a_title_is_in_the_language_asked_for(bare: Bare, languages: bytes, title: str):
    """The first language of Accept-Language decides; the code is the same for all."""
    _, answer, code = await bare.ask(request(b"GET /nowhere", b"Accept-Language: %b\r\n" % languages))
    assert code == "not_found"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["title"] == title


def test_every_problem_has_a_chinese_title() -> None:
    """And there is no title for a problem that there is not."""
    titles = json.loads((files("relay.web") / "titles.zh-CN.json").read_text(encoding="utf-8"))
    assert set(titles) == set(KINDS)


async def test_options_tells_the_methods(bare: Bare):
    """Of a path and, with ``*``, of the whole listener; 405 tells them too (RFC 9110 sections 9.3.7 and 15.5.6)."""
    for line, status, allowed in (
        (b"OPTIONS *", 204, b"GET, HEAD, OPTIONS, POST"),
        (b"OPTIONS /take", 204, b"OPTIONS, POST"),
        (b"OPTIONS /look", 204, b"GET, HEAD, OPTIONS"),
        (b"GET /take", 405, b"OPTIONS, POST"),
        (b"TRACE /look", 405, b"GET, HEAD, OPTIONS"),
    ):
        answered, answer, _ = await bare.ask(request(line))
        assert answered == status
        assert b"\r\nAllow: " + allowed + b"\r\n" in answer


async def test_head_is_answered_without_a_body(bare: Bare):
    """The same head as for GET, its length included (RFC 9110 section 9.3.2)."""
    _, answer, _ = await bare.ask(request(b"HEAD /look"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 4\r\n" in head + b"\r\n"
    assert body == b""


@pytest.mark.parametrize(
    ("line", "length", "status"),
    [(b"POST /nowhere", 500, 404), (b"PUT /take", 500, 405), (b"POST /take", MOST_BODY + 1, 413)],
)
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_an_answer_before_the_body_was_read_says_that_the_connection_ends(
    bare: Bare, line: bytes, length: int, status: int, expect: bytes
):
    """The client would take it for kept alive, and its next request would be read as the rest of the body."""
    host, _, port = bare.listener.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"%b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n" % (line, HOST, length, expect))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in head
    # A request behind a body that arrives after all is not answered on this connection.
    writer.write(b"x" * length + request(b"GET /look"))
    assert b"HTTP/1.1" not in await asyncio.wait_for(reader.read(), 20)
    writer.close()


async def test_an_answer_to_a_body_that_was_there_keeps_the_connection(bare: Bare):
    """A small post to a wrong path costs its client no connection."""
    host, _, port = bare.listener.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for line in (b"POST /nowhere", b"POST /take"):
        writer.write(b"%b HTTP/1.1\r\n%b%b\r\n{}" % (line, HOST, TWO))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert b"Connection: close" not in head
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    writer.close()


async def test_100_continue_is_for_1_1_only(bare: Bare):
    """A 1.0 client does not know interim answers: RFC 9110 section 10.1.1."""
    for version, interim in ((b"1.1", True), (b"1.0", False)):
        host, _, port = bare.listener.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /take HTTP/%b\r\n%b%bExpect: 100-continue\r\n\r\n" % (version, HOST, TWO))
        if interim:
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
        else:
            await bare.ask(request(b"GET /look"))  # by now the listener has read the head
        writer.write(b"{}")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 202")
        writer.close()


@pytest.mark.parametrize(
    ("line", "site", "more", "status"),
    [
        (b"GET /look", b"cross-site", b"", 403),
        (b"GET /look", b"same-site", b"", 403),
        (b"GET /look", b"Cross-Site", b"", 403),
        (b"GET /look", b"something-new", b"", 403),
        (b"HEAD /look", b"cross-site", b"", 403),
        (b"POST /take", b"cross-site", b"", 403),
        (b"GET /look", b"same-origin", b"", 200),
        (b"GET /look", b"none", b"", 200),
        (b"GET /look", b"cross-site", b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 403),
        (b"GET /", b"cross-site", b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 200),
        (b"GET /", b"cross-site", b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", 403),
        (b"GET /", b"cross-site", b"Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", 403),
        (b"GET /", b"cross-site", b"", 403),
        (b"GET /ui/x", b"cross-site", b"", 403),
        (b"GET /ui/x", b"cross-site", b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 200),
        (b"POST /take", b"cross-site", b"Origin: https://good.example\r\n", 202),
        (b"POST /take", b"cross-site", b"Origin: https://evil.example\r\n", 403),
    ],
)
async def test_what_another_site_asks_a_browser_for(bare: Bare, line: bytes, site: bytes, more: bytes, status: int):
    """Refused as a foreign Origin is, which a plain GET does not carry; following a link to the index page is not."""
    headers = (b"Sec-Fetch-Site: " + site + b"\r\n", more, TWO if line.startswith(b"POST") else b"")
    answered, _, _ = await bare.ask(request(line, *headers, body=b"{}" if line.startswith(b"POST") else b""))
    assert answered == status
    assert bare.refused == ([] if status < 400 else ["forbidden_origin"])


def names(monkeypatch: pytest.MonkeyPatch, *hosts: tuple[int, str]) -> None:
    """Let every host name resolve to these addresses."""
    loop = asyncio.get_running_loop()

    async def getaddrinfo(_host: str, port: int, **_more: object) -> list[tuple[object, ...]]:
        return [(family, socket.SOCK_STREAM, 6, "", (host, port)) for family, host in hosts]

    monkeypatch.setattr(type(loop), "getaddrinfo", lambda _loop, host, port, **more: getaddrinfo(host, port, **more))


async def test_all_addresses_of_a_name_are_listened_on(monkeypatch: pytest.MonkeyPatch):
    """``localhost`` is 127.0.0.1 and ::1 on many machines; a free port is the same on both."""
    names(monkeypatch, (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))
    sockets = await bind("localhost:0")
    places = [sock.getsockname()[:2] for sock in sockets]
    assert [host for host, _ in places] == ["127.0.0.1", "::1"]
    assert places[0][1] == places[1][1] != 0
    with pytest.raises(RelayError, match=rf"cannot listen on localhost:{places[0][1]} \(127.0.0.1:.*port is in use"):
        await bind(f"localhost:{places[0][1]}")
    for sock in sockets:
        sock.close()


async def test_a_socket_file_is_ours_from_the_moment_it_lies_there(tmp_path: Path):
    """A relay that starts beside one that is only starting is refused; it does not take the file for a dead one's."""
    address = f"unix:{tmp_path}/in"
    (sock,) = await bind(address)
    with sock, pytest.raises(RelayError, match="another process serves it"):
        await bind(address)


async def test_an_address_of_a_name_that_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch):
    """/etc/hosts names ::1 also where IPv6 is off. One address in use is an error, and so is having none."""
    names(monkeypatch, (socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "127.0.0.1"))
    (sock,) = await bind("relay.example:0")
    port = sock.getsockname()[1]
    names(monkeypatch, (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1"))
    with pytest.raises(RelayError, match="port is in use"):
        await bind(f"relay.example:{port}")
    with socket.socket() as again:  # the first address was given back
        again.bind(("127.0.0.2", port))
    sock.close()
    names(monkeypatch, (socket.AF_INET, "192.0.2.1"))
    with pytest.raises(RelayError, match="no such address"):
        await bind("relay.example:0")


async def test_a_socket_of_systemd_goes_to_the_listener_that_has_its_address(tmp_path: Path):
    """Whatever its unit calls it; a name of ours says it where the address does not, or the error names the setting."""
    tcp, unix, elsewhere = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), socket.socket()
    unix.bind(str(tmp_path / "admin.sock"))
    elsewhere.bind(("127.0.0.2", 0))
    listeners = [("admin", f"unix:{tmp_path}/admin.sock"), ("ingest", f"127.0.0.1:{tcp.getsockname()[1]}")]
    try:
        for name in ("relay.socket", "", "unknown"):
            given = [Inherited(name, tcp), Inherited(name, unix)]
            assert await shared_out(given, listeners) == [[unix], [tcp]]
        assert await shared_out([Inherited("ingest", tcp), Inherited("ingest", elsewhere)], listeners) == [
            [],
            [tcp, elsewhere],
        ]
        assert await shared_out([], listeners) == [[], []]
        with pytest.raises(RelayError, match=r"named relay.socket at 127.0.0.2:.*FileDescriptorName=admin or Fi"):
            await shared_out([Inherited("relay.socket", elsewhere)], listeners)
        with pytest.raises(RelayError, match="named nothing"):
            await shared_out([Inherited("", elsewhere)], listeners)
        with pytest.raises(RelayError, match=r"named admin at 127.0.0.1:.* which is the address of ingest"):
            await shared_out([Inherited("admin", tcp)], listeners)
    finally:
        for sock in (tcp, unix, elsewhere):
            sock.close()


async def test_localhost_takes_the_sockets_of_both_its_addresses(monkeypatch: pytest.MonkeyPatch):
    """A unit with two ListenStream= lines hands over two sockets for one listener."""
    names(monkeypatch, (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    sockets = await bind("localhost:0")
    given = [Inherited("relay.socket", sock) for sock in sockets]
    port = sockets[0].getsockname()[1]
    assert await shared_out(given, [("ingest", f"localhost:{port}")]) == [sockets]
    for sock in sockets:
        sock.close()


def test_only_what_was_opened_for_this_process_is_taken():
    """LISTEN_PID says for whom it is (sd_listen_fds(3)); a count that is none is told."""
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, pid=2) == []
    assert inherited_sockets({}, pid=2) == []
    assert inherited_sockets({"LISTEN_PID": "2", "LISTEN_FDS": "0"}, pid=2) == []
    with pytest.raises(RelayError, match="LISTEN_FDS"):
        inherited_sockets({"LISTEN_PID": "2", "LISTEN_FDS": "one"}, pid=2)
