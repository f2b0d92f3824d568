"""Conformance: slots that others take count together with the relay's own requests."""

from dataclasses import replace

from relay.core.lending import UNSEEN_S, LentSlots, LimitName, SlotWish
from relay.core.model import Batch, Quota, Rate, StoreRules, WaitUntil
from relay.store.base import Store
from relay.store.lending import Lending
from relay.views.queue import SlotUses
from tests.store.harness import Harness, RestartHarness, claimed, deliver, note, post, refused, request, rules, until

_SHOP = LimitName("shop", "")
_SEND_S = 10.0


def lending(store: Store) -> Lending:
    """Return what lends."""
    return store.lending


async def lent(store: Store, count: int = 1, of: LimitName = _SHOP) -> LentSlots:
    """Take slots; they must be free."""
    found = await lending(store).lend(SlotWish(of, count, _SEND_S, waits=False))
    assert isinstance(found, LentSlots), found
    assert len(found.ids) == count
    return found


async def lacking(store: Store, count: int = 1, of: LimitName = _SHOP, *, waits: bool = False) -> WaitUntil:
    """Ask for slots; there must be none."""
    found = await lending(store).lend(SlotWish(of, count, _SEND_S, waits))
    assert isinstance(found, WaitUntil), found
    return found


class LendingConformance:
    async def test_slots_of_others_and_requests_share_a_limit(self, harness: Harness) -> None:
        """Three slots a minute: one lent and two requests use it up, for both."""
        store = await harness.open(rules(rate=Rate(3, 60.0)))
        taken = await lent(store)
        assert taken.send_by == harness.clock.now() + _SEND_S
        for _ in range(2):
            await post(store, note())
            await deliver(store, await claimed(store, request(probe=True)), harness.clock)
        assert (await lacking(store)).at == harness.clock.now() + 60.0
        await post(store, note())
        assert (await refused(store, request(probe=True))).reason == "limit"
        (quota,) = (await store.platform_status())["shop"].quotas
        assert (quota.used, quota.uses) == (3, SlotUses(probe=2, external=1))

    async def test_a_slot_counts_from_its_answer(self, harness: Harness) -> None:
        """A released slot is free one window later, an unused one at once, a forgotten one a minute after its time."""
        store = await harness.open(rules(rate=Rate(1, 60.0)))
        (used,) = (await lent(store)).ids
        harness.clock.advance(5.0)
        assert await lending(store).give_back(LimitName("", "shop"), [used], unused=False) == []
        assert await lending(store).give_back(_SHOP, [used, used, "nonsense"], unused=False) == [_SHOP]
        assert (await lacking(store)).at == harness.clock.now() + 60.0
        harness.clock.advance(60.0)
        (unused,) = (await lent(store)).ids
        assert await lending(store).give_back(_SHOP, [unused], unused=True) == [_SHOP]
        await lent(store)
        assert (await lacking(store)).at == harness.clock.now() + _SEND_S + UNSEEN_S + 60.0

    async def test_several_slots_come_at_once(self, harness: Harness) -> None:
        """Two of three are given together or not at all; more than the limit never is."""
        store = await harness.open(rules(rate=Rate(3, 60.0)))
        await lent(store, 2)
        assert (await lacking(store, 2)).reason == "limit"
        await lent(store, 1)
        assert (await lacking(store, 4)).reason == "never"

    async def test_what_was_sent_anyway_counts(self, harness: Harness) -> None:
        """A report holds slots from now, also beyond the limit."""
        store = await harness.open(rules(rate=Rate(2, 60.0)))
        assert await lending(store).note_sent(_SHOP, 3)
        harness.clock.advance(59.0)
        await lacking(store)
        harness.clock.advance(1.0)
        await lent(store, 2)
        assert not await lending(store).note_sent(LimitName("nobody", ""), 1)
        assert (await lacking(store, of=LimitName("", "nothing"))).reason == "unknown"

    async def test_a_shared_quota_lends_alone(self, harness: Harness) -> None:
        """A slot of a shared quota counts there and not in the limits of its platforms; one of a platform in both."""
        in_force = rules("shop", "mall", rate=Rate(2, 60.0), shared=Rate(3, 60.0))
        store = await harness.open(in_force)
        await lent(store, 1, LimitName("", "app"))
        await lent(store, 2)
        await lacking(store, of=LimitName("mall", ""))
        await lacking(store)

    async def test_a_quota_of_no_platform_lends(self, harness: Harness) -> None:
        """A quota may be there for others only."""
        store = await harness.open(replace(rules(), quotas={"pull": Quota("pull", (Rate(1, 60.0),))}))
        await lent(store, of=LimitName("", "pull"))
        await lacking(store, of=LimitName("", "pull"))

    async def test_a_reserve_is_kept_for_others(self, harness: Harness) -> None:
        """Of four slots the relay uses three at most; others may use all that are free, without waiting for turns."""
        store = await harness.open(_reserving(4, 1))
        await post(store, *(note() for _ in range(4)))
        for _ in range(3):
            await claimed(store, request(max_items=1))
        assert (await refused(store, request(max_items=1))).reason == "limit"
        await lent(store, of=LimitName("", "app"))
        await lacking(store, of=LimitName("", "app"))

    async def test_a_limit_that_is_set_later_counts_lent_slots(self, harness: Harness) -> None:
        """Slots that were lent while there was no limit count under one that is learned or configured later."""
        store = await harness.open(rules())
        (given,) = (await lent(store)).ids
        await store.set_quotas("shop", [Quota("learned:shop", (Rate(1, 60.0),))])
        await lacking(store)
        await lending(store).give_back(_SHOP, [given], unused=True)
        await lent(store)
        await store.configure(rules(rate=Rate(1, 30.0)))
        await lacking(store)

    async def test_who_waits_and_the_relay_take_turns(self, harness: Harness) -> None:
        """Under backlog a waiting taker gets the next slot, and the relay the one after it."""
        store = await harness.open(rules(rate=Rate(1, 10.0)))
        await post(store, *(note() for _ in range(4)))
        woken: list[str] = []
        store.watch(lambda name, count: woken.append(name))
        for _ in range(2):
            batch = await claimed(store, request(max_items=1))
            await lacking(store, waits=True)
            await deliver(store, batch, harness.clock)
            await until(lambda: "_others" in woken)
            await lacking(store, waits=True)
            await refused(store, request(max_items=1))
            harness.clock.advance(10.0)
            assert (await refused(store, request(max_items=1))).reason == "share"
            (slot,) = (await lent(store)).ids
            await lending(store).give_back(_SHOP, [slot], unused=False)
            harness.clock.advance(10.0)

    async def test_a_slot_that_comes_back_unused_wakes_who_waits_for_it(self, harness: Harness) -> None:
        """Who was told to wait until the slot counts no more, which may be a day, looks again at once."""
        store = await harness.open(rules(rate=Rate(1, 86400.0)))
        await post(store, note())
        (slot,) = (await lent(store)).ids
        assert (await refused(store)).at > harness.clock.now() + 86400.0
        woken: list[str] = []
        store.watch(lambda name, _count: woken.append(name))
        await lending(store).give_back(_SHOP, [slot], unused=True)
        await until(lambda: "shop" in woken)
        await claimed(store)

    async def test_lent_slots_count_in_the_burst(self, harness: Harness) -> None:
        """With ``burst: 1`` the relay waits its second behind a request of others as behind its own."""
        store = await harness.open(rules(rate=Rate(60, 60.0), burst=1))
        await post(store, note())
        await lent(store)
        wait = await refused(store)
        assert (wait.at, wait.reason) == (harness.clock.now() + 1.0, "limit")

    async def test_groups_have_lines_of_their_own(self, harness: Harness) -> None:
        """Of a quota kept per group a slot counts for its group."""
        store = await harness.open(rules(rate=Rate(1, 60.0), per_group=True))
        await lent(store, of=LimitName("shop", "", "17"))
        await lacking(store, of=LimitName("shop", "", "17"))
        await lent(store, of=LimitName("shop", "", "18"))

    async def test_lent_slots_are_pruned(self, harness: Harness) -> None:
        """A slot that counts nowhere any more is forgotten: giving it back does nothing."""
        store = await harness.open(rules(rate=Rate(1, 60.0)))
        (slot,) = (await lent(store)).ids
        harness.clock.advance(3 * 86400.0)
        while await store.prune():
            pass
        assert await lending(store).give_back(_SHOP, [slot], unused=False) == []


