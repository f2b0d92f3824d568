"""Conformance: what happened in each minute."""

from collections.abc import Sequence

from relay.views.past.history import MinuteCounts, RequestCounts, Sampled
from tests.store.harness import Harness, RestartHarness, bury, claimed, deliver, note, operate, post, rules


def _shown(spans: Sequence[Sampled]) -> list[tuple[float, int, int, int, int]]:
    """Return minute, accepted, delivered, dead and pending of each."""
    return [(span.at // 60 % 10_000, span.accepted, span.delivered, span.dead, span.pending) for span in spans]


class RememberingConformance:
    async def test_minutes(self, harness: Harness) -> None:
        """Each minute says what happened in it, a quiet one nothing, and one without any commit is not there."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        began = clock.now() // 60 * 60 + 60
        clock.advance_to(began + 59)
        await post(store, note(b"1"), note(b"2"))
        await post(store, note(platform="other"))
        clock.advance_to(began + 60)
        await deliver(store, await claimed(store), clock)
        clock.advance_to(began + 120)
        await store.ping()
        clock.advance_to(began + 240)
        await store.ping()
        clock.advance_to(began + 299)
        await post(store, note(b"3"))
        first = began // 60 % 10_000
        assert _shown(await store.history.minutes("shop", began, clock.now())) == [
            (first, 2, 0, 0, 2), (first + 1, 0, 2, 0, 0), (first + 2, 0, 0, 0, 0), (first + 4, 1, 0, 0, 1),
        ]  # fmt: skip
        assert _shown(await store.history.minutes(None, began, clock.now())) == [
            (first, 3, 0, 0, 3), (first + 1, 0, 2, 0, 1), (first + 2, 0, 0, 0, 1), (first + 4, 1, 0, 0, 2),
        ]  # fmt: skip
        assert _shown(await store.history.minutes("shop", began + 120, clock.now()))[0] == (first + 2, 0, 0, 0, 0)

    async def test_running_minute_is_there(self, harness: Harness) -> None:
        """The last minute is the one under way, also when nothing was committed in it yet."""
        store, clock = await harness.open(rules()), harness.clock
        await post(store, note())
        clock.advance(60)
        spans = await store.history.minutes("shop", clock.now() - 60, clock.now())
        assert [(span.at, span.accepted, span.pending) for span in spans[-2:]] == [
            (clock.now() // 60 * 60 - 60, 1, 1), (clock.now() // 60 * 60, 0, 1),
        ]  # fmt: skip
        nobody = await store.history.minutes("nobody", clock.now(), clock.now())
        assert list(nobody) == [Sampled(at=clock.now() // 60 * 60)]

    async def test_dead_letters_taken_back(self, harness: Harness) -> None:
        """A minute in which a person took dead letters back has fewer dead than before."""
        store, clock = await harness.open(rules()), harness.clock
        await post(store, note(), note())
        await bury(store, await claimed(store), clock)
        clock.advance(60)
        await operate(store, "retry")
        spans = await store.history.minutes("shop", clock.now() - 60, clock.now())
        assert [(span.dead, span.pending) for span in spans] == [(2, 0), (-2, 2)]

    async def test_counts_of_a_minute(self, harness: Harness) -> None:
        """Requests and bytes are added to the minute they are given for; a minute that is not kept takes none."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        await post(store, note())
        counts = RequestCounts(requests=3, refused=1, failed=1, raw_bytes=100, wire_bytes=50, late=4)
        minute = int(clock.now() // 60)
        for due in (4.0, 2.5):
            given = {"shop": MinuteCounts(counts=counts, oldest_due_s=due)}
            await store.history.keep_minute(minute, {**given, "other": MinuteCounts(counts=counts, oldest_due_s=0.0)})
            await store.history.keep_minute(minute - 1, given)
        (mine,) = await store.history.minutes("shop", clock.now(), clock.now())
        assert mine.oldest_due_s == 2.5
        assert mine.counts == RequestCounts(requests=6, refused=2, failed=2, raw_bytes=200, wire_bytes=100, late=8)
        (all_of_them,) = await store.history.minutes(None, clock.now(), clock.now())
        assert (all_of_them.counts.requests, all_of_them.oldest_due_s, all_of_them.accepted) == (12, 2.5, 1)
        (other,) = await store.history.minutes("other", clock.now(), clock.now())
        assert (other.counts.requests, other.accepted) == (6, 0)

    async def test_levels(self, harness: Harness) -> None:
        """The totals now, with since when the oldest callback could have been sent."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        await post(store, note(b"1"))
        accepted_at = clock.now()
        clock.advance(5)
        await post(store, note(b"2"))
        levels = await store.history.levels()
        assert list(levels) == ["shop"]
        assert (levels["shop"].accepted, levels["shop"].pending, levels["shop"].oldest_due_at) == (2, 2, accepted_at)
        await deliver(store, await claimed(store), clock)
        levels = await store.history.levels()
        assert (levels["shop"].delivered, levels["shop"].pending, levels["shop"].oldest_due_at) == (2, 0, None)

    async def test_minutes_end(self, harness: Harness) -> None:
        """A minute is forgotten after its time to be kept."""
        store, clock = await harness.open(rules(keep_samples_s=3600)), harness.clock
        began = clock.now()
        await post(store, note())
        clock.advance(3600)
        await store.prune()
        assert sum(span.accepted for span in await store.history.minutes("shop", began, clock.now())) == 1
        clock.advance(60)
        await store.ping()
        await store.prune()
        spans = await store.history.minutes("shop", began, clock.now())
        assert sum(span.accepted for span in spans) == 0


class DurableRememberingConformance:
    async def test_minutes_survive_a_crash(self, harness: RestartHarness) -> None:
        """The minutes of a process that was killed are exact, and those in which none ran are not there."""
        store, clock = await harness.open(rules()), harness.clock
        began = clock.now()
        await post(store, note(b"1"), note(b"2"))
        clock.advance(60)
        await deliver(store, await claimed(store), clock)
        store = await harness.reopen(rules())
        await post(store, note(b"3"))
        clock.advance(600)
        store = await harness.reopen(rules())
        await post(store, note(b"4"))
        spans = await store.history.minutes("shop", began, clock.now())
        assert [(span.at - began // 60 * 60, span.accepted, span.delivered) for span in spans] == [
            (0, 2, 0), (60, 1, 2), (660, 1, 0),
        ]  # fmt: skip
