"""Addresses, routes and answers of the listeners, without sockets."""

import asyncio

import pytest
from relay.web.connection.turns import ParserTurns
from relay.web.dispatch import Routes
from relay.web.guard import is_loopback, split_port
from relay.web.refusal import KINDS, Refusal
from relay.web.response import Response


async def nothing(_request: object, _values: object) -> Response:
    """Answer 200."""
    return Response(200)


async def other(_request: object, _values: object) -> Response:
    """Answer 200 as well."""
    return Response(200)


@pytest.mark.parametrize(
    ("address", "host", "port", "local"),
    [
        ("127.0.0.1:8787", "127.0.0.1", 8787, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("localhost", "localhost", None, True),
        ("[::1]:8787", "[::1]", 8787, True),
        ("::1", "::1", None, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("example.com:x", "example.com:x", None, False),
        ("127.0.0.1.evil.example:80", "127.0.0.1.evil.example", 80, False),
        ("unix:/run/relay.sock", "unix:/run/relay.sock", None, True),
    ],
)
def test_addresses(address: str, host: str, port: int | None, local: bool):
    """Host and port are told apart with and without brackets; only true loopback is local."""
    assert split_port(address) == (host, port)
    assert is_loopback(address) is local


def test_routes_find_by_path_and_method():
    """Names are taken from the path percent-decoded, the query is not part of it, GET answers HEAD."""
    routes = Routes()
    routes.add("GET", "/v1/callbacks/{id}", nothing)
    routes.add("GET", "/v1/callbacks/all", other)
    routes.add("POST", "/v1/callbacks/{id}", other)
    assert routes.find("GET", "/v1/callbacks/a%2Fb%20c?x=/1") == (nothing, {"id": "a/b c"})
    assert routes.find("HEAD", "/v1/callbacks/1")[0] is nothing
    assert routes.find("POST", "/v1/callbacks/1")[0] is other
    with pytest.raises(Refusal, match="method_not_allowed") as refusal:
        routes.find("PUT", "/v1/callbacks/1")
    assert refusal.value.extra["headers"] == {"Allow": "GET, HEAD, OPTIONS, POST"}
    for path in ("/v1/callbacks", "/v1/callbacks/1/2", "//v1/callbacks/1"):
        with pytest.raises(Refusal, match="not_found") as refusal:
            routes.find("GET", path)
        assert "/openapi.json" in refusal.value.detail


def test_every_problem_can_be_answered():
    """Each code has a status, a title and, where the client should come back, a time for it."""
    for code, kind in KINDS.items():
        answer = Refusal(code).answer()
        assert answer.status == kind.status
        assert f'"code":"{code}"'.encode() in answer.body
        assert (b"Retry-After" in answer._head) == (kind.status in (429, 503))


def test_a_header_cannot_be_split():
    """A value with a line break never becomes a header."""
    with pytest.raises(ValueError, match="line break"):
        Response(202, headers={"Location": "/x\r\nSet-Cookie: a=b"})


class Fed:
    """A connection with so many parts to parse; the first of a broken one fails."""

    def __init__(self, name: str, parts: int, log: list[str], *, broken: bool = False) -> None:
        self.name, self.parts, self.log, self.broken = name, parts, log, broken

    def feed(self, most_bytes: int) -> bool:
        """Parse one."""
        assert most_bytes
        self.log.append(self.name)
        if self.broken:
            raise RuntimeError("a bug")
        self.parts -= 1
        return self.parts > 0


async def test_connections_are_parsed_in_turns():
    """One part each, in the order they came; one that fails, which is a bug, holds up no other."""
    loop, failed, log = asyncio.get_running_loop(), list[object](), list[str]()
    loop.set_exception_handler(lambda _loop, about: failed.append(about["exception"]))
    turns = ParserTurns()
    for fed in (Fed("a", 3, log), Fed("broken", 3, log, broken=True), Fed("b", 2, log)):
        turns.add(fed)
    for _ in range(20):
        await asyncio.sleep(0)
    assert log == ["a", "broken", "b", "a", "b", "a"]
    assert [str(each) for each in failed] == ["a bug"]
    turns.add(Fed("later", 1, log))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log[-1] == "later"
