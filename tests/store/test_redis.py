"""The shared store keeps the promises of every backend, on a real Valkey that is killed and started again."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import Fenced, IdempotencyConflict, StoreAway
from relay.core.model import Filter, Rate, StoreRules, WaitUntil
from relay.sealing.master_keys import GivenKeys, KeySource
from relay.store.base import Store
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.fields import unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerCall, ServerLink
from tests.clocks import FakeClock
from tests.store.conformance import (
    Conformance,
    DurabilityConformance,
)
from tests.store.forgetting import ForgettingConformance
from tests.store.harness import (
    balanced,
    claimed,
    deliver,
    note,
    operate,
    post,
    refused,
    request,
    rules,
    special,
    states,
)
from tests.store.receipting import DurableReceiptingConformance, ReceiptingConformance
from tests.store.resending import ResendingConformance
from tests.store.valkey import ValkeyServer


class RedisHarness:
    def __init__(self, server: ValkeyServer, keys: KeySource | None = None) -> None:
        self.clock = FakeClock()
        self._keys = keys
        self._server = server
        self._prefix = f"t{secrets.token_hex(4)}"
        self._opened: list[RedisStore] = []

    async def open(self, in_force: StoreRules) -> Store:
        store = RedisStore(
            ServerLink.to(parse_server_url(self._server.url), Durable()),
            KeyNames(self._prefix),
            self.clock,
            source=self._keys,
        )
        self._opened.append(store)
        await store.begin()
        await store.configure(in_force)
        return store

    async def reopen(self, in_force: StoreRules) -> Store:
        self._server.restart()
        return await self.open(in_force)

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture
async def harness(server: ValkeyServer) -> AsyncIterator[RedisHarness]:
    """A shared store on a clock that tests move."""
    made = RedisHarness(server)
    yield made
    await made.close()


class TestRedis(Conformance, DurabilityConformance, ForgettingConformance):
    pass


class TestSealedRedis(ForgettingConformance, ReceiptingConformance, DurableReceiptingConformance, ResendingConformance):
    """What sealing has a part in, with everything sealed."""

    @pytest.fixture
    async def harness(self, server: ValkeyServer) -> AsyncIterator[RedisHarness]:
        """A sealed shared store on a clock that tests move."""
        made = RedisHarness(server, GivenKeys(b"k" * 32))
        yield made
        await made.close()


async def test_whoever_lost_the_lease_changes_nothing(server: ValkeyServer) -> None:
    """Claim, settle, expiry, pruning and operations of a former owner are refused by the server."""
    clock = FakeClock()
    link = ServerLink.to(parse_server_url(server.url), Durable())
    store = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), clock, alone=False)
    await store.begin()
    await store.configure(rules())
    lease = store.keys.of("shop", "lease")
    await link.do("HSET", lease, "token", "1.a")
    await store.own({"shop": "1.a"}, silent_s={})
    accepted = await post(store, note(b"1"), note(b"2"))
    batch = await claimed(store, request(max_items=1))
    await link.do("HSET", lease, "token", "2.b")
    with pytest.raises(Fenced):
        await claimed(store)
    with pytest.raises(Fenced):
        await deliver(store, batch, clock)
    assert store._outbox.open == {}
    with pytest.raises(Fenced):
        await store.retry_now("shop")
    with pytest.raises(Fenced):
        await store.set_gate("shop", {"paused": True})
    clock.advance(2 * 86400)
    assert (await store.expire()).ended == []
    assert await store.prune() is False
    assert await states(store, accepted.ids) == ["pending", "pending"]
    await store.close()


async def test_a_conflict_in_the_first_part_of_a_large_post_is_told(harness: RedisHarness) -> None:
    """Later parts are on their way already and find nothing staged: the answer names the row all the same."""
    store = await harness.open(rules())
    await post(store, note(b"1", idempotency_key="a"))
    with pytest.raises(IdempotencyConflict) as caught:
        await post(store, note(b"new"), note(b"2", idempotency_key="a"), *(note(b"%d" % n) for n in range(150)))
    assert caught.value.index == 1
    assert (await balanced(store))["shop"].accepted == 1


async def test_all_of_a_key_is_meant_however_much_there_is(
    harness: RedisHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered, dead and waiting, more of each than one part holds: all is listed in order, all is forgotten."""
    monkeypatch.setattr("relay.store.redis.read.ledger._STEP", 3)
    store = await harness.open(rules())
    ids = list((await post(store, *(note(b"%d" % n, key="k") for n in range(18)))).ids)
    for _ in range(5):
        await deliver(store, await claimed(store, request(max_items=1)), harness.clock)
    await operate(store, "drop", Filter(ids=(*ids[6:9], *ids[12:15])))
    listed: list[str] = []
    cursor = None
    while cursor is not None or not listed:
        page, cursor = await store.callbacks(Filter(key="k"), cursor=cursor, limit=4)
        listed += [each.id for each in page]
    assert listed == ids[::-1]
    assert (await operate(store, "forget", Filter(key="k"))).done == 18


