"""The admin listener's table of routes: every route, the permission it needs and its handler.

What is not in the table is not served, and a row without a permission cannot be written: access is denied by default.
Only the index page and the health probes answer without one; they tell nothing about anybody's callbacks.
"""

from collections.abc import Callable, Mapping

from aiohttp.web import BaseRequest

from relay.admin import filters
from relay.admin.access import Access, Permission
from relay.admin.audit import Audit
from relay.admin.call import MOST_REASON, Call
from relay.admin.http import openapi, page
from relay.admin.http.endpoint import AdminRoute
from relay.admin.resources.callbacks import CallbackRoutes
from relay.admin.resources.configuration import ConfigAccess, ConfigRoutes, setting
from relay.admin.resources.operations import ACTIONS, RESOLUTIONS, OperationRoutes
from relay.admin.resources.platform_routes import PlatformControl, PlatformRoutes
from relay.admin.standing.backlog import DrainTerms
from relay.admin.standing.times import WallTimes
from relay.core.errors import StoreError
from relay.store.base import Ledger
from relay.telemetry.events import Events
from relay.telemetry.metrics import CONTENT_TYPE, Metrics
from relay.web.dispatch import Routes
from relay.web.response import Response, json_answer

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


class AdminApi:
    """Builds the handlers from what the daemon hands in, and adds them to a router."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        control: PlatformControl,
        access: Access,
        config: ConfigAccess,
        events: Events,
        metrics: Metrics,
        terms: Callable[[], Mapping[str, DrainTerms]],
        wall: Callable[[], float],
        operation_started: Callable[[], None],
    ) -> None:
        """Wire it. ``terms()`` is what each platform's configuration says now; ``operation_started`` nudges upkeep.

        ``wall()`` is the wall clock, which times are told by.
        """
        self._access = access
        self._ledger = ledger
        self._control = control
        self._metrics = metrics
        audit = Audit(records=ledger, clock=ledger.clock, events=events)
        times = WallTimes(ledger.clock, wall)
        platforms = PlatformRoutes(
            queues=ledger, control=control, audit=audit, times=times, terms=terms, flow=metrics.flow
        )
        callbacks = CallbackRoutes(
            callbacks=ledger,
            platforms=platforms,
            audit=audit,
            times=times,
            blocks_on_dead=lambda platform: setting(config.effective(), platform, "on_dead") == "block",
        )
        self.describe = callbacks.describe
        operations = OperationRoutes(
            operations=ledger, platforms=platforms, audit=audit, times=times, started=operation_started
        )
        configuration = ConfigRoutes(config=config, audit=audit, times=times)
        view, operate = Permission.VIEW, Permission.OPERATE
        self.endpoints = (
            AdminRoute("GET", "/v1/platforms", view, platforms.list, "All platforms: state, queue, quotas, drain time"),
            AdminRoute("GET", "/v1/platforms/{platform}", view, platforms.one, "One platform"),
            AdminRoute(
                "POST",
                "/v1/platforms/{platform}/pause",
                operate,
                platforms.pause,
                "Send nothing more to it until resumed",
                body=_REASON,
            ),
            AdminRoute(
                "POST",
                "/v1/platforms/{platform}/resume",
                operate,
                platforms.resume,
                "End a pause, or else every stop and an open breaker; what was refused is tried again at once",
                body=_REASON,
            ),
            AdminRoute(
                "POST",
                "/v1/platforms/{platform}/flush",
                operate,
                platforms.flush,
                "Send what is pending without waiting for pace or linger; retry times and limits hold",
                body=_REASON,
            ),
            AdminRoute(
                "POST",
                "/v1/platforms/{platform}/limit",
                operate,
                platforms.limit,
                "Put a limit in force in place of what was learned, or forget it and learn anew",
                body=_LIMIT,
            ),
            AdminRoute("GET", "/v1/ledger", view, platforms.ledger, "What was accepted and where all of it is"),
            AdminRoute("GET", "/v1/callbacks", view, callbacks.callbacks, "Callbacks, newest first", query=_PAGED),
            AdminRoute(
                "GET",
                "/v1/callbacks/{id}",
                view,
                callbacks.one,
                "One callback with its attempts; payload=1 adds its payload, masked unless the role may see it",
                query=("payload",),
            ),
            AdminRoute("GET", "/v1/dead-letters", view, callbacks.dead_letters, "Dead letters", query=_PAGED),
            AdminRoute(
                "POST",
                "/v1/operations",
                operate,
                operations.start,
                "Retry, drop, expire or resolve everything that matches a filter",
                body=_OPERATION,
            ),
            AdminRoute("GET", "/v1/operations", view, operations.list, "Operations under way"),
            AdminRoute("GET", "/v1/operations/{id}", view, operations.one, "An operation's progress"),
            AdminRoute(
                "GET",
                "/v1/config",
                view,
                configuration.show,
                "The configuration in force, secrets masked; the last reload, if refused",
            ),
            AdminRoute(
                "POST",
                "/v1/config/validate",
                operate,  # not for viewers: it takes seconds of a core, and tells what is wrong with secrets' files
                configuration.validate,
                "All problems of the YAML in the body, or of the file on disk",
            ),
            AdminRoute(
                "POST",
                "/v1/config/reload",
                operate,
                configuration.reload,
                "Put the file on disk in force",
                body={"dry_run": {"type": "boolean"}, "force": {"type": "boolean"}, **_REASON},
            ),
            AdminRoute("GET", "/metrics", view, self._scrape, "Prometheus metrics"),
            AdminRoute("GET", "/openapi.json", view, self._openapi, "This table as OpenAPI 3.1"),
        )

    def add_to(self, routes: Routes) -> None:
        """Serve every endpoint, and the index page."""
        for endpoint in self.endpoints:
            routes.add(endpoint.method, endpoint.path, endpoint.handler(self._access))
        routes.add("GET", "/", self._index)

    async def _index(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        return Response(200, page.index(self.endpoints), content_type="text/html; charset=utf-8", headers=page.HEADERS)

    async def _scrape(self, call: Call) -> Response:
        live = self._control.views()
        try:
            totals, statuses = await self._ledger.totals(), await self._ledger.platform_status()
            size = await self._ledger.size()
        except StoreError:
            self._metrics.gate_changed(live)  # a scrape is most wanted while the store fails: queues as last seen
        else:
            now = self._ledger.clock.now()
            self._metrics.snapshot(totals=totals, statuses=statuses, size=size, live=live, now=now)
        return Response(200, self._metrics.render(), content_type=CONTENT_TYPE)

    async def _openapi(self, call: Call) -> Response:
        return json_answer(openapi.document(self.endpoints))
