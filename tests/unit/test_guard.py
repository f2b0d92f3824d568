"""The token of a listener, and the Host and Origin that are let in, without sockets."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from relay.web.guard import Bearer, Guard, PostToken
from relay.web.refusal import Refusal

TOKEN = "s3cret-token"


def asked(**headers: str) -> Any:
    """A request with these headers."""
    return make_mocked_request("POST", "/v1/callbacks", headers=headers)


def code(check: Any, **headers: str) -> str:
    """Return the code a request is refused with, "" when it is let in."""
    try:
        check(asked(**headers))
    except Refusal as refusal:
        return refusal.code
    return ""


@pytest.mark.parametrize(
    ("authorization", "let_in"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer  {TOKEN} ", True),
        ("Bearer s3cret", False),
        ("Bearer s", False),
        ("Bearer ", False),
        ("Bearer", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer x{TOKEN}", False),
        (f"Bearer {TOKEN.upper()}", False),
        (f"Basic {TOKEN}", False),
        (f"Token {TOKEN}", False),
        (TOKEN, False),
        ("", False),
    ],
)
def test_a_token_is_the_whole_token(authorization: str, let_in: bool) -> None:
    """Neither its beginning, nor more than it, nor the token of another scheme."""
    assert code(Bearer(TOKEN).check, Authorization=authorization) == ("" if let_in else "unauthorized")


def test_without_a_token_everyone_may_pass() -> None:
    """And with one, nobody who shows none."""
    assert code(Bearer(None).check) == ""
    assert code(Bearer("").check) == ""
    assert code(Bearer(TOKEN).check) == "unauthorized"


@pytest.mark.parametrize("listen", ["127.0.0.1:8787", "0.0.0.0:8787"])
def test_a_host_that_was_refused_stays_refused(listen: str) -> None:
    """Seen twice, or after one that is good: what is remembered is only what was let in."""
    guard = Guard(listen=listen, hosts=("relay.internal",))
    for _ in range(2):
        assert code(guard.check, Host="evil.example") == "forbidden_host"
        assert code(guard.check, Host="relay.internal:8787") == ""
        assert code(guard.check, Host="relay.internal.evil.example") == "forbidden_host"


def test_behind_a_unix_socket_any_host_is_served() -> None:
    """A browser cannot connect to one; an Origin is refused there too."""
    guard = Guard(listen="unix:/run/relay.sock")
    assert code(guard.check, Host="whatever") == ""
    assert code(guard.check, Host="whatever", Origin="https://evil.example") == "forbidden_origin"


def test_an_origin_must_be_allowed() -> None:
    """Whatever its letters' case; the listener's own one only where a console is served."""
    guard = Guard(listen="127.0.0.1:8787", origins=("https://console.internal/",))
    assert code(guard.check, Host="127.0.0.1", Origin="https://CONSOLE.internal") == ""
    assert code(guard.check, Host="127.0.0.1", Origin="http://127.0.0.1") == "forbidden_origin"
    assert code(guard.check, Host="127.0.0.1", Origin="null") == "forbidden_origin"
    own = Guard(listen="127.0.0.1:8787", same_origin=True)
    assert code(own.check, Host="127.0.0.1:8787", Origin="http://127.0.0.1:8787") == ""
    assert code(own.check, Host="127.0.0.1:8787", Origin="http://evil.example") == "forbidden_origin"


def test_a_token_is_for_its_platforms() -> None:
    """The shared one for all, one of the list for those it names; whoever shows another is nobody."""
    bearer = Bearer(TOKEN, [PostToken("erp-token", frozenset({"shop-a"})), PostToken("all-token", None)])
    assert bearer.check(asked(Authorization=f"Bearer {TOKEN}")) is None
    assert bearer.check(asked(Authorization="Bearer erp-token")) == {"shop-a"}
    assert bearer.check(asked(Authorization="Bearer all-token")) is None
    assert code(bearer.check, Authorization="Bearer erp") == "unauthorized"
    assert code(bearer.check) == "unauthorized"
