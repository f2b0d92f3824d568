"""Conformance: what people do to many callbacks, and what lists show them."""

import math
from collections.abc import Callable

import pytest
from relay.core.errors import CountMismatch
from relay.core.model import Ended, Filter, Lane, State
from relay.policy.batching import lane_order
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
    resend,
    rules,
    shown,
    special,
    states,
    wish,
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
        assert (progress["matched"], progress["done"], progress["skipped"]) == (1, 1, {})
        found = await shown(store, accepted.ids[0])
        assert (found["state"], found["spent"], found["expires_at"]) == ("pending", 0, harness.clock.now() + 100)
        assert found["ended_at"] is None
        assert found["attempt_count"] == 2
        figures = (await balanced(store))["shop"]
        assert (figures["accepted"], figures["dead"], figures["pending"]) == (1, 0, 1)
        await post(store, note(b"fresh"))
        turn = next(turn for turn in range(10) if lane_order(turn)[0] is Lane.REPLAY)
        again = await claimed(store, wish(turn=turn, max_items=1))
        assert payloads(again) == [b"1"]
        assert again.items[0].first_sent_at == 0.0  # an outage is told by what was accepted since then

    async def test_retry_of_expired(self, harness: Harness) -> None:
        """Expired callbacks can be retried too; delivered ones are not matched."""
        store = await harness.open(rules())
        await post(store, note(b"sent"))
        await deliver(store, await claimed(store), harness.clock)
        await post(store, note(b"late", expires_s=1))
        harness.clock.advance(1)
        await store.expire()
        assert (await operate(store, "retry"))["matched"] == 1
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
        assert (progress["done"], progress["skipped"], progress["failed"]) == (0, {"overtaken": 1}, accepted.ids[:1])
        assert (await operate(store, "retry", reorder=True))["done"] == 1
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
        assert (await operate(store, "drop", Filter(state="dead")))["done"] == 1
        assert await balanced(store) == before
        assert (await shown(store, accepted.ids[0], payload=True))["payload"] is None
        assert payloads(await claimed(store)) == [b"1"]
        assert (await operate(store, "retry"))["skipped"] == {"no_payload": 1}

    async def test_drop_of_pending(self, harness: Harness) -> None:
        """Dropping a pending callback ends it as dead; its key goes on."""
        store = await harness.open(special(block_on_dead=True))
        accepted = await post(store, note(b"0", key="k"), note(b"1", key="k"))
        await operate(store, "drop", Filter(ids=tuple(accepted.ids[:1])))
        found = await shown(store, accepted.ids[0])
        assert (found["state"], found["reason"]) == ("dead", "dropped")
        assert payloads(await claimed(store)) == [b"1"]
        assert (await balanced(store))["shop"]["dead"] == 1

    async def test_frozen_is_left_alone(self, harness: Harness) -> None:
        """Operations do not touch what is in a frozen batch; they report it."""
        store = await harness.open(rules())
        accepted = await post(store, note())
        await claimed(store)
        for action in ("drop", "expire"):
            progress = await operate(store, action)
            assert (progress["done"], progress["skipped"]) == (0, {"in_flight": 1})
        assert await states(store, accepted.ids) == ["pending"]

    async def test_expire_by_a_person(self, harness: Harness) -> None:
        """An operation may expire pending callbacks before their time."""
        store = await harness.open(rules())
        accepted = await post(store, note(), note())
        await operate(store, "expire")
        assert await states(store, accepted.ids) == ["expired"] * 2
        assert (await balanced(store))["shop"]["expired"] == 2
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
        progress = await operate(store, "resolve", **{"as": verdict})
        assert (progress["matched"], progress["done"]) == (1, 1)
        found = await shown(store, accepted.ids[0])
        assert (found["state"], found["held"]) == (state, False)
        assert payloads(await claimed(store)) == [next_up]
        await balanced(store)

    async def test_steps_say_what_they_ended(self, harness: Harness) -> None:
        """Each step tells per platform and reason how many pending callbacks it ended, for logs and metrics."""
        store = await harness.open(rules("shop", "mall"))

        async def ended(action: str, wanted: Filter, **options: str) -> list[Ended]:
            progress = await store.start_operation(action, wanted, options=options, expect_count=None)
            return sorted((await store.step_operation(progress["number"], 10)).ended)

        await post(store, note(b"1"), note(b"2"), note(b"3", platform="mall"))
        await hold(store, await claimed(store, wish(max_items=1)), harness.clock)
        assert await ended("resolve", Filter(), **{"as": "dead"}) == [Ended("shop", State.DEAD, "resolved", 1)]
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
        progress = await store.start_operation("drop", Filter(platform="shop"), options={}, expect_count=3)
        later = await post(store, note(b"3"))
        assert (progress["state"], progress["matched"], progress["done"]) == ("running", 3, 0)
        number = progress["number"]
        assert await store.open_operations() == [number]
        progress = (await store.step_operation(number, 1)).progress
        assert (progress["state"], progress["done"]) == ("running", 1)
        await deliver(store, await claimed(store, wish(max_items=1)), harness.clock)
        while progress["state"] == "running":
            progress = (await store.step_operation(number, 1)).progress
        assert (progress["done"], progress["skipped"]) == (2, {"state": 1})
        assert await store.operation(number) == progress
        assert await store.open_operations() == []
        assert await states(store, [*first.ids, *later.ids]) == ["dead", "delivered", "dead", "pending"]
        assert await store.operation(number + 99) is None

    async def test_expected_count(self, harness: Harness) -> None:
        """An operation whose count no longer fits does nothing and says both numbers."""
        store = await harness.open(rules())
        await post(store, note(), note())
        with pytest.raises(CountMismatch) as caught:
            await store.start_operation("drop", Filter(), options={}, expect_count=3)
        assert (caught.value.expected, caught.value.found) == (3, 2)
        assert await store.open_operations() == []

    async def test_progress_says_what_it_is(self, harness: Harness) -> None:
        """Progress names action, filter, options and times; an operation over nothing is done at once."""
        store = await harness.open(rules())
        options = {"reason": "again"}
        progress = await store.start_operation("retry", Filter(key="k"), options=options, expect_count=None)
        assert progress == progress | {
            "action": "retry",
            "state": "done",
            "matched": 0,
            "done": 0,
            "skipped": {},
            "failed": [],
            "started_at": harness.clock.now(),
            "finished_at": harness.clock.now(),
            "filter": {"key": "k"},
            "options": options,
        }

    async def test_pages_newest_first(self, harness: Harness) -> None:
        """Lists come in pages, newest first, without gaps or repeats while more is accepted."""
        store = await harness.open(rules())
        ids = (await post(store, *(note(b"%d" % n) for n in range(5)))).ids
        page, cursor = await store.callbacks(Filter(), cursor=None, limit=2)
        assert [found["id"] for found in page] == [ids[4], ids[3]]
        await post(store, note())
        page, cursor = await store.callbacks(Filter(), cursor=cursor, limit=2)
        assert [found["id"] for found in page] == [ids[2], ids[1]]
        page, cursor = await store.callbacks(Filter(), cursor=cursor, limit=2)
        assert ([found["id"] for found in page], cursor) == ([ids[0]], None)

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
        await bury(store, await claimed(store, wish("a", max_items=1)), harness.clock, "bad")
        harness.clock.advance(10)
        ids += (await post(store, note(platform="b", event="paid"))).ids
        page, _ = await store.callbacks(wanted(ids, at), cursor=None, limit=10)
        assert sorted(found["id"] for found in page) == [ids[index] for index in expected]
