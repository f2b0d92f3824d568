"""A key with many callbacks is taken back in steps: all of it, and none is sent in between."""

import secrets
from collections.abc import AsyncIterator

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import StoreAway
from relay.core.model import Filter
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink
from relay.store.redis.write import cancelling
from tests.clocks import FakeClock
from tests.store.harness import (
    balanced,
    bury,
    claimed,
    deliver,
    note,
    operate,
    payloads,
    post,
    refused,
    request,
    rules,
    states,
)
from tests.store.valkey import ValkeyServer


@pytest.fixture
async def store(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisStore]:
    """The only host of a store; a step takes two callbacks back."""
    monkeypatch.setattr(cancelling, "_STEP", 2)
    link = ServerLink.to(parse_server_url(server.url), Durable())
    made = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), FakeClock())
    await made.begin()
    await made.configure(rules())
    yield made
    await made.close()


async def _begun(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin to take a key back, and lose the store after the first step."""
    part = store._cancelling

    async def away(platform: str, key_hash: str) -> None:
        raise StoreAway("gone")

    with monkeypatch.context() as patched:
        patched.setattr(part, "_go_on", away)
        with pytest.raises(StoreAway):
            await store.cancel_key("shop", "k")


async def test_all_of_a_key_ends_in_steps(store: RedisStore) -> None:
    """Their ids come in the order in which they were accepted; what comes later goes, and so do other keys."""
    ids = (await post(store, *(note(b"%d" % n, key="k") for n in range(25)), note(b"other", key="o"))).ids
    assert list((await store.cancel_key("shop", "k")).ids) == list(ids[:25])
    await post(store, note(b"later", key="k"))
    assert sorted(payloads(await claimed(store))) == [b"later", b"other"]
    total = (await balanced(store))["shop"]
    assert (total.superseded, total.pending) == (25, 2)


async def test_nothing_of_a_key_is_claimed_while_it_is_taken_back(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what is left, and not what comes meanwhile; when the host was lost, upkeep ends what is left."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    ids = (await post(store, *(note(b"%d" % n, key="k") for n in range(5)))).ids
    await _begun(store, monkeypatch)
    later = (await post(store, note(b"later", key="k"))).ids
    assert (await refused(store)).reason == "idle"
    assert (await states(store, ids)).count("pending") == 3
    await store.expire()
    assert (await states(store, ids)).count("pending") == 3  # whoever began may be under way
    clock.advance(5.0)
    await store.expire()
    assert await states(store, [*ids, *later]) == ["superseded"] * 5 + ["pending"]
    assert payloads(await claimed(store)) == [b"later"]


async def test_it_is_asked_again_after_an_outage(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest ends, what came in between too: it was there when it was asked."""
    await post(store, *(note(b"%d" % n, key="k") for n in range(5)))
    await _begun(store, monkeypatch)
    assert len((await store.cancel_key("shop", "k")).ids) == 3
    assert await store.link.do("HLEN", store.keys.of("shop", "ck")) == 0
    assert (await store.cancel_key("shop", "k")).ids == []


async def test_what_is_under_way_is_found_behind_many(store: RedisStore) -> None:
    """Callbacks that a person sends again stand before the one under way: nothing is taken back."""
    clock = store.clock
    assert isinstance(clock, FakeClock)
    ids = (await post(store, *(note(b"%d" % n, key="k") for n in range(6)))).ids
    for _ in range(5):
        await bury(store, await claimed(store, request(max_items=1)), clock)
    under_way = await claimed(store, request(max_items=1))
    await operate(store, "retry", Filter(state="dead"))
    assert (await store.cancel_key("shop", "k")).why == "in_flight"
    assert await states(store, ids) == ["pending"] * 6
    await deliver(store, under_way, clock)
    assert len((await store.cancel_key("shop", "k")).ids) == 5
