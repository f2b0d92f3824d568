"""Tokens and signatures through real sockets: a token endpoint, a platform that checks, the pipeline between them."""

import asyncio
import base64
import hmac
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from pathlib import Path

import pytest
from relay.config.load import loads
from relay.config.schema.file import Config
from relay.core.clock import RelayClock, wall_s
from relay.core.model import Filter, Lane, NewCallback
from relay.delivery.auth import Credentials, NoToken, token_terms
from relay.delivery.registry import Registry
from relay.delivery.sender import HttpSender, Sender
from relay.delivery.terms import Terms, compile_all
from relay.delivery.tokens import TokenSource
from relay.delivery.tokenstore import FileTokens, KeptToken, MemoryTokens, TokensNotKept, TokenStore
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.callback_view import AttemptView
from relay.views.ledger import QueueTotals
from relay.wire.compress import decompress
from relay.wire.signing.digest import SecretDigest
from relay.wire.signing.draft import fields_of
from relay.wire.signing.sorted_parameters import ParameterText, SortedDigest
from standardwebhooks import Webhook
from tests.clocks import FakeClock
from token_side import TokenPlatform

KEY = bytes(range(32))


class Lines:
    """Keeps log lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> int:
        self.lines.append(line)
        return len(line)

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        return False

    def told(self, event: str) -> list[dict[str, object]]:
        """The lines of one event."""
        return [line for line in map(json.loads, self.lines) if line["event"] == event]


@pytest.fixture
async def platform() -> AsyncIterator[TokenPlatform]:
    """A platform that listens."""
    made = TokenPlatform()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def log() -> Lines:
    """Where events go."""
    return Lines()


@pytest.fixture
def events(log: Lines) -> Events:
    """Events that are kept."""
    return Events(log=make_logger(file=log), metrics=Metrics())


# --- the token source alone, on a clock of its own


class Sources:
    """Makes token sources that ask ``platform``, on one clock."""

    def __init__(self, platform: TokenPlatform, events: Events) -> None:
        self.platform = platform
        self.events = events
        self.clock = FakeClock()
        self.sender = HttpSender(concurrency=8, user_agent="test")

    def make(self, store: TokenStore | None = None, **settings: object) -> TokenSource:
        """Return a source; ``settings`` are keys of `auth`."""
        usual = {"kind": "oauth2", "token_url": f"{self.platform.base}/token", "client_id": "c", "client_secret": "s"}
        config = _config({"a": {"url": "http://a/", "auth": {**usual, **settings}}})
        auth = config.platforms["a"].auth
        return TokenSource(
            name="a",
            terms=token_terms(auth),  # type: ignore[arg-type]
            sender=self.sender,
            store=store or MemoryTokens(),
            clock=self.clock,
            events=self.events,
        )


@pytest.fixture
async def sources(platform: TokenPlatform, events: Events) -> AsyncIterator[Sources]:
    """A maker of sources."""
    made = Sources(platform, events)
    yield made
    await made.sender.close()


async def test_single_flight(sources: Sources, platform: TokenPlatform) -> None:
    """Fifty that want a token at once make one request; one of them giving up does not take it from the others."""
    platform.hold = asyncio.Event()
    source = sources.make()
    wanting = [asyncio.create_task(source.token()) for _ in range(50)]
    await _until(lambda: bool(platform.asked))
    wanting[0].cancel()
    platform.hold.set()
    tokens = await asyncio.gather(*wanting[1:])

    assert {token.reveal() for token in tokens} == {"t1"}
    assert len(platform.asked) == 1
    assert platform.asked[0] == {"grant_type": "client_credentials", "client_id": "c", "client_secret": "s"}


async def test_fetched_early_while_the_old_one_is_used(sources: Sources, platform: TokenPlatform) -> None:
    """Five minutes before the end the old token is given out at once while the next one is on its way."""
    source = sources.make()
    assert (await source.token()).reveal() == "t1"
    sources.clock.advance(7200 - 301)
    assert (await source.token()).reveal() == "t1"
    assert platform.issued == 1

    platform.hold = asyncio.Event()
    sources.clock.advance(2)
    assert (await source.token()).reveal() == "t1"
    await _until(lambda: len(platform.asked) == 2)
    assert (await source.token()).reveal() == "t1"
    platform.hold.set()
    await _until(lambda: source.current.reveal() == "t2")
    assert (await source.token()).reveal() == "t2"
    assert len(platform.asked) == 2


async def test_an_expired_token_is_waited_for(sources: Sources, platform: TokenPlatform) -> None:
    """After its end, or so close to it that it may not arrive in time, nobody gets the old one."""
    source = sources.make()
    await source.token()
    sources.clock.advance(7200 - 9)
    assert (await source.token()).reveal() == "t2"


async def test_short_lives_are_not_fetched_all_the_time(sources: Sources, platform: TokenPlatform) -> None:
    """A token that lives a minute is used for three quarters of it, although `early` is five minutes."""
    platform.lives_s = 60.0
    source = sources.make()
    await source.token()
    for _ in range(4):
        sources.clock.advance(11)
        assert (await source.token()).reveal() == "t1"
    assert platform.issued == 1


async def test_a_failing_endpoint_is_left_alone_for_a_while(
    sources: Sources, platform: TokenPlatform, log: Lines
) -> None:
    """Without a token each asker is told why; the endpoint is asked after 1, 2, 4 s; a good token outlives failures."""
    platform.refusal = {"error": "invalid_client", "error_description": "hunter2: client is locked"}
    source = sources.make(client_secret="hunter2")
    for _ in range(3):
        with pytest.raises(NoToken, match=r"token: 400 invalid_client from 127\.0\.0\.1:\d+$") as missing:
            await source.token()
    assert missing.value.detail == "***: client is locked"
    assert len(platform.asked) == 1
    sources.clock.advance(1)
    with pytest.raises(NoToken):
        await source.token()
    assert [line["again_s"] for line in log.told("token_failed")] == [1.0, 2.0]
    assert not any(b"hunter2" in line for line in log.lines)

    platform.refusal = None
    sources.clock.advance(2)
    assert (await source.token()).reveal() == "t1"
    platform.refusal = {"error": "server_error"}
    sources.clock.advance(7200 - 60)
    assert (await source.token()).reveal() == "t1"
    await _until(lambda: len(log.told("token_failed")) == 3)
    assert (await source.token()).reveal() == "t1"


async def test_an_endpoint_that_hangs_is_bounded(sources: Sources, platform: TokenPlatform) -> None:
    """No answer within the timeout is no token, said in those words."""
    platform.hold = asyncio.Event()
    source = sources.make(timeout="500ms")
    with pytest.raises(NoToken, match=r"token: timeout after 0\.5 s from"):
        await source.token()
    platform.hold.set()


async def test_wechats_endpoint(sources: Sources, platform: TokenPlatform) -> None:
    """A GET with names of its own; an errcode in a 200 is an error with its number."""
    wechat = {
        "token_url": f"{platform.base}/cgi-bin/token",
        "request": "query",
        "id_name": "appid",
        "secret_name": "secret",
        "params": {"grant_type": "client_credential"},
    }
    source = sources.make(**wechat, client_secret="app-secret")
    assert (await source.token()).reveal() == "t1"
    assert platform.asked == [{"grant_type": "client_credential", "appid": "c", "secret": "app-secret"}]
    with pytest.raises(NoToken, match="token: errcode 40125 from 127"):
        await sources.make(**wechat, client_secret="wrong").token()


async def test_a_rotated_refresh_token_survives_a_restart(
    sources: Sources, platform: TokenPlatform, tmp_path: Path
) -> None:
    """The refresh token handed out last is used after a restart; while the token is good nothing is asked at all."""
    path = tmp_path / "relay.db.tokens"
    grant = {"grant": "refresh_token", "refresh_token": "r0"}
    await sources.make(FileTokens(path, key=KEY), **grant).token()

    again = sources.make(FileTokens(path, key=KEY), **grant)
    assert (await again.token()).reveal() == "t1"
    assert len(platform.asked) == 1
    sources.clock.advance(7200)
    assert (await again.token()).reveal() == "t2"

    third = sources.make(FileTokens(path, key=KEY), **grant)
    sources.clock.advance(7200)
    assert (await third.token()).reveal() == "t3"
    assert [form["refresh_token"] for form in platform.asked] == ["r0", "r1", "r2"]


async def test_a_refresh_token_that_does_not_rotate_stays(sources: Sources, platform: TokenPlatform) -> None:
    """Where the endpoint hands out no new one, the one used is good again."""
    platform.rotates = False
    source = sources.make(grant="refresh_token", refresh_token="r0")
    await source.token()
    sources.clock.advance(7200)
    assert (await source.token()).reveal() == "t2"


async def test_another_refresh_token_in_the_file_starts_afresh(
    sources: Sources, platform: TokenPlatform, tmp_path: Path
) -> None:
    """After a person authorised the app anew, what was kept under the old one does not count."""
    store = FileTokens(tmp_path / "tokens", key=KEY)
    await sources.make(store, grant="refresh_token", refresh_token="r0").token()
    platform.refresh_token = "r-new"
    source = sources.make(store, grant="refresh_token", refresh_token="r-new")
    assert (await source.token()).reveal() == "t2"


async def test_a_dead_refresh_token_is_told(sources: Sources) -> None:
    """invalid_grant is what the operator reads, with the endpoint's words."""
    with pytest.raises(NoToken, match="400 invalid_grant") as missing:
        await sources.make(grant="refresh_token", refresh_token="spent").token()
    assert missing.value.detail == "used before"


