"""The shared store on a cluster of three real nodes: platforms lie on different ones, and it is one store."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import StoreAway, StoreUnusable
from relay.core.model import Filter, StoreRules
from relay.store.base import Store
from relay.store.redis.backend import RedisStore
from relay.store.redis.opening import reach
from relay.store.redis.server.cluster import ClusterLink, link_to
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable
from tests.clocks import FakeClock
from tests.store.conformance import Conformance, DurabilityConformance
from tests.store.forgetting import ForgettingConformance
from tests.store.harness import balanced, claimed, deliver, note, payloads, post, request, routed, rules, shown, states
from tests.store.valkey import ValkeyCluster, ValkeyServer

NAMES = ("shop", "mall", "yard", "dock")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """One cluster for all tests here."""
    made = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    made.start()
    yield made
    made.kill()


class ClusterHarness:
    """A shared store on the cluster, on a clock that tests move."""

    def __init__(self, cluster: ValkeyCluster) -> None:
        self.clock = FakeClock()
        self.cluster = cluster
        self._prefix = f"t{secrets.token_hex(4)}"
        self._opened: list[RedisStore] = []

    async def open(self, in_force: StoreRules) -> Store:
        link = link_to(parse_server_url(self.cluster.url), Durable())
        store = RedisStore(link, KeyNames(self._prefix), self.clock)
        self._opened.append(store)
        await reach(store)
        await store.configure(in_force)
        return store

    async def reopen(self, in_force: StoreRules) -> Store:
        for node in self.cluster.nodes:
            node.restart()
        await asyncio.to_thread(self.cluster.whole)
        return await self.open(in_force)

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture
async def harness(cluster: ValkeyCluster) -> AsyncIterator[ClusterHarness]:
    """One for each test."""
    made = ClusterHarness(cluster)
    yield made
    await made.close()


if "CLUSTER" in os.environ:  # the long form: every promise of a backend, on a cluster

    class TestCluster(Conformance, DurabilityConformance, ForgettingConformance):
        pass


async def test_platforms_on_all_nodes_are_one_store(harness: ClusterHarness) -> None:
    """Small posts, a bulk over four platforms, a fan-out: accepted all or none, sent, settled and counted."""
    store = await harness.open(rules(*NAMES))
    assert isinstance(store, RedisStore)
    assert isinstance(store.link, ClusterLink)
    nodes = {store.link._owner(store._owned.call("peek", name)) for name in NAMES}
    assert len(nodes) > 1, "the names of this test lie on one node"
    small = [await post(store, note(b"small", platform=name, key="k", idempotency_key="i")) for name in NAMES]
    bulk = await post(store, *(note(b"%d" % n, platform=NAMES[n % 4], idempotency_key=f"b{n}") for n in range(200)))
    fan = await store.accept_posts([routed(*NAMES, payload=b"fan", idempotency_key="f")])
    assert (await post(store, note(b"small", key="k", idempotency_key="i"))).ids == small[0].ids
    assert (await store.accept_posts([routed(*NAMES, payload=b"fan", idempotency_key="f")])).ids == fan.ids
    assert {name: each.pending for name, each in (await balanced(store)).items()} == dict.fromkeys(NAMES, 52)
    for name in NAMES:
        batch = await claimed(store, request(name))
        assert len(payloads(batch)) == 52
        await deliver(store, batch, harness.clock)
    assert set(await states(store, [*bulk.ids, *fan.ids[0].values()])) == {"delivered"}
    listed, _ = await store.callbacks(Filter(), cursor=None, limit=500)
    assert len(listed) == 208
    harness.clock.advance(8 * 86400)
    while await store.prune():
        pass
    assert (await store.callback(bulk.ids[0])) is None
    assert (await store.size()).used_bytes > 3_000_000


async def test_slots_that_moved_are_found(harness: ClusterHarness) -> None:
    """A node that has a slot no longer says who does: the call goes there, and is done once."""
    store = await harness.open(rules(*NAMES))
    assert isinstance(store, RedisStore)
    assert isinstance(store.link, ClusterLink)
    link = store.link
    first, *others = link._spans
    link._spans = [first._replace(last=16383)]
    accepted = [await post(store, note(b"1", platform=name, idempotency_key="i")) for name in NAMES]
    assert len(link._spans) == 1 + len(others)
    assert [(await shown(store, each.ids[0])).state for each in accepted] == ["pending"] * 4
    assert sum(each.accepted for each in (await balanced(store)).values()) == 4


async def test_a_node_that_is_gone_is_the_store_away(harness: ClusterHarness, cluster: ValkeyCluster) -> None:
    """What is asked meanwhile is refused as away; back again, the same link goes on."""
    store = await harness.open(rules(*NAMES))
    assert isinstance(store, RedisStore)
    cluster.nodes[1].kill()
    with pytest.raises(StoreAway):
        await store.totals()
    await asyncio.to_thread(cluster.nodes[1].start)
    await asyncio.to_thread(cluster.whole)
    await post(store, *(note(b"2", platform=name) for name in NAMES))
    await balanced(store)


async def test_a_server_alone_is_no_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is said which server it is."""
    server = ValkeyServer(tmp_path_factory.mktemp("alone"))
    server.start()
    link = link_to(parse_server_url(f"redis+cluster://127.0.0.1:{server.port}"), Durable())
    with pytest.raises(StoreUnusable, match=f"127.0.0.1:{server.port} is no node of a cluster"):
        await link.do("PING")
    await link.close()
    server.kill()
