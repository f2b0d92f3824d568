"""Receipts of a store that hosts share: each is queued once, whoever queues it and whatever is cut off."""

import asyncio
from dataclasses import replace

import pytest
from relay.core.errors import StoreAway
from relay.core.receipts import RECEIPTS, ReceiptRules
from tests.store.harness import balanced, bury, claimed, deliver, note, post, request, rules
from tests.store.receipting import receipts, states_told, told
from tests.store.several import Hosts


async def away(*_: object, **__: object) -> None:
    """Stand in for a store that is away."""
    raise StoreAway("away")


async def test_what_a_crash_left_is_told_by_whoever_looks(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes that were not queued are found at the next look for what is over its time, and at a take-over."""
    store = await hosts.open(told())
    ids = (await post(store, note(b"1"), note(b"2"))).ids
    with monkeypatch.context() as patched:
        patched.setattr(store._receipts, "_queue", away)
        await bury(store, await claimed(store, request(max_items=1)), hosts.clock)
    assert await receipts(store) == []
    await store.expire()
    assert await states_told(store) == [("dead", "rejected", ids[0])]
    with monkeypatch.context() as patched:
        patched.setattr(store._receipts, "_queue", away)
        await bury(store, await claimed(store, request(max_items=1)), hosts.clock)
    await store.own({"shop": ""}, silent_s={})
    assert [each for _, _, each in await states_told(store)] == ids
    assert (await balanced(store))[RECEIPTS].pending == 2


async def test_a_note_that_is_brought_twice_is_queued_once(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts at once, and one that ended between queueing and forgetting its notes: one receipt for each end."""
    store, other = await hosts.open(told()), await hosts.open(told())
    ids = (await post(store, *(note(b"%d" % n) for n in range(150)))).ids
    with monkeypatch.context() as patched:
        patched.setattr(store._receipts, "_queue", away)
        await deliver(store, await claimed(store, request(max_items=150)), hosts.clock)
    ask = store.link.do

    async def forgets_nothing(*command: object) -> object:
        return 0 if command[0] == "ZREMRANGEBYSCORE" else await ask(*command)

    with monkeypatch.context() as patched:
        patched.setattr(store.link, "do", forgets_nothing)
        patched.setattr("relay.store.redis.write.receipts._STEP", 200)
        await store._receipts.tell("shop")
    await asyncio.gather(store._receipts.tell("shop"), other._receipts.tell("shop"))
    assert sorted(each["id"] for each in await receipts(store)) == sorted(ids)
    assert await ask("ZCARD", store.keys.of("shop", "rc")) == 0


async def test_the_owner_says_what_is_told(hosts: Hosts) -> None:
    """Where nobody owned a platform yet, the first host that comes says it; later the owner does."""
    first = await hosts.open(told(on=("superseded",)), alone=False)
    (one,) = (await post(first, note(b"1"))).ids
    assert (await first.cancel(one)).ids == [one]
    assert await states_told(first) == [("superseded", "cancelled", one)]
    second = await hosts.open(told(on=("dead",)), alone=False)
    (two,) = (await post(second, note(b"2"))).ids
    await second.cancel(two)
    await hosts.take(second, "shop", token="1.a")
    (three,) = (await post(first, note(b"3"))).ids
    await first.cancel(three)
    assert [each for _, _, each in await states_told(first)] == [one, two]


async def test_without_receipts_nothing_is_noted(hosts: Hosts) -> None:
    """No note is written and no idempotency key is kept; notes left from before are still told."""
    store = await hosts.open(rules("shop", RECEIPTS))
    await post(store, note(idempotency_key="once"))
    await bury(store, await claimed(store), hosts.clock)
    assert await store.link.do("EXISTS", store.keys.of("shop", "rc")) == 0
    with_them = replace(rules("shop", RECEIPTS), receipts=ReceiptRules(frozenset({"dead"})))
    await store.configure(with_them)
    await post(store, note(idempotency_key="twice"))
    await bury(store, await claimed(store), hosts.clock)
    assert [each["idempotency_key"] for each in await receipts(store)] == ["twice"]