async def test_a_token_that_cannot_be_kept_is_used_all_the_same(sources: Sources, log: Lines) -> None:
    """A full disk stops no delivery; a person is told that a restart would go on from an older refresh token."""

    class Full(MemoryTokens):
        def save(self, name: str, kept: KeptToken) -> None:
            raise TokensNotKept("tokens cannot be written: no space left on device")

    source = sources.make(Full(), grant="refresh_token", refresh_token="r0")
    assert (await source.token()).reveal() == "t1"
    assert log.told("token_not_kept")[0]["detail"] == "tokens cannot be written: no space left on device"


# --- through the pipeline


class Rig:
    """A store in memory, pipelines and real HTTP, put together from a configuration."""

    def __init__(self, platform: TokenPlatform, events: Events, tokens: TokenStore) -> None:
        clock = RelayClock(0.0)
        self.platform = platform
        self.store = MemoryStore(clock=clock)
        self.credentials = Credentials(
            sender=HttpSender(concurrency=8, user_agent="test"), store=tokens, clock=clock, events=events
        )
        self.registry = Registry(
            outbox=self.store,
            clock=clock,
            wall=wall_s,
            events=events,
            rng=random.Random(7),
            open_sender=_open_sender,
            authoriser=self.credentials.authoriser,
        )
        self.store.watch(self.registry.changed)

    async def start(self, config: Config) -> None:
        """Put the configuration's platforms under delivery."""
        await self.store.configure(config.store_rules())
        await self.registry.start(compile_all(config))

    async def post(self, *shops: str, count: int = 1) -> None:
        """Accept ``count`` callbacks for each of ``shops``."""
        body = json.dumps({"order": 1, "pad": "x" * 1200}).encode()
        rows = [
            NewCallback(shop, body, None, None, Lane.NORMAL, 3600.0, None, None, None, "")
            for shop in shops
            for _ in range(count)
        ]
        await self.store.accept(rows)

    async def delivered(self, count: int) -> None:
        """Wait until ``count`` callbacks are delivered in all."""
        async with asyncio.timeout(20):
            while sum(each.delivered for each in (await self.store.totals()).values()) < count:
                await asyncio.sleep(0.005)

    async def attempts(self) -> list[AttemptView]:
        """The attempts of the callback accepted last."""
        items, _ = await self.store.callbacks(Filter(), cursor=None, limit=1)
        found = await self.store.callback(items[0].id)
        assert found is not None
        return found.attempts


