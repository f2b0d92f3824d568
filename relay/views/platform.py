"""All there is to say about one platform."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.ledger import AwayView
from relay.views.limit_view import LimitView, QuotaView
from relay.views.live import PausedGroupView, StoppedGroupView
from relay.views.moments import Instant, told
from relay.views.past.objective import ObjectiveView
from relay.views.queue import ErrorView


class StoppedGroupsView(Struct, frozen=True):
    """The groups of a platform that are left alone while the others go on."""

    count: Annotated[int, told("how many there are")]
    items: Annotated[list[StoppedGroupView], told("those that are stopped longest, ten at most")]


class CertificateView(Struct, frozen=True):
    """Of the TLS certificates between relay and platform the one that ends first."""

    whose: Annotated[str, told("server: the platform's, as its last connection showed it; client: connect.cert")]
    ends_at: Annotated[Instant, told("when it ends")]
    days_left: Annotated[int, told("whole days until then; below 0 where it is over")]


class PlatformView(Struct, frozen=True, kw_only=True):
    """One platform: its state with the reason, its queue, what holds it, and when it will be drained."""

    name: Annotated[str, told("as the configuration names it")]
    removed: Annotated[bool, told("no longer in the configuration, though callbacks wait for it")]
    state: Annotated[str, told("paused, broken, throttled, limited or ok: the first that holds; unknown offline")]
    reason: Annotated[str, told("why it is in this state")]
    since: Annotated[Instant | None, told("since when it is; null where nobody knows")]
    until: Annotated[Instant | None, told("when that ends or is tried next; null where nobody knows")]
    paused_groups: Annotated[list[PausedGroupView], told("groups that an operator paused")]
    stopped_groups: Annotated[StoppedGroupsView, told("groups that are stopped on their own")]
    in_per_s: Annotated[float | None, told("callbacks accepted per second in the last minute")]
    out_per_s: Annotated[float | None, told("callbacks that ended per second in the last minute")]
    pending: Annotated[int, told("callbacks without a final state")]
    in_flight: Annotated[int, told("of these, callbacks in a request under way")]
    requests_in_flight: Annotated[int, told("requests under way")]
    requests_allowed: Annotated[int | None, told("requests that may be under way at once")]
    held: Annotated[int, told("callbacks that wait for a person")]
    keys_held: Annotated[int, told("ordering keys that an operator holds back")]
    oldest_due_seconds: Annotated[float | None, told("how long the oldest could have been sent, in seconds")]
    dead: Annotated[int, told("dead letters, dropped ones aside")]
    quotas: Annotated[list[QuotaView], told("windows that hold it; of groups' own limits the ten used most")]
    learned_limit: Annotated[LimitView | None, told("a limit that no configuration holds; null: none is looked for")]
    drain_eta_seconds: Annotated[float | None, told("until all that waits is sent, in seconds; null: see drain_reason")]
    drain_reason: Annotated[str, told("why there is no drain time; empty where there is one")]
    growing: Annotated[bool | None, told("more comes in than the limits let out; null where nobody knows")]
    expires_seconds: Annotated[float | None, told("expires of the configuration, in seconds")]
    last_error: Annotated[ErrorView | str | None, told("the last failure: in words, or the attempt that had it")]
    certificate: Annotated[
        CertificateView | None, told("the TLS certificate that ends first; null: none was seen since the start")
    ] = None
    objective: Annotated[
        ObjectiveView | None, told("how far its objective is kept; null: it has none, or was not looked at yet")
    ] = None
    brought_forward: Annotated[
        int | UnsetType, told("answer to resume: callbacks that need not wait for their retry time")
    ] = UNSET


class PlatformPage(Struct, frozen=True):
    """All platforms: configured ones in the file's order, then what only the store still knows."""

    items: Annotated[list[PlatformView], told("all of them")]
    next: Annotated[None, told("always null: there is one page")] = None
    away: Annotated[AwayView | UnsetType, told("only while a shared store is away: what this is worth then")] = UNSET
