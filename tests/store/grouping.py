"""Conformance: groups of a platform take turns, and one that is stopped holds nobody up."""

from collections import Counter
from dataclasses import replace

from relay.core.model import Batch, ClaimRequest, Lane, Outcome, Rate, WaitUntil
from relay.core.settlement import Requeue, Resend
from relay.policy.batching import lane_order
from tests.store.harness import (
    NEVER,
    Harness,
    claimed,
    deliver,
    note,
    payloads,
    post,
    refused,
    request,
    requeue,
    resend,
    rules,
    seqs,
    settlement,
)


def any_group(**changes: object) -> ClaimRequest:
    """A claim request for whichever group is next, one callback a batch unless said otherwise."""
    return replace(request(max_items=1), group=None, **changes)


def of(group: str, count: int, **said: object) -> list:
    """Callbacks of a group, their payloads numbered."""
    return [note(b"%s%d" % (group.encode(), n), group=group, **said) for n in range(count)]


class GroupingConformance:
    async def test_groups_take_turns(self, harness: Harness) -> None:
        """Each group that waits gets one batch per round, whatever another has queued, and a newcomer its turn."""
        store = await harness.open(rules())
        await post(store, *of("b", 50))
        await post(store, *of("a", 3), *of("c", 2))
        got = [await claimed(store, any_group(turn=turn)) for turn in range(6)]
        assert [batch.group for batch in got] == ["a", "b", "c", "a", "b", "c"]
        await post(store, *of("bb", 1), *of("", 1))
        assert [(await claimed(store, any_group())).group for _ in range(5)] == ["", "a", "b", "bb", "b"]

    async def test_batch_holds_one_group(self, harness: Harness) -> None:
        """A batch of several takes them all from the group whose turn it is."""
        store = await harness.open(rules())
        await post(store, *(row for pair in zip(of("a", 3), of("b", 3), strict=True) for row in pair))
        assert payloads(await claimed(store, any_group(max_items=9))) == [b"a0", b"a1", b"a2"]
        assert payloads(await claimed(store, any_group(max_items=9))) == [b"b0", b"b1", b"b2"]
        assert await refused(store, any_group()) == WaitUntil(NEVER, "idle")

    async def test_closed_groups_are_passed_over(self, harness: Harness) -> None:
        """A stopped group takes no turn, nor do its re-sends; the wait is until the first stop that ends."""
        store = await harness.open(rules())
        await post(store, *of("a", 1), *of("b", 1), *of("c", 1))
        frozen = await claimed(store, any_group())
        await resend(store, frozen, harness.clock, after_s=0)
        now = harness.clock.now()
        stopped = any_group(closed={"a": now + 7, "b": now + 5})
        assert (await claimed(store, stopped)).group == "c"
        wait = await refused(store, stopped)
        assert (wait.at, wait.reason) == (now + 5, "throttled")
        assert wait.missing == 1  # another group's callback goes at once
        harness.clock.advance(5)
        assert (await claimed(store, any_group(closed={"a": now + 7}))).group == "b"
        harness.clock.advance(2)
        assert (await claimed(store, any_group())).id == frozen.id

    async def test_slots_of_a_group_bind_it_alone(self, harness: Harness) -> None:
        """Of a quota per group each has its own slots; the wait is until the first group's is free."""
        store = await harness.open(rules(rate=Rate(1, 60.0), per_group=True))
        await post(store, *of("a", 2), *of("b", 2))
        first = await claimed(store, any_group())
        await deliver(store, first, harness.clock)
        harness.clock.advance(3)
        await deliver(store, await claimed(store, any_group()), harness.clock)
        wait = await refused(store, any_group())
        assert (wait.at, wait.reason) == (harness.clock.now() + 57, "limit")
        harness.clock.advance(57)
        assert payloads(await claimed(store, any_group())) == [b"a1"]

    async def test_slots_of_no_group_bind_no_other(self, harness: Harness) -> None:
        """Those without a group are one by themselves under a quota per group."""
        store = await harness.open(rules(rate=Rate(1, 60.0), per_group=True))
        await post(store, *of("", 2), *of("a", 1))
        got = [await claimed(store, any_group()) for _ in range(2)]
        assert {batch.group for batch in got} == {"", "a"}
        await post(store, *of("b", 1))
        assert (await claimed(store, any_group())).group == "b"

    async def test_slots_of_all_bind_all(self, harness: Harness) -> None:
        """A limit that the groups share stops them all, and a platform with nothing due does not stand in line."""
        store = await harness.open(rules("shop", "mall", shared=Rate(1, 10.0)))
        await post(store, *of("a", 2), *of("b", 2))
        await deliver(store, await claimed(store, any_group()), harness.clock)
        wait = await refused(store, any_group())
        assert (wait.at, wait.reason, wait.missing) == (harness.clock.now() + 10, "limit", 0)
        closed = dict.fromkeys(("a", "b"), NEVER)
        await refused(store, any_group(closed=closed))
        harness.clock.advance(11)
        await refused(store, any_group(closed=closed))
        harness.clock.advance(1)
        await post(store, note(platform="mall"))
        await claimed(store, request("mall"))

    async def test_full_batch_of_another_group_goes(self, harness: Harness) -> None:
        """While one group's partial batch waits for the pace, another's full one goes; so does its due re-send."""
        store = await harness.open(rules(rate=Rate(60, 60.0)))
        await post(store, *of("a", 1), *of("c", 2))
        await deliver(store, await claimed(store, any_group(max_items=3)), harness.clock)
        frozen = await claimed(store, replace(any_group(max_items=2), probe=True))
        await post(store, *of("a", 1), *of("b", 3))
        assert payloads(await claimed(store, any_group(max_items=3))) == [b"b0", b"b1", b"b2"]
        wait = await refused(store, any_group(max_items=3))
        assert (wait.at, wait.reason, wait.missing) == (harness.clock.now() + 1, "pace", 2)
        await resend(store, frozen, harness.clock, after_s=0)
        assert (await claimed(store, any_group(max_items=3))).id == frozen.id

    async def test_linger_is_the_groups_own(self, harness: Harness) -> None:
        """Each group lingers from its own oldest callback; a newer one does not hold up an older one behind it."""
        store = await harness.open(rules())
        await post(store, *of("z", 1))
        harness.clock.advance(2)
        await post(store, *(row for n in range(20) for row in of(f"g{n:02}", 1)))
        lingering = any_group(max_items=5, linger_s=3.0)
        assert (await refused(store, lingering)).at == harness.clock.now() + 1
        harness.clock.advance(1)
        assert payloads(await claimed(store, lingering)) == [b"z0"]
        harness.clock.advance(2)
        assert [(await claimed(store, lingering)).group for _ in range(20)] == [f"g{n:02}" for n in range(20)]

    async def test_many_groups_with_nothing_due(self, harness: Harness) -> None:
        """Hundreds of groups that wait for retries, in several lanes, hide neither the due one nor the next time."""
        store = await harness.open(rules())
        rows = [row for n in range(300) for row in (*of(f"g{n}", 1), *of(f"g{n}", 1, lane=Lane.LOW))]
        await post(store, *rows)
        taken = [await claimed(store, any_group(max_items=5)) for _ in range(300)]
        assert len({batch.group for batch in taken}) == 300
        for number, batch in enumerate(taken):
            again = [Requeue(seqs(batch), harness.clock.now() + 10 + number, False, "busy")]
            await store.settle(settlement(batch, harness.clock, Outcome.THROTTLED, requeue=again))
        wait = await refused(store, any_group())
        assert (wait.at, wait.reason) == (harness.clock.now() + 10, "retry")
        await post(store, *of("g150", 1))
        assert (await claimed(store, any_group())).group == "g150"
        assert (await refused(store, any_group())).reason == "retry"

    async def test_resuming_group_is_probed_alone(self, harness: Harness) -> None:
        """The first batch after a group's stop takes fresh callbacks, or what was refused where that is tested."""
        store = await harness.open(rules())
        await post(store, *of("a", 1))
        await requeue(store, await claimed(store, any_group()), harness.clock, after_s=0, charge=False)
        await post(store, note(b"fresh", group="a"), note(b"fresher", group="a"))
        probe = await claimed(store, any_group(max_items=9, resuming={"a": False}))
        assert (payloads(probe), probe.probe) == ([b"fresh", b"fresher"], True)
        await requeue(store, probe, harness.clock, after_s=0, charge=False)
        await post(store, note(b"last", group="a"))
        assert payloads(await claimed(store, any_group(resuming={"a": True}))) == [b"a0"]

    async def test_lanes_keep_their_shares_within_groups(self, harness: Harness) -> None:
        """Turns that many groups share still lead to every lane of each of them."""
        store = await harness.open(rules())
        rows = [row for n in range(2) for lane in (Lane.HIGH, Lane.LOW) for row in of(f"g{n}", 40, lane=lane)]
        await post(store, *rows)
        led: Counter[tuple[str, bool]] = Counter()
        leads_low = next(turn for turn in range(10) if lane_order(turn)[0] is Lane.LOW)
        for turn in (0, 0, leads_low, leads_low):
            batch = await claimed(store, any_group(turn=turn))
            led[batch.group, turn == leads_low] += 1
        assert led == {(f"g{n}", low): 1 for n in range(2) for low in (False, True)}

    async def test_order_per_key_over_groups(self, harness: Harness) -> None:
        """A key is the platform's: its second callback waits for the first, also in another group."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k", group="b"), note(b"2", key="k", group="a"))
        batch = await claimed(store, any_group())
        assert payloads(batch) == [b"1"]
        assert (await refused(store, any_group())).reason == "idle"
        await deliver(store, batch, harness.clock)
        assert payloads(await claimed(store, any_group())) == [b"2"]

    async def test_stops_of_groups_are_kept(self, harness: Harness) -> None:
        """A gate names the group stops that changed; the others stay, and one that is over goes."""
        store = await harness.open(rules())
        await post(store, *of("a", 2))
        batch = await claimed(store, any_group())
        gate = {"level": 0, "groups": {"a": {"level": 1}, "b": {"level": 2}}}
        await store.settle(settlement(batch, harness.clock, delivered=seqs(batch), gate=gate))
        await store.set_gate("shop", {"level": 3})
        assert await store.gates() == {"shop": {"level": 3, "groups": {"a": {"level": 1}, "b": {"level": 2}}}}
        await store.set_gate("shop", {"level": 3, "groups": {"a": None, "b": {"level": 4}}})
        assert await store.gates() == {"shop": {"level": 3, "groups": {"b": {"level": 4}}}}
        await store.set_gate("shop", {"level": 3, "groups": {"b": None}})
        assert await store.gates() == {"shop": {"level": 3}}

    async def test_split_parts_keep_their_group(self, harness: Harness) -> None:
        """Parts of a split wait as batches of the same group."""
        store = await harness.open(rules())
        await post(store, *of("a", 2), *of("b", 1))
        batch = await claimed(store, any_group(max_items=2))
        halves = [[seq] for seq in seqs(batch)]
        await store.settle(settlement(batch, harness.clock, Outcome.SPLIT, split=halves))
        got = [await claimed(store, any_group()) for _ in range(3)]
        assert [batch.group for batch in got] == ["b", "a", "a"]
        assert isinstance(got[0], Batch)
        await store.settle(settlement(got[1], harness.clock, resend=Resend(harness.clock.now(), False, "x")))
        assert (await claimed(store, any_group())).group == "a"