@pytest.fixture
async def rig(platform: TokenPlatform, events: Events) -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig(platform, events, MemoryTokens())
    yield made
    await made.registry.stop(1.0)
    await made.credentials.close()


def _open_sender(terms: Terms) -> Sender:
    return HttpSender(concurrency=terms.concurrency, user_agent="test")


def _config(platforms: Mapping[str, object], credentials: Mapping[str, object] | None = None) -> Config:
    text = json.dumps({"version": 1, "credentials": credentials or {}, "platforms": platforms})
    return loads(text, path="config.yaml", environ={})


def shops(platform: TokenPlatform, *names: str, **settings: object) -> Config:
    """Platforms that share one client's token."""
    oauth2 = {
        "kind": "oauth2",
        "token_url": f"{platform.base}/token",
        "client_id": "c",
        "client_secret": "s",
        "timeout": "20s",
    }
    each = {
        "auth": {"use": "client"},
        "retry": {"times": 2, "backoff": "20ms..80ms"},
        "breaker": {"open_after": 50, "probe_every": "20ms"},
        **settings,
    }
    return _config({name: {"url": f"{platform.base}/callbacks/{name}", **each} for name in names}, {"client": oauth2})


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def test_platforms_share_one_token(rig: Rig, platform: TokenPlatform) -> None:
    """Three platforms with one credential start at once: one fetch, and every request carries its token."""
    await rig.start(shops(platform, "a", "b", "c"))
    await rig.post("a", "b", "c", count=3)
    await rig.delivered(9)

    assert platform.issued == 1
    assert {token for _, _, token, _ in platform.arrivals} == {"t1"}


