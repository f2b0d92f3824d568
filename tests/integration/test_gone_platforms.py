"""Slots that come and go one by one; slots and questions after a reload has taken their platform away."""

import asyncio
import math
import random
from collections.abc import Sequence

import pytest
from relay.core.lending import LentSlots, LimitName, SlotWish
from relay.core.model import WaitUntil
from relay.delivery.asking.elsewhere import Elsewhere
from relay.delivery.asking.inquirer import Inquirer, NoSlot
from relay.delivery.sender import Request
from relay.ingest.lending.desk import LimitDirectory, SlotDesk
from relay.store.base import StoreRules
from relay.wire.answers.answer import Answer, Failure, Headers
from tests.integration.test_pipeline import TERMS, Platform, Rig

SHOP = LimitName("shop-a", "", "")


class Shop(Platform):
    """Shows its orders: none."""

    async def send(self, request: Request) -> Answer | Failure:
        """Answer any request."""
        return Answer(200, Headers(), b"[]")


async def test_slots_of_a_platform_that_is_gone() -> None:
    """A release counts them, a report of a refusal stops nobody, and who waits is told that the platform is gone."""
    rig = Rig()
    await rig.start()
    lending = rig.store.lending
    elsewhere = Elsewhere(rig.registry.find, outbox=rig.store, clock=rig.clock, rng=random.Random(7))
    known = LimitDirectory({"shared": ["shop-a"]}, frozenset(("shop-a",)))
    desk = SlotDesk(lending, elsewhere, clock=rig.clock, directory=lambda: known)
    taken = await desk.take(SHOP, 1, 0.0, gone=lambda: False)
    assert isinstance(taken, LentSlots)

    await rig.registry.replace([], 1.0)  # the reload is under way: the directory still knows the platform
    assert await desk.release(SHOP, taken.ids, unused=False) == 1
    await desk.report(SHOP, 2, refused=True, wait_s=30.0)
    await desk.report(LimitName("", "shared", ""), 1, refused=True, wait_s=None)
    await rig.store.configure(StoreRules(quotas={}, platforms={}))
    async with asyncio.timeout(20):
        found = await desk.take(SHOP, 1, math.inf, gone=lambda: False)

    assert isinstance(found, WaitUntil)
    assert found.reason == "unknown"
    await rig.registry.stop(1.0)


class OneByOne:
    """Lends one slot at a time, each good for so long from the start as the list says."""

    def __init__(self, *good_for_s: float) -> None:
        self._left = list(good_for_s)
        self.back: list[str] = []

    async def lend(self, wish: SlotWish) -> LentSlots | WaitUntil:
        if wish.slots > 1 or not self._left:
            return WaitUntil(math.inf, "limit")
        return LentSlots([f"s{len(self._left)}"], self._left.pop(0))

    async def give_back(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> list[LimitName]:
        assert unused
        self.back += ids
        return [of] * len(ids)

    async def note_sent(self, of: LimitName, count: int) -> bool:
        return True


async def test_slots_that_came_one_by_one() -> None:
    """All of them are used while the first of them to end is good; who goes away before the last gives all back."""
    rig = Rig()
    elsewhere = Elsewhere(rig.registry.find, outbox=rig.store, clock=rig.clock, rng=random.Random(7))
    known = LimitDirectory({}, frozenset(("shop-a",)))
    lending = OneByOne(30.0, 12.0, 25.0)
    desk = SlotDesk(lending, elsewhere, clock=rig.clock, directory=lambda: known)
    assert await desk.take(SHOP, 3, 5.0, gone=lambda: False) == LentSlots(["s3", "s2", "s1"], 12.0)
    assert lending.back == []

    lending = OneByOne(30.0, 12.0)
    desk = SlotDesk(lending, elsewhere, clock=rig.clock, directory=lambda: known)
    found = await desk.take(SHOP, 3, 5.0, gone=lambda: not lending._left)
    assert isinstance(found, WaitUntil)
    assert (found.reason, lending.back) == ("closed", ["s2", "s1"])


async def test_a_refusal_of_others_is_kept_over_a_restart() -> None:
    """The stop that it begins lies in the store at once: who restarts in between leaves the platform alone too."""
    rig = Rig()
    await rig.start()
    elsewhere = Elsewhere(rig.registry.find, outbox=rig.store, clock=rig.clock, rng=random.Random(7))
    await elsewhere.refused("shop-a", "", 30.0)
    kept = await rig.store.gates()

    assert elsewhere.stopped_until("shop-a", "") >= rig.clock.now() + 30.0
    assert kept["shop-a"] == rig.registry.find("shop-a").kept() != {}
    await rig.registry.stop(1.0)


async def test_a_question_waits_for_its_platform_to_come_back() -> None:
    """While a reload replaces the platform nobody can be asked; a question waits for that as it waits for a slot."""
    rig = Rig()
    rig.platform = Shop()
    await rig.start()
    inquirer = Inquirer(lambda: rig.registry.find("shop-a"), clock=rig.clock, budget=None)
    await rig.registry.replace([], 1.0)
    with pytest.raises(NoSlot):
        await inquirer.page("https://a.example/orders", within_s=0.0)
    waiting = asyncio.create_task(inquirer.page("https://a.example/orders", within_s=30.0))
    await asyncio.sleep(0)
    await rig.registry.replace([TERMS], 1.0)

    assert (await waiting).outcome == "ok"
    await rig.registry.stop(1.0)
