"""Rows about the relay itself: its configuration, its keys, its alerts and what people did."""

from relay.admin.access import Permission
from relay.admin.call import MOST_REASON
from relay.admin.http.endpoint import REASON, AdminRoute
from relay.admin.resources.alerts import AlertRoutes
from relay.admin.resources.configuration import ConfigRoutes
from relay.admin.resources.journal_routes import JournalRoutes
from relay.admin.resources.key_routes import KeyRoutes
from relay.admin.standing.deeds_asked import AUDIT_KEYS, OPERATION_KEYS
from relay.views.alerts import AlertPage, DrillView, SilenceView
from relay.views.configuration import ConfigView, ReloadView, ValidationView
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditHead, AuditPage, ChainPage
from relay.views.sealing_view import KeysRotated, KeysView

_VIEW, _OPERATE = Permission.VIEW, Permission.OPERATE
_FORGET = {
    "key": {"type": "string", "description": "the ordering key, such as an order id"},
    "before": {"type": "string", "description": "a time such as 2026-11-01, in place of the key"},
    "platform": {"type": "string", "description": "only there"},
    "reason": {"type": "string", "maxLength": MOST_REASON, "description": "why; required"},
}


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
            body={"dry_run": {"type": "boolean"}, "force": {"type": "boolean"}, **REASON},
        ),
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
            body=REASON,
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
            body={"for": {"type": "string", "description": "such as 2h"}, **REASON},
        ),
        AdminRoute(
            "POST",
            "/v1/alert-targets/{target}/test",
            _OPERATE,
            alerts.drill,
            "Send a drill to a target and wait for its answer",
            shows=DrillView,
            body=REASON,
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
