"""Callbacks counted by what they have in common: by platform or event, and dead letters by their reason."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

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


class GroupCounts(Struct, kw_only=True):
    """Dead or held callbacks of one platform that have reason and code in common."""

    reason: str
    code: str | None
    count: int
    first_at: float  # when the first and the last of them ended, or were held
    last_at: float
    sample: str  # id of the newest
    message: str  # the platform's words about it

    def add(self, older: "GroupCounts") -> None:
        """Count those of an older part too."""
        self.count += older.count
        self.first_at = min(self.first_at, older.first_at)
        self.last_at = max(self.last_at, older.last_at)


class GroupStep(Struct, frozen=True, kw_only=True):
    """What one look at a part of a platform's dead or held callbacks found, newest parts first."""

    groups: list[GroupCounts]
    below: int | None  # where the next look begins; None: all were looked at


class FailureGroup(Struct, frozen=True, kw_only=True):
    """One trouble: callbacks that died, or are held, for the same reason."""

    platform: Annotated[str, told("where they go")]
    reason: Annotated[str, told("why, in a few stable words; a filter takes it")]
    code: Annotated[str | None, told("what the rule met in the answer, such as 10060004; a filter takes it")]
    message: Annotated[str, told("the platform's own words about the newest")]
    count: Annotated[int, told("how many")]
    first_seen: Annotated[Instant, told("when the first of them ended, or was sent for the answer that holds it")]
    last_seen: Annotated[Instant, told("the same of the last")]
    sample: Annotated[str | UnsetType, told("id of the newest; left out for who sees no single callback")] = UNSET


class GroupPage(Struct, frozen=True, kw_only=True):
    """``GET /v1/dead-letters/groups``: the largest group first."""

    items: Annotated[list[FailureGroup], told("at most 1000")]
    complete: Annotated[bool, told("false: there are more than could be counted in a second; the newest were")]


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