async def test_a_revoked_token_is_renewed_and_the_same_batch_goes_again(rig: Rig, platform: TokenPlatform) -> None:
    """401: one fetch for both platforms, the same batch id again at once, nothing charged, no failure counted."""
    await rig.start(shops(platform, "a", "b"))
    await rig.post("a", "b")
    await rig.delivered(2)
    platform.revoke()
    await rig.post("a", "b")
    await rig.delivered(4)

    assert platform.issued == 2
    assert platform.statuses == {200: 4, 401: 2}
    refused = {(shop, batch) for shop, batch, _, status in platform.arrivals if status == 401}
    again = {(shop, batch) for shop, batch, token, _ in platform.arrivals if token == "t2"}
    assert refused == again
    assert [attempt.outcome for attempt in await rig.attempts()] == ["auth", "ok"]
    assert rig.registry.views()["a"].throttled_until is None
    assert not rig.registry.views()["a"].broken


async def test_a_token_revoked_again_is_renewed_again(rig: Rig, platform: TokenPlatform) -> None:
    """Each time something was accepted in between: so it is no refusal in a row, and nothing stops or waits."""
    await rig.start(shops(platform, "a", breaker={"open_after": 50, "probe_every": "1h"}))
    for round_ in range(1, 5):
        await rig.post("a")
        await rig.delivered(round_)
        assert not rig.registry.views()["a"].broken
        platform.revoke()

    assert platform.issued == 4
    assert platform.statuses == {200: 4, 401: 3}
    assert [attempt.outcome for attempt in await rig.attempts()] == ["auth", "ok"]


async def test_the_second_refusal_in_a_row_backs_off_and_heals_later(rig: Rig, platform: TokenPlatform) -> None:
    """A shop that refuses every token gets one fetch per backoff, never a storm; others go on; then it heals."""
    await rig.start(shops(platform, "a", "b"))
    platform.banned.add("a")
    await rig.post("a")
    await _until(lambda: platform.statuses[401] >= 6)
    refusals, fetches = platform.statuses[401], platform.issued
    assert fetches <= refusals // 2 + 2
    await rig.post("b")
    await rig.delivered(1)
    assert "401" in rig.registry.views()["a"].last_error

    platform.banned.clear()
    await rig.delivered(2)
    assert (await rig.store.totals())["a"] == QueueTotals(accepted=1, delivered=1)


