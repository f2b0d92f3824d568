"""Rows about callbacks: one, many at once, and compared with the order center."""

from relay.admin import filters
from relay.admin.access import Permission
from relay.admin.http.endpoint import REASON, AdminRoute
from relay.admin.resources.callbacks import CallbackRoutes
from relay.admin.resources.operations import ACTIONS, RESOLUTIONS, OperationRoutes
from relay.admin.resources.reconcile_routes import QUESTION, ReconcileRoutes
from relay.admin.resources.reveal_routes import RevealRoutes
from relay.views.callback_view import CallbackPage, CallbackView, RevealView
from relay.views.operation_view import MatchCount, OperationView
from relay.views.past.reconciliation import RunPage, RunView, WholeRunView

_VIEW, _OPERATE = Permission.VIEW, Permission.OPERATE
_PAGED = (*filters.KEYS, "cursor", "limit")
_OPERATION = {
    "action": {"enum": list(ACTIONS)},
    "filter": {"type": "object", "properties": {key: {} for key in filters.KEYS}},
    "expect_count": {"type": "integer", "description": "409 and nothing done when another number matches"},
    "rate": {"type": "string", "description": "callbacks, such as 50/min"},
    "as": {"enum": list(RESOLUTIONS), "description": "with the action resolve"},
    "run": {"type": "string", "description": "with the action resend: the comparison that found them"},
    "reorder": {"type": "boolean", "description": "retry also what a newer callback of its key has overtaken"},
    "dry_run": {"type": "boolean", "description": "only count the matches"},
    **REASON,
}


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
            body={**REASON, "token": {"type": "string", "description": "the user's own, as a second proof"}},
        ),
        AdminRoute(
            "GET", "/v1/dead-letters", _VIEW, callbacks.dead_letters, "Dead letters", shows=CallbackPage, query=_PAGED
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
            body={"platform": {"type": "string"}, **REASON},
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
