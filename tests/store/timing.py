"""Conformance: what must not go yet, what waits until its key is quiet, and what the order center takes back."""

from typing import Any

import pytest
from relay.core.model import Filter, NewCallback, PlatformRules, State, StoreRules
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
    routed,
    rules,
    shown,
    states,
)

QUIET = StoreRules(platforms={"shop": PlatformRules(coalesce=True, quiet_s=5.0, gather_s=12.0)})


def later(payload: bytes, delay_s: float, **given: Any) -> NewCallback:
    """A callback that must not go for a while."""
    return note(payload, **given)._replace(delay_s=delay_s)


class TimingConformance:
    async def test_nothing_goes_before_its_time(self, harness: Harness) -> None:
        """It waits alone: others go. Then it is as any other, and its expiry counts from there."""
        store, clock = await harness.open(rules()), harness.clock
        (first, _) = (await post(store, later(b"1", 60.0, expires_s=30.0), note(b"2"))).ids
        assert payloads(await claimed(store)) == [b"2"]
        wait = await refused(store)
        assert wait.at == pytest.approx(clock.now() + 60)
        view = await shown(store, first)
        assert (view.due_at, view.expires_at) == (pytest.approx(clock.now() + 60), pytest.approx(clock.now() + 90))
        status = (await store.platform_status())["shop"]
        assert status.oldest_due_at is None or status.oldest_due_at >= clock.now()
        clock.advance(59)
        assert await store.retry_now("shop") == 0  # what was never sent does not wait for a retry
        await store.expire()
        await refused(store)
        clock.advance(1)
        assert payloads(await claimed(store)) == [b"1"]
        await balanced(store)

    async def test_a_batch_says_what_must_not_have_gone_before(self, harness: Harness) -> None:
        """One that was held back says since when it may go, over re-sends too; others and replayed ones do not."""
        store, clock = await harness.open(rules()), harness.clock
        await post(store, later(b"1", 60.0), note(b"2", expires_s=5.0))
        may_go = clock.now() + 60
        (at_once,) = (await claimed(store)).items
        assert at_once.not_before == 0.0
        clock.advance(70)
        batch = await claimed(store)
        assert batch.items[0].not_before == pytest.approx(may_go, rel=0, abs=0.01)
        await resend(store, batch, clock, after_s=5.0)
        clock.advance(60)
        batch = await claimed(store)
        assert batch.items[0].not_before == pytest.approx(may_go, rel=0, abs=0.01)
        await bury(store, batch, clock)
        clock.advance(60)
        await operate(store, "retry")
        assert (await claimed(store)).items[0].not_before == 0.0

    async def test_it_expires_after_its_time(self, harness: Harness) -> None:
        """Not delivered within its life from then on, it ends."""
        store, clock = await harness.open(rules()), harness.clock
        ids = (await post(store, later(b"1", 60.0, expires_s=30.0))).ids
        clock.advance(89)
        await store.expire()
        assert await states(store, ids) == ["pending"]
        clock.advance(2)
        await store.expire()
        assert await states(store, ids) == ["expired"]

    async def test_a_later_one_of_its_key_waits_for_it(self, harness: Harness) -> None:
        """The order of a key holds: also for one that could go at once; other keys do not wait."""
        store, clock = await harness.open(rules()), harness.clock
        await post(store, later(b"1", 60.0, key="k"), note(b"2", key="k"), note(b"3", key="other"))
        batch = await claimed(store)
        assert payloads(batch) == [b"3"]
        await deliver(store, batch, clock)
        await refused(store)
        clock.advance(60)
        for expected in (b"1", b"2"):
            batch = await claimed(store)
            assert payloads(batch) == [expected]
            await deliver(store, batch, clock)

    async def test_each_target_waits(self, harness: Harness) -> None:
        """Of a routed post too; and a bulk of lines."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        plain = routed("shop", "other", idempotency_key="once")
        await store.accept_posts([plain._replace(rows=[row._replace(delay_s=9.0) for row in plain.rows])])
        await post(store, *(later(b"%d" % n, 9.0, idempotency_key=str(n)) for n in range(150)))
        for name in ("shop", "other"):
            assert (await refused(store, request(name))).at == pytest.approx(clock.now() + 9)
        clock.advance(9)
        assert len((await claimed(store, request(max_items=500))).items) == 151
        assert len((await claimed(store, request("other"))).items) == 1

    async def test_a_newer_one_takes_no_place_before_its_time(self, harness: Harness) -> None:
        """Coalescing: it supersedes the older one all the same, and waits for its own time."""
        store, clock = await harness.open(StoreRules(platforms={"shop": PlatformRules(coalesce=True)})), harness.clock
        ids = (await post(store, note(b"1", key="k"))).ids
        ids += (await post(store, later(b"2", 60.0, key="k"))).ids
        await refused(store)
        ids += (await post(store, note(b"3", key="k"))).ids
        assert await states(store, ids) == ["superseded", "superseded", "pending"]
        assert (await shown(store, ids[2])).due_at <= clock.now()
        assert payloads(await claimed(store)) == [b"3"]

    async def test_a_key_goes_when_it_was_quiet(self, harness: Harness) -> None:
        """Each newer one begins the wait anew; the last goes, once; another key does not wait for it."""
        store, clock = await harness.open(QUIET), harness.clock
        start = clock.now()
        ids: list[str] = []
        for n in range(3):
            ids += (await post(store, note(b"%d" % n, key="k"))).ids
            clock.advance(3)
        await post(store, note(b"other", key="o"), note(b"none"))
        assert payloads(await claimed(store)) == [b"none"]  # without a key nothing is waited for
        assert (await refused(store)).at == pytest.approx(start + 11)
        clock.advance(2)
        batch = await claimed(store)
        assert payloads(batch) == [b"2"]
        assert await states(store, ids) == ["superseded", "superseded", "pending"]
        await deliver(store, batch, clock)
        clock.advance(3)
        assert payloads(await claimed(store)) == [b"other"]
        await balanced(store)

    async def test_no_key_waits_longer_than_the_most(self, harness: Harness) -> None:
        """However often a newer one comes, from the first on; then it begins anew."""
        store, clock = await harness.open(QUIET), harness.clock
        start = clock.now()
        for n in range(6):
            await post(store, note(b"%d" % n, key="k"))
            clock.advance(2)
        batch = await claimed(store)  # after 12 s
        assert (clock.now(), payloads(batch)) == (pytest.approx(start + 12), [b"5"])
        await post(store, note(b"6", key="k"))  # the one in the batch is not superseded
        await deliver(store, batch, clock)
        assert (await refused(store)).at == pytest.approx(start + 17)
        clock.advance(5)
        assert payloads(await claimed(store)) == [b"6"]

    async def test_several_of_a_key_in_one_post(self, harness: Harness) -> None:
        """They are as if they had come one after the other."""
        store, clock = await harness.open(QUIET), harness.clock
        ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"))).ids
        assert await states(store, ids) == ["superseded", "pending"]
        assert (await refused(store)).at == pytest.approx(clock.now() + 5)

    async def test_a_callback_is_taken_back(self, harness: Harness) -> None:
        """It ends superseded; what waits behind it goes on; twice is once."""
        store = await harness.open(rules())
        ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"), note(b"3"))).ids
        done = await store.cancel(ids[0])
        assert (list(done.ids), done.why) == ([ids[0]], "")
        view = await shown(store, ids[0])
        assert (view.state, view.reason) == ("superseded", "cancelled")
        assert (await store.cancel(ids[0])).why == "final"
        assert (await store.cancel("1K0VE24A9Y000R9")).why == "unknown"
        assert (await store.cancel("")).why == "unknown"
        assert sorted(payloads(await claimed(store))) == [b"2", b"3"]
        assert (await balanced(store))["shop"].superseded == 1

    async def test_many_of_a_key_are_taken_back(self, harness: Harness) -> None:
        """All of them, whatever the number, with their ids in order; others are let be."""
        store = await harness.open(rules())
        ids = (await post(store, *(note(b"%d" % n, key="k" if n % 4 else "o") for n in range(400)))).ids
        done = await store.cancel_key("shop", "k")
        assert list(done.ids) == [each for n, each in enumerate(ids) if n % 4]
        total = (await balanced(store))["shop"]
        assert (total.superseded, total.pending) == (300, 100)
        assert payloads(await claimed(store)) == [b"0"]

    async def test_what_is_in_a_frozen_batch_is_not(self, harness: Harness) -> None:
        """Neither under way nor waiting for its re-send; once it is out of the batch it can be."""
        store, clock = await harness.open(rules()), harness.clock
        ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"))).ids
        batch = await claimed(store)
        assert (await store.cancel(ids[0])).why == "in_flight"
        assert (await store.cancel_key("shop", "k")).why == "in_flight"
        await resend(store, batch, clock, after_s=1.0)
        assert (await store.cancel(ids[0])).why == "in_flight"
        clock.advance(1)
        await requeue(store, await claimed(store), clock, after_s=60.0)
        assert await states(store, ids) == ["pending", "pending"]
        done = await store.cancel_key("shop", "k")
        assert list(done.ids) == ids
        assert await states(store, ids) == ["superseded", "superseded"]
        await refused(store)

    async def test_one_that_is_held_can_be_taken_back(self, harness: Harness) -> None:
        """Its key goes on. What has ended of a key is let be, and so are other keys and platforms."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        ids = (
            await post(store, note(b"1", key="k"), note(b"2", key="k"), note(b"3", key="k"), note(b"4", key="o"))
        ).ids
        await post(store, note(b"5", key="k", platform="other"))
        await bury(store, await claimed(store, request(max_items=1)), clock)
        await hold(store, await claimed(store, request(max_items=1)), clock)
        done = await store.cancel_key("shop", "k")
        assert sorted(done.ids) == sorted(ids[1:3])
        assert await states(store, ids) == ["dead", "superseded", "superseded", "pending"]
        assert list((await store.cancel_key("shop", "k")).ids) == []
        assert list((await store.cancel_key("nowhere", "k")).ids) == []
        assert (await balanced(store))["other"].pending == 1

    async def test_an_operation_meets_what_was_taken_back(self, harness: Harness) -> None:
        """It skips it."""
        store = await harness.open(rules())
        ids = (await post(store, note(b"1"), note(b"2"))).ids
        progress = await store.start_operation("drop", Filter(state="pending"), expect_count=2)
        await store.cancel(ids[1])
        stepped = await store.step_operation(progress.id, 10)
        assert (stepped.progress.done, stepped.progress.skipped) == (1, {"state": 1})
        assert (await operate(store, "retry", Filter(state=State.SUPERSEDED.word))).matched == 0