async def test_without_a_token_nothing_is_sent(rig: Rig, platform: TokenPlatform) -> None:
    """While the endpoint refuses, the platform sees no request, the reason is shown, and all goes out afterwards."""
    platform.refusal = {"error": "invalid_client", "error_description": "client is locked"}
    await rig.start(shops(platform, "a"))
    await rig.post("a")
    await _until(lambda: "invalid_client" in rig.registry.views()["a"].last_error)
    assert rig.registry.views()["a"].last_error == f"token: 400 invalid_client from {platform.base[7:]}"
    assert platform.arrivals == []
    first = (await rig.attempts())[0]
    assert (first.outcome, first.status, first.excerpt) == ("auth", None, "client is locked")

    platform.refusal = None
    await rig.delivered(1)
    assert platform.statuses == {200: 1}


async def test_a_reload_keeps_the_token_of_an_unchanged_credential(rig: Rig, platform: TokenPlatform) -> None:
    """Other terms of a platform cost no fetch; another client does."""
    await rig.start(shops(platform, "a"))
    await rig.post("a")
    await rig.delivered(1)
    await rig.registry.replace(compile_all(shops(platform, "a", timeout="3s")), 1.0)
    await rig.post("a")
    await rig.delivered(2)
    assert platform.issued == 1

    changed = shops(platform, "a")
    other = changed.credentials["client"].model_copy(update={"client_id": "other"})
    await rig.registry.replace(compile_all(changed.model_copy(update={"credentials": {"client": other}})), 1.0)
    await rig.post("a")
    await rig.delivered(3)
    assert [form["client_id"] for form in platform.asked] == ["c", "other"]


async def test_tokens_go_where_the_platform_wants_them(rig: Rig, platform: TokenPlatform) -> None:
    """In the query under its name, beside what stands there; fixed tokens and Basic in the header."""
    platform.valid.add("fixed")
    url = f"{platform.base}/callbacks"
    config = _config(
        {
            "q": {"url": f"{url}/q?v=2", "auth": {"kind": "query", "name": "access_token", "token": "fixed"}},
            "b": {"url": f"{url}/b", "auth": {"kind": "bearer", "token": "fixed"}},
        }
    )
    await rig.start(config)
    await rig.post("q", "b")
    await rig.delivered(2)
    assert {shop: token for shop, _, token, _ in platform.arrivals} == {"q": "fixed", "b": "fixed"}


