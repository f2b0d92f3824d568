"""Conformance: what people do to many callbacks, and what lists show them."""

import math
from collections.abc import Callable

import pytest
from relay.core.errors import CountMismatch
from relay.core.model import Ended, Filter, Lane, Outcome, State
from relay.core.settlement import Ask, Requeue
from relay.policy.batching import lane_order
from relay.views.moments import Instant
from relay.views.operation_view import FilterView, OperationOptions, OperationView
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


class OperatingConformance:
    async def test_retry_gives_a_fresh_start(self, harness: Harness) -> None:
        """A retried dead letter is pending with a new budget, expiry and lane; its final total falls by one."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1", expires_s=100, lane=Lane.LOW))
        await resend(store, await claimed(store), harness.clock, after_s=0)
        await bury(store, await claimed(store), harness.clock)
        harness.clock.advance(500)
        progress = await operate(store, "retry", Filter(state="dead"))
        assert (progress.matched, progress.done, progress.skipped) == (1, 1, {})
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.spent, found.expires_at) == ("pending", 0, harness.clock.now() + 100)
        assert found.ended_at is None
        assert found.attempt_count == 2
        figures = (await balanced(store))["shop"]
        assert (figures.accepted, figures.dead, figures.pending) == (1, 0, 1)
        await post(store, note(b"fresh"))
        turn = next(turn for turn in range(10) if lane_order(turn)[0] is Lane.REPLAY)
        again = await claimed(store, request(turn=turn, max_items=1))
        assert payloads(again) == [b"1"]
        assert again.items[0].first_sent_at == 0.0  # an outage is told by what was accepted since then

    async def test_batches_of_what_was_retried_say_so(self, harness: Harness) -> None:
        """Only a batch that holds nothing else, also when it goes again."""
        store = await harness.open(rules())
        await post(store, note(b"1"), note(b"2"))
        first = await claimed(store)
        assert not first.replayed
        await bury(store, first, harness.clock)
        await operate(store, "retry", Filter(state="dead"))
        again = await claimed(store)
        assert (payloads(again), again.replayed) == ([b"1", b"2"], True)
        await resend(store, again, harness.clock, after_s=0)
        once_more = await claimed(store)
        assert once_more.replayed
        await bury(store, once_more, harness.clock)
        await operate(store, "retry", Filter(state="dead"))
        await post(store, note(b"3"))
        mixed = await claimed(store)
        assert (sorted(payloads(mixed)), mixed.replayed) == ([b"1", b"2", b"3"], False)

    async def test_dropped_dead_letters_leave_list_and_count(self, harness: Harness) -> None:
        """They are no work any more: kept for audit, listed when asked for, and no total changes."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0"), note(b"1"), note(b"2"))
        await bury(store, await claimed(store), harness.clock)
        before = await balanced(store)
        await operate(store, "drop", Filter(ids=tuple(accepted.ids[:2])))
        assert await balanced(store) == before
        assert (await store.platform_status())["shop"].dead == 1

        async def listed(wanted: Filter) -> list[str]:
            return [item.id for item in (await store.callbacks(wanted, cursor=None, limit=10))[0]]

        assert await listed(Filter(state="dead")) == accepted.ids[2:]
        assert await listed(Filter(platform="shop", state="dead", dropped=True)) == accepted.ids[1::-1]
        assert await listed(Filter(dropped=True)) == accepted.ids[1::-1]
        assert await listed(Filter(state="dead", ids=(accepted.ids[0],))) == accepted.ids[:1]
        assert await listed(Filter()) == accepted.ids[::-1]
        assert (await operate(store, "retry", Filter(state="dead"))).matched == 1

    async def test_retry_of_expired(self, harness: Harness) -> None:
        """Expired callbacks can be retried too; delivered ones are not matched."""
        store = await harness.open(rules())
        await post(store, note(b"sent"))
        await deliver(store, await claimed(store), harness.clock)
        await post(store, note(b"late", expires_s=1))
        harness.clock.advance(1)
        await store.expire()
        assert (await operate(store, "retry")).matched == 1
        assert payloads(await claimed(store)) == [b"late"]

    async def test_retry_takes_its_old_place(self, harness: Harness) -> None:
        """A retried callback goes before later ones of its key, but waits for what is in flight."""
        store = await harness.open(rules())
        await post(store, *(note(b"%d" % n, key="k") for n in range(3)))
        await bury(store, await claimed(store), harness.clock)
        under_way = await claimed(store)
        assert payloads(under_way) == [b"1"]
        await operate(store, "retry")
        assert (await refused(store)).at == math.inf
        await bury(store, under_way, harness.clock)
        again = await claimed(store)
        assert payloads(again) == [b"0"]
        await deliver(store, again, harness.clock)
        assert payloads(await claimed(store)) == [b"2"]

    async def test_retry_demotes_a_waiting_head(self, harness: Harness) -> None:
        """A later callback of the key that was about to go waits behind the retried one."""
        store = await harness.open(rules())
        await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await bury(store, await claimed(store), harness.clock)
        await operate(store, "retry")
        assert payloads(await claimed(store)) == [b"0"]
        assert (await refused(store)).at == math.inf

    async def test_overtaken_is_skipped(self, harness: Harness) -> None:
        """Where a newer callback of the key was delivered a retry is skipped, unless it may reorder."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await bury(store, await claimed(store), harness.clock)
        await deliver(store, await claimed(store), harness.clock)
        progress = await operate(store, "retry")
        assert (progress.done, progress.skipped, progress.failed) == (0, {"overtaken": 1}, accepted.ids[:1])
        assert (await operate(store, "retry", reorder=True)).done == 1
        assert payloads(await claimed(store)) == [b"0"]
        await balanced(store)

    async def test_retry_unblocks_a_key(self, harness: Harness) -> None:
        """With ``on_dead: block`` a retried head goes first, and its key goes on behind it."""
        store = await harness.open(special(block_on_dead=True))
        await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await bury(store, await claimed(store), harness.clock)
        await operate(store, "retry")
        batch = await claimed(store)
        assert payloads(batch) == [b"0"]
        await deliver(store, batch, harness.clock)
        assert payloads(await claimed(store)) == [b"1"]

    async def test_drop_of_dead_unblocks_a_key(self, harness: Harness) -> None:
        """Dropping a dead letter deletes its payload, moves no total and lets its key go on."""
        store = await harness.open(special(block_on_dead=True))
        accepted = await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await bury(store, await claimed(store), harness.clock)
        before = await balanced(store)
        assert (await operate(store, "drop", Filter(state="dead"))).done == 1
        assert await balanced(store) == before
        found = await shown(store, accepted.ids[0], payload=True)
        assert (found.payload, found.payload_deleted) == (None, True)
        assert not (await shown(store, accepted.ids[1])).payload_deleted
        assert payloads(await claimed(store)) == [b"1"]
        assert (await operate(store, "retry")).skipped == {"no_payload": 1}

    async def test_drop_of_pending(self, harness: Harness) -> None:
        """Dropping a pending callback ends it as dead; its key goes on."""
        store = await harness.open(special(block_on_dead=True))
        accepted = await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await operate(store, "drop", Filter(ids=tuple(accepted.ids[:1])))
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.reason) == ("dead", "dropped")
        assert payloads(await claimed(store)) == [b"1"]
        assert (await balanced(store))["shop"].dead == 1

    @pytest.mark.parametrize(("action", "state"), [("drop", "dead"), ("expire", "expired")])
    async def test_under_way_ends_after_its_settle(self, harness: Harness, action: str, state: str) -> None:
        """Nothing ends while a request with it is under way: the operation takes the others, waits, is told of the
        settle, and ends what is pending still.
        """
        store = await harness.open(rules())
        accepted = await post(store, note(b"0"), note(b"1", key="k"), note(b"2", key="k"))
        heard: list[str] = []
        store.watch_operations(lambda: heard.append("released"))
        batch = await claimed(store)
        number = (await store.start_operation(action, Filter(), expect_count=3)).id
        for _ in range(3):
            progress = (await store.step_operation(number, 1)).progress
        assert (progress.state, progress.done, progress.waiting, progress.skipped) == ("running", 1, 2, {})
        assert await states(store, accepted.ids) == ["pending", "pending", state]
        assert (await store.step_operation(number, 10)) == (progress, [])
        assert await store.open_operations() == [number]
        assert heard == []
        first, second = seqs(batch)
        again = Requeue([second], harness.clock.now(), True, "busy")
        await store.settle(settlement(batch, harness.clock, Outcome.RETRY, delivered=[first], requeue=[again]))
        await until(lambda: heard == ["released"])
        progress = (await store.step_operation(number, 10)).progress
        assert (progress.state, progress.done, progress.waiting) == ("done", 2, 0)
        assert progress.skipped == {"state": 1}
        assert await states(store, accepted.ids) == ["delivered", state, state]
        assert (await refused(store)).reason == "idle"
        await balanced(store)

    async def test_what_dies_while_a_drop_waits_keeps_its_payload(self, harness: Harness) -> None:
        """The drop meant a pending callback: one that died of its answer meanwhile can still be sent again."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"1"))
        batch = await claimed(store)
        number = (await store.start_operation("drop", Filter(), expect_count=1)).id
        await store.step_operation(number, 10)
        await bury(store, batch, harness.clock, "bad")
        progress = (await store.step_operation(number, 10)).progress
        assert (progress.state, progress.skipped) == ("done", {"state": 1})
        found = await shown(store, accepted.ids[0], payload=True)
        assert (found.reason, found.payload) == ("bad", b"1")

    async def test_frozen_hold_up_no_others(self, harness: Harness) -> None:
        """However many matches lie in frozen batches, the next steps go on to those behind them."""
        store = await harness.open(rules())
        accepted = await post(store, *(note(b"%d" % n) for n in range(6)))
        batches = [await claimed(store, request(max_items=1)) for _ in range(4)]
        number = (await store.start_operation("drop", Filter(), expect_count=6)).id
        for _ in range(3):
            progress = (await store.step_operation(number, 2)).progress
        assert (progress.done, progress.waiting) == (2, 4)
        for batch in batches[:3]:
            await requeue(store, batch, harness.clock, after_s=60)
        for _ in range(2):
            progress = (await store.step_operation(number, 2)).progress
        assert (progress.state, progress.done, progress.waiting) == ("running", 5, 1)
        assert await states(store, accepted.ids) == ["dead"] * 3 + ["pending"] + ["dead"] * 2
        await deliver(store, batches[3], harness.clock)
        assert (await store.step_operation(number, 2)).progress.state == "done"

    @pytest.mark.parametrize(("action", "state"), [("drop", "dead"), ("expire", "expired")])
    async def test_batch_that_waits_is_given_up_when_all_of_it_is_meant(
        self, harness: Harness, action: str, state: str
    ) -> None:
        """A batch that waits for its re-send ends at once, with what an attempt left open, and frees its keys."""
        store = await harness.open(rules())
        accepted = await post(store, *(note(b"%d" % n, key=f"k{n}") for n in range(3)))
        later = await post(store, note(b"next", key="k0"))
        await resend(store, await claimed(store), harness.clock, after_s=60)
        wanted = Filter(until=harness.clock.now() + 1, ids=tuple(accepted.ids))
        number = (await store.start_operation(action, wanted, expect_count=3)).id
        progress, ended = await store.step_operation(number, 1)
        assert (progress.state, progress.done, progress.skipped) == ("done", 3, {})
        assert [(each.state.word, each.callbacks) for each in ended] == [(state, 3)]
        assert await states(store, [*accepted.ids, *later.ids]) == [state] * 3 + ["pending"]
        assert (await shown(store, accepted.ids[0])).maybe_applied
        assert payloads(await claimed(store)) == [b"next"]
        harness.clock.advance(60)
        assert (await refused(store)).reason == "idle"
        await balanced(store)

    async def test_batch_that_holds_others_waits_for_its_settle(self, harness: Harness) -> None:
        """Membership never changes: a batch of which only a part is meant goes again whole; afterwards that part ends.

        Each of its settles lets the operation look; two operations that mean all of it together give nothing up.
        """
        store = await harness.open(rules())
        accepted = await post(store, note(b"0"), note(b"1"))
        heard: list[str] = []
        store.watch_operations(lambda: heard.append("released"))
        await resend(store, await claimed(store), harness.clock, after_s=5)
        numbers = []
        for action, callback_id in zip(("drop", "expire"), accepted.ids, strict=True):
            started = await store.start_operation(action, Filter(ids=(callback_id,)), expect_count=1)
            numbers.append(started.id)
            assert (await store.step_operation(numbers[-1], 10)).progress.waiting == 1
        harness.clock.advance(5)
        batch = await claimed(store)
        assert payloads(batch) == [b"0", b"1"]
        await resend(store, batch, harness.clock, after_s=5)
        await until(lambda: len(heard) == 1)
        for number in numbers:
            assert (await store.step_operation(number, 10)).progress.waiting == 1
        harness.clock.advance(5)
        batch = await claimed(store)
        assert payloads(batch) == [b"0", b"1"]
        await store.settle(settlement(batch, harness.clock, Outcome.SPLIT, split=[[seq] for seq in seqs(batch)]))
        await until(lambda: len(heard) == 2)
        for number in numbers:
            assert (await store.step_operation(number, 10)).progress.state == "done"
        assert await states(store, accepted.ids) == ["dead", "expired"]
        assert (await refused(store)).reason == "idle"
        await balanced(store)

    async def test_batch_given_up_by_another_operation(self, harness: Harness) -> None:
        """An operation that means a part of a batch hears when another one gives up all of it."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0"), note(b"1"))
        await resend(store, await claimed(store), harness.clock, after_s=60)
        heard: list[str] = []
        store.watch_operations(lambda: heard.append("released"))
        first = Filter(ids=tuple(accepted.ids[:1]))
        part = (await store.start_operation("expire", first, expect_count=1)).id
        assert (await store.step_operation(part, 10)).progress.waiting == 1
        assert (await operate(store, "drop")).done == 2
        await until(lambda: bool(heard))
        progress = (await store.step_operation(part, 10)).progress
        assert (progress.state, progress.skipped) == ("done", {"state": 1})

    async def test_request_under_way_ends_with_its_answer_although_all_is_meant(self, harness: Harness) -> None:
        """A batch under way is not given up; when it would wait for its re-send it is."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0"), note(b"1"))
        batch = await claimed(store)
        number = (await store.start_operation("drop", Filter(), expect_count=2)).id
        assert (await store.step_operation(number, 10)).progress.waiting == 2
        await resend(store, batch, harness.clock, after_s=60)
        assert (await store.step_operation(number, 10)).progress.done == 2
        assert await states(store, accepted.ids) == ["dead"] * 2

    async def test_read_back_is_not_given_up(self, harness: Harness) -> None:
        """What is being asked about may have been applied: the answer says so, the operation waits for it."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0"))
        batch = await claimed(store)
        asked = Ask(seqs(batch), harness.clock.now() + 20, "unclear")
        await store.settle(settlement(batch, harness.clock, Outcome.CONFIRM, ask=asked))
        number = (await store.start_operation("drop", Filter(), expect_count=1)).id
        assert (await store.step_operation(number, 10)).progress.waiting == 1
        harness.clock.advance(20)
        await deliver(store, await claimed(store), harness.clock)
        assert (await store.step_operation(number, 10)).progress.skipped == {"state": 1}
        assert await states(store, accepted.ids) == ["delivered"]

    async def test_expiry_of_a_batch_lets_operations_go_on(self, harness: Harness) -> None:
        """An operation that waits for a batch hears of its end by time."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0", expires_s=10), note(b"1", expires_s=10))
        await resend(store, await claimed(store), harness.clock, after_s=60)
        heard: list[str] = []
        store.watch_operations(lambda: heard.append("released"))
        wanted = Filter(ids=tuple(accepted.ids[:1]))
        number = (await store.start_operation("drop", wanted, expect_count=1)).id
        assert (await store.step_operation(number, 10)).progress.waiting == 1
        harness.clock.advance(10)
        await store.expire()
        await until(lambda: heard == ["released"])
        assert (await store.step_operation(number, 10)).progress.skipped == {"state": 1}
        assert await states(store, accepted.ids) == ["expired"] * 2

    async def test_expire_by_a_person(self, harness: Harness) -> None:
        """An operation may expire pending callbacks before their time."""
        store = await harness.open(rules())
        accepted = await post(store, note(), note())
        await operate(store, "expire")
        assert await states(store, accepted.ids) == ["expired"] * 2
        assert (await balanced(store))["shop"].expired == 2
        assert (await refused(store)).reason == "idle"

    @pytest.mark.parametrize(
        ("verdict", "state", "next_up"),
        [("delivered", "delivered", b"1"), ("dead", "dead", b"1"), ("retry", "pending", b"0")],
    )
    async def test_resolve(self, harness: Harness, verdict: str, state: str, next_up: bytes) -> None:
        """A person decides what became of a held callback; then its key goes on."""
        store = await harness.open(rules())
        accepted = await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await hold(store, await claimed(store), harness.clock)
        progress = await operate(store, "resolve", verdict=verdict)
        assert (progress.matched, progress.done) == (1, 1)
        found = await shown(store, accepted.ids[0])
        assert (found.state, found.held) == (state, False)
        assert payloads(await claimed(store)) == [next_up]
        await balanced(store)

    async def test_steps_say_what_they_ended(self, harness: Harness) -> None:
        """Each step tells per platform and reason how many pending callbacks it ended, for logs and metrics."""
        store = await harness.open(rules("shop", "mall"))

        async def ended(action: str, wanted: Filter, **options: str) -> list[Ended]:
            given = OperationOptions(**options)
            progress = await store.start_operation(action, wanted, options=given, expect_count=None)
            return sorted((await store.step_operation(progress.id, 10)).ended)

        await post(store, note(b"1"), note(b"2"), note(b"3", platform="mall"))
        await hold(store, await claimed(store, request(max_items=1)), harness.clock)
        assert await ended("resolve", Filter(), verdict="dead") == [Ended("shop", State.DEAD, "resolved", 1)]
        assert await ended("drop", Filter(state="pending")) == [
            Ended("mall", State.DEAD, "dropped", 1),
            Ended("shop", State.DEAD, "dropped", 1),
        ]
        assert await ended("drop", Filter(platform="mall")) == []  # dead before: only its payload goes
        assert await ended("retry", Filter(platform="shop")) == []
        assert await ended("expire", Filter()) == [Ended("shop", State.EXPIRED, "operator", 2)]

    async def test_matches_are_fixed_at_the_start(self, harness: Harness) -> None:
        """An operation goes over what matched when it started, in steps; what changed meanwhile is skipped."""
        store = await harness.open(rules())
        first = await post(store, note(b"0"), note(b"1"), note(b"2"))
        progress = await store.start_operation("drop", Filter(platform="shop"), expect_count=3)
        later = await post(store, note(b"3"))
        assert (progress.state, progress.matched, progress.done) == ("running", 3, 0)
        number = progress.id
        assert await store.open_operations() == [number]
        progress = (await store.step_operation(number, 1)).progress
        assert (progress.state, progress.done) == ("running", 1)
        await deliver(store, await claimed(store, request(max_items=1)), harness.clock)
        while progress.state == "running":
            progress = (await store.step_operation(number, 1)).progress
        assert (progress.done, progress.skipped) == (2, {"state": 1})
        assert await store.operation(number) == progress
        assert await store.open_operations() == []
        assert await states(store, [*first.ids, *later.ids]) == ["dead", "delivered", "dead", "pending"]
        assert await store.operation(number + 99) is None

    async def test_expected_count(self, harness: Harness) -> None:
        """An operation whose count no longer fits does nothing and says both numbers."""
        store = await harness.open(rules())
        await post(store, note(), note())
        with pytest.raises(CountMismatch) as caught:
            await store.start_operation("drop", Filter(), expect_count=3)
        assert (caught.value.expected, caught.value.found) == (3, 2)
        assert await store.open_operations() == []

    async def test_progress_says_what_it_is(self, harness: Harness) -> None:
        """Progress names action, filter, options and times; an operation over nothing is done at once."""
        store = await harness.open(rules())
        options = OperationOptions(reason="again")
        progress = await store.start_operation("retry", Filter(key="k"), options=options, expect_count=None)
        assert progress == OperationView(
            id=1,
            action="retry",
            state="done",
            matched=0,
            done=0,
            skipped={},
            failed=[],
            waiting=0,
            started_at=Instant(harness.clock.now()),
            finished_at=Instant(harness.clock.now()),
            filter=FilterView(key="k"),
            options=options,
        )

    async def test_pages_newest_first(self, harness: Harness) -> None:
        """Lists come in pages, newest first, without gaps or repeats while more is accepted."""
        store = await harness.open(rules())
        ids = (await post(store, *(note(b"%d" % n) for n in range(5)))).ids
        page, cursor = await store.callbacks(Filter(), cursor=None, limit=2)
        assert [found.id for found in page] == [ids[4], ids[3]]
        await post(store, note())
        page, cursor = await store.callbacks(Filter(), cursor=cursor, limit=2)
        assert [found.id for found in page] == [ids[2], ids[1]]
        page, cursor = await store.callbacks(Filter(), cursor=cursor, limit=2)
        assert ([found.id for found in page], cursor) == ([ids[0]], None)

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (lambda ids, at: Filter(platform="b"), [2]),
            (lambda ids, at: Filter(state="dead"), [0]),
            (lambda ids, at: Filter(state="pending"), [1, 2]),
            (lambda ids, at: Filter(key="k1"), [1]),
            (lambda ids, at: Filter(event="paid"), [0, 2]),
            (lambda ids, at: Filter(reason="bad"), [0]),
            (lambda ids, at: Filter(ids=(ids[0], ids[2])), [0, 2]),
            (lambda ids, at: Filter(since=at + 10), [2]),
            (lambda ids, at: Filter(until=at + 10), [0, 1]),
            (lambda ids, at: Filter(platform="a", state="pending", key="k0"), []),
        ],
    )
    async def test_filters(
        self, harness: Harness, wanted: Callable[[list[str], float], Filter], expected: list[int]
    ) -> None:
        """Each filter key narrows a list; all must hold; ``since`` is included, ``until`` is not."""
        store = await harness.open(rules("a", "b"))
        at = harness.clock.now()
        rows = [note(platform="a", key="k0", event="paid"), note(platform="a", key="k1")]
        ids = (await post(store, *rows)).ids
        await bury(store, await claimed(store, request("a", max_items=1)), harness.clock, "bad")
        harness.clock.advance(10)
        ids += (await post(store, note(platform="b", event="paid"))).ids
        page, _ = await store.callbacks(wanted(ids, at), cursor=None, limit=10)
        assert sorted(found.id for found in page) == [ids[index] for index in expected]