async def test_what_took_an_older_ones_place_is_meant_by_its_key_too(
    harness: RedisHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the newest of its key and stands first in line, behind more than one part of the others."""
    monkeypatch.setattr("relay.store.redis.read.ledger._STEP", 3)
    store = await harness.open(rules())
    ids = list((await post(store, *(note(b"%d" % n, key="k") for n in range(132)))).ids)
    await store.configure(special(coalesce=True))
    ids += (await post(store, note(b"newest", key="k"))).ids
    assert (await balanced(store))["shop"].superseded == 128
    listed, _ = await store.callbacks(Filter(key="k"), cursor=None, limit=200)
    assert [each.id for each in listed] == ids[::-1]


async def test_reading_attempts_that_fails_keeps_nothing(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server is away while slots are rebuilt, what is settled later is not gathered for it for ever."""
    store = RedisStore(
        ServerLink.to(parse_server_url(server.url), Durable()), KeyNames(f"t{secrets.token_hex(4)}"), FakeClock()
    )
    await store.begin()
    await store.configure(rules())

    async def away(*_: object) -> None:
        raise StoreAway("away")

    with monkeypatch.context() as patched:
        patched.setattr(store.link, "run", away)
        with pytest.raises(StoreAway):
            await store.configure(rules())
    assert store._owned._late is None
    await store.close()


async def test_leases_change_while_slots_are_rebuilt(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One platform is lost while attempts are read, another taken over: what that one has sent before still counts."""
    link = ServerLink.to(parse_server_url(server.url), Durable())
    store = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), (clock := FakeClock()), alone=False)
    await store.begin()
    limited = rules("shop", "mall", "yard", rate=Rate(1, 60.0))
    await store.configure(limited)
    for name in ("shop", "mall", "yard"):
        await link.do("HSET", store.keys.of(name, "lease"), "token", "1.a")
    await store.own(dict.fromkeys(("shop", "mall", "yard"), "1.a"), silent_s={})
    await post(store, note(platform="mall"), note(platform="mall"))
    await deliver(store, await claimed(store, request("mall", max_items=1)), clock)
    store.disown(["mall"])
    ask, taken = link.run, list[asyncio.Task[None]]()

    async def changes(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        if calls[0].args[0] == "ZRANGEBYSCORE" and not taken:
            store.disown(["yard"])
            taken.append(asyncio.create_task(store.own({"mall": "1.a"}, silent_s={}, handed_over=True)))
            await asyncio.sleep(0)
        return await ask(calls, **given)

    monkeypatch.setattr(link, "run", changes)
    await store.configure(limited)
    await asyncio.gather(*taken)
    assert store.owned() == {"shop", "mall"}
    wait = await refused(store, request("mall"))
    assert isinstance(wait, WaitUntil)
    assert wait.reason == "limit"
    await store.close()


async def test_a_platform_is_added_while_all_are_looked_at(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be pruned of it is seen at the next look; the pruner goes on."""
    link = ServerLink.to(parse_server_url(server.url), Durable())
    store = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), FakeClock(), alone=False)
    await store.begin()
    await store.configure(rules("shop"))
    await link.do("HSET", store.keys.of("mall", "lease"), "token", "1.a")
    look = store._upkeep._looks.at

    async def meanwhile(names: Iterable[str], script: str) -> dict[str, Any]:
        monkeypatch.setattr(store._upkeep._looks, "at", look)
        found = await look(names, script)
        await store.configure(rules("shop", "mall"))
        await store.own({"mall": "1.a"}, silent_s={})
        await post(store, note(platform="mall"))
        return found

    monkeypatch.setattr(store._upkeep._looks, "at", meanwhile)
    assert await store.prune() is False
    assert store.owned() == {"mall"}
    await store.close()


