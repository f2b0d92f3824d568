"""Conformance: posts that routes decided about, and what no route took."""

import asyncio
from collections.abc import Sequence

import pytest
from relay.core.errors import IdempotencyConflict, NoTarget
from relay.core.model import UNROUTED, Ended, Filter, Lane, NewCallback, RoutedPost, State
from relay.views.ledger import QueueTotals
from tests.store.harness import (
    Harness,
    balanced,
    claimed,
    deliver,
    note,
    operate,
    payloads,
    post,
    request,
    routed,
    rules,
    shown,
    states,
    unrouted,
    until,
)


class RoutingConformance:
    async def test_repeats_of_a_routed_post_in_one_moment(self, harness: Harness) -> None:
        """Two routed posts under one idempotency key that are committed together are one post."""
        store = await harness.open(rules("a", "b"))
        wanted = [routed("a", "b", idempotency_key="x")]
        first, again = await asyncio.gather(store.accept_posts(wanted), store.accept_posts(wanted))
        assert first.ids == again.ids
        assert sorted(map(len, (first.duplicates, again.duplicates))) == [0, 1]
        assert {name: each.accepted for name, each in (await balanced(store)).items()} == {"a": 1, "b": 1}

    async def test_fan_out_is_accepted_once_per_target(self, harness: Harness) -> None:
        """One post for two platforms makes a callback of each, told by platform, and both platforms hear of it."""
        store = await harness.open(rules("a", "b"))
        heard: dict[str, int] = {}
        store.watch(lambda platform, count: heard.update({platform: heard.get(platform, 0) + count}))
        accepted = await store.accept_posts([routed("a", "b", payload=b"1"), routed("b", payload=b"2")])
        assert [list(ids) for ids in accepted.ids] == [["a", "b"], ["b"]]
        assert accepted.duplicates == frozenset()
        assert [(await shown(store, ids[name])).platform for ids in accepted.ids for name in ids] == ["a", "b", "b"]
        assert payloads(await claimed(store, request("a"))) == [b"1"]
        assert payloads(await claimed(store, request("b"))) == [b"1", b"2"]
        assert [figures.accepted for figures in (await balanced(store)).values()] == [1, 2]
        await until(lambda: heard.get("a", 0) >= 1 and heard.get("b", 0) >= 2)

    async def test_nothing_routed_is_nothing_accepted(self, harness: Harness) -> None:
        """No posts at all are answered at once."""
        store = await harness.open(rules())
        assert await store.accept_posts([]) == ([], frozenset())

    async def test_repeat_answers_the_first_ids(self, harness: Harness) -> None:
        """The key belongs to the post: a repeat has the first ids whatever targets it has now, even none."""
        store = await harness.open(rules("a", "b", "c"))
        first = await store.accept_posts([routed("a", "b", idempotency_key="x")])
        for platforms in (("a", "b"), ("c",), ()):
            assert await store.accept_posts([routed(*platforms, idempotency_key="x")]) == (first.ids, {0})
        assert sum(figures.accepted for figures in (await balanced(store)).values()) == 2

    async def test_repeats_beside_new_posts(self, harness: Harness) -> None:
        """In one request some posts may be repeats, also of one another; only the others are queued."""
        store = await harness.open(rules("a", "b"))
        first = await store.accept_posts([routed("a", "b", idempotency_key="1")])
        accepted = await store.accept_posts(
            [
                routed("b", idempotency_key="2"),
                routed("a", idempotency_key="1"),
                routed("a", "b", idempotency_key="2"),
                routed("a"),
                routed("a", idempotency_key="3"),
            ]
        )
        assert accepted.duplicates == {1, 2}
        assert accepted.ids[1] == first.ids[0]
        assert accepted.ids[2] == accepted.ids[0]
        assert [list(ids) for ids in accepted.ids] == [["b"], ["a", "b"], ["b"], ["a"], ["a"]]
        ids = [callback for fan in (*first.ids, *accepted.ids) for callback in fan.values()]
        assert len(set(ids)) == 5
        for name, callback in ((name, one) for fan in accepted.ids for name, one in fan.items()):
            assert (await shown(store, callback)).platform == name
        assert {name: figures.accepted for name, figures in (await balanced(store)).items()} == {"a": 3, "b": 2}
        assert (await store.accept_posts([routed("b", idempotency_key="3")])).ids == [accepted.ids[4]]

    async def test_a_posts_key_is_nobody_elses(self, harness: Harness) -> None:
        """Posts to one platform and routed posts may use one idempotency key without meeting."""
        store = await harness.open(rules("a"))
        own = await post(store, note(b"1", platform="a", idempotency_key="x"))
        accepted = await store.accept_posts([routed("a", payload=b"2", idempotency_key="x")])
        assert accepted.duplicates == frozenset()
        assert (await post(store, note(b"1", platform="a", idempotency_key="x"))).ids == own.ids

    async def test_the_rows_own_keys_do_not_make_a_post_another(self, harness: Harness) -> None:
        """Each target reads its own ordering key; only what the client gave makes two posts differ."""
        store = await harness.open(rules("a"))
        first = await store.accept_posts([routed("a", idempotency_key="x", row_key="order-1")])
        again = await store.accept_posts([routed("a", idempotency_key="x", row_key="shop-9")])
        assert again.ids == first.ids
        assert (await shown(store, first.ids[0]["a"])).key == "order-1"

    @pytest.mark.parametrize(
        "other",
        [
            routed("a", payload=b"2", key="k", idempotency_key="x"),
            routed("a", payload=b"1", idempotency_key="x"),
            routed("a", payload=b"1", key="k", event="e", idempotency_key="x"),
        ],
        ids=["payload", "key", "event"],
    )
    async def test_conflict_refuses_the_whole_request(self, harness: Harness, other: RoutedPost) -> None:
        """The same key with another payload, key or event names its post, and nothing is accepted."""
        store = await harness.open(rules("a", "b"))
        await store.accept_posts([routed("a", payload=b"1", key="k", idempotency_key="x")])
        with pytest.raises(IdempotencyConflict) as caught:
            await store.accept_posts([routed("a", "b", idempotency_key="new"), other])
        assert caught.value.index == 1
        assert sum(figures.accepted for figures in (await balanced(store)).values()) == 1
        assert (await store.accept_posts([routed("b", idempotency_key="new")])).duplicates == frozenset()

    async def test_a_post_without_targets_refuses_the_whole_request(self, harness: Harness) -> None:
        """A post that nothing takes and that repeats nothing is named, and nothing is accepted."""
        store = await harness.open(rules("a"))
        with pytest.raises(NoTarget) as caught:
            await store.accept_posts([routed("a"), routed(idempotency_key="x")])
        assert caught.value.index == 1
        assert sum(figures.accepted for figures in (await balanced(store)).values()) == 0

    async def test_key_is_remembered_while_one_target_is_kept(self, harness: Harness) -> None:
        """Pruning one target's callback does not forget the post; pruning the last one does."""
        store = await harness.open(rules("a", "b", keep_delivered_s=100.0, keep_dead_s=100.0))
        first = await store.accept_posts([routed("a", "b", idempotency_key="x")])
        await deliver(store, await claimed(store, request("a")), harness.clock)
        harness.clock.advance(101)
        while await store.prune():
            pass
        assert await store.callback(first.ids[0]["a"]) is None
        assert (await store.accept_posts([routed("a", "b", idempotency_key="x")])).ids == first.ids
        await deliver(store, await claimed(store, request("b")), harness.clock)
        harness.clock.advance(101)
        while await store.prune():
            pass
        assert (await store.accept_posts([routed("b", idempotency_key="x")])).duplicates == frozenset()
        await balanced(store)

    async def test_fan_out_pruned_together_is_forgotten(self, harness: Harness) -> None:
        """When all targets go in one step the key goes with them."""
        store = await harness.open(rules("a", "b", keep_delivered_s=100.0))
        await store.accept_posts([routed("a", "b", idempotency_key="x")])
        for name in ("a", "b"):
            await deliver(store, await claimed(store, request(name)), harness.clock)
        harness.clock.advance(101)
        while await store.prune():
            pass
        assert (await store.accept_posts([routed("b", idempotency_key="x")])).duplicates == frozenset()

    async def test_unrouted_is_dead_from_the_start(self, harness: Harness) -> None:
        """What no route took is a dead letter of the reserved platform, in lists, totals and status, payload kept."""
        store = await harness.open(rules("a"))
        accepted = await store.accept_posts([unrouted(b"1", key="k", event="e", expires_s=0.0), routed("a")])
        found = await shown(store, accepted.ids[0][UNROUTED], payload=True)
        assert (found.state, found.reason, found.payload) == ("dead", "unrouted", b"1")
        assert (found.key, found.event, found.ended_at) == ("k", "e", harness.clock.now())
        listed, _ = await store.callbacks(Filter(platform=UNROUTED, state="dead"), cursor=None, limit=10)
        assert [item.id for item in listed] == [accepted.ids[0][UNROUTED]]
        figures = (await balanced(store))[UNROUTED]
        assert (figures.accepted, figures.dead, figures.pending) == (1, 1, 0)
        assert (await store.platform_status())[UNROUTED].dead == 1
        await store.expire()
        assert (await balanced(store))[UNROUTED].dead == 1

    async def test_retry_routes_again(self, harness: Harness) -> None:
        """Retried, it is accepted for its targets as new and superseded by the first of them; the ledger balances."""
        store = await harness.open(rules("a", "b"))
        accepted = await store.accept_posts(
            [unrouted(b'{"n":%d}' % n, key=f"k{n}", event="order.paid", idempotency_key=f"i{n}") for n in range(5)]
        )
        asked: list[NewCallback] = []

        def reroute(row: NewCallback) -> Sequence[NewCallback]:
            asked.append(row)
            return [row._replace(platform="a"), row._replace(platform="b", key=None)]

        harness.clock.advance(5)
        progress = await operate(store, "retry", Filter(platform=UNROUTED), reroute=reroute)
        assert (progress.matched, progress.done, progress.skipped) == (5, 5, {})
        assert [(row.platform, row.payload, row.key, row.event, row.lane) for row in asked] == [
            (UNROUTED, b'{"n":%d}' % n, f"k{n}", "order.paid", Lane.NORMAL) for n in range(5)
        ]
        ids = [fan[UNROUTED] for fan in accepted.ids]
        assert await states(store, ids) == ["superseded"] * 5
        batch = await claimed(store, request("a"))
        assert [(item.payload, item.key) for item in batch.items] == [(b'{"n":%d}' % n, f"k{n}") for n in range(5)]
        assert [(await shown(store, callback)).superseded_by for callback in ids] == [item.id for item in batch.items]
        assert (await shown(store, ids[0])).reason == "rerouted"
        figures = await balanced(store)
        assert figures[UNROUTED] == QueueTotals(accepted=5, superseded=5)
        assert [figures[name].accepted for name in ("a", "b")] == [5, 5]
        # The post was answered with its first id, and a repeat still is.
        again = routed(key="k0", event="order.paid", payload=b'{"n":0}', idempotency_key="i0")
        assert await store.accept_posts([again]) == ([accepted.ids[0]], {0})

    async def test_retry_of_what_still_has_no_route(self, harness: Harness) -> None:
        """It stays a dead letter, reported with the reason; the others of the operation go."""
        store = await harness.open(rules("a"))
        accepted = await store.accept_posts([unrouted(b"1"), unrouted(b"2"), unrouted(b"3")])

        def reroute(row: NewCallback) -> Sequence[NewCallback] | str:
            return {b"1": "no_route", b"3": "too_large"}.get(row.payload) or [row._replace(platform="a")]

        progress = await operate(store, "retry", Filter(platform=UNROUTED), reroute=reroute)
        assert (progress.done, progress.skipped) == (1, {"no_route": 1, "too_large": 1})
        assert await states(store, [fan[UNROUTED] for fan in accepted.ids]) == ["dead", "superseded", "dead"]
        assert set(progress.failed) == {accepted.ids[0][UNROUTED], accepted.ids[2][UNROUTED]}
        assert (await operate(store, "retry", Filter(platform=UNROUTED))).skipped == {"no_route": 2}
        await balanced(store)

    async def test_targets_dead_from_the_start_are_told(self, harness: Harness) -> None:
        """A retry that routes to a platform which cannot be sent the callback says that it buried it there."""
        store = await harness.open(rules("a", "b"))
        await store.accept_posts([unrouted(b"1"), unrouted(b"2")])

        def reroute(row: NewCallback) -> Sequence[NewCallback]:
            return [row._replace(platform="a", dead_reason="no group"), row._replace(platform="b")]

        started = await store.start_operation("retry", Filter(), expect_count=2)
        stepped = await store.step_operation(started.id, 5, reroute)
        assert stepped.ended == [Ended("a", State.DEAD, "no group", 2)]
        assert [(await balanced(store))[name].dead for name in ("a", "b", UNROUTED)] == [2, 0, 0]

    async def test_large_unrouted_ones_take_several_steps(self, harness: Harness) -> None:
        """However large the payloads, an operation ends and routes every one of them once."""
        store = await harness.open(rules("a"))
        await store.accept_posts([unrouted(b"%d" % n + b" " * 700_000) for n in range(4)])
        started = await store.start_operation("retry", Filter(), expect_count=4)
        seen: list[bytes] = []

        def reroute(row: NewCallback) -> Sequence[NewCallback]:
            seen.append(row.payload[:1])
            return [row._replace(platform="a")]

        progress = started
        while progress.state == "running":
            progress = (await store.step_operation(started.id, 500, reroute)).progress
        assert (progress.done, seen) == (4, [b"0", b"1", b"2", b"3"])
        assert (await balanced(store))["a"].pending == 4

    async def test_a_rerouted_callback_stands_last_in_its_key(self, harness: Harness) -> None:
        """A rerouted callback is accepted now: it goes behind what its target already has of the key."""
        store = await harness.open(rules("a", "b"))
        await store.accept_posts([unrouted(b"old", key="k")])
        await post(store, note(b"new", platform="a", key="k"))
        await operate(store, "retry", Filter(platform=UNROUTED), reroute=lambda row: [row._replace(platform="a")])
        assert payloads(await claimed(store, request("a"))) == [b"new"]
        await balanced(store)

    async def test_unrouted_can_be_dropped(self, harness: Harness) -> None:
        """Dropped ones lose their payload and are not routed any more; no total changes."""
        store = await harness.open(rules("a"))
        accepted = await store.accept_posts([unrouted(b"1")])
        await operate(store, "drop", Filter(platform=UNROUTED))
        assert (await shown(store, accepted.ids[0][UNROUTED])).bytes == 0
        progress = await operate(store, "retry", Filter(), reroute=lambda row: [row._replace(platform="a")])
        assert progress.skipped == {"no_payload": 1}
        assert (await balanced(store))[UNROUTED].dead == 1

    async def test_one_target_may_be_dead_from_the_start(self, harness: Harness) -> None:
        """A target that cannot be sent the callback as it is has it dead; the others get it."""
        store = await harness.open(rules("a", "b"))
        rows = [note(b"{}", platform="a", dead_reason="no group: shop_id is missing"), note(b"{}", platform="b")]
        accepted = await store.accept_posts([RoutedPost(rows, b"{}", None, None, "i")])
        (ids,) = accepted.ids
        assert await states(store, [ids["a"], ids["b"]]) == ["dead", "pending"]
        assert (await shown(store, ids["a"])).reason == "no group: shop_id is missing"
        assert (await balanced(store))["a"].dead == 1
