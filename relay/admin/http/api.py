"""The admin listener's table of routes: every route, the permission it needs and its handler.

What is not in the table is not served, and a row without a permission cannot be written: access is denied by default.
Only the console's files, the login and the health probes answer without one; they tell nothing of callbacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.admin import filters
from relay.admin.access import Access, Permission
from relay.admin.audit import Audit
from relay.admin.call import MOST_REASON, Call
from relay.admin.http import login
from relay.admin.http.console_page import ConsoleFiles
from relay.admin.http.endpoint import AdminRoute
from relay.admin.http.event_client import EventStream
from relay.admin.resources.alerts import Alarms, AlertRoutes
from relay.admin.resources.callbacks import CallbackRoutes
from relay.admin.resources.configuration import ConfigAccess, ConfigRoutes, setting
from relay.admin.resources.event_routes import EventTopics
from relay.admin.resources.history_routes import ALL, HistoryRoutes, Samples
from relay.admin.resources.journal_routes import AUDIT_KEYS, OPERATION_KEYS, JournalRoutes
from relay.admin.resources.operations import ACTIONS, RESOLUTIONS, OperationRoutes
from relay.admin.resources.platform_routes import PlatformControl, PlatformRoutes
from relay.admin.standing.backlog import DrainTerms
from relay.admin.standing.feed import Feed
from relay.admin.standing.times import WallTimes
from relay.core.errors import StoreError
from relay.store.base import Ledger
from relay.store.history import MinuteHistory
from relay.store.journal import Journal
from relay.store.survey import Surveys
from relay.telemetry.events import Events
from relay.telemetry.metrics import CONTENT_TYPE, Metrics
from relay.views.alerts import AlertPage, DrillView, SilenceView
from relay.views.callback_view import CallbackPage, CallbackView
from relay.views.configuration import ConfigView, ReloadView, ValidationView
from relay.views.ledger import LedgerView
from relay.views.operation_view import MatchCount, OperationPage, OperationView
from relay.views.past.history import SeriesView
from relay.views.past.journal import AuditPage
from relay.views.past.survey import BreakdownView, GroupPage
from relay.views.platform import PlatformPage, PlatformView
from relay.views.who import WhoView
from relay.web.dispatch import Routes
from relay.web.health import PROBES
from relay.web.openapi import Described, document
from relay.web.response import Response, json_answer

_VIEW, _OPERATE = Permission.VIEW, Permission.OPERATE
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
_PAUSE = {"for": {"type": "string", "description": "such as 30m; without it until it is resumed"}, **_REASON}
_OPERATION = {
    "action": {"enum": list(ACTIONS)},
    "filter": {"type": "object", "properties": {key: {} for key in filters.KEYS}},
    "expect_count": {"type": "integer", "description": "409 and nothing done when another number matches"},
    "rate": {"type": "string", "description": "callbacks, such as 50/min"},
    "as": {"enum": list(RESOLUTIONS), "description": "with the action resolve"},
    "reorder": {"type": "boolean", "description": "retry also what a newer callback of its key has overtaken"},
    "dry_run": {"type": "boolean", "description": "only count the matches"},
    **_REASON,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """The parts of the daemon that operators see and act on."""

    ledger: Ledger
    history: MinuteHistory
    surveys: Surveys
    journal: Journal
    samples: Samples
    control: PlatformControl
    access: Access
    ingest: Sequence[Described]  # the other listener's routes, for the document that both serve
    config: ConfigAccess
    events: Events
    metrics: Metrics
    terms: Callable[[], Mapping[str, DrainTerms]]  # what each platform's configuration says now
    wall: Callable[[], float]  # the wall clock, in seconds since the epoch: people read its times
    alerts: Alarms
    operation_started: Callable[[], None]  # wakes the side duty that runs operations


class AdminApi:
    """The table of routes and what serves it."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts
        ledger, control, config = parts.ledger, parts.control, parts.config
        audit = Audit(records=ledger, clock=ledger.clock, events=parts.events)
        times = WallTimes(ledger.clock, parts.wall)
        platforms = PlatformRoutes(
            queues=ledger, control=control, audit=audit, times=times, terms=parts.terms, flow=parts.metrics.flow
        )
        callbacks = CallbackRoutes(
            callbacks=ledger,
            platforms=platforms,
            audit=audit,
            times=times,
            blocks_on_dead=lambda platform: setting(config.effective(), platform, "on_dead") == "block",
        )
        self.describe = callbacks.describe
        self._login = login.Login(access=parts.access, clock=ledger.clock)
        self._console = ConsoleFiles()
        operations = OperationRoutes(
            operations=ledger, platforms=platforms, audit=audit, times=times, started=parts.operation_started
        )
        topics = EventTopics(
            platforms=platforms, journal=parts.journal, alarms=parts.alerts, config=config, times=times
        )
        self._feed = Feed(topics.all(), failed=self._feed_failed)
        self.endpoints = (
            *_platforms_table(platforms),
            *_history_table(
                HistoryRoutes(
                    history=parts.history,
                    surveys=parts.surveys,
                    samples=parts.samples,
                    platforms=platforms,
                    times=times,
                )
            ),
            *_callbacks_table(callbacks),
            *_operations_table(operations),
            *_alerts_table(AlertRoutes(alarms=parts.alerts, audit=audit, times=times)),
            *_journal_table(JournalRoutes(journal=parts.journal, platforms=platforms, times=times)),
            *_configuration_table(ConfigRoutes(config=config, audit=audit, times=times)),
            AdminRoute("GET", "/v1/session", _VIEW, self._login.show, "Who asks, and what is granted", shows=WhoView),
            AdminRoute("GET", "/v1/events", _VIEW, self._events, "Server-sent events: all that stands, then changes"),
            AdminRoute("GET", "/metrics", _VIEW, self._scrape, "Prometheus metrics"),
            AdminRoute("GET", "/openapi.json", _VIEW, self._openapi, "The routes of both listeners as OpenAPI 3.1"),
        )

        self.document = document(
            [*(each.described() for each in self.endpoints), *parts.ingest, *login.ROUTES, *PROBES]
        )

    def add_to(self, routes: Routes) -> None:
        """Serve every endpoint, the login and the console."""
        for endpoint in self.endpoints:
            routes.add(endpoint.method, endpoint.path, endpoint.handler(self._login.identify))
        self._login.add_to(routes)
        self._console.add_to(routes)

    @property
    def watchers(self) -> int:
        """How many clients follow ``GET /v1/events``."""
        return self._feed.watchers

    async def _scrape(self, call: Call) -> Response:
        ledger, metrics = self._parts.ledger, self._parts.metrics
        live = self._parts.control.views()
        metrics.expires_s = {name: terms.expires_s for name, terms in self._parts.terms().items()}
        try:
            totals, statuses = await ledger.totals(), await ledger.platform_status()
            size = await ledger.size()
        except StoreError:
            metrics.gate_changed(live)  # a scrape is most wanted while the store fails: queues as last seen
        else:
            now = ledger.clock.now()
            metrics.snapshot(totals=totals, statuses=statuses, size=size, live=live, now=now)
        return Response(200, metrics.render(), content_type=CONTENT_TYPE)

    async def _events(self, call: Call) -> Response:
        return EventStream(self._feed, self._login.identify)

    def _feed_failed(self, error: BaseException) -> None:
        self._parts.events.handler_failed(listener="admin", route="/v1/events", error=error)

    async def _openapi(self, call: Call) -> Response:
        return json_answer(self.document)


