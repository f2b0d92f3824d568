"""Conformance: windows of items, bytes and points, and windows that begin at a fixed time."""

from dataclasses import replace
from datetime import UTC, datetime

from relay.core.calendar import Calendar
from relay.core.model import PlatformRules, Quota, Rate, StoreRules
from tests.store.harness import (
    Harness,
    RestartHarness,
    claimed,
    deliver,
    note,
    post,
    refused,
    request,
    resend,
    seqs,
    settlement,
)

_DAY = Calendar("day", 8 * 3600)
_MIDNIGHT = datetime(2026, 11, 29, 16, tzinfo=UTC).timestamp()


def counting(*rates: Rate) -> StoreRules:
    """Rules of one platform with these limits."""
    quota = Quota("platform:shop", rates)
    return StoreRules(quotas={quota.name: quota}, platforms={"shop": PlatformRules(quotas=(quota.name,))})


class WeighingConformance:
    async def test_a_batch_is_packed_to_what_is_left(self, harness: Harness) -> None:
        """Of 10 items a minute 7 went: the next batch waits for its pace, then takes 3; the fourth waits for slots."""
        store = await harness.open(counting(Rate(10, 60.0, "items")))
        await post(store, *(note() for _ in range(20)))
        await deliver(store, await claimed(store, request(max_items=7)), harness.clock)
        waits = await refused(store, request(max_items=7))
        assert (waits.reason, waits.at) == ("limit", harness.clock.now() + 42.0)
        harness.clock.advance(42.0)
        batch = await claimed(store, request(max_items=7))
        assert len(batch.items) == 3
        await deliver(store, batch, harness.clock)
        assert (await refused(store)).at == harness.clock.now() + 18.0
        harness.clock.advance(18.0)
        assert len((await claimed(store, request(max_items=7))).items) == 7
        (quota,) = (await store.platform_status())["shop"].quotas
        assert (quota.unit, quota.limit, quota.used, quota.uses.first) == ("items", 10, 10, 10)

    async def test_bytes_of_bodies_count(self, harness: Harness) -> None:
        """What a body weighs before compression is held: of two payloads of 40 bytes one fits into 60."""
        store = await harness.open(counting(Rate(60, 60.0, "bytes")))
        await post(store, note(b"x" * 40), note(b"y" * 40))
        batch = await claimed(store, request(probe=True))
        assert len(batch.items) == 1
        assert (await refused(store, request(probe=True))).reason == "limit"

    async def test_points_count(self, harness: Harness) -> None:
        """Callbacks cost what they say, and 1 where they say nothing."""
        store = await harness.open(counting(Rate(10, 60.0, "points")))
        rows = [note()._replace(points=points) for points in (4, 5, None, 2)]
        await post(store, *rows)
        batch = await claimed(store, request(probe=True))
        assert len(batch.items) == 3
        await deliver(store, batch, harness.clock)
        assert (await refused(store, request(probe=True))).at == harness.clock.now() + 60.0

    async def test_a_frozen_batch_waits_for_room_as_it_is(self, harness: Harness) -> None:
        """A batch that goes again is not cut: it waits until all of it fits."""
        store = await harness.open(counting(Rate(10, 60.0, "items")))
        await post(store, *(note() for _ in range(8)))
        await resend(store, await claimed(store, request(max_items=8)), harness.clock, after_s=0.0)
        assert (await refused(store)).at == harness.clock.now() + 60.0
        harness.clock.advance(60.0)
        assert len((await claimed(store)).items) == 8

    async def test_a_day_begins_at_midnight_there(self, harness: Harness) -> None:
        """Requests of a calendar day are free at its end, also after a reload."""
        in_force = counting(Rate(2, 86400.0, calendar=_DAY))
        store = await harness.open(in_force)
        harness.clock.advance(_MIDNIGHT - 100.0 - harness.clock.now())
        await post(store, *(note() for _ in range(4)))
        for _ in range(2):
            await deliver(store, await claimed(store, request(max_items=1)), harness.clock)
        assert (await refused(store, request(max_items=1))).at == _MIDNIGHT
        await store.configure(replace(in_force, platforms={**in_force.platforms, "mall": PlatformRules()}))
        assert (await refused(store, request(max_items=1))).at == _MIDNIGHT
        harness.clock.advance(100.0)
        await claimed(store, request(max_items=1))


