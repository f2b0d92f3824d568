"""A claim whose answer is lost is found again, or given up: its callbacks never wait for nobody."""

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import StoreAway
from relay.core.model import Batch, Rate
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerCall, ServerLink
from tests.clocks import FakeClock
from tests.store.harness import balanced, claimed, deliver, note, payloads, post, refused, request, resend, rules
from tests.store.valkey import ValkeyServer


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[RedisStore]:
    """A host that owns the platform ``shop`` under a lease."""
    link = ServerLink.to(parse_server_url(server.url), Durable())
    made = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), FakeClock(), alone=False)
    await made.begin()
    await made.configure(rules())
    await link.do("HSET", made.keys.of("shop", "lease"), "token", "1.a")
    await made.own({"shop": "1.a"}, silent_s={})
    yield made
    await made.close()


def _losing(monkeypatch: pytest.MonkeyPatch, store: RedisStore, command: str) -> None:
    """Lose the answer of every pipeline that begins with a command, or with a script for the empty word."""
    run = store.link.run

    async def lost(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        answers = await run(calls, **given)
        if (calls[0].args[0] if calls[0].script is None else "") == command and given.get("durable"):
            raise StoreAway("no answer")
        return answers

    monkeypatch.setattr(store.link, "run", lost)


@pytest.mark.parametrize("command", ["", "HMGET"])
async def test_a_batch_that_goes_again_is_found_again(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The server is lost after it recorded the attempt, or before what the batch holds was read."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    await post(store, note(b"1"), note(b"2"))
    await resend(store, await claimed(store), clock, after_s=0.0)
    with monkeypatch.context() as patched:
        _losing(patched, store, command)
        with pytest.raises(StoreAway):
            await claimed(store)
    batch = await claimed(store)
    assert (payloads(batch), batch.attempt) == ([b"1", b"2"], 2)
    await deliver(store, batch, clock)
    assert (await balanced(store))["shop"].delivered == 2


async def test_a_claim_that_a_take_over_ended_is_given_up(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease ended meanwhile and is ours again: the attempt is over, and its batch goes again as any other."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    await post(store, note(b"1"))
    with monkeypatch.context() as patched:
        _losing(patched, store, "")
        with pytest.raises(StoreAway):
            await claimed(store)
    store.disown(["shop"])
    await store.own({"shop": "1.a"}, silent_s={})
    batch = await claimed(store)
    assert (payloads(batch), batch.attempt) == ([b"1"], 2)
    await deliver(store, batch, clock)
    assert (await store.platform_status())["shop"].in_flight == 0


async def test_a_claim_that_never_arrived_takes_a_slot_when_the_lease_is_won_back(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot went with the lease. Asked for again, it holds one as any other: no window is exceeded."""
    await store.configure(rules(rate=Rate(1, 60.0)))
    await post(store, note(b"1"), note(b"2"))
    run = store.link.run

    async def away(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        if given.get("durable"):
            raise StoreAway("the connection is cut")
        return await run(calls, **given)

    with monkeypatch.context() as patched:
        patched.setattr(store.link, "run", away)
        with pytest.raises(StoreAway):
            await claimed(store)
    store.disown(["shop"])
    await store.own({"shop": "1.a"}, silent_s={})
    assert payloads(await claimed(store)) == [b"1", b"2"]
    await post(store, note(b"3"))
    assert (await refused(store)).reason == "limit"


async def test_a_claim_that_arrives_after_the_lease_was_won_back_is_found_again(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way while the lease was lost and won back: its batch is claimed, and nobody heard of it."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    await store.configure(rules(rate=Rate(1, 60.0)))
    await post(store, note(b"1"))
    run = store.link.run

    async def late(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        if given.get("durable"):
            store.disown(["shop"])
            await store.own({"shop": "1.a"}, silent_s={})
        return await run(calls, **given)

    with monkeypatch.context() as patched:
        patched.setattr(store.link, "run", late)
        with pytest.raises(StoreAway):
            await claimed(store)
    assert (await store.platform_status())["shop"].in_flight == 1
    batch = await claimed(store)
    assert (payloads(batch), batch.attempt) == ([b"1"], 1)
    await post(store, note(b"2"))
    assert (await refused(store)).reason == "limit"
    await deliver(store, batch, clock)
    assert (await store.platform_status())["shop"].in_flight == 0


async def test_a_claim_that_a_take_over_ended_leaves_no_slot_behind(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up. The batch goes again when the recorded attempt's window is over."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    await store.configure(rules(rate=Rate(1, 60.0)))
    await post(store, note(b"1"))
    with monkeypatch.context() as patched:
        _losing(patched, store, "")
        with pytest.raises(StoreAway):
            await claimed(store)
    store.disown(["shop"])
    await store.own({"shop": "1.a"}, silent_s={})
    assert (await refused(store)).at == clock.now() + 60.0
    clock.advance(60.0)
    assert payloads(await claimed(store)) == [b"1"]


async def test_a_former_owners_request_may_still_arrive(store: RedisStore) -> None:
    """Whoever takes a platform over sends an open batch again only when the request of before can no longer come."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    await post(store, note(b"1"))
    began = clock.now()
    await claimed(store)
    clock.advance(5.0)
    store.disown(["shop"])
    await store.own({"shop": "1.a"}, silent_s={"shop": 12.0})
    assert (await refused(store)).at == began + 12.0
    clock.advance(7.0)
    assert payloads(await claimed(store)) == [b"1"]


async def test_a_slot_of_before_the_lease_was_lost_comes_back(store: RedisStore) -> None:
    """What was under way then is cut off and never settled here: its slot counts as the take-over recorded its end."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    await store.configure(rules(rate=Rate(1, 60.0)))
    await post(store, note(b"1"), note(b"2"))
    await claimed(store, request(max_items=1))
    store.disown(["shop"])
    await store.own({"shop": "1.a"}, silent_s={"shop": 12.0})
    assert (await refused(store)).at == clock.now() + 72.0
    clock.advance(72.0)
    await claimed(store, request(max_items=1))


async def test_a_lost_question_is_no_batch_to_send(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found again by the next question, and no claim takes it for a batch."""
    with monkeypatch.context() as patched:
        _losing(patched, store, "")
        with pytest.raises(StoreAway):
            await store.reserve("shop")
    await post(store, note(b"1"))
    assert payloads(await claimed(store)) == [b"1"]
    found = await store.reserve("shop")
    assert isinstance(found, Batch)
    assert not found.items
    assert store._outbox._lost.next("shop", question=True, now=store.clock.now()) is None
