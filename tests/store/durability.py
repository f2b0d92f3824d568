"""Conformance: what outlives the process. For backends whose harness can ``reopen``."""

from relay.core.model import Filter, Outcome, Rate, WaitUntil
from relay.core.settlement import Ask
from relay.views.operation_view import OperationOptions
from tests.store.harness import (
    RestartHarness,
    balanced,
    bury,
    claimed,
    deliver,
    hold,
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
    shown,
    special,
    states,
)


class DurabilityConformance:
    async def test_accepted_survives(self, harness: RestartHarness) -> None:
        """What was answered is there after a kill, byte for byte, in order, with its idempotency keys and totals."""
        store = await harness.open(rules())
        rows = [note(b'{"n": %d}' % n, key="k", idempotency_key=f"i{n}") for n in range(3)]
        first = await post(store, *rows)
        store = await harness.reopen(rules())
        assert (await post(store, *rows)).ids == first.ids
        later = await post(store, note(b"new", key="k"))
        assert later.ids[0] > first.ids[-1]
        assert (await balanced(store))["shop"].accepted == 4
        for row in (*rows, note(b"new")):
            batch = await claimed(store)
            assert payloads(batch) == [row.payload]
            await deliver(store, batch, harness.clock)

    async def test_crash_freezes_what_was_under_way(self, harness: RestartHarness) -> None:
        """A batch under way at a crash goes again at once, the same; its attempt ended as ``crash``, maybe applied."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1", key="a"), note(b"2", key="b"), note(b"3", key="a"))
        batch = await claimed(store)
        store = await harness.reopen(rules())
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.in_flight, found.attempts[0].outcome) == ("pending", False, "crash")
        again = await claimed(store)
        assert (again.id, seqs(again), again.attempt) == (batch.id, seqs(batch), 2)
        assert all(item.maybe_applied for item in again.items)
        await deliver(store, again, harness.clock)
        assert payloads(await claimed(store)) == [b"3"]
        await balanced(store)

    async def test_slots_survive(self, harness: RestartHarness) -> None:
        """Answered requests count from their answer, those under way from the restart."""
        limited = rules(rate=Rate(2, 60.0))
        store = await harness.open(limited)
        await post(store, *(note(b"%d" % n) for n in range(5)))
        one = request(max_items=1)
        await deliver(store, await claimed(store, one), harness.clock)
        answered_at = harness.clock.now()
        harness.clock.advance(5)
        await claimed(store, one)
        restarted_at = harness.clock.advance(5)
        store = await harness.reopen(limited)
        assert await refused(store, one) == WaitUntil(answered_at + 60, "limit")
        harness.clock.advance_to(answered_at + 60)
        await claimed(store, one)
        assert await refused(store, one) == WaitUntil(restarted_at + 60, "limit")

    async def test_waiting_resends_survive(self, harness: RestartHarness) -> None:
        """Frozen batches, split parts, retries and held callbacks wait on after a restart as before."""
        store = await harness.open(rules())
        accepted = await post(store, *(note(b"%d" % n) for n in range(6)))
        one = request(max_items=1)
        frozen = await claimed(store, one)
        await resend(store, frozen, harness.clock, after_s=30)
        await requeue(store, await claimed(store, one), harness.clock, after_s=40)
        await hold(store, await claimed(store, one), harness.clock)
        whole = await claimed(store)
        await store.settle(settlement(whole, harness.clock, split=[seqs(whole)[:1], seqs(whole)[1:]]))
        store = await harness.reopen(rules())
        parts = [await claimed(store), await claimed(store)]
        assert [seqs(part) for part in parts] == [seqs(whole)[:1], seqs(whole)[1:]]
        assert [part.root for part in parts] == [whole.number] * 2
        assert await refused(store) == WaitUntil(harness.clock.now() + 30, "retry")
        harness.clock.advance(30)
        again = await claimed(store)
        assert (again.id, again.attempt) == (frozen.id, 2)
        harness.clock.advance(10)
        assert payloads(await claimed(store)) == [b"1"]
        found = await shown(store, accepted.ids[2])
        assert (found.state, found.held) == ("pending", True)

    async def test_read_back_survives_a_restart(self, harness: RestartHarness) -> None:
        """What was to be asked is asked after a restart, not sent."""
        store = await harness.open(rules())
        await post(store, note(b"1"))
        batch = await claimed(store)
        ask = Ask(seqs(batch), harness.clock.now(), "unclear")
        await store.settle(settlement(batch, harness.clock, Outcome.CONFIRM, ask=ask))
        store = await harness.reopen(rules())
        assert (await claimed(store)).confirm

    async def test_settled_is_final(self, harness: RestartHarness) -> None:
        """A settle that returned holds after a kill, with its gate; settling again does nothing."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"), note(b"2"))
        batch = await claimed(store, request(max_items=1))
        await store.settle(settlement(batch, harness.clock, delivered=seqs(batch), gate={"open": True}))
        await bury(store, await claimed(store), harness.clock, "bad")
        before = await balanced(store)
        store = await harness.reopen(rules())
        await bury(store, batch, harness.clock)
        assert await states(store, accepted.ids) == ["delivered", "dead"]
        assert await balanced(store) == before
        assert await store.gates() == {"shop": {"open": True}}

    async def test_blocked_keys_stay_blocked(self, harness: RestartHarness) -> None:
        """With ``on_dead: block`` a dead head keeps its key waiting over a restart."""
        store = await harness.open(special(block_on_dead=True))
        await post(store, note(b"1", key="k"), note(b"2", key="k"))
        await bury(store, await claimed(store), harness.clock)
        store = await harness.reopen(special(block_on_dead=True))
        assert (await refused(store)).reason == "idle"

    async def test_operations_wait_on_after_a_restart(self, harness: RestartHarness) -> None:
        """What waits for its batch survives a kill: a batch of others too goes again first; one that was under way, and
        holds nothing but matches, waits for its re-send now and is given up.
        """
        store = await harness.open(rules())
        accepted = await post(store, *(note(b"%d" % n) for n in range(4)))
        for _ in range(2):
            await claimed(store, request(max_items=2))
        wanted = Filter(ids=tuple(accepted.ids[1:]))
        number = (await store.start_operation("drop", wanted, expect_count=3)).id
        assert (await store.step_operation(number, 10)).progress.waiting == 3
        store = await harness.reopen(rules())
        assert await store.open_operations() == [number]
        progress = (await store.step_operation(number, 10)).progress
        assert (progress.state, progress.done, progress.waiting) == ("running", 2, 1)
        assert await states(store, accepted.ids) == ["pending"] * 2 + ["dead"] * 2
        again = await claimed(store)
        assert payloads(again) == [b"0", b"1"]
        await requeue(store, again, harness.clock, after_s=0)
        assert (await store.step_operation(number, 10)).progress.state == "done"
        assert payloads(await claimed(store)) == [b"0"]
        await balanced(store)

    async def test_operations_continue(self, harness: RestartHarness) -> None:
        """An operation cut off by a kill is open afterwards and goes on where it stopped."""
        store = await harness.open(rules())
        await post(store, *(note() for _ in range(5)))
        progress = await store.start_operation(
            "drop", Filter(), options=OperationOptions(reason="test"), expect_count=5
        )
        await store.step_operation(progress.id, 2)
        store = await harness.reopen(rules())
        assert await store.open_operations() == [progress.id]
        while progress.state == "running":
            progress = (await store.step_operation(progress.id, 2)).progress
        assert (progress.matched, progress.done, progress.skipped) == (5, 5, {})
        assert (await balanced(store))["shop"].dead == 5
