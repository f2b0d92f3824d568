"""Addresses, routes and answers of the listeners, without sockets."""

import pytest
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
