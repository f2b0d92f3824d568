"""What the store knows of a platform's queue, its request windows and its own room."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import Instant, told


class SlotUses(Struct, frozen=True):
    """What the used slots of a window were used for. The numbers add up to all requests sent in the window."""

    first: Annotated[int, told("requests with a callback that was never sent before")] = 0
    resend: Annotated[int, told("requests whose callbacks were all sent before")] = 0
    replay: Annotated[int, told("requests with dead letters that a person sent again")] = 0
    probe: Annotated[int, told("requests that asked whether the platform is back")] = 0
    read_back: Annotated[int, told("requests that asked what became of a callback")] = 0
    external: Annotated[int, told("slots that others than the relay took, or reported")] = 0
    others: Annotated[int, told("requests of other platforms under the same quota")] = 0


class QuotaUse(Struct, frozen=True):
    """One window of a quota that holds a platform, as the store counts it."""

    quota: Annotated[str, told("name of the quota: says where the limit comes from (core.quotas)")]
    window_s: Annotated[float, told("length of the window in seconds")]
    limit: Annotated[int, told("requests allowed in any such window")]
    used: Annotated[int, told("slots taken now")]
    free_at: Annotated[Instant | None, told("when the next slot is free")] = None
    uses: Annotated[SlotUses, told("what the slots were used for")] = SlotUses()
    unit: Annotated[str, told("what the window counts: requests, items, bytes, points")] = "requests"
    calendar: Annotated[str, told("the period, where it begins at a fixed time: day@+08:00")] = ""
    unknown: Annotated[
        bool | UnsetType,
        told("true: all counts as used until free_at, as a failover or a damage lost what was sent; else left out"),
    ] = UNSET


class ErrorView(Struct, frozen=True):
    """The last attempt of a platform that did not go well."""

    at: Annotated[Instant, told("when its answer or failure was seen")]
    outcome: Annotated[str, told("what it came to: throttled, retry, reject, down, ...")]
    status: Annotated[int | None, told("HTTP status; null without an answer")]
    reason: Annotated[str, told("why, in a few stable words")]
    excerpt: Annotated[str, told("the start of the answer")]
    batch: Annotated[str, told("id of the batch that was answered so; empty: not known")] = ""


class QueueFacts(Struct):
    """A platform's queue as the store tells it: counts of callbacks, and the windows in force."""

    accepted: int = 0  # ever accepted; a platform that is not configured is shown while this is not 0
    pending: int = 0  # without a final state
    in_flight: int = 0  # of these, in a request under way
    held: int = 0  # of these, waiting for a person
    keys_held: int = 0  # ordering keys that an operator holds back
    oldest_due_at: Instant | None = None  # since when the oldest that is neither held nor behind another could be sent
    dead: int = 0  # dead letters that were not dropped
    last_error: ErrorView | None = None
    quotas: list[QuotaUse] = []


class HistorySize(Struct, frozen=True):
    """How much the history file of a host holds."""

    callbacks: int
    disk_bytes: int


class StoreSize(Struct, frozen=True):
    """How much of the store's room is used. Bounds that are not set are 0."""

    used_bytes: int  # live pages: they decide when posts are refused
    max_bytes: int  # store.max_size
    usable_bytes: int  # what posts may use of it; the rest is a reserve
    full: bool  # posts are refused
    disk_bytes: int = 0  # files of the store; 0 where only its pages were looked at
    spool: Mapping[str, int] | None = None  # what waits on this host because the server was away, by platform
    history_fails: str = ""  # why what ended cannot move into the history file of this host; empty: it can
    set_aside: int = 0  # posts among those that cannot be brought in
    spooling: bool = False  # the store's server is away: posts go to the spool of this host

    @property
    def spooled(self) -> int:
        """How many callbacks wait on this host because the store's server was away."""
        return sum((self.spool or {}).values())
