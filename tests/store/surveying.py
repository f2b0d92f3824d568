"""Conformance: callbacks counted by what they have in common."""

from relay.store.base import Store
from relay.store.survey import Kind
from relay.views.survey import ChannelCounts
from tests.store.harness import Harness, bury, claimed, deliver, hold, note, post, request, rules


async def _channels(store: Store, by: Kind, since: float, late_before: float = 0.0) -> dict[str | None, ChannelCounts]:
    found: dict[str | None, ChannelCounts] = {}
    below = None
    while True:
        step = await store.surveys.channels(by, since, late_before=late_before, below=below)
        for channel, counts in step.channels.items():
            found.setdefault(channel, ChannelCounts()).add(counts)
        below = step.below
        if below is None:
            assert step.since == since
            return found


class SurveyingConformance:
    async def test_channels(self, harness: Harness) -> None:
        """Callbacks accepted since a time are counted by platform and by event, in every state they may be in."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        await post(store, note(event="paid"))
        await deliver(store, await claimed(store), clock)
        clock.advance(60)
        since = clock.now()
        await post(store, note(b"1", event="paid"), note(b"2", event="paid"), note(b"3", event="sent"), note(b"4"))
        await post(store, note(platform="other", event="paid"))
        await deliver(store, await claimed(store, request(max_items=1)), clock)
        await bury(store, await claimed(store, request(max_items=1)), clock)
        await hold(store, await claimed(store, request(max_items=1)), clock)
        assert await _channels(store, "platform", since) == {
            "shop": ChannelCounts(pending=2, delivered=1, dead=1, held=1), "other": ChannelCounts(pending=1),
        }  # fmt: skip
        assert await _channels(store, "event", since) == {
            "paid": ChannelCounts(pending=1, delivered=1, dead=1), "sent": ChannelCounts(pending=1, held=1),
            None: ChannelCounts(pending=1),
        }  # fmt: skip
        late = await _channels(store, "platform", since, late_before=since + 1)
        assert {name: counts.late for name, counts in late.items()} == {"shop": 1, "other": 1}
        assert (await _channels(store, "platform", since - 60))["shop"].delivered == 2
        assert await _channels(store, "platform", since + 1) == {}
