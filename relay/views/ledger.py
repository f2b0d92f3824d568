"""What was accepted, where all of it is, and how full the store is."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import Instant, told


class QueueTotals(Struct, frozen=True):
    """A platform's durable totals, and what is pending counted from rows, of one instant."""

    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    expired: int = 0
    superseded: int = 0
    pending: int = 0

    @property
    def unaccounted(self) -> int:
        """What was accepted and is nowhere: anything but 0 is a fault."""
        return self.accepted - self.delivered - self.dead - self.expired - self.superseded - self.pending


NO_TOTALS = QueueTotals()


class TotalsView(Struct, frozen=True):
    """Callbacks accepted and where they are: accepted = the four ends + pending + unaccounted."""

    accepted: Annotated[int, told("ever accepted; a fan-out counts once per target")]
    delivered: Annotated[int, told("the platform has them")]
    dead: Annotated[int, told("not tried again without a person, dropped ones included")]
    expired: Annotated[int, told("not delivered in their time")]
    superseded: Annotated[int, told("a newer callback stands for them")]
    pending: Annotated[int, told("without a final state")]
    unaccounted: Annotated[int, told("the difference: anything but 0 is a fault")]
    spooled: Annotated[
        int | UnsetType, told("of those pending, what waits in the spool of this host; only where hosts share a store")
    ] = UNSET


class RoomView(Struct, frozen=True):
    """How much of the store's room is used, by the figure that decides when posts are refused."""

    used_bytes: Annotated[int, told("bytes in use")]
    usable_bytes: Annotated[int, told("bytes that posts may use; 0: no bound")]
    max_bytes: Annotated[int, told("store.max_size in bytes; 0: no bound")]
    full: Annotated[bool, told("posts are refused as store_full")]


class AwayView(Struct, frozen=True):
    """What an answer is worth while the server of a shared store is away."""

    since: Annotated[Instant, told("since when it is away")]
    as_of: Annotated[Instant | None, told("when it told this last; null: never since the start of this host")]


class LedgerView(Struct, frozen=True):
    """The ledger in total and per platform."""

    total: Annotated[TotalsView, told("over all platforms")]
    platforms: Annotated[dict[str, TotalsView], told("by platform")]
    store: Annotated[RoomView, told("the store's room; while it is away, the spool's")]
    away: Annotated[AwayView | UnsetType, told("only while a shared store is away: what this is worth then")] = UNSET
