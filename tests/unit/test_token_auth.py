"""Tokens at their worst moments: refused late and in a row, quoted by their endpoint, not on disk yet."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest
import structlog
from msgspec.structs import replace
from relay.config.load import loads
from relay.config.schema.auth import OAuth2Auth
from relay.delivery.auth import Credentials, TokenAuth, token_terms
from relay.delivery.sender import Request
from relay.delivery.terms import Terms, compile_all
from relay.delivery.tokens import NoToken, TokenSource
from relay.delivery.tokenstore import KeptToken, MemoryTokens, TokenStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.wire.answers.answer import Answer, Headers
from relay.wire.signing.authorise import AUTHORIZATION, placing
from relay.wire.signing.draft import Draft
from tests.clocks import FakeClock

DRAFT = Draft("b1", "POST", "http://shop.invalid/", {}, b"")


class Endpoint:
    """A token endpoint that hands out t1, t2, ... and r1, r2, ..., or answers as told."""

    def __init__(self) -> None:
        self.asked = 0
        self.refusal: dict[str, str] | None = None

    async def send(self, request: Request) -> Answer:
        self.asked += 1
        if self.refusal is not None:
            return Answer(400, Headers(), json.dumps(self.refusal).encode())
        granted = {"access_token": f"t{self.asked}", "expires_in": 7200, "refresh_token": f"r-secret-{self.asked}"}
        return Answer(200, Headers(), json.dumps(granted).encode())

    async def close(self) -> None:
        """Nothing is open."""


class Side:
    """One credential's source and its endpoint, on a clock that tests move."""

    def __init__(self, store: TokenStore) -> None:
        self.clock = FakeClock()
        self.endpoint = Endpoint()
        auth = {
            "kind": "oauth2",
            "token_url": "http://127.0.0.1:9/token",
            "grant": "refresh_token",
            "client_id": "c",
            "client_secret": "client-secret",
            "refresh_token": "r-secret-0",
        }
        text = json.dumps({"version": 1, "platforms": {"shop": {"url": "http://127.0.0.1:9/", "auth": auth}}})
        stated = loads(text, path="config.yaml", environ={}).platforms["shop"].auth
        assert isinstance(stated, OAuth2Auth)
        self.source = TokenSource(
            name="shop",
            terms=token_terms(stated),
            sender=self.endpoint,
            store=store,
            clock=self.clock,
            events=Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=Metrics()),
        )

    def auth(self) -> TokenAuth:
        """Return what authorises one platform's requests."""
        return TokenAuth(placing("header", AUTHORIZATION), self.source, self.clock)


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    """A source that keeps its tokens in memory."""
    made = Side(MemoryTokens())
    yield made
    made.source.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"refresh_token": "r-secret-new"},
        {"client_secret": "another"},
        {"client_id": "d"},
        {"scope": "orders"},
        {"token_url": "http://127.0.0.1:9/other"},
    ],
)
def test_what_is_stated_anew_is_another_credential(changed: dict[str, str]) -> None:
    """A kept token was got with what the file said then: it is not gone on with once the file says something else."""
    stated = {
        "kind": "oauth2",
        "token_url": "http://127.0.0.1:9/token",
        "grant": "refresh_token",
        "client_id": "c",
        "client_secret": "client-secret",
        "refresh_token": "r-secret-0",
    }
    marks = []
    for auth in (stated, stated, stated | changed):
        text = json.dumps({"version": 1, "platforms": {"shop": {"url": "http://127.0.0.1:9/", "auth": auth}}})
        read = loads(text, path="config.yaml", environ={}).platforms["shop"].auth
        assert isinstance(read, OAuth2Auth)
        marks.append(token_terms(read).fingerprint)
    assert (marks[0] == marks[1], marks[0] == marks[2]) == (True, False)


async def test_late_refusals_of_a_row_renew_nothing(side: Side) -> None:
    """Ten requests go out; all are refused, before and after the renewal. One renewal is all there is for them."""
    auth = side.auth()
    first = (await auth.authorise(DRAFT)).token
    sent_at = side.clock.now()
    side.clock.advance(1)
    assert await auth.renewed(first, sent_at=sent_at)
    second = (await auth.authorise(DRAFT)).token
    assert (first.reveal(), second.reveal(), side.endpoint.asked) == ("t1", "t2", 2)
    resent_at = side.clock.advance(1)
    side.clock.advance(1)
    assert not await auth.renewed(second, sent_at=resent_at)  # the platform refuses any token

    # Others that went out with the second one before it was known, and one with the first.
    for refused, at in ((second, resent_at), (second, resent_at + 0.5), (first, sent_at)):
        assert not await auth.renewed(refused, sent_at=at)
    assert side.endpoint.asked == 2

    # The first attempt after the platform was left alone may renew again.
    side.clock.advance(60)
    assert await auth.renewed(second, sent_at=side.clock.now())
    assert side.endpoint.asked == 3


