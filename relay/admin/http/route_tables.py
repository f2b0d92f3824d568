"""The rows of the admin listener's table of routes, by what they are about: path, permission, handler and views."""

from relay.admin import filters
from relay.admin.access import Permission
from relay.admin.call import MOST_REASON
from relay.admin.http.endpoint import AdminRoute
from relay.admin.resources.alerts import AlertRoutes
from relay.admin.resources.callbacks import CallbackRoutes
from relay.admin.resources.configuration import ConfigRoutes
from relay.admin.resources.history_routes import ALL, HistoryRoutes
from relay.admin.resources.host_routes import HostRoutes
from relay.admin.resources.journal_routes import AUDIT_KEYS, OPERATION_KEYS, JournalRoutes
from relay.admin.resources.key_routes import KeyRoutes
from relay.admin.resources.operations import ACTIONS, RESOLUTIONS, OperationRoutes
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.resources.reconcile_routes import QUESTION, ReconcileRoutes
from relay.admin.resources.reveal_routes import RevealRoutes
from relay.admin.resources.what_if_routes import WhatIfRoutes
from relay.views.alerts import AlertPage, DrillView, SilenceView
from relay.views.callback_view import CallbackPage, CallbackView, RevealView
from relay.views.configuration import ConfigView, ReloadView, ValidationView
from relay.views.hosts import HandedOver, HostPage
from relay.views.ledger import LedgerView
from relay.views.operation_view import MatchCount, OperationPage, OperationView
from relay.views.past.history import SeriesView
from relay.views.past.journal import AuditHead, AuditPage, ChainPage
from relay.views.past.reconciliation import RunPage, RunView, WholeRunView
from relay.views.past.survey import BreakdownView, GroupPage
from relay.views.past.what_if import WhatIfView
from relay.views.platform import PlatformPage, PlatformView
from relay.views.sealing_view import KeysRotated, KeysView

_STATS, _VIEW, _OPERATE = Permission.STATS, Permission.VIEW, Permission.OPERATE
_PAGED = (*filters.KEYS, "cursor", "limit")
_REASON = {"reason": {"type": "string", "maxLength": MOST_REASON, "description": "why, for the audit record"}}
_LIMIT = {
    "rate": {
        "description": "requests, such as 80/min; in place of what was learned, beside what is configured",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    },
    "for": {"type": "string", "description": "such as 2h; without it until it is forgotten"},
    "forget": {"type": "boolean", "description": "drop this limit and everything learned, and learn anew"},
    **_REASON,
}
_GROUP = {"group": {"type": "string", "description": "only this group of the platform, such as one shop"}}
_KEY = {"key": {"type": "string", "description": "only this ordering key: one order, with all that still comes of it"}}
_PAUSE = {
    "for": {"type": "string", "description": "such as 30m; without it until it is resumed"},
    **_GROUP,
    **_KEY,
    **_REASON,
}
_WHAT_IF = {
    "rate": _LIMIT["rate"],
    "burst": {"type": "integer"},
    "concurrency": {"type": "integer", "description": "requests in flight"},
    "batch": {"type": "object", "description": "max_items, max_bytes, linger: as the configuration has them"},
}
_FORGET = {
    "key": {"type": "string", "description": "the ordering key, such as an order id"},
    "before": {"type": "string", "description": "a time such as 2026-11-01, in place of the key"},
    "platform": {"type": "string", "description": "only there"},
    "reason": {"type": "string", "maxLength": MOST_REASON, "description": "why; required"},
}
_OPERATION = {
    "action": {"enum": list(ACTIONS)},
    "filter": {"type": "object", "properties": {key: {} for key in filters.KEYS}},
    "expect_count": {"type": "integer", "description": "409 and nothing done when another number matches"},
    "rate": {"type": "string", "description": "callbacks, such as 50/min"},
    "as": {"enum": list(RESOLUTIONS), "description": "with the action resolve"},
    "run": {"type": "string", "description": "with the action resend: the comparison that found them"},
    "reorder": {"type": "boolean", "description": "retry also what a newer callback of its key has overtaken"},
    "dry_run": {"type": "boolean", "description": "only count the matches"},
    **_REASON,
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
            body={**_GROUP, **_KEY, **_REASON},
        ),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/flush",
            _OPERATE,
            platforms.flush,
            "Send what is pending without waiting for pace or linger; retry times and limits hold",
            shows=PlatformView,
            body={**_GROUP, **_REASON},
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
            "GET", "/v1/ledger", _STATS, platforms.ledger, "What was accepted and where all of it is", shows=LedgerView
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


