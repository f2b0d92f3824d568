"""Callbacks counted by what they have in common: by platform or event, and dead letters by their reason."""

from typing import Annotated

from msgspec import Struct

from relay.views.moments import Instant, told


class ChannelCounts(Struct, kw_only=True):
    """How many callbacks of one platform or event are in which state."""

    pending: int = 0
    delivered: int = 0
    dead: int = 0
    expired: int = 0
    superseded: int = 0
    held: int = 0  # of the pending ones
    late: int = 0  # of the pending ones, not held

    def add(self, other: "ChannelCounts") -> None:
        """Count those of another part too."""
        self.pending += other.pending
        self.delivered += other.delivered
        self.dead += other.dead
        self.expired += other.expired
        self.superseded += other.superseded
        self.held += other.held
        self.late += other.late


class ChannelStep(Struct, frozen=True, kw_only=True):
    """What one look at a part of the callbacks counted, newest parts first."""

    channels: dict[str | None, ChannelCounts]
    below: int | None  # where the next look begins; None: all were looked at
    since: float  # everything accepted from this time on was looked at


class ChannelView(Struct, frozen=True, kw_only=True):
    """The callbacks of one platform or event."""

    channel: Annotated[str | None, told("platform, or name of the event; null: posted without an event")]
    accepted: Annotated[int, told("all of them: the sum of the five states")]
    pending: Annotated[int, told("without a final state")]
    delivered: Annotated[int, told("the platform has them")]
    dead: Annotated[int, told("not tried again without a person")]
    expired: Annotated[int, told("not delivered in their time")]
    superseded: Annotated[int, told("a newer callback stands for them")]
    held: Annotated[int, told("of the pending ones: they wait for a person")]
    late: Annotated[int, told("of the other pending ones: they could have been sent 5 minutes ago")]
    abnormal: Annotated[float, told("share of dead, expired, held and late among all, from 0 to 1")]


class BreakdownView(Struct, frozen=True, kw_only=True):
    """``GET /v1/breakdown``: the callbacks accepted since a time, by platform or event."""

    since: Annotated[Instant, told("callbacks accepted from then on are counted")]
    complete: Annotated[bool, told("false: that took too long, and `since` is how far it came")]
    items: Annotated[list[ChannelView], told("the most abnormal first, then the largest; at most 1000")]
    others: Annotated[ChannelView | None, told("all channels beyond those, together")]
