"""What is counted part by part is added up, within its time, and ordered."""

from relay.admin.standing.breakdown import breakdown
from relay.admin.standing.failure_groups import failure_groups
from relay.views.past.survey import ChannelCounts, ChannelStep, GroupCounts, GroupStep


async def _look(below: int | None) -> ChannelStep:
    """Three parts: from 300 on, from 200 on, and the rest."""
    at = 300 if below is None else below - 100
    channels: dict[str | None, ChannelCounts] = {
        "a": ChannelCounts(delivered=3, dead=1),
        f"at {at}": ChannelCounts(pending=2),
    }
    return ChannelStep(channels=channels, below=at if at > 100 else None, since=float(at))


async def test_parts_are_added_up() -> None:
    """Every part counts, the most abnormal channel comes first, and then all was seen."""
    found = await breakdown(_look)
    assert (found.complete, found.since, found.others) == (True, 100.0, None)
    first, *rest = found.items
    assert (first.channel, first.accepted, first.delivered, first.dead, first.abnormal) == ("a", 12, 9, 3, 0.25)
    assert [(view.channel, view.accepted, view.abnormal) for view in rest] == [
        ("at 100", 2, 0.0), ("at 200", 2, 0.0), ("at 300", 2, 0.0),
    ]  # fmt: skip


async def test_it_ends_in_time() -> None:
    """What takes too long is left out, and told: how far it came."""
    found = await breakdown(_look, budget_s=0.0)
    assert (found.complete, found.since, len(found.items)) == (False, 300.0, 2)


async def test_channels_without_end() -> None:
    """Of any number of events the first thousand are told one by one, the others together."""

    async def look(_below: int | None) -> ChannelStep:
        found: dict[str | None, ChannelCounts] = {f"event {number}": ChannelCounts(dead=1) for number in range(1500)}
        return ChannelStep(channels=found, below=None, since=0.0)

    found = await breakdown(look)
    assert len(found.items) == 1000
    assert found.others is not None
    assert (found.others.accepted, found.others.abnormal) == (500, 1.0)


async def test_a_group_is_added_up_over_all_parts() -> None:
    """The count of all parts, from the first to the last that was seen, with the newest as the sample."""

    async def look(_platform: str, below: int | None) -> GroupStep:
        at = 300 if below is None else below - 100
        told = {"sample": f"c{at}", "message": f"m{at}"}
        group = GroupCounts(reason="rejected", code="7", count=2, first_at=at - 5.0, last_at=float(at), **told)
        return GroupStep(groups=[group], below=at if at > 100 else None)

    found = await failure_groups(["shop-a", "shop-b"], look)
    assert found.complete
    assert [(each.platform, each.count, each.first_seen, each.last_seen, each.sample) for each in found.items] == [
        ("shop-a", 6, 95.0, 300.0, "c300"), ("shop-b", 6, 95.0, 300.0, "c300"),
    ]  # fmt: skip