def callbacks_table(callbacks: CallbackRoutes, reveals: RevealRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about callbacks and dead letters."""
    return (
        AdminRoute(
            "GET",
            "/v1/callbacks",
            _VIEW,
            callbacks.callbacks,
            "Callbacks, newest first; format=jsonl or csv: all that match, with what may be seen of their payloads",
            shows=CallbackPage,
            query=(*_PAGED, "format"),
        ),
        AdminRoute(
            "GET",
            "/v1/callbacks/{id}",
            _VIEW,
            callbacks.one,
            "One callback with its attempts; payload=1 adds its payload, as far as the user may see it",
            shows=CallbackView,
            query=("payload",),
        ),
        AdminRoute(
            "POST",
            "/v1/callbacks/{id}/reveal",
            Permission.REVEAL,
            reveals.reveal,
            "The payload as it came, once; recorded, and at most privacy.reveals",
            shows=RevealView,
            body={**_REASON, "token": {"type": "string", "description": "the user's own, as a second proof"}},
        ),
        AdminRoute(
            "GET", "/v1/dead-letters", _VIEW, callbacks.dead_letters, "Dead letters", shows=CallbackPage, query=_PAGED
        ),
    )


def alerts_table(alerts: AlertRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about alerts."""
    return (
        AdminRoute(
            "GET",
            "/v1/alerts",
            _VIEW,
            alerts.list,
            "What fires, what ended in the last 7 days, targets",
            shows=AlertPage,
        ),
        AdminRoute(
            "POST",
            "/v1/alerts/{rule}/silence",
            _OPERATE,
            alerts.silence,
            "Tell nobody of a rule for a while; 0s ends that",
            shows=SilenceView,
            body={"for": {"type": "string", "description": "such as 2h"}, **_REASON},
        ),
        AdminRoute(
            "POST",
            "/v1/alert-targets/{target}/test",
            _OPERATE,
            alerts.drill,
            "Send a drill to a target and wait for its answer",
            shows=DrillView,
            body=_REASON,
        ),
    )


def operations_table(operations: OperationRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes that start and follow operations."""
    return (
        AdminRoute(
            "POST",
            "/v1/operations",
            _OPERATE,
            operations.start,
            "Retry, drop, expire, resolve or resend everything that matches a filter",
            shows=MatchCount,
            starts=OperationView,
            body=_OPERATION,
        ),
        AdminRoute("GET", "/v1/operations/{id}", _VIEW, operations.one, "An operation's progress", shows=OperationView),
    )


def keys_table(keys: KeyRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about what the store is sealed with."""
    return (
        AdminRoute("GET", "/v1/keys", _VIEW, keys.show, "What the store is sealed with, and how far", shows=KeysView),
        AdminRoute(
            "POST",
            "/v1/keys/rotate",
            _OPERATE,
            keys.rotate,
            "Wrap all data keys with the key in force; no callback is rewritten",
            shows=KeysRotated,
            body=_REASON,
        ),
        AdminRoute(
            "POST",
            "/v1/keys/forget",
            Permission.FORGET,
            keys.forget,
            "Destroy what is kept of an ordering key, or of everything accepted before a time",
            starts=OperationView,
            body=_FORGET,
        ),
    )


def journal_table(journal: JournalRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about what people did."""
    return (
        AdminRoute(
            "GET",
            "/v1/operations",
            _VIEW,
            journal.operations,
            "Operations, newest first; state=running for those under way",
            shows=OperationPage,
            query=(*OPERATION_KEYS, "cursor", "limit"),
        ),
        AdminRoute(
            "GET",
            "/v1/audit",
            _VIEW,
            journal.audits,
            "Who changed or saw what, newest first",
            shows=AuditPage,
            query=(*AUDIT_KEYS, "cursor", "limit"),
        ),
        AdminRoute(
            "GET",
            "/v1/audit/head",
            _VIEW,
            journal.audit_head,
            "The newest audit record: its hash, kept elsewhere, proves all records up to it",
            shows=AuditHead,
        ),
        AdminRoute(
            "GET",
            "/v1/audit/chain",
            _VIEW,
            journal.chain,
            "Audit records as they are chained, oldest first: what relay audit export writes and verify checks",
            shows=ChainPage,
            query=("after", "limit"),
        ),
    )


def configuration_table(configuration: ConfigRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about the configuration."""
    return (
        AdminRoute(
            "GET",
            "/v1/config",
            _VIEW,
            configuration.show,
            "The configuration in force, secrets masked; the last reload, if refused",
            shows=ConfigView,
        ),
        AdminRoute(
            "POST",
            "/v1/config/validate",
            _OPERATE,  # not for viewers: it takes seconds of a core, and tells what is wrong with secrets' files
            configuration.validate,
            "All problems of the YAML in the body, or of the file on disk",
            shows=ValidationView,
        ),
        AdminRoute(
            "POST",
            "/v1/config/reload",
            _OPERATE,
            configuration.reload,
            "Put the file on disk in force",
            shows=ReloadView,
            body={"dry_run": {"type": "boolean"}, "force": {"type": "boolean"}, **_REASON},
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


def reconcile_table(reconciliations: ReconcileRoutes) -> tuple[AdminRoute, ...]:
    """Return the routes about comparisons of both sides."""
    return (
        AdminRoute(
            "GET",
            "/v1/reconciliations",
            _VIEW,
            reconciliations.list,
            "Comparisons with the order center, newest first",
            shows=RunPage,
            query=("platform",),
        ),
        AdminRoute(
            "GET",
            "/v1/reconciliations/{run}",
            _VIEW,
            reconciliations.one,
            "One comparison with its differences",
            shows=WholeRunView,
        ),
        AdminRoute(
            "POST",
            "/v1/reconciliations",
            _OPERATE,
            reconciliations.start,
            "Compare a platform with the order center now",
            starts=RunView,
            body={"platform": {"type": "string"}, **_REASON},
        ),
        AdminRoute(
            "POST",
            "/v1/reconciliations/questions",
            _OPERATE,
            reconciliations.ask,
            "Ask a platform for a page of orders or about one order, under its limits, for relay reconcile",
            body=QUESTION,
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
            body={"platform": {"type": "string"}, **_REASON},
        ),
    )
