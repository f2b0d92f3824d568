"""Adds up what a store counts part by part, within a bounded time, and orders it for people."""

from collections.abc import Awaitable, Callable
from typing import Final

from relay.core.clock import elapsed_s
from relay.views.moments import Instant
from relay.views.past.survey import BreakdownView, ChannelCounts, ChannelStep, ChannelView

BUDGET_S: Final = 0.8  # of the 1 s that a query may take; the last part may begin just before it is over
LATE_S: Final = 300.0  # as the built-in alert about what is late
_MOST_CHANNELS = 1000  # order centers choose the names of events, so there may be any number of them


async def breakdown(
    look: Callable[[int | None], Awaitable[ChannelStep]], *, budget_s: float = BUDGET_S
) -> BreakdownView:
    """Return the counts of all channels; ``look(below)`` counts the next part. After ``budget_s`` it says how far."""
    began_s = elapsed_s()
    found: dict[str | None, ChannelCounts] = {}
    others = ChannelCounts()
    below: int | None = None
    while True:
        step = await look(below)
        for channel, counts in step.channels.items():
            if channel in found or len(found) < _MOST_CHANNELS:
                found.setdefault(channel, ChannelCounts()).add(counts)
            else:
                others.add(counts)
        below = step.below
        if below is None or elapsed_s() - began_s >= budget_s:
            break
    views = [_view(channel, counts) for channel, counts in found.items()]
    rest = _view(None, others)
    return BreakdownView(
        since=Instant(step.since),
        complete=below is None,
        items=sorted(views, key=lambda view: (-view.abnormal, -view.accepted, view.channel or "")),
        others=rest if rest.accepted else None,
    )


def _view(channel: str | None, counts: ChannelCounts) -> ChannelView:
    accepted = counts.pending + counts.delivered + counts.dead + counts.expired + counts.superseded
    amiss = counts.dead + counts.expired + counts.held + counts.late
    return ChannelView(
        channel=channel,
        accepted=accepted,
        pending=counts.pending,
        delivered=counts.delivered,
        dead=counts.dead,
        expired=counts.expired,
        superseded=counts.superseded,
        held=counts.held,
        late=counts.late,
        abnormal=round(amiss / accepted, 6) if accepted else 0.0,
    )