class DurableWeighingConformance:
    async def test_weights_count_over_a_crash(self, harness: RestartHarness) -> None:
        """Items, points and a calendar day count after a kill as before."""
        items, points = Rate(10, 60.0, "items"), Rate(20, 60.0, "points")
        in_force = counting(items, points, Rate(5, 86400.0, calendar=_DAY))
        store = await harness.open(in_force)
        await post(store, *(note()._replace(points=2) for _ in range(20)))
        await deliver(store, await claimed(store, request(max_items=6)), harness.clock)
        before = [quota.used for quota in (await store.platform_status())["shop"].quotas]
        store = await harness.reopen(in_force)
        assert [quota.used for quota in (await store.platform_status())["shop"].quotas] == before == [6, 12, 1]
        batch = await claimed(store, request(max_items=10, probe=True))
        assert len(batch.items) == 4

    async def test_bytes_as_sent_count_over_a_crash(self, harness: RestartHarness) -> None:
        """Once a body is answered its size on the wire counts, and still does after a kill."""
        in_force = counting(Rate(100, 60.0, "bytes"))
        store = await harness.open(in_force)
        await post(store, note(b"x" * 40), note(b"y" * 40))
        batch = await claimed(store)
        sent = settlement(batch, harness.clock, delivered=seqs(batch))
        await store.settle(replace(sent, result=replace(sent.result, wire_bytes=30)))
        before = (await store.platform_status())["shop"].quotas[0].used
        store = await harness.reopen(in_force)
        assert before == (await store.platform_status())["shop"].quotas[0].used == 30

    async def test_a_frozen_batch_weighs_the_same_after_a_crash(self, harness: RestartHarness) -> None:
        """Points of callbacks are kept with them: what was cut off goes again when all of it fits."""
        in_force = counting(Rate(10, 60.0, "points"))
        store = await harness.open(in_force)
        await post(store, *(note()._replace(points=points) for points in (3, 3)))
        await resend(store, await claimed(store, request(probe=True)), harness.clock, after_s=0.0)
        store = await harness.reopen(in_force)
        assert (await refused(store)).at == harness.clock.now() + 60.0
        harness.clock.advance(60.0)
        assert len((await claimed(store)).items) == 2

    async def test_a_day_is_counted_over_midnight_and_over_kills(self, harness: RestartHarness) -> None:
        """``5/day@+08:00``: before midnight five in all whatever is killed; after it five more, and no sooner."""
        in_force = counting(Rate(5, 86400.0, calendar=_DAY))
        store, clock = await harness.open(in_force), harness.clock
        clock.advance(_MIDNIGHT - 100.0 - clock.now())
        await post(store, *(note() for _ in range(12)))
        for _ in range(3):
            await deliver(store, await claimed(store, request(max_items=1)), clock)
        store = await harness.reopen(in_force)
        for _ in range(2):
            await deliver(store, await claimed(store, request(max_items=1)), clock)
        assert (await refused(store, request(max_items=1))).at == _MIDNIGHT
        clock.advance(_MIDNIGHT - clock.now())
        store = await harness.reopen(in_force)
        for _ in range(3):
            await deliver(store, await claimed(store, request(max_items=1)), clock)
        store = await harness.reopen(in_force)
        for _ in range(2):
            await deliver(store, await claimed(store, request(max_items=1)), clock)
        assert (await refused(store, request(max_items=1))).at == _MIDNIGHT + 86400.0
