"""The memory store keeps the promises of every backend."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from relay.core.errors import StoreFull
from relay.core.model import StoreRules
from relay.store.base import Store
from relay.store.memory.backend import MemoryStore
from relay.views.ledger import QueueTotals
from tests.clocks import FakeClock
from tests.store.conformance import Conformance, WeighingConformance
from tests.store.forgetting import ForgettingConformance
from tests.store.harness import claimed, deliver, note, post, rules, settlement


class MemoryHarness:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.opened: list[Store] = []

    async def open(self, in_force: StoreRules) -> Store:
        store = MemoryStore(clock=self.clock, tag=7)
        self.opened.append(store)
        await store.configure(in_force)
        return store


@pytest.fixture
async def harness() -> AsyncIterator[MemoryHarness]:
    """A memory store on a clock that tests move."""
    made = MemoryHarness()
    yield made
    for store in made.opened:
        await store.close()


class TestMemory(Conformance, ForgettingConformance, WeighingConformance):
    pass


async def test_full_keeps_what_is_undelivered() -> None:
    """Near its size the store gives up delivered callbacks, oldest first, and refuses rather than drop pending ones."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.configure(replace(rules(), max_size_bytes=100))
    old = await post(store, note(b"x" * 60))
    await deliver(store, await claimed(store), clock)
    await post(store, note(b"y" * 60))
    assert await store.callback(old.ids[0]) is None
    with pytest.raises(StoreFull, match="60 of 100 bytes"):
        await post(store, note(b"z" * 60))
    await store.configure(replace(rules(), max_size_bytes=120))
    await post(store, note(b"z" * 60))
    assert (await store.totals())["shop"] == QueueTotals(accepted=3, delivered=1, pending=2)


async def test_settlement_must_name_every_item() -> None:
    """A settlement that forgets or repeats an item changes nothing and says which."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.configure(rules())
    await post(store, note(b"1"), note(b"2"))
    batch = await claimed(store)
    with pytest.raises(ValueError, match="names"):
        await store.settle(settlement(batch, clock, delivered=[batch.items[0].seq]))
    await deliver(store, batch, clock)
    assert (await store.totals())["shop"].delivered == 2
