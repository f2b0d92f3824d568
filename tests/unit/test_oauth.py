"""The token endpoint without a network: what is asked, and what any answer comes to."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from relay.core.secret import NO_SECRET, Secret
from relay.wire.answers.answer import Answer, Failure, Headers
from relay.wire.oauth import Granted, NotGranted, TokenQuestion, TokenReading
from relay.wire.signing.authorise import place_basic, placing
from relay.wire.signing.draft import Draft

URL = "https://t.example/token?v=1"


def question(**settings: Any) -> TokenQuestion:
    """A question with the usual settings."""
    usual = {"url": URL, "grant": "client_credentials", "client_id": "id 1", "client_secret": Secret("s&cret")}
    return TokenQuestion(**{**usual, **settings})


def test_client_credentials_in_a_form() -> None:
    """RFC 6749 section 4.4 with the client among the parameters."""
    draft = question(scope="a b").ask(NO_SECRET)
    assert (draft.method, draft.url, draft.header("content-type")) == ("POST", URL, "application/x-www-form-urlencoded")
    assert dict(parse_qsl(draft.body.decode())) == {
        "grant_type": "client_credentials",
        "client_id": "id 1",
        "client_secret": "s&cret",
        "scope": "a b",
    }


def test_client_in_the_header_and_a_refresh_token_in_json() -> None:
    """RFC 6749 section 2.3.1: both halves encoded before they are joined; the body holds the refresh token."""
    draft = question(grant="refresh_token", client_auth="basic", request="json").ask(Secret("r1"))
    assert draft.headers["Authorization"] == "Basic aWQlMjAxOnMlMjZjcmV0"  # id%201:s%26cret
    assert json.loads(draft.body) == {"grant_type": "refresh_token", "refresh_token": "r1"}


def test_wechats_way() -> None:
    """A GET with names of its own and another grant_type."""
    draft = question(
        request="query", id_name="appid", secret_name="secret", extra={"grant_type": "client_credential"}
    ).ask(NO_SECRET)
    assert (draft.method, draft.body) == ("GET", b"")
    assert dict(parse_qsl(urlsplit(draft.url).query)) == {
        "v": "1",
        "grant_type": "client_credential",
        "appid": "id 1",
        "secret": "s&cret",
    }


def read(body: object, status: int = 200, **paths: str) -> Granted | NotGranted:
    """Read an answer."""
    reading = TokenReading(
        **{"access": "access_token", "expires_in": "expires_in", "refresh": "refresh_token", **paths}, lives_s=3600.0
    )
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reading.read(Answer(status, Headers(), raw))


@pytest.mark.parametrize(
    ("body", "lives_s"),
    [
        ({"access_token": "t", "expires_in": 7200}, 7200.0),
        ({"access_token": "t", "expires_in": "7200"}, 7200.0),
        ({"access_token": "t"}, 3600.0),
        ({"access_token": "t", "expires_in": -1}, 3600.0),
        ({"access_token": "t", "expires_in": True}, 3600.0),
        ({"access_token": "t", "expires_in": "soon"}, 3600.0),
        ({"access_token": "t", "expires_in": "nan"}, 3600.0),
        ({"access_token": "t", "expires_in": 1e30}, 366 * 86400.0),
        (b'{"access_token": "t", "expires_in": 1' + b"0" * 5000 + b"}", 366 * 86400.0),
        ({"access_token": "t", "errcode": 0}, 3600.0),
    ],
)
def test_granted(body: object, lives_s: float) -> None:
    """A token with its lifetime; one that makes no sense counts as not said."""
    assert read(body) == Granted(Secret("t"), lives_s)


def test_granted_under_other_names() -> None:
    """Nested tokens, and a refresh token that replaces the one used."""
    body = {"data": {"token": "t", "ttl": 60, "next": "r2"}}
    found = read(body, access="data.token", expires_in="data.ttl", refresh="data.next")
    assert found == Granted(Secret("t"), 60.0, Secret("r2"))
    assert "r2" not in repr(found)
    with pytest.raises(ValueError, match="JMESPath"):
        read({}, access="a[")


@pytest.mark.parametrize(
    ("status", "body", "reason", "detail", "refused"),
    [
        (400, {"error": "invalid_client", "error_description": "no\nclient"}, "400 invalid_client", "no client", True),
        (200, {"errcode": 40013, "errmsg": "invalid appid"}, "errcode 40013", "invalid appid", True),
        (200, {"code": 50002, "msg": "x"}, "code 50002", "x", True),
        (200, {"errcode": "40001", "errmsg": "as text"}, "errcode 40001", "as text", True),
        (400, {"code": "APP_LOCKED"}, "400 code APP_LOCKED", "", True),
        (200, {"errcode": "what it says here"}, "no text at 'access_token'", "", False),
        (401, {"error": "s3cret words"}, "401", "s3cret words", True),
        (500, b"<html>", "500", "", False),
        (200, b"<html>", "no text at 'access_token'", "", False),
        (200, [], "no text at 'access_token'", "", False),
        (200, {"access_token": ""}, "no text at 'access_token'", "", False),
        (200, {"access_token": "a\r\nX: y"}, "no text at 'access_token'", "", False),
        (200, {"access_token": 5}, "no text at 'access_token'", "", False),
        (302, {"access_token": "t"}, "302", "", False),
    ],
)  # fmt: skip
def test_not_granted(status: int, body: object, reason: str, detail: str, refused: bool) -> None:
    """Errors behind any status are told in fixed words, the endpoint's own apart; odd answers grant nothing."""
    assert read(body, status) == NotGranted(reason, detail, refused)


def test_no_answer() -> None:
    """A failure to get one is told as for platforms."""
    reading = TokenReading(access="a", expires_in="b", refresh="c", lives_s=1.0)
    found = reading.read(Failure("refused", connected=False, detail="t.example:443: refused"))
    assert found == NotGranted("connection refused", "t.example:443: refused")


def test_where_a_token_is_sent() -> None:
    """As Bearer, alone in a header of its own, in the query, or as Basic."""
    draft = Draft("b", "POST", "https://h/?a=1", {"X": "y"}, b"")
    token = Secret("t k")
    assert placing("header", "Authorization")(draft, token).headers == {"X": "y", "Authorization": "Bearer t k"}
    assert placing("header", "X-Token")(draft, token).headers["X-Token"] == "t k"
    assert placing("query", "access_token")(draft, token).url == "https://h/?a=1&access_token=t%20k"
    assert place_basic(draft, Secret("ü:p")).headers["Authorization"] == "Basic w7w6cA=="