async def test_a_token_that_works_ends_the_row(side: Side) -> None:
    """After an accepted request a refusal is the first again."""
    auth = side.auth()
    refused = (await auth.authorise(DRAFT)).token
    for fetches in (2, 3):
        sent_at = side.clock.advance(10)
        assert await auth.renewed(refused, sent_at=sent_at)
        assert side.endpoint.asked == fetches
        refused = (await auth.authorise(DRAFT)).token
        auth.accepted()


async def test_another_platforms_renewal_counts(side: Side) -> None:
    """Two platforms share the source: what one renewed the other does not renew again."""
    one, other = side.auth(), side.auth()
    token = (await one.authorise(DRAFT)).token
    sent_at = side.clock.now()
    side.clock.advance(1)
    assert await one.renewed(token, sent_at=sent_at)
    assert await other.renewed(token, sent_at=sent_at)
    assert side.endpoint.asked == 2


@pytest.mark.parametrize("quoted", ["client-secret", "r-secret-0"])
async def test_what_the_endpoint_quotes_is_hidden(side: Side, quoted: str) -> None:
    """A client secret or a refresh token in the endpoint's words does not reach people."""
    side.endpoint.refusal = {"error": "invalid_grant", "error_description": f"the token {quoted} was used before"}
    with pytest.raises(NoToken) as missing:
        await side.source.token()
    assert missing.value.detail == "the token *** was used before"


async def test_the_refresh_token_in_use_is_hidden_too(side: Side) -> None:
    """After a rotation it is the new one that must not be shown."""
    await side.source.token()
    side.endpoint.refusal = {"error": "invalid_grant", "error_description": "r-secret-1 is spent"}
    side.clock.advance(7200)
    with pytest.raises(NoToken) as missing:
        await side.source.token()
    assert missing.value.detail == "*** is spent"


async def test_what_was_kept_is_hidden_after_a_restart() -> None:
    """Token and refresh token of the file are taken out of answers as those that are fetched are."""
    store = MemoryTokens()
    await Side(store).source.token()
    kept = store.load("shop")
    assert kept is not None
    store.save("shop", replace(kept, token="kept-token-1"))
    again = Side(store)
    assert (await again.source.token()).reveal() == "kept-token-1"
    assert again.source.redactor.text("kept-token-1, r-secret-1 and client-secret") == "***, *** and ***"


async def test_a_token_is_used_once_it_is_kept() -> None:
    """While its refresh token is not on disk nobody is given it: a crash then would leave a refresh token that is dead.

    The store saves in a thread of its own, so that the loop goes on meanwhile.
    """

    class Slow(MemoryTokens):
        saving, may_go_on = threading.Event(), threading.Event()

        def save(self, name: str, kept: KeptToken) -> None:
            self.saving.set()
            assert self.may_go_on.wait(20)
            super().save(name, kept)

    store = Slow()
    side = Side(store)
    waiting = asyncio.create_task(side.source.token())
    async with asyncio.timeout(20):
        while not store.saving.is_set():
            await asyncio.sleep(0.001)

    assert not waiting.done()
    assert side.source.current.reveal() == ""
    store.may_go_on.set()
    assert (await waiting).reveal() == side.source.current.reveal() == "t1"
    kept = store.load("shop")
    assert kept is not None
    assert (kept.token, kept.refresh_token) == ("t1", "r-secret-1")


def _terms(secret: str) -> Terms:
    """What a platform's configuration with this client secret comes to."""
    auth = {"kind": "oauth2", "token_url": "http://127.0.0.1:9/token", "client_id": "c", "client_secret": secret}
    shop = {"url": "http://127.0.0.1:9/", "auth": {"use": "app"}}
    text = json.dumps({"version": 1, "credentials": {"app": auth}, "platforms": {"shop": shop}})
    (terms,) = compile_all(loads(text, path="config.yaml", environ={}))
    return terms


async def test_a_reload_with_another_secret_begins_with_another_token() -> None:
    """Unchanged, platforms and reloads share one source; a rotated secret must not go on with the old token."""
    endpoint = Endpoint()
    events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=Metrics())
    credentials = Credentials(sender=endpoint, store=MemoryTokens(), clock=FakeClock(), events=events)
    tokens = []
    for secret in ("old-secret", "old-secret", "new-secret"):
        tokens.append((await credentials.authoriser(_terms(secret)).authorise(DRAFT)).token.reveal())
    assert tokens == ["t1", "t1", "t2"]
    await credentials.close()
