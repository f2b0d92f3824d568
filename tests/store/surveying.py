"""Conformance: callbacks counted by what they have in common."""

from dataclasses import replace

from relay.core.model import Filter, Outcome, State
from relay.core.settlement import Ending
from relay.store.base import Store
from relay.store.survey import Kind
from relay.views.past.survey import ChannelCounts, GroupCounts
from tests.store.harness import (
    Harness,
    bury,
    claimed,
    deliver,
    hold,
    note,
    operate,
    post,
    request,
    rules,
    seqs,
    settlement,
)


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
    async def test_trace_contexts(self, harness: Harness) -> None:
        """Of the callbacks named only, each context once; who came without one has none."""
        store = await harness.open(rules())
        contexts = ["00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "c" * 32 + "-" + "d" * 16 + "-01"]
        carried = (contexts[0], contexts[0], None, contexts[1])
        await post(store, *(note()._replace(traceparent=context) for context in carried))
        batch = await claimed(store, request())
        found = await store.surveys.traceparents([item.seq for item in batch.items])
        assert sorted(found) == contexts
        assert await store.surveys.traceparents([batch.items[2].seq]) == []
        assert await store.surveys.traceparents([batch.items[3].seq]) == [contexts[1]]

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

    async def test_groups(self, harness: Harness) -> None:
        """Dead and held callbacks are grouped by reason and code, and filtered by what a filter can say."""
        store, clock = await harness.open(rules("shop", "other")), harness.clock
        accepted = await post(store, *[note(str(n).encode(), event="paid") for n in range(4)])
        first_at = clock.now()
        for code in ("7", "7", "8"):
            batch = await claimed(store, request(max_items=1))
            ending = Ending(seqs(batch), State.DEAD, "rejected: errcode", message=f"about {code}", code=code)
            await store.settle(settlement(batch, clock, Outcome.REJECT, endings=[ending]))
            clock.advance(10)
        batch = await claimed(store)
        settled = settlement(batch, clock, Outcome.CONFIRM, held=seqs(batch))
        await store.settle(replace(settled, result=replace(settled.result, reason="who knows", code="9")))

        async def groups(wanted: Filter, *, held: bool = False, platform: str = "shop") -> list[GroupCounts]:
            step = await store.surveys.groups(platform, wanted, held=held, below=None)
            assert step.below is None
            return sorted(step.groups, key=lambda group: group.code or "")

        dead = Filter(state="dead")
        sevens, eights = await groups(dead)
        assert sevens == GroupCounts(
            reason="rejected: errcode",
            code="7",
            count=2,
            first_at=first_at,
            last_at=first_at + 10,
            sample=accepted.ids[1],
            message="about 7",
        )
        assert (eights.code, eights.count, eights.sample) == ("8", 1, accepted.ids[2])
        assert await groups(replace(dead, code="8")) == [eights]
        assert await groups(replace(dead, event="sent")) == []
        assert await groups(dead, platform="other") == await groups(dead, platform="nobody") == []
        (held,) = await groups(Filter(state="pending"), held=True)
        assert (held.reason, held.code, held.count, held.sample) == ("who knows", "9", 1, accepted.ids[3])
        listed, _ = await store.callbacks(Filter(state="dead", code="7"), cursor=None, limit=9)
        assert [(each.id, each.code) for each in listed] == [(accepted.ids[1], "7"), (accepted.ids[0], "7")]
        await operate(store, "retry", Filter(state="dead", code="7"))
        assert await groups(dead) == [eights]
        again, _ = await store.callbacks(Filter(ids=(accepted.ids[0],)), cursor=None, limit=9)
        assert again[0].code is None
