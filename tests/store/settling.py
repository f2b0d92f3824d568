"""Conformance: what answers do to callbacks."""

import math

import pytest
from msgspec.structs import replace
from relay.core.model import Lane, Outcome, Rate, State
from relay.core.settlement import Ask, Ending, Requeue, Resend
from relay.policy.batching import lane_order
from relay.views.ledger import QueueTotals
from relay.views.moments import Instant
from tests.store.harness import (
    Harness,
    balanced,
    bury,
    claimed,
    deliver,
    hold,
    note,
    operate,
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
    until,
)


class SettlingConformance:
    async def test_delivered(self, harness: Harness) -> None:
        """A delivered callback is final and shows the attempt that did it; the totals move with it."""
        store = await harness.open(rules())
        accepted = await post(store, note())
        batch = await claimed(store)
        harness.clock.advance(2)
        done = settlement(batch, harness.clock, status=200, reason="fine", delivered=seqs(batch))
        await store.settle(done)
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.ended_at, found.in_flight) == ("delivered", harness.clock.now(), False)
        attempt = found.attempts[0]
        told = (attempt.batch, attempt.outcome, attempt.status, attempt.started_at)
        assert told == (batch.id, "ok", 200, batch.created_at)
        assert (await balanced(store))["shop"].delivered == 1

    async def test_delivered_is_in_no_doubt(self, harness: Harness) -> None:
        """An attempt left it open whether it was applied; one that was accepted afterwards settles that."""
        store = await harness.open(rules())
        accepted = await post(store, note())
        await resend(store, await claimed(store), harness.clock, after_s=1)
        assert (await shown(store, accepted.ids[0])).maybe_applied
        harness.clock.advance(2)
        await deliver(store, await claimed(store), harness.clock)
        assert not (await shown(store, accepted.ids[0])).maybe_applied

    async def test_second_settle_does_nothing(self, harness: Harness) -> None:
        """Settling is idempotent by attempt id: a repeat changes no state, total or slot."""
        store = await harness.open(rules(rate=Rate(2, 60.0)))
        accepted = await post(store, note())
        batch = await claimed(store)
        await deliver(store, batch, harness.clock)
        free_at = harness.clock.now() + 60
        before = await balanced(store)
        harness.clock.advance(30)
        await bury(store, batch, harness.clock)
        assert await balanced(store) == before
        for used in (1, 0):
            (quota,) = (await store.platform_status())["shop"].quotas
            assert quota.used == used
            harness.clock.advance_to(free_at)
        assert await states(store, accepted.ids) == ["delivered"]

    async def test_each_part(self, harness: Harness) -> None:
        """One answer may deliver, return, end and hold items of one batch."""
        store = await harness.open(rules())
        accepted = await post(store, *(note(b"%d" % n) for n in range(5)))
        batch = await claimed(store)
        ok, again, dead, late, odd = seqs(batch)
        due_at = harness.clock.now() + 3
        parts = settlement(
            batch,
            harness.clock,
            Outcome.RETRY,
            delivered=[ok],
            requeue=[Requeue([again], due_at, True, "busy", maybe_applied=True)],
            endings=[Ending([dead], State.DEAD, "bad", maybe_applied=True), Ending([late], State.EXPIRED, "late")],
            held=[odd],
        )
        await store.settle(parts)
        assert await states(store, accepted.ids) == ["delivered", "pending", "dead", "expired", "pending"]
        shows = [await shown(store, callback_id) for callback_id in accepted.ids]
        assert (shows[1].due_at, shows[1].spent, shows[1].maybe_applied) == (due_at, 1, True)
        assert (shows[2].reason, shows[2].maybe_applied) == ("bad", True)
        assert [found.held for found in shows] == [False] * 4 + [True]
        assert (await balanced(store))["shop"] == QueueTotals(accepted=5, delivered=1, dead=1, expired=1, pending=2)
        harness.clock.advance(3)
        item = (await claimed(store)).items[0]
        assert (item.seq, item.attempts, item.spent, item.maybe_applied) == (again, 1, 1, True)

    async def test_asked_items_become_read_backs(self, harness: Harness) -> None:
        """Items to be asked about become frozen batches of their own, due when told, their keys waiting meanwhile."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1", key="k"), note(b"2"), note(b"3"), note(b"4", key="k"))
        batch = await claimed(store)
        one, two, three = seqs(batch)
        due_at = harness.clock.now() + 5
        ask = Ask([one, three], due_at, "unclear")
        await store.settle(settlement(batch, harness.clock, Outcome.CONFIRM, delivered=[two], ask=ask))
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.held, found.in_flight, found.reason) == (
            "pending",
            False,
            False,
            "unclear",
        )
        assert (await refused(store)).at == due_at
        harness.clock.advance(5)
        first, second = await claimed(store), await claimed(store)
        assert [(payloads(each), each.confirm, each.attempt) for each in (first, second)] == [
            ([b"1"], True, 1),
            ([b"3"], True, 1),
        ]
        assert {batch.id, first.id, second.id} == {batch.id} | {each.id for each in (first, second)}
        assert (await store.platform_status())["shop"].in_flight == 2
        await store.settle(settlement(first, harness.clock, resend=Resend(harness.clock.now(), False, "timeout")))
        assert (await claimed(store)).confirm
        await requeue(store, second, harness.clock, after_s=0)
        again = await claimed(store)
        assert (payloads(again), again.confirm, again.items[0].spent) == ([b"3"], False, 1)
        assert (await balanced(store))["shop"].pending == 3

    async def test_the_platforms_words_are_shown(self, harness: Harness) -> None:
        """What the platform said of one callback is kept with it until it is delivered or tried afresh."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"), note(b"2"))
        batch = await claimed(store)
        one, two = seqs(batch)
        parts = settlement(
            batch,
            harness.clock,
            requeue=[Requeue([one], harness.clock.now(), True, "busy", message="come later")],
            endings=[Ending([two], State.DEAD, "bad", message="no such order")],
        )
        await store.settle(parts)
        words = [(await shown(store, callback_id)).message for callback_id in accepted.ids]
        assert words == ["come later", "no such order"]
        await deliver(store, await claimed(store), harness.clock)
        await operate(store, "retry")
        words = [(await shown(store, callback_id)).message for callback_id in accepted.ids]
        assert words == ["", ""]

    async def test_uncharged_requeue(self, harness: Harness) -> None:
        """Items that were certainly not applied return without a charge and may be regrouped."""
        store = await harness.open(rules())
        await post(store, note(b"1"), note(b"2"))
        first = await claimed(store)
        await requeue(store, first, harness.clock, after_s=1, charge=False)
        await post(store, note(b"3"))
        harness.clock.advance(1)
        again = await claimed(store)
        assert sorted(payloads(again)) == [b"1", b"2", b"3"]
        assert again.id != first.id
        assert {item.spent for item in again.items} == {0}

    async def test_held_keeps_its_key_waiting(self, harness: Harness) -> None:
        """A held callback is pending and not claimable, nor is anything of its key; other keys go on."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"a1", key="a"), note(b"a2", key="a"))
        await hold(store, await claimed(store), harness.clock)
        await post(store, note(b"b1", key="b"))
        assert payloads(await claimed(store)) == [b"b1"]
        assert (await refused(store)).at == math.inf
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.held, found.in_flight) == ("pending", True, False)
        assert (await store.platform_status())["shop"].held == 1

    async def test_dead_head_is_skipped(self, harness: Harness) -> None:
        """With ``on_dead: skip`` the next of a key follows a dead one."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k"), note(b"2", key="k"))
        await bury(store, await claimed(store), harness.clock)
        assert payloads(await claimed(store)) == [b"2"]

    async def test_dead_head_blocks(self, harness: Harness) -> None:
        """With ``on_dead: block`` a dead head keeps its key waiting, also for what comes later; a reload frees it."""
        store = await harness.open(special(block_on_dead=True))
        await post(store, note(b"1", key="k"), note(b"2", key="k"))
        await bury(store, await claimed(store), harness.clock)
        await post(store, note(b"3", key="k"), note(b"x", key="other"))
        assert payloads(await claimed(store)) == [b"x"]
        assert (await refused(store)).at == math.inf
        await store.configure(special(block_on_dead=False))
        assert payloads(await claimed(store)) == [b"2"]

    async def test_settle_wakes_its_platform(self, harness: Harness) -> None:
        """What an answer frees is told to the watchers: the next of the key."""
        store = await harness.open(rules())
        await post(store, note(key="k"), note(key="k"))
        batch = await claimed(store)
        heard: list[int] = []
        store.watch(lambda platform, count: heard.append(count))
        await deliver(store, batch, harness.clock)
        await until(lambda: sum(heard) == 1)

    async def test_gates_are_kept(self, harness: Harness) -> None:
        """A platform's gate is kept with a settle and by itself; the last one stands."""
        store = await harness.open(rules())
        await post(store, note())
        batch = await claimed(store)
        await store.settle(settlement(batch, harness.clock, delivered=seqs(batch), gate={"until": 5.0, "n": [1]}))
        assert await store.gates() == {"shop": {"until": 5.0, "n": [1]}}
        await store.set_gate("shop", {"paused": True})
        await store.set_gate("other", {})
        assert await store.gates() == {"shop": {"paused": True}, "other": {}}

    @pytest.mark.parametrize("status", [500, None])
    async def test_status_shows_the_last_error(self, harness: Harness, status: int | None) -> None:
        """A platform's status counts what it has and shows its last failed attempt."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k"), note(b"2", key="k"), note(b"3"))
        batch = await claimed(store)
        found = (await store.platform_status())["shop"]
        assert (found.pending, found.in_flight, found.dead, found.last_error) == (3, 2, 0, None)
        ending = Ending(seqs(batch)[:1], State.DEAD, "bad")
        again = Requeue(seqs(batch)[1:], harness.clock.now(), True, "bad")
        result = settlement(
            batch, harness.clock, Outcome.RETRY, status=status, reason="bad", endings=[ending], requeue=[again]
        )
        await store.settle(result)
        found = (await store.platform_status())["shop"]
        assert (found.pending, found.in_flight, found.dead) == (2, 0, 1)
        assert found.oldest_due_at == harness.clock.now()
        error = found.last_error
        told = (harness.clock.now(), "retry", status, "bad")
        assert error is not None
        assert (error.at, error.outcome, error.status, error.reason) == told

    async def test_oldest_due_outlasts_every_attempt(self, harness: Harness) -> None:
        """How late a platform is counts from acceptance, whether the oldest was never sent, is out, frozen, split or
        put back; what is held, or behind that, is not late: it waits for a person.
        """
        store = await harness.open(rules())

        async def oldest() -> float | None:
            found: float | None = (await store.platform_status())["shop"].oldest_due_at
            return found

        accepted_at = harness.clock.now()
        await post(store, note(b"1", key="k", expires_s=900.0))
        harness.clock.advance(1)
        await post(store, note(b"2", key="k"), note(b"3"))
        assert await oldest() == accepted_at
        batch = await claimed(store)
        assert await oldest() == accepted_at
        again = Resend(harness.clock.now() + 30, True, "timeout")
        await store.settle(settlement(batch, harness.clock, Outcome.RETRY, ambiguous=True, resend=again))
        assert await oldest() == accepted_at
        harness.clock.advance(30)
        await requeue(store, await claimed(store), harness.clock, after_s=60)
        assert await oldest() == accepted_at
        harness.clock.advance(60)
        batch = await claimed(store)
        assert await oldest() == accepted_at
        await store.settle(settlement(batch, harness.clock, Outcome.SPLIT, split=[[seq] for seq in seqs(batch)]))
        assert await oldest() == accepted_at
        for part in (await claimed(store), await claimed(store)):
            if payloads(part) == [b"1"]:
                await hold(store, part, harness.clock)
            else:
                await requeue(store, part, harness.clock, after_s=60)
        assert await oldest() == accepted_at + 1
        harness.clock.advance(60)
        await deliver(store, await claimed(store), harness.clock)
        assert await oldest() is None
        await operate(store, "resolve", verdict="retry")
        assert await oldest() == accepted_at

    async def test_oldest_due_counts_a_retried_one_from_its_retry(self, harness: Harness) -> None:
        """A dead letter that a person sends again does not make its platform days late."""
        store = await harness.open(rules())
        await post(store, note(b"1"))
        await bury(store, await claimed(store), harness.clock)
        retried_at = harness.clock.advance(86400)
        await operate(store, "retry")
        harness.clock.advance(5)
        await requeue(store, await claimed(store), harness.clock, after_s=60)
        assert (await store.platform_status())["shop"].oldest_due_at == retried_at

    async def test_frozen_waits_out_a_resend(self, harness: Harness) -> None:
        """A callback that waits in a frozen batch is pending, not in flight, and keeps its key waiting."""
        store = await harness.open(rules())
        accepted = await post(store, note(key="k"), note(key="k"))
        batch = await claimed(store)
        again = Resend(harness.clock.now() + 9, False, "timeout")
        await store.settle(settlement(batch, harness.clock, Outcome.RETRY, resend=again))
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.in_flight, found.spent) == ("pending", False, 0)
        assert (await refused(store, request(max_items=1))).at == again.due_at

    async def test_requeued_is_a_retry(self, harness: Harness) -> None:
        """What returns to the queue, charged or not, keeps the retries' turns: no backlog can shut it out for good."""
        store = await harness.open(rules())
        await post(store, note(b"0"), note(b"1"))
        for charge in (False, True):
            await requeue(store, await claimed(store, request(max_items=1)), harness.clock, after_s=0, charge=charge)
        await post(store, *(note(b"backlog") for _ in range(50)))
        leads = next(turn for turn in range(10) if lane_order(turn)[0] is Lane.RETRY)
        assert payloads(await claimed(store, request(max_items=1))) == [b"backlog"]
        assert payloads(await claimed(store, request(max_items=2, turn=leads))) == [b"0", b"1"]

    async def test_retry_now_makes_what_was_refused_due(self, harness: Harness) -> None:
        """Put back, frozen or to be asked about: due at once, oldest first, with attempts, budget and id as they were.

        Only of that platform, and only once.
        """
        store = await harness.open(rules("shop", "other"))
        accepted = await post(
            store, *(note(b"%d" % n, key=f"k{n % 3}") for n in range(6)), note(b"o", platform="other")
        )
        single = request(max_items=1)
        asked, frozen, loose = [await claimed(store, single) for _ in range(3)]
        ask = Ask(seqs(asked), harness.clock.now() + 50, "unclear")
        await store.settle(settlement(asked, harness.clock, Outcome.CONFIRM, ask=ask))
        await resend(store, frozen, harness.clock, after_s=60)
        await requeue(store, loose, harness.clock, after_s=40)
        await requeue(store, await claimed(store, request("other")), harness.clock, after_s=40)
        assert (await refused(store)).reason == "retry"
        before = [await shown(store, callback_id) for callback_id in accepted.ids]
        harness.clock.advance(1)
        assert await store.retry_now("shop") == 3
        assert await store.retry_now("shop") == 0
        after = [await shown(store, callback_id) for callback_id in accepted.ids]
        assert after[2].due_at == harness.clock.now()
        assert [replace(found, due_at=Instant(0)) for found in after] == [
            replace(found, due_at=Instant(0)) for found in before
        ]
        assert after[6] == before[6]
        again = [await claimed(store, single) for _ in range(3)]
        assert sorted((payloads(each)[0], each.attempt, each.confirm) for each in again) == [
            (b"0", 1, True),
            (b"1", 2, False),
            (b"2", 1, False),
        ]
        assert frozen.id in {each.id for each in again}
        assert [each.items[0].spent for each in again if not each.confirm] == [1, 1]
        assert (await refused(store)).at == math.inf  # the followers in their keys still wait for them
        assert (await refused(store, request("other"))).at == harness.clock.now() + 39
        assert (await balanced(store))["shop"].pending == 6

    async def test_retry_now_leaves_what_waits_for_something_else(self, harness: Harness) -> None:
        """Not what is under way, held, over its time or was never sent; a platform nobody knows has nothing."""
        store = await harness.open(rules())
        await post(store, note(b"held"), note(b"late", expires_s=30.0), note(b"out", key="k"), note(b"new", key="k"))
        await hold(store, await claimed(store, request(max_items=1)), harness.clock)
        await requeue(store, await claimed(store, request(max_items=1)), harness.clock, after_s=900)
        assert payloads(await claimed(store)) == [b"out"]
        harness.clock.advance(31)
        assert await store.retry_now("shop") == 0
        assert await store.retry_now("nobody") == 0
        assert (await refused(store)).at > harness.clock.now()

    async def test_retry_now_meets_what_waits_behind_another(self, harness: Harness) -> None:
        """What was put back and has an earlier one of its key before it again keeps that order, without a time."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k"), note(b"2", key="k"))
        await bury(store, await claimed(store), harness.clock)
        await requeue(store, await claimed(store), harness.clock, after_s=600)
        await operate(store, "retry")
        assert await store.retry_now("shop") == 1
        first = await claimed(store)
        assert payloads(first) == [b"1"]
        await deliver(store, first, harness.clock)
        assert payloads(await claimed(store)) == [b"2"]

    async def test_retry_now_keeps_lanes_and_limits(self, harness: Harness) -> None:
        """What was refused goes in its own lane's turn, in the order accepted, and only when a slot is free."""
        store = await harness.open(rules(rate=Rate(4, 60.0)))
        await post(store, note(b"low", lane=Lane.LOW), note(b"1"), note(b"2"))
        for after_s in (30, 20, 10):  # by their retry times they would go the other way round
            await requeue(store, await claimed(store, request(max_items=1)), harness.clock, after_s=after_s)
        await post(store, note(b"high", lane=Lane.HIGH), note(b"fresh"))
        assert await store.retry_now("shop") == 3
        assert payloads(await claimed(store, request(max_items=5))) == [b"high", b"fresh", b"1", b"2", b"low"]
        await post(store, note(b"more"))
        assert (await refused(store)).reason == "limit"
        assert (await store.retry_now("shop"), (await refused(store)).reason) == (0, "limit")

    async def test_retry_now_wakes_its_platform(self, harness: Harness) -> None:
        """Whoever waits for the retry time hears that it is over; of an empty platform there is nothing to hear."""
        store = await harness.open(rules("shop", "idle"))
        await post(store, note(b"1"), note(b"2", group="g"))
        await resend(store, await claimed(store), harness.clock, after_s=60)
        await requeue(store, await claimed(store, request(group="g")), harness.clock, after_s=60)
        heard: list[tuple[str, int]] = []
        store.watch(lambda platform, count: heard.append((platform, count)))
        await store.retry_now("idle")
        await store.retry_now("shop")
        await until(lambda: sum(count for _, count in heard) == 2)
        assert {platform for platform, _ in heard} == {"shop"}
        assert (payloads(await claimed(store)), payloads(await claimed(store, request(group="g")))) == (
            [b"1"],
            [b"2"],
        )

    async def test_members_of_a_batch_are_told(self, harness: Harness) -> None:
        """Which callbacks a batch carried, also when it has ended; none of a batch that never was."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"), note(b"2"), note(b"3"))
        batch = await claimed(store, request(max_items=2))
        assert sorted(await store.batch_members(batch.id, limit=9)) == sorted(accepted.ids[:2])
        await deliver(store, batch, harness.clock)
        assert len(await store.batch_members(batch.id, limit=9)) == 2
        assert len(await store.batch_members(batch.id, limit=1)) == 1
        assert await store.batch_members("bNOSUCH", limit=9) == []

    async def test_the_last_error_names_its_batch(self, harness: Harness) -> None:
        """So that what of the answer may be seen can be told by what was sent."""
        store = await harness.open(rules())
        await post(store, note(b"1"))
        batch = await claimed(store)
        await requeue(store, batch, harness.clock, after_s=60)
        error = (await store.platform_status())["shop"].last_error
        assert error is not None
        assert error.batch == batch.id