async def test_many_platforms_are_taken_over_by_few_commands(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken one by one at the same time, the attempts of all are read once or twice, not once for each of them."""
    link = ServerLink.to(parse_server_url(server.url), Durable())
    store = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), FakeClock(), alone=False)
    await store.begin()
    names = [f"shop-{number}" for number in range(40)]
    await store.configure(rules(*names, rate=Rate(1, 60.0)))
    for name in names:
        await link.do("HSET", store.keys.of(name, "lease"), "token", "1.a")
    run, asked = link.run, list[ServerCall]()

    async def counted(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        asked.extend(call for call in calls if call.args[:1] == ("ZRANGEBYSCORE",))
        return await run(calls, **given)

    monkeypatch.setattr(link, "run", counted)
    await asyncio.gather(*(store.own({name: "1.a"}, silent_s={}) for name in names))
    assert store.owned() == set(names)
    assert len(asked) <= 8 * len(names)
    await store.close()


async def test_idle_platforms_are_looked_at_by_one_script(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds that have nothing to do cost one command; those that have take more time, and so more scripts."""
    link = ServerLink.to(parse_server_url(server.url), Durable())
    store = RedisStore(link, KeyNames(f"t{secrets.token_hex(4)}"), FakeClock())
    await store.begin()
    names = [f"shop-{number}" for number in range(300)]
    one, asked = link.one, list[ServerCall]()

    async def counted(call: ServerCall, **given: Any) -> Any:
        asked.append(call)
        return await one(call, **given)

    monkeypatch.setattr(link, "one", counted)
    found = await store._standings.of(names)
    assert (len(found), len(asked)) == (300, 1)
    store._standings._had = set(names)
    await store._standings.of(names)
    assert len(asked) == 1 + 3
    await store.close()


async def test_a_long_settlement_goes_in_short_scripts_that_are_synced_once(
    harness: RedisHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 120 callbacks no script settles more than 50; all are in one pipeline, which waits for the disk once."""
    store = await harness.open(rules("shop"))
    assert isinstance(store, RedisStore)
    accepted = await post(store, *(note(key=f"k{n}") for n in range(120)))
    batch = await claimed(store, request(max_items=120))
    run, asked = store.link.run, list[list[ServerCall]]()

    async def seen(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        if given.get("durable"):
            asked.append(list(calls))
        return await run(calls, **given)

    monkeypatch.setattr(store.link, "run", seen)
    await deliver(store, batch, harness.clock)
    ((_, *parts),) = asked
    settled = [len(unpack(call.args[3])[9]) for call in parts]
    assert settled == [50, 50, 20, 0]
    assert await states(store, accepted.ids) == ["delivered"] * 120


async def test_a_settlement_takes_few_commands_for_each_callback(harness: RedisHarness) -> None:
    """Each of 100 callbacks with a key of its own costs one look at its line; all else is done for many at once."""
    store = await harness.open(rules("shop"))
    assert isinstance(store, RedisStore)
    await post(store, *(note(key=f"k{n}") for n in range(100)))
    batch = await claimed(store, request(max_items=100))
    before = await _commands(store)
    await deliver(store, batch, harness.clock)
    assert await _commands(store) - before < 250


async def test_what_is_claimed_lies_in_tables_and_not_in_lists(harness: RedisHarness) -> None:
    """Of a few hundred short fields a server makes a list, and searches it from its start for each field."""
    store = await harness.open(rules("shop"))
    assert isinstance(store, RedisStore)
    await post(store, *(note(key=f"k{n}") for n in range(400)))
    for many in (10, 300):
        batch = await claimed(store, request(max_items=many))
        for suffix in ("fz", "kb"):
            key = store.keys.of("shop", suffix)
            assert await store.link.do("HLEN", key) == many
            assert (await store.link.do("OBJECT", "ENCODING", key) == b"hashtable") is (many > 64)
        await deliver(store, batch, harness.clock)
        assert await store.link.do("EXISTS", store.keys.of("shop", "fz"), store.keys.of("shop", "kb")) == 0


async def _commands(store: RedisStore) -> int:
    """Return how many commands the server has carried out, those in scripts too."""
    return int((await store.link.info("stats"))["total_commands_processed"])
