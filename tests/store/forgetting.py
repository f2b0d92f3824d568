"""Forgetting: what a callback holds of a person is destroyed, and everything else adds up as before."""

from relay.core.model import Filter, Outcome, State
from relay.core.settlement import AttemptResult, Ending, Settlement
from tests.store.harness import (
    Harness,
    balanced,
    bury,
    claimed,
    deliver,
    note,
    operate,
    payloads,
    post,
    refused,
    resend,
    rules,
    seqs,
    shown,
    special,
    states,
    until,
)


class ForgettingConformance:
    """What the operation ``forget`` promises."""

    async def test_forget_destroys_what_was_kept(self, harness: Harness) -> None:
        """Payload, key, words and excerpts of a key are gone in every state; other keys keep theirs; totals stay."""
        store = await harness.open(rules())
        ids = (await post(store, note(b"a", key="k"), note(b"b", key="other"))).ids
        batch = await claimed(store)
        result = AttemptResult(Outcome.REJECT, harness.clock.now(), 0.0, 400, "status 400", excerpt="the answer")
        ending = Ending(seqs(batch), State.DEAD, "rejected", message="the words")
        await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))
        before = (await balanced(store))["shop"]
        done = await operate(store, "forget", Filter(key="k"), who="me", reason="asked for")
        assert (done.matched, done.done, done.skipped) == (1, 1, {})
        gone, stays = await shown(store, ids[0], payload=True), await shown(store, ids[1], payload=True)
        assert (gone.state, gone.key, gone.payload, gone.message, gone.bytes) == ("dead", None, None, "", 0)
        assert gone.payload_deleted
        assert [attempt.excerpt for attempt in gone.attempts] == [""]
        assert (stays.key, stays.payload, stays.message) == ("other", b"b", "the words")
        assert (await balanced(store))["shop"] == before
        error = (await store.platform_status())["shop"].last_error
        assert error is None or error.excerpt == ""

    async def test_pending_ones_end_as_forgotten(self, harness: Harness) -> None:
        """What is still to be sent is dead then, for the reason ``forgotten``, and its key goes on."""
        store = await harness.open(rules())
        ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"), note(b"3"))).ids
        await operate(store, "forget", Filter(key="k"))
        assert await states(store, ids) == ["dead", "dead", "pending"]
        view = await shown(store, ids[0])
        assert (view.reason, view.payload_deleted, view.key) == ("forgotten", True, None)
        page, _ = await store.callbacks(Filter(state="dead", reason="forgotten"), cursor=None, limit=9)
        assert len(page) == 2
        await post(store, note(b"4", key="k"))
        assert payloads(await claimed(store)) == [b"3", b"4"]
        totals = (await balanced(store))["shop"]
        assert (totals.accepted, totals.dead, totals.pending) == (4, 2, 2)

    async def test_what_is_in_flight_is_forgotten_after_its_settle(self, harness: Harness) -> None:
        """A request is under way: its callback is delivered, and forgotten then; nothing of it is lost to the count."""
        store = await harness.open(rules())
        released: list[bool] = []
        store.watch_operations(lambda: released.append(True))
        (callback_id,) = (await post(store, note(b"1", key="k"))).ids
        batch = await claimed(store)
        progress = await store.start_operation("forget", Filter(key="k"), expect_count=None)
        progress = (await store.step_operation(progress.id, 10)).progress
        assert (progress.state, progress.waiting) == ("running", 1)
        assert (await shown(store, callback_id, payload=True)).payload == b"1"
        await deliver(store, batch, harness.clock)
        await until(lambda: released == [True])
        progress = (await store.step_operation(progress.id, 10)).progress
        assert (progress.state, progress.done) == ("done", 1)
        view = await shown(store, callback_id, payload=True)
        assert (view.state, view.key, view.payload) == ("delivered", None, None)

    async def test_a_batch_that_waits_and_is_meant_whole_ends(self, harness: Harness) -> None:
        """Nothing under way: a frozen batch of nothing but matches is given up and forgotten at once."""
        store = await harness.open(rules())
        (callback_id,) = (await post(store, note(b"1", key="k"))).ids
        await resend(store, await claimed(store), harness.clock, after_s=60.0)
        done = await operate(store, "forget", Filter(key="k"))
        assert (done.done, done.waiting) == (1, 0)
        view = await shown(store, callback_id, payload=True)
        assert (view.state, view.reason, view.payload) == ("dead", "forgotten", None)
        harness.clock.advance(120.0)
        await refused(store)

    async def test_forget_what_is_older(self, harness: Harness) -> None:
        """Everything accepted before a time is destroyed, nothing accepted later."""
        store = await harness.open(rules())
        old = (await post(store, note(b"1", key="k"))).ids
        harness.clock.advance(2 * 86400.0)
        edge = harness.clock.now()
        harness.clock.advance(1.0)
        new = (await post(store, note(b"2", key="k"))).ids
        await operate(store, "forget", Filter(until=edge))
        assert (await shown(store, old[0], payload=True)).payload is None
        view = await shown(store, new[0], payload=True)
        assert (view.key, view.payload) == ("k", b"2")

    async def test_a_forgotten_key_stands_in_no_record(self, harness: Harness) -> None:
        """What stays tells who, when and why, and a hash of the key, also in operations before it."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k-1"))
        first = await operate(store, "retry", Filter(key="k-1"))
        done = await operate(store, "forget", Filter(key="k-1"), who="me", reason="asked for")
        assert isinstance(done.filter.key, str)
        assert done.filter.key.startswith("hash:")
        assert (done.options.who, done.options.reason) == ("me", "asked for")
        earlier = await store.operation(first.id)
        assert earlier is not None
        assert earlier.filter.key == done.filter.key

    async def test_a_forgotten_dead_letter_is_not_retried(self, harness: Harness) -> None:
        """There is nothing left to send."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k"))
        await operate(store, "forget", Filter(key="k"))
        done = await operate(store, "retry")
        assert done.skipped == {"no_payload": 1}

    async def test_a_forgotten_dead_letter_lets_its_key_go_on(self, harness: Harness) -> None:
        """With ``on_dead: block`` nobody can retry or drop it any more, so it holds up its key no longer."""
        store = await harness.open(special(block_on_dead=True))
        await post(store, note(b"1", key="k"))
        await bury(store, await claimed(store), harness.clock)
        harness.clock.advance(10)
        edge = harness.clock.now()
        await post(store, note(b"2", key="k"))
        await refused(store)
        await operate(store, "forget", Filter(until=edge))
        assert payloads(await claimed(store)) == [b"2"]

    async def test_an_idempotency_key_is_remembered(self, harness: Harness) -> None:
        """The order center repeats a post that was forgotten: nothing is queued again."""
        store = await harness.open(rules())
        first = await post(store, note(b"1", key="k", idempotency_key="once"))
        await operate(store, "forget", Filter(key="k"))
        again = await post(store, note(b"1", key="k", idempotency_key="once"))
        assert (again.ids, again.duplicates) == (first.ids, {0})
