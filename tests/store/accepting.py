"""Conformance: taking callbacks in."""

import asyncio

import pytest
from msgspec import UNSET
from relay.core.errors import IdempotencyConflict
from relay.core.model import Filter, Lane, NewCallback
from tests.store.harness import (
    Harness,
    balanced,
    claimed,
    deliver,
    hold,
    note,
    operate,
    payloads,
    post,
    request,
    resend,
    rules,
    seqs,
    shown,
    special,
    states,
    until,
)


class AcceptingConformance:
    async def test_a_trace_is_shown_with_its_callback(self, harness: Harness) -> None:
        """The ``traceparent`` that came with a post leads from the callback to the trace it belongs to."""
        store = await harness.open(rules())
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        traced = await post(store, note(b"1")._replace(traceparent=trace))
        plain = await post(store, note(b"2"))
        assert (await shown(store, traced.ids[0])).traceparent == trace
        assert (await shown(store, plain.ids[0])).traceparent is UNSET

    async def test_ids_sort_by_acceptance(self, harness: Harness) -> None:
        """Ids and sequence numbers follow the order of acceptance, within a request and between requests."""
        store = await harness.open(rules())
        first = await post(store, *(note(b"%d" % n) for n in range(5)))
        second = await post(store, note(b"5"))
        ids = [*first.ids, *second.ids]
        assert ids == sorted(ids)
        assert len(set(ids)) == 6
        batch = await claimed(store)
        assert payloads(batch) == [b"%d" % n for n in range(6)]
        assert [item.id for item in batch.items] == ids
        assert seqs(batch)[0] >= int(harness.clock.now() * 1e6)

    async def test_what_was_given_is_shown(self, harness: Harness) -> None:
        """A callback shows its fields, times and size; its payload only on demand, byte for byte."""
        store = await harness.open(rules())
        body = b'{"a": "\xe2\x82\xac"}'
        row = note(body, key="k1", event="order.paid", lane=Lane.HIGH, expires_s=60, group="g")
        accepted = await post(store, row)
        found = await shown(store, accepted.ids[0])
        told = {
            "id": accepted.ids[0],
            "platform": "shop",
            "state": "pending",
            "key": "k1",
            "event": "order.paid",
            "priority": "high",
            "group": "g",
            "accepted_at": harness.clock.now(),
            "due_at": harness.clock.now(),
            "expires_at": harness.clock.now() + 60,
            "ended_at": None,
            "attempts": [],
            "attempt_count": 0,
            "spent": 0,
            "held": False,
            "in_flight": False,
            "maybe_applied": False,
            "bytes": len(body),
            "batch": None,
        }
        assert {name: getattr(found, name) for name in told} == told
        assert found.payload is UNSET
        assert (await shown(store, accepted.ids[0], payload=True)).payload == body
        assert (await shown(store, accepted.ids[0].lower())).id == accepted.ids[0]
        assert await store.callback("nonsense") is None

    async def test_repeat_answers_the_first_id(self, harness: Harness) -> None:
        """The same idempotency key with the same body queues nothing, in a later request and within one."""
        store = await harness.open(rules())
        row = note(b"1", key="k", idempotency_key="a")
        first = await post(store, row)
        again = await post(store, row, note(b"2", idempotency_key="b"), note(b"2", idempotency_key="b"), note(b"3"))
        assert first.duplicates == frozenset()
        assert again.duplicates == {0, 2}
        assert again.ids[0] == first.ids[0]
        assert again.ids[1] == again.ids[2]
        assert (await balanced(store))["shop"].accepted == 3

    async def test_repeats_in_one_moment(self, harness: Harness) -> None:
        """Two posts under one idempotency key that are committed together are one callback."""
        store = await harness.open(rules())
        row = note(b"1", idempotency_key="a")
        first, *others = await asyncio.gather(*(store.accept([row]) for _ in range(9)))
        assert {tuple(each.ids) for each in others} == {tuple(first.ids)}
        assert sorted(len(each.duplicates) for each in (first, *others)) == [0, *[1] * 8]
        assert (await balanced(store))["shop"].accepted == 1

    async def test_repeat_is_remembered_after_delivery(self, harness: Harness) -> None:
        """An idempotency key counts as long as its callback is kept, whatever became of it."""
        store = await harness.open(rules())
        first = await post(store, note(idempotency_key="a"))
        await deliver(store, await claimed(store), harness.clock)
        assert (await post(store, note(idempotency_key="a"))).ids == first.ids

    @pytest.mark.parametrize(
        "other",
        [
            note(b"2", key="k", idempotency_key="a"),
            note(b"1", idempotency_key="a"),
            note(b"1", key="k", event="e", idempotency_key="a"),
        ],
        ids=["payload", "key", "event"],
    )
    async def test_conflict_refuses_the_whole_request(self, harness: Harness, other: NewCallback) -> None:
        """The same idempotency key with another payload, key or event names its row, and nothing is accepted."""
        store = await harness.open(rules())
        await post(store, note(b"1", key="k", idempotency_key="a"))
        with pytest.raises(IdempotencyConflict) as caught:
            await post(store, note(b"new"), other)
        assert caught.value.index == 1
        assert (await balanced(store))["shop"].accepted == 1

    async def test_conflict_within_one_request(self, harness: Harness) -> None:
        """Two bodies under one idempotency key in one request are refused, and nothing is accepted."""
        store = await harness.open(rules())
        with pytest.raises(IdempotencyConflict) as caught:
            await post(store, note(b"1", idempotency_key="a"), note(b"2", idempotency_key="a"))
        assert caught.value.index == 1
        assert sum(figures.accepted for figures in (await balanced(store)).values()) == 0

    async def test_some_rows_of_a_large_request_are_known(self, harness: Harness) -> None:
        """Of 1,100 rows three were accepted before, far apart: they keep their ids, and the others come in order."""
        store = await harness.open(rules())
        sizes = {0: 31, 1: 200, 2: 300, 3: 70_000}
        rows = [
            note(b"\xff%04d" % n + b"\xfe" * sizes.get(n, 0), key=str(n % 7), idempotency_key=f"a#{n}")
            for n in range(1100)
        ]
        known = [5, 105, 1020]
        first = await post(store, *(rows[place] for place in known))
        again = await post(store, *rows)
        assert again.duplicates == frozenset(known)
        assert [again.ids[place] for place in known] == list(first.ids)
        fresh = [place for place in range(1100) if place not in known]
        assert sorted(again.ids[place] for place in fresh) == [again.ids[place] for place in fresh]
        assert len(set(again.ids)) == 1100
        batch = await claimed(store, request(max_items=500))
        one_of_each = {row.key: row.payload for row in reversed([*(rows[n] for n in known), *(rows[n] for n in fresh)])}
        assert sorted(payloads(batch)) == sorted(one_of_each.values())
        assert (await balanced(store))["shop"].accepted == 1100

    async def test_conflict_far_into_a_large_request(self, harness: Harness) -> None:
        """Row 1,050 of 1,100 has a key that came with another body: it is named, and nothing is accepted."""
        store = await harness.open(rules())
        await post(store, note(b"first", idempotency_key="a#1050"))
        with pytest.raises(IdempotencyConflict) as conflict:
            await post(store, *(note(b"%d" % n, idempotency_key=f"a#{n}") for n in range(1100)))
        assert conflict.value.index == 1050
        assert payloads(await claimed(store)) == [b"first"]
        assert (await balanced(store))["shop"].accepted == 1

    async def test_idempotency_keys_belong_to_a_platform(self, harness: Harness) -> None:
        """Two platforms may use the same idempotency key, as a fan-out does; each accepts once."""
        store = await harness.open(rules("a", "b"))
        both = [note(platform="a", idempotency_key="x"), note(platform="b", idempotency_key="x")]
        accepted = await post(store, *both)
        assert accepted.duplicates == frozenset()
        assert (await post(store, *both)).ids == accepted.ids
        assert [figures.accepted for figures in (await balanced(store)).values()] == [1, 1]

    async def test_watchers_hear_of_new_work(self, harness: Harness) -> None:
        """Who watches is told the platform and how many callbacks came."""
        store = await harness.open(rules("a", "b"))
        heard: dict[str, int] = {}
        store.watch(lambda platform, count: heard.update({platform: heard.get(platform, 0) + count}))
        await post(store, note(platform="a"), note(platform="a"), note(platform="b"))
        await until(lambda: heard.get("a", 0) == 2 and heard.get("b", 0) == 1)

    async def test_coalescing_supersedes_what_waits(self, harness: Harness) -> None:
        """With ``coalesce: latest`` the newest of a key replaces older ones, also within one request."""
        store = await harness.open(special(coalesce=True))
        old = await post(store, note(b"1", key="k"), note(b"2", key="k"), note(b"x", key="other"))
        new = await post(store, note(b"3", key="k"))
        assert await states(store, [*old.ids, *new.ids]) == ["superseded", "superseded", "pending", "pending"]
        assert (await shown(store, old.ids[1])).superseded_by == new.ids[0]
        assert sorted(payloads(await claimed(store))) == [b"3", b"x"]
        assert (await balanced(store))["shop"].superseded == 2

    async def test_coalescing_takes_the_oldest_place(self, harness: Harness) -> None:
        """The newer callback stands where the oldest stood, with the better lane of the two."""
        store = await harness.open(special(coalesce=True))
        await post(store, note(b"old", key="k"))
        harness.clock.advance(1)
        await post(store, note(b"between", key="other"))
        harness.clock.advance(1)
        await post(store, note(b"new", key="k", lane=Lane.LOW))
        assert payloads(await claimed(store, request(max_items=1))) == [b"new"]

    async def test_coalescing_leaves_frozen_and_held_alone(self, harness: Harness) -> None:
        """What is in a frozen batch, or held for a person, is not superseded."""
        store = await harness.open(special(coalesce=True))
        first = await post(store, note(b"1", key="frozen"), note(b"2", key="held"))
        batch = await claimed(store, request(max_items=1))
        await resend(store, batch, harness.clock, after_s=60)
        await hold(store, await claimed(store), harness.clock)
        await post(store, note(b"3", key="frozen"), note(b"4", key="held"))
        assert await states(store, first.ids) == ["pending", "pending"]
        harness.clock.advance(60)
        again = await claimed(store)
        assert again.id == batch.id
        await deliver(store, again, harness.clock)
        assert payloads(await claimed(store)) == [b"3"]

    async def test_dead_from_the_start(self, harness: Harness) -> None:
        """What cannot be delivered as it is, is accepted and dead in one commit; its key goes on, a repeat is known."""
        store = await harness.open(rules())
        bad = note(b"bad", key="k", lane=Lane.HIGH, idempotency_key="i", dead_reason="no group: shop_id is missing")
        accepted = await post(store, note(b"1", key="k"), bad, note(b"2", key="k"))
        assert await states(store, accepted.ids) == ["pending", "dead", "pending"]
        found = await shown(store, accepted.ids[1])
        assert (found.reason, found.ended_at) == ("no group: shop_id is missing", harness.clock.now())
        assert (await balanced(store))["shop"].dead == 1
        again = await post(store, bad)
        assert (again.ids, again.duplicates) == ([accepted.ids[1]], {0})
        for body in (b"1", b"2"):
            batch = await claimed(store)
            assert payloads(batch) == [body]
            await deliver(store, batch, harness.clock)
        alone = await post(store, note(b"3", key="k", dead_reason="odd"), note(b"4", key="k"))
        assert await states(store, alone.ids) == ["dead", "pending"]
        await deliver(store, await claimed(store), harness.clock)
        await operate(store, "retry", Filter(reason="odd"), reorder=True)
        assert payloads(await claimed(store)) == [b"3"]
        assert (await balanced(store))["shop"].dead == 1

    @pytest.mark.parametrize("block", [False, True])
    async def test_dead_from_the_start_moves_nobody(self, harness: Harness, block: bool) -> None:
        """It supersedes nothing, raises nobody's lane and blocks no key, whatever the platform's rules."""
        store = await harness.open(special(coalesce=not block, block_on_dead=block))
        first = await post(store, note(b"1", key="k", lane=Lane.LOW))
        bad = note(b"bad", key="k", lane=Lane.HIGH, dead_reason="odd")
        await post(store, bad, note(b"other", key="o"))
        assert await states(store, first.ids) == ["pending"]
        assert payloads(await claimed(store, request(max_items=1))) == [b"other"]
        assert payloads(await claimed(store, request(max_items=1))) == [b"1"]
