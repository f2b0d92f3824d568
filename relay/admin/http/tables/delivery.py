"""Rows about platforms, what they were sent over time, and the hosts that send it."""

from relay.admin.access import Permission
from relay.admin.http.endpoint import REASON, AdminRoute
from relay.admin.resources.history_routes import ALL, HistoryRoutes
from relay.admin.resources.host_routes import HostRoutes
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.resources.what_if_routes import WhatIfRoutes
from relay.views.hosts import HandedOver, HostPage
from relay.views.ledger import LedgerView
from relay.views.past.history import SeriesView
from relay.views.past.survey import BreakdownView, GroupPage
from relay.views.past.what_if import WhatIfView
from relay.views.platform import PlatformPage, PlatformView

_STATS, _VIEW, _OPERATE = Permission.STATS, Permission.VIEW, Permission.OPERATE
_LIMIT = {
    "rate": {
        "description": "requests, such as 80/min; in place of what was learned, beside what is configured",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    },
    "for": {"type": "string", "description": "such as 2h; without it until it is forgotten"},
    "forget": {"type": "boolean", "description": "drop this limit and everything learned, and learn anew"},
    **REASON,
}
_LAST_KNOWN = ("last_known",)  # 1: while a shared store is away, what it told last instead of a 503
_GROUP = {"group": {"type": "string", "description": "only this group of the platform, such as one shop"}}
_KEY = {"key": {"type": "string", "description": "only this ordering key: one order, with all that still comes of it"}}
_PAUSE = {
    "for": {"type": "string", "description": "such as 30m; without it until it is resumed"},
    **_GROUP,
    **_KEY,
    **REASON,
}
_WHAT_IF = {
    "rate": _LIMIT["rate"],
    "burst": {"type": "integer"},
    "concurrency": {"type": "integer", "description": "requests in flight"},
    "batch": {"type": "object", "description": "max_items, max_bytes, linger: as the configuration has them"},
}


def platforms_table(platforms: PlatformRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about platforms and the ledger."""
    return (
        AdminRoute(
            "GET",
            "/v1/platforms",
            _STATS,
            platforms.list,
            "All platforms: state, queue, quotas, drain time",
            shows=PlatformPage,
            query=_LAST_KNOWN,
        ),
        AdminRoute("GET", "/v1/platforms/{platform}", _STATS, platforms.one, "One platform", shows=PlatformView),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/pause",
            _OPERATE,
            platforms.pause,
            "Send nothing more to it until resumed, or for a time",
            shows=PlatformView,
            body=_PAUSE,
        ),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/resume",
            _OPERATE,
            platforms.resume,
            "End a pause, or else every stop and an open breaker; what was refused is tried again at once",
            shows=PlatformView,
            body={**_GROUP, **_KEY, **REASON},
        ),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/flush",
            _OPERATE,
            platforms.flush,
            "Send what is pending without waiting for pace or linger; retry times and limits hold",
            shows=PlatformView,
            body={**_GROUP, **REASON},
        ),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/limit",
            _OPERATE,
            platforms.limit,
            "Put a limit in force in place of what was learned, or forget it and learn anew",
            shows=PlatformView,
            body={**_LIMIT, **_GROUP},
        ),
        AdminRoute(
            "GET",
            "/v1/ledger",
            _STATS,
            platforms.ledger,
            "What was accepted and where all of it is",
            shows=LedgerView,
            query=_LAST_KNOWN,
        ),
    )


def what_if_table(what_if: WhatIfRoutes) -> tuple[AdminRoute, ...]:
    """Return the route that tries a change."""
    return (
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/simulate",
            _OPERATE,  # it takes seconds of a core
            what_if.simulate,
            "Try other settings on the traffic of the last hour, in virtual time; changes nothing",
            shows=WhatIfView,
            body=_WHAT_IF,
        ),
    )


def history_table(history: HistoryRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about what happened over time."""
    return (
        AdminRoute(
            "GET",
            "/v1/platforms/{platform}/series",
            _STATS,
            history.series,
            f"What happened to a platform ({ALL}: to all) in each step of 5s, 1m, 10m or 1h; null: the relay was down",
            shows=SeriesView,
            query=("since", "step"),
        ),
        AdminRoute(
            "GET",
            "/v1/breakdown",
            _STATS,
            history.breakdown,
            "What came of the callbacks accepted lately, by platform or event",
            shows=BreakdownView,
            query=("by", "since"),
        ),
        AdminRoute(
            "GET",
            "/v1/dead-letters/groups",
            _STATS,
            history.groups,
            "Dead letters (or state=expired, state=held) grouped by reason and code, the largest group first",
            shows=GroupPage,
            query=("platform", "state", "key", "event", "reason", "code", "since", "until"),
        ),
    )


def hosts_table(hosts: HostRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about the hosts that share the store."""
    return (
        AdminRoute(
            "GET",
            "/v1/hosts",
            _VIEW,
            hosts.list,
            "The hosts that share the store, and which platforms each sends for",
            shows=HostPage,
        ),
        AdminRoute(
            "POST",
            "/v1/hosts/release",
            _OPERATE,
            hosts.release,
            "Hand a platform over to another host, with all that share quotas with it; without one all of this host",
            shows=HandedOver,
            body={"platform": {"type": "string"}, **REASON},
        ),
    )
