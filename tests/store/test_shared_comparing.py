"""Comparisons over a store that hosts share: its rows are read page by page, and one host runs each of them."""

import asyncio

import pytest
from relay.core.errors import Fenced
from relay.daemon.reconciling.shared_rows import SharedRows
from relay.store.redis.backend import RedisStore
from relay.store.sent import SentCallback
from tests.store.harness import bury, claimed, deliver, note, post, request, rules
from tests.store.several import Hosts
from tests.store.valkey import ValkeyServer


def _read(server: ValkeyServer, store: RedisStore) -> list[SentCallback]:
    rows = SharedRows(server.url, prefix=store.keys.prefix, keys=None)
    try:
        return list(rows.sent("shop"))
    finally:
        rows.close()


async def test_all_rows_are_read_oldest_first(server: ValkeyServer, hosts: Hosts) -> None:
    """More than a page, in every state, from another process's point of view; those of other platforms are not."""
    store = await hosts.open(rules("shop", "mall"))
    await store.link.do("SET", store.keys.shared("schema"), 1)
    ids = (await post(store, *(note(b"%d" % n, key=f"k{n}", event="paid") for n in range(600)))).ids
    await post(store, note(platform="mall"))
    await deliver(store, await claimed(store, request(max_items=1)), hosts.clock)
    await bury(store, await claimed(store, request(max_items=1)), hosts.clock, "rejected")
    found = await asyncio.to_thread(_read, server, store)
    assert [each.id for each in found] == ids
    assert [each.body for each in found] == [b"%d" % n for n in range(600)]
    first, second, third = found[:3]
    assert (first.state, first.key, first.event, first.at) == ("delivered", "k0", "paid", hosts.clock.now())
    assert (second.state, second.reason, third.state, third.held) == ("dead", "rejected", "pending", False)


async def test_each_comparison_is_run_once(hosts: Hosts) -> None:
    """By the owner; by the next one where the first is gone before it was done; never by who owns nothing."""
    first = await hosts.owner(rules(), "shop")
    other = await hosts.open(rules(), alone=False)
    turns, others = first.comparison_turns, other.comparison_turns
    assert (turns.mine("shop"), others.mine("shop")) == (True, False)
    with pytest.raises(Fenced):
        await others.begin("shop", 100.0)
    assert await turns.begin("shop", 100.0)
    assert not await turns.begin("shop", 100.0)
    await hosts.take(other, "shop", token="2.b")
    with pytest.raises(Fenced):
        await turns.done("shop", 100.0)
    assert await others.begin("shop", 100.0)
    await others.done("shop", 100.0)
    assert not await others.begin("shop", 100.0)
    assert not await others.begin("shop", 50.0)
    await hosts.take(first, "shop", token="3.a")
    assert not await turns.begin("shop", 100.0)
    assert await turns.begin("shop", 200.0)
