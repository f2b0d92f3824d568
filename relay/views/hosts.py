"""The hosts that share a store, as operators see them."""

from typing import Annotated, Literal

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import Instant, told

HostState = Literal["owning", "accepting", "mismatch", "gone"]


class HostView(Struct, frozen=True, kw_only=True):
    """One host of the store."""

    name: Annotated[str, told("its key host, or the machine's name")]
    version: Annotated[str, told("of the relay there")]
    since: Annotated[Instant | None, told("when its process started")]
    heard_at: Annotated[Instant | None, told("its last heartbeat")]
    digest: Annotated[str, told("of platforms, quotas, groups and rates of its file")]
    state: Annotated[
        HostState,
        told(
            "owning: it sends for platforms; accepting: for none now; mismatch: its file is not the one in force, so "
            "it only accepts; gone: not heard for 9 s"
        ),
    ]
    platforms: Annotated[list[str], told("those it sends for")]
    lease_age_s: Annotated[float | None, told("since its leases were renewed; another host takes over after 16")]
    spooled: Annotated[int, told("posts that wait there because the store was away")]
    history: Annotated[
        int | None, told("callbacks in its history file, which only that host shows; null: it keeps none")
    ] = None
    set_aside: Annotated[int, told("posts in its spool that cannot be brought in: damaged, or changed")] = 0


class HostPage(Struct, frozen=True, kw_only=True):
    """All hosts of the store."""

    items: Annotated[list[HostView], told("by name")]
    digest: Annotated[str | UnsetType, told("of the file in force")] = UNSET
    published_by: Annotated[str | UnsetType, told("the host whose file it is")] = UNSET
    unowned: Annotated[list[str] | UnsetType, told("platforms that no host sends for now")] = UNSET
    reason: Annotated[str | UnsetType, told("why there are none")] = UNSET


class HandedOver(Struct, frozen=True, kw_only=True):
    """What was handed over at an operator's word."""

    platforms: Annotated[dict[str, str], told("by platform: the host that takes it over")]


ALONE = HostPage(items=[], reason="store.url names a file, so this host is the only one; hosts share a Valkey or Redis")
