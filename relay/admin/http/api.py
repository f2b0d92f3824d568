"""The admin listener's table of routes: every route, the permission it needs and its handler.

What is not in the table is not served, and a row without a permission cannot be written: access is denied by default.
Only the console's files, the login and the health probes answer without one; they tell nothing of callbacks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from aiohttp.web import BaseRequest

from relay.admin.access import Access, Caller, Permission
from relay.admin.audit import Audit
from relay.admin.call import Call
from relay.admin.http import login
from relay.admin.http.console_page import ConsoleFiles
from relay.admin.http.endpoint import AdminRoute
from relay.admin.http.event_client import EventStream
from relay.admin.http.tables.callbacks import callbacks_table, operations_table, reconcile_table
from relay.admin.http.tables.delivery import history_table, hosts_table, platforms_table, what_if_table
from relay.admin.http.tables.service import alerts_table, configuration_table, journal_table, keys_table
from relay.admin.resources.alerts import Alarms, AlertRoutes
from relay.admin.resources.callbacks import CallbackRoutes
from relay.admin.resources.configuration import ConfigAccess, ConfigRoutes, setting
from relay.admin.resources.event_routes import EventTopics
from relay.admin.resources.history_routes import HistoryRoutes, Samples
from relay.admin.resources.host_routes import HostControl, HostRoutes
from relay.admin.resources.journal_routes import JournalRoutes
from relay.admin.resources.key_routes import KeyRoutes
from relay.admin.resources.operations import OperationRoutes
from relay.admin.resources.platform_routes import PlatformControl, PlatformRoutes
from relay.admin.resources.reconcile_routes import Reconciler, ReconcileRoutes
from relay.admin.resources.reveal_routes import RevealRoutes
from relay.admin.resources.what_if_routes import WhatIfRoutes
from relay.admin.reveals import RevealLimit
from relay.admin.standing.drain import DrainTerms
from relay.admin.standing.feed import Feed
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.core.errors import StoreError
from relay.core.raw import JsonObject
from relay.privacy.views import Lenses
from relay.store.base import Ledger
from relay.store.held_keys import HeldKeys
from relay.store.history import MinuteHistory
from relay.store.journal import Journal
from relay.store.sealing import Sealing
from relay.store.survey import Surveys
from relay.telemetry.events import Events
from relay.telemetry.metrics import CONTENT_TYPE, Metrics
from relay.views.past.objective import ObjectiveView
from relay.views.past.what_if import WhatIfJob, WhatIfResult
from relay.views.who import WhoView
from relay.web.dispatch import Routes
from relay.web.health import PROBES
from relay.web.openapi import Described, document
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

_STATS = Permission.STATS


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """The parts of the daemon that operators see and act on."""

    ledger: Ledger
    history: MinuteHistory
    surveys: Surveys
    held_keys: HeldKeys
    journal: Journal
    sealing: Sealing
    samples: Samples
    control: PlatformControl
    access: Access
    lenses: Lenses
    reveals: RevealLimit
    ingest: Sequence[Described]  # the other listener's routes, for the document that both serve
    config: ConfigAccess
    events: Events
    metrics: Metrics
    objective: Callable[[str], ObjectiveView | None]  # how far a platform keeps its own
    terms: Callable[[], Mapping[str, DrainTerms]]  # what each platform's configuration says now
    wall: Callable[[], float]  # the wall clock, in seconds since the epoch: people read its times
    alerts: Alarms
    reconciler: Reconciler
    hosts: HostControl | None  # where several hosts share the store
    operation_started: Callable[[], None]  # wakes the side duty that runs operations
    work_out: Callable[[WhatIfJob], Awaitable[WhatIfResult]]  # in a process of its own


def _of_the_past(
    parts: AdminParts, platforms: PlatformRoutes, sight: Sight, times: WallTimes
) -> tuple[AdminRoute, ...]:
    """Return the routes about what happened, and what would have happened."""
    return (
        *what_if_table(
            WhatIfRoutes(
                listing=parts.ledger,
                history=parts.history,
                platforms=platforms,
                config=parts.config,
                times=times,
                answer_s=lambda name: parts.metrics.request_duration.of(name).mean,
                work_out=parts.work_out,
            )
        ),
        *history_table(
            HistoryRoutes(
                history=parts.history,
                surveys=parts.surveys,
                samples=parts.samples,
                platforms=platforms,
                sight=sight,
                times=times,
            )
        ),
    )


def _of_the_service(
    parts: AdminParts, platforms: PlatformRoutes, audit: Audit, sight: Sight, times: WallTimes
) -> tuple[AdminRoute, ...]:
    """Return the routes about the relay itself: keys, alerts, comparisons, records, configuration."""
    return (
        *keys_table(
            KeyRoutes(
                sealing=parts.sealing,
                operations=parts.ledger,
                platforms=platforms,
                audit=audit,
                times=times,
                started=parts.operation_started,
            )
        ),
        *alerts_table(AlertRoutes(alarms=parts.alerts, audit=audit, times=times)),
        *reconcile_table(ReconcileRoutes(reconciler=parts.reconciler, platforms=platforms, audit=audit, sight=sight)),
        *journal_table(JournalRoutes(journal=parts.journal, platforms=platforms, sight=sight, times=times)),
        *configuration_table(ConfigRoutes(config=parts.config, audit=audit, times=times)),
    )


class AdminApi:
    """The table of routes and what serves it."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts
        ledger, control, config = parts.ledger, parts.control, parts.config
        audit = Audit(records=ledger, wall=parts.wall, events=parts.events)
        times = WallTimes(ledger.clock, parts.wall)
        sight = Sight(ledger, parts.lenses)
        platforms = PlatformRoutes(
            queues=ledger,
            control=control,
            held_keys=parts.held_keys,
            audit=audit,
            sight=sight,
            times=times,
            terms=parts.terms,
            flow=parts.metrics.flow,
            certificates=parts.metrics.certificates,
            objective=parts.objective,
            last_told=None if parts.hosts is None else parts.hosts.last_told,
        )
        callbacks = CallbackRoutes(
            callbacks=ledger,
            platforms=platforms,
            audit=audit,
            sight=sight,
            times=times,
            blocks_on_dead=lambda platform: setting(config.effective(), platform, "on_dead") == "block",
        )
        self.describe = callbacks.describe
        self._login = login.Login(access=parts.access, audit=audit, clock=ledger.clock)
        self._console = ConsoleFiles()
        operations = OperationRoutes(
            operations=ledger,
            platforms=platforms,
            audit=audit,
            sight=sight,
            times=times,
            started=parts.operation_started,
            expires_s=lambda name: terms.expires_s if (terms := parts.terms().get(name)) is not None else None,
        )
        reveals = RevealRoutes(
            callbacks=ledger, access=parts.access, audit=audit, limit=parts.reveals, clock=ledger.clock
        )
        topics = EventTopics(
            platforms=platforms, journal=parts.journal, alarms=parts.alerts, config=config, sight=sight, times=times
        )
        self._topics = topics
        self._feeds: dict[tuple[str | None, bool], Feed] = {}  # by view, and whether callbacks are told of
        parts.metrics.sse_clients = lambda: self.watchers
        self.endpoints = (
            *platforms_table(platforms),
            *_of_the_past(parts, platforms, sight, times),
            *hosts_table(HostRoutes(hosts=parts.hosts, audit=audit, times=times)),
            *callbacks_table(callbacks, reveals),
            *operations_table(operations),
            *_of_the_service(parts, platforms, audit, sight, times),
            AdminRoute("GET", "/v1/session", _STATS, self._login.show, "Who asks, and what is granted", shows=WhoView),
            AdminRoute("GET", "/v1/events", _STATS, self._events, "Server-sent events: all that stands, then changes"),
            AdminRoute("GET", "/metrics", _STATS, self._scrape, "Prometheus metrics"),
            AdminRoute("GET", "/openapi.json", _STATS, self._openapi, "The routes of both listeners as OpenAPI 3.1"),
        )

    @cached_property
    def document(self) -> JsonObject:
        """``/openapi.json``, made when it is first asked for: that takes 25 ms, and few ask."""
        return document([*(each.described() for each in self.endpoints), *self._parts.ingest, *login.ROUTES, *PROBES])

    def add_to(self, routes: Routes) -> None:
        """Serve every endpoint, the login and the console."""
        for endpoint in self.endpoints:
            routes.add(endpoint.method, endpoint.path, endpoint.handler(self._login.admit))
        self._login.add_to(routes)
        self._console.add_to(routes)

    @property
    def watchers(self) -> int:
        """How many clients follow ``GET /v1/events``."""
        return sum(feed.watchers for feed in self._feeds.values())

    async def _scrape(self, call: Call) -> Response:
        ledger, metrics = self._parts.ledger, self._parts.metrics
        live = self._parts.control.views()
        metrics.objectives = {name: found for name in self._parts.terms() if (found := self._parts.objective(name))}
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
        kind = (call.who.view, call.who.may(Permission.VIEW))
        if kind not in self._feeds:
            topics = self._topics.of(call.who.view, callbacks=call.who.may(Permission.VIEW))
            self._feeds[kind] = Feed(topics, failed=self._feed_failed)
        return EventStream(self._feeds[kind], partial(self._still, call.who))

    def _still(self, who: Caller, request: BaseRequest) -> Caller:
        """Return who watches, as long as it is the same with the same rights; raises ``Refusal`` when not."""
        now = self._login.identify(request)
        if (now.grants, now.view) != (who.grants, who.view):
            raise Refusal("forbidden", "the rights have changed: connect again")
        return now

    def _feed_failed(self, error: BaseException) -> None:
        self._parts.events.handler_failed(listener="admin", route="/v1/events", error=error)

    async def _openapi(self, call: Call) -> Response:
        return json_answer(await asyncio.to_thread(lambda: self.document))