class DurableLendingConformance:
    async def test_lent_slots_count_over_a_crash(self, harness: RestartHarness) -> None:
        """Lent and released slots count after a kill as before, and are given back by the same names."""
        in_force = rules(rate=Rate(3, 60.0))
        store = await harness.open(in_force)
        (held, used, unused) = (await lent(store, 3)).ids
        await lending(store).give_back(_SHOP, [used], unused=False)
        store = await harness.reopen(in_force)
        await lacking(store)
        harness.clock.advance(10.0)
        await lending(store).give_back(_SHOP, [unused], unused=True)
        await lent(store)
        await lacking(store)
        harness.clock.advance(50.0)
        await lent(store)
        await lending(store).give_back(_SHOP, [held], unused=False)
        assert isinstance(await store.reserve("shop"), WaitUntil)

    async def test_requests_and_lent_slots_count_together_over_a_crash(self, harness: RestartHarness) -> None:
        """Two of three slots are lent, one went to a request: after a kill none is free."""
        in_force = rules(rate=Rate(3, 60.0))
        store = await harness.open(in_force)
        await lent(store, 2)
        assert isinstance(await store.reserve("shop"), Batch)
        store = await harness.reopen(in_force)
        await lacking(store)
        assert isinstance(await store.reserve("shop"), WaitUntil)


def _reserving(limit: int, kept: int) -> StoreRules:
    in_force = rules(shared=Rate(limit, 60.0))
    return replace(in_force, quotas={"app": Quota("app", (Rate(limit, 60.0),), reserve=(kept,))})
