"""Conformance: expiry, pruning and upkeep."""

from dataclasses import replace

from relay.core.model import Batch, Ended, Outcome, Quota, Rate, State
from relay.core.settlement import Ask
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
)


class KeepingConformance:
    async def test_expiry(self, harness: Harness) -> None:
        """Pending callbacks end when their time is over, and the store says when the next one is due."""
        store = await harness.open(rules())
        accepted = await post(store, note(key="k", expires_s=10), note(key="k", expires_s=30))
        accepted_at = harness.clock.now()
        assert await store.expire() == ([], False, accepted_at + 10)
        harness.clock.advance(10)
        ended = [Ended("shop", State.EXPIRED, "expired", 1)]
        assert await store.expire() == (ended, False, accepted_at + 30)
        assert await states(store, accepted.ids) == ["expired", "pending"]
        assert (await shown(store, accepted.ids[0])).ended_at == harness.clock.now()
        assert [item.id for item in (await claimed(store)).items] == accepted.ids[1:]
        await balanced(store)

    async def test_frozen_and_held_do_not_expire(self, harness: Harness) -> None:
        """No callback ends by time while its batch is frozen or a person is to decide; afterwards it does."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0", expires_s=10), note(b"1", expires_s=10))
        batch = await claimed(store, request(max_items=1))
        await hold(store, await claimed(store), harness.clock)
        harness.clock.advance(10)
        await store.expire()
        assert await states(store, accepted.ids) == ["pending", "pending"]
        await requeue(store, batch, harness.clock, after_s=60)
        await store.expire()
        assert await states(store, accepted.ids) == ["expired", "pending"]
        await operate(store, "resolve", verdict="retry")
        await store.expire()
        assert await states(store, accepted.ids) == ["expired", "expired"]

    async def test_batch_of_expired_items_is_not_sent_again(self, harness: Harness) -> None:
        """A frozen batch goes as long as one of its items has time; then all end with what was left open, its key
        is free and the batch is no more.
        """
        store = await harness.open(rules())
        accepted = await post(store, note(b"0", key="k", expires_s=10), note(b"1", expires_s=20), note(b"2", key="k"))
        batch = await claimed(store)
        await resend(store, batch, harness.clock, after_s=5)
        harness.clock.advance(10)
        await store.expire()
        again = await claimed(store)
        assert again.id == batch.id
        await resend(store, again, harness.clock, after_s=5)
        assert (await refused(store)).at == harness.clock.now() + 5
        harness.clock.advance(10)
        assert (await refused(store)).reason == "idle"
        expired = await store.expire()
        assert expired.ended == [Ended("shop", State.EXPIRED, "expired", 2)]
        assert expired.next_at > harness.clock.now() + 60
        assert await states(store, accepted.ids) == ["expired", "expired", "pending"]
        assert (await shown(store, accepted.ids[0])).maybe_applied
        assert payloads(await claimed(store)) == [b"2"]
        await balanced(store)

    async def test_resend_of_expired_items_ends_after_its_settle(self, harness: Harness) -> None:
        """A batch whose items ran out of time while it was under way ends when it would wait again; parts as well."""
        store = await harness.open(rules())
        accepted = await post(store, *(note(b"%d" % n, expires_s=10) for n in range(3)))
        one, two = await claimed(store, request(max_items=1)), await claimed(store, request(max_items=2))
        harness.clock.advance(10)
        await store.expire()
        await resend(store, one, harness.clock, after_s=30)
        await store.settle(settlement(two, harness.clock, Outcome.SPLIT, split=[[seq] for seq in seqs(two)]))
        assert (await refused(store)).reason == "idle"
        await store.expire()
        assert await states(store, accepted.ids) == ["expired"] * 3
        await balanced(store)

    async def test_read_back_outlives_its_item(self, harness: Harness) -> None:
        """What was sent is asked about also when its time is over: the answer says whether it was applied."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0", expires_s=10))
        batch = await claimed(store)
        asked = Ask(seqs(batch), harness.clock.now() + 20, "unclear")
        await store.settle(settlement(batch, harness.clock, Outcome.CONFIRM, ask=asked))
        harness.clock.advance(20)
        await store.expire()
        question = await claimed(store)
        assert question.confirm
        await deliver(store, question, harness.clock)
        assert await states(store, accepted.ids) == ["delivered"]

    async def test_pruning_keeps_totals(self, harness: Harness) -> None:
        """Old ended callbacks go, each kind after its own time; totals stay, idempotency keys are forgotten."""
        store = await harness.open(rules(keep_delivered_s=100.0, keep_dead_s=300.0))
        done = await post(store, note(b"1", idempotency_key="a"))
        await deliver(store, await claimed(store), harness.clock)
        dead = await post(store, note(b"2"))
        await bury(store, await claimed(store), harness.clock)
        kept = await post(store, note(b"3"))
        before = await balanced(store)

        async def left() -> list[bool]:
            while await store.prune():
                pass
            return [await store.callback(callback_id) is not None for callback_id in (*done.ids, *dead.ids, *kept.ids)]

        harness.clock.advance(99)
        assert await left() == [True, True, True]
        harness.clock.advance(1)
        assert await left() == [False, True, True]
        harness.clock.advance(200)
        assert await left() == [False, False, True]
        assert await balanced(store) == before
        again = await post(store, note(b"other", idempotency_key="a"))
        assert again.duplicates == frozenset()

    async def test_a_pruned_dead_letter_lets_its_key_go_on(self, harness: Harness) -> None:
        """With ``on_dead: block`` a dead head holds up its key for as long as it is kept, and no longer."""
        store = await harness.open(replace(special(block_on_dead=True), keep_dead_s=300.0))
        await post(store, note(b"1", key="k"))
        await bury(store, await claimed(store), harness.clock)
        await post(store, note(b"2", key="k"))
        for wait_s, sent in ((299, False), (1, True)):
            harness.clock.advance(wait_s)
            while await store.prune():
                pass
            assert isinstance(await store.claim(request()), Batch) is sent
        await balanced(store)

    async def test_attempts_outlive_callbacks(self, harness: Harness) -> None:
        """An attempt inside a window counts after its callback was pruned, also for a quota rebuilt from attempts."""
        first = rules("shop", keep_delivered_s=1.0)
        store = await harness.open(first)
        await post(store, note(b"1"))
        await deliver(store, await claimed(store), harness.clock)
        harness.clock.advance(5)
        while await store.prune():
            pass
        await store.configure(rules("shop", rate=Rate(1, 60.0), keep_delivered_s=1.0))
        await post(store, note(b"2"))
        wait = await refused(store)
        assert (wait.at, wait.reason) == (harness.clock.now() + 55, "limit")

    async def test_attempts_are_kept_for_a_limit_set_while_running(self, harness: Harness) -> None:
        """An attempt of two days ago counts under a window of three, also after pruning."""
        store = await harness.open(rules("shop", keep_delivered_s=1.0))
        await post(store, note(b"1"), note(b"2", expires_s=7 * 86400.0))
        await store.set_quotas("shop", [Quota("found:shop", (Rate(5, 3 * 86400.0),))])
        await deliver(store, await claimed(store, request(max_items=1)), harness.clock)
        harness.clock.advance(2 * 86400.0)
        while await store.prune():
            pass
        await store.set_quotas("shop", [])
        await store.set_quotas("shop", [Quota("found:shop", (Rate(1, 3 * 86400.0),))])
        wait = await refused(store)
        assert (wait.at, wait.reason) == (harness.clock.now() + 86400.0, "limit")

    async def test_housekeeping_calls(self, harness: Harness) -> None:
        """A healthy store answers ping, takes audit records, tells its size and closes twice."""
        store = await harness.open(rules())
        await store.ping()
        await store.audit({"who": "ops", "what": "pause", "why": "test"})
        assert (await store.size()).used_bytes >= 0
        await store.close()
        await store.close()