async def test_each_attempt_is_signed_anew_over_the_bytes_sent(rig: Rig, platform: TokenPlatform) -> None:
    """Compressed bodies verify as they arrived; after a refused token the id stays and the signature is fresh."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    config = shops(platform, "a", sign={"kind": "standard-webhooks", "secret": secret}, compress="none")
    await rig.start(config)
    await rig.post("a")
    await rig.delivered(1)
    headers, body = platform.bodies[0]
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    assert headers["webhook-id"] == headers["Idempotency-Key"]

    signed = {"kind": "hmac", "secret": "s", "over": "{body}", "header": "X-Sig"}
    await rig.registry.replace(compile_all(shops(platform, "a", sign=signed)), 1.0)
    await rig.post("a")
    await rig.delivered(2)
    headers, body = platform.bodies[-1]
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(decompress(body, "gzip", 1 << 20))
    assert headers["X-Sig"] == _hmac(b"s", body)


TIMED = {"kind": "hmac", "secret": "s", "header": "X-Sig", "timestamp_header": "X-Time"}


def _off_s(platform: TokenPlatform) -> list[float]:
    """How far each X-Time was from our clock, in minutes."""
    return [round((int(headers["X-Time"]) - wall_s()) / 60) for headers, _ in platform.bodies]


async def test_a_signature_follows_the_platforms_clock(rig: Rig, platform: TokenPlatform) -> None:
    """A platform ten minutes ahead refuses ours: the same batch goes again by its Date, and so does what follows."""
    platform.ahead_s = 600.0
    platform.headers = {"Date": formatdate(wall_s() + 600, usegmt=True)}
    await rig.start(shops(platform, "a", sign=TIMED))
    for number in (1, 2):
        await rig.post("a")
        await rig.delivered(number)
    # refused with a good token: it may be the token, so that is renewed first
    assert _off_s(platform) == [0, 0, 10, 10]
    assert len({batch for _, batch, _, _ in platform.arrivals}) == 2


async def test_a_date_labelled_wrong_moves_no_accepted_signature(rig: Rig, platform: TokenPlatform) -> None:
    """The front end writes local time and calls it GMT: what is accepted proves our clock."""
    platform.ahead_s = 0.0
    platform.headers = {"Date": formatdate(wall_s() + 8 * 3600, usegmt=True)}
    await rig.start(shops(platform, "a", sign=TIMED))
    for number in (1, 2, 3):
        await rig.post("a")
        await rig.delivered(number)
    assert _off_s(platform) == [0, 0, 0]


async def test_a_clock_that_does_not_help_is_dropped(rig: Rig, platform: TokenPlatform) -> None:
    """Refused for another reason, with a Date labelled wrong: tried once, then our own clock again, and it heals."""
    platform.ahead_s = 0.0
    platform.headers = {"Date": formatdate(wall_s() + 8 * 3600, usegmt=True)}
    platform.banned.add("a")
    await rig.start(shops(platform, "a", sign=TIMED))
    await rig.post("a")
    async with asyncio.timeout(20):
        while len(platform.bodies) < 4:
            await asyncio.sleep(0.01)
    assert _off_s(platform)[:4] == [0, 0, 480, 0]
    platform.banned.clear()
    await rig.delivered(1)
    assert _off_s(platform)[-1] == 0


async def test_sorted_signature_goes_over_the_wire_as_signed(rig: Rig, platform: TokenPlatform) -> None:
    """A token in the query is signed with the rest; what arrives verifies from the request alone."""
    sign = {
        "kind": "sorted",
        "secret": "s",
        "params": {"app_key": "中 k", "v": "2"},
        "timestamp": {"format": "%Y-%m-%d %H:%M:%S", "tz": "+08:00"},
    }
    auth = {
        "kind": "oauth2",
        "token_url": f"{platform.base}/token",
        "client_id": "c",
        "client_secret": "s",
        "send": "query",
    }
    await rig.start(_config({"a": {"url": f"{platform.base}/callbacks/a?x=%20y", "auth": auth, "sign": sign}}))
    await rig.post("a")
    await rig.delivered(1)

    sent = dict(fields_of(platform.queries[0]))
    signature = sent.pop("sign")
    assert set(sent) == {"x", "access_token", "app_key", "v", "timestamp"}
    assert signature == SortedDigest(SecretDigest("md5", "s", out="HEX"), ParameterText()).of(sent, {"secret": b"s"})


def _hmac(key: bytes, body: bytes) -> str:
    return hmac.new(key, body, "sha256").hexdigest()


async def test_what_an_answer_repeats_of_the_request_is_not_kept(rig: Rig, platform: TokenPlatform) -> None:
    """An error page with our token, header, query and path in it is kept with *** in their places, in any form."""
    secrets = ("hush-header-71", "hush query/71", "hushPath71x")
    client = {"kind": "oauth2", "token_url": f"{platform.base}/token", "client_id": "c", "client_secret": "hush-client"}
    url = f"{platform.base}/echo/{secrets[2]}?auth=hush%20query%2F71"
    a = {"url": url, "headers": {"X-Auth": secrets[0]}, "auth": {"use": "client"}, "retry": {"times": 0}}
    both = _config({"a": a}, {"client": client})
    platform.prefix = "hush-token-"
    await rig.start(both)
    await rig.post("a")
    await _until(lambda: bool(rig.registry.views()["a"].last_error))
    async with asyncio.timeout(20):
        while (attempt := (await rig.attempts())[-1]).outcome != "reject":  # the first one is tried plain first
            await asyncio.sleep(0.005)
    kept = attempt.excerpt
    assert "said" in kept
    for secret in (*secrets, "hush-token-1", "hush%20query", base64.b64encode(secrets[0].encode()).decode()):
        assert secret not in kept