def _platforms_table(platforms: PlatformRoutes) -> tuple[AdminRoute, ...]:
    return (
        AdminRoute(
            "GET",
            "/v1/platforms",
            _VIEW,
            platforms.list,
            "All platforms: state, queue, quotas, drain time",
            shows=PlatformPage,
        ),
        AdminRoute("GET", "/v1/platforms/{platform}", _VIEW, platforms.one, "One platform", shows=PlatformView),
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
            body=_REASON,
        ),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/flush",
            _OPERATE,
            platforms.flush,
            "Send what is pending without waiting for pace or linger; retry times and limits hold",
            shows=PlatformView,
            body=_REASON,
        ),
        AdminRoute(
            "POST",
            "/v1/platforms/{platform}/limit",
            _OPERATE,
            platforms.limit,
            "Put a limit in force in place of what was learned, or forget it and learn anew",
            shows=PlatformView,
            body=_LIMIT,
        ),
        AdminRoute(
            "GET", "/v1/ledger", _VIEW, platforms.ledger, "What was accepted and where all of it is", shows=LedgerView
        ),
    )


def _history_table(history: HistoryRoutes) -> tuple[AdminRoute, ...]:
    return (
        AdminRoute(
            "GET",
            "/v1/platforms/{platform}/series",
            _VIEW,
            history.series,
            f"What happened to a platform ({ALL}: to all) in each step of 5s, 1m, 10m or 1h; null: the relay was down",
            shows=SeriesView,
            query=("since", "step"),
        ),
        AdminRoute(
            "GET",
            "/v1/breakdown",
            _VIEW,
            history.breakdown,
            "What came of the callbacks accepted lately, by platform or event",
            shows=BreakdownView,
            query=("by", "since"),
        ),
        AdminRoute(
            "GET",
            "/v1/dead-letters/groups",
            _VIEW,
            history.groups,
            "Dead letters (or state=expired, state=held) grouped by reason and code, the largest group first",
            shows=GroupPage,
            query=("platform", "state", "key", "event", "reason", "code", "since", "until"),
        ),
    )


def _callbacks_table(callbacks: CallbackRoutes) -> tuple[AdminRoute, ...]:
    return (
        AdminRoute(
            "GET",
            "/v1/callbacks",
            _VIEW,
            callbacks.callbacks,
            "Callbacks, newest first",
            shows=CallbackPage,
            query=_PAGED,
        ),
        AdminRoute(
            "GET",
            "/v1/callbacks/{id}",
            _VIEW,
            callbacks.one,
            "One callback with its attempts; payload=1 adds its payload, masked unless the role may see it",
            shows=CallbackView,
            query=("payload",),
        ),
        AdminRoute(
            "GET", "/v1/dead-letters", _VIEW, callbacks.dead_letters, "Dead letters", shows=CallbackPage, query=_PAGED
        ),
    )


def _alerts_table(alerts: AlertRoutes) -> tuple[AdminRoute, ...]:
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


def _operations_table(operations: OperationRoutes) -> tuple[AdminRoute, ...]:
    return (
        AdminRoute(
            "POST",
            "/v1/operations",
            _OPERATE,
            operations.start,
            "Retry, drop, expire or resolve everything that matches a filter",
            shows=MatchCount,
            starts=OperationView,
            body=_OPERATION,
        ),
        AdminRoute("GET", "/v1/operations/{id}", _VIEW, operations.one, "An operation's progress", shows=OperationView),
    )


def _journal_table(journal: JournalRoutes) -> tuple[AdminRoute, ...]:
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
    )


def _configuration_table(configuration: ConfigRoutes) -> tuple[AdminRoute, ...]:
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
