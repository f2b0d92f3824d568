"""The daemon: opens the store, starts the parts in the order a callback needs them, and stops them in reverse.

The order of the start:

1. The store. It recovers from a crash, and slots are rebuilt.
2. The pipelines, the side duties, the admin listener, the ingest listener.
3. READY to systemd.

If a step fails, all before it are undone, and one log line says why. The order of the stop:

1. Ingest finishes its requests and closes.
2. The pipelines finish the requests under way within a bound. The rest stays in the store.
3. The side duties, the admin listener and the store end.
"""

import platform
import random
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.admin.access import Access
from relay.admin.http.api import AdminApi, AdminParts
from relay.admin.http.server import AdminServer
from relay.admin.resources.platform_routes import PlatformControl
from relay.admin.reveals import RevealLimit
from relay.config.schema.file import Config
from relay.core.clock import elapsed_s, wall_s
from relay.core.errors import RelayError
from relay.core.plural import count
from relay.daemon.alert_wiring import Alerting, head_sender
from relay.daemon.doors import GRACE_S, PATIENCE_S, acceptors_of, listen, take_in_beside
from relay.daemon.intake import ingest_settings, slot_desk
from relay.daemon.live import LiveConfig, admin_settings, admin_users
from relay.daemon.observing import Observer
from relay.daemon.readiness import Readiness
from relay.daemon.reconciling.both_sides import DaemonReconciler
from relay.daemon.reconciling.turns import EveryTurn
from relay.daemon.restarts import Restarts
from relay.daemon.side_duties import SideDuties, start_duties
from relay.daemon.stores import open_store, open_tokens, shown_store
from relay.daemon.supervisor import Supervisor
from relay.daemon.systemd import Notifier
from relay.daemon.what_if_process import WhatIfProcess
from relay.delivery.auth import Credentials
from relay.delivery.courier import unending
from relay.delivery.registry import Registry
from relay.delivery.sender import HttpSender, Outbound, Sender
from relay.delivery.terms import Terms, compile_all
from relay.ingest.described import ROUTES
from relay.ingest.intake import Intake
from relay.ingest.lending.desk import LendingDesk
from relay.ingest.lending.routes import QuotaRoutes
from relay.ingest.room import ALONE
from relay.ingest.server import IngestServer
from relay.ingest.traced import BeginSpan
from relay.policy.objective import Objective
from relay.privacy.views import Lenses
from relay.store.base import Store
from relay.telemetry.events import Events
from relay.telemetry.failure import describe
from relay.telemetry.metrics import Metrics
from relay.upkeep.in_time import Objectives
from relay.upkeep.sampling import Sampling
from relay.web.response import encoded

if TYPE_CHECKING:
    from relay.daemon.acceptors.processes import Acceptors
    from relay.daemon.acceptors.template import Forked
    from relay.hosts.wiring import HostWiring

_GOODBYE_S = 3.0  # for the last beat to a shared store, after the requests under way
_TOKEN_CONNECTIONS = 64  # each credential has one request at a time, so one that hangs does not hold up others


async def serve(
    config: Config, *, version: str, events: Events, metrics: Metrics, restarts: Restarts, template: "Forked | None"
) -> int:
    """Run until SIGTERM or SIGINT (returns 0). Raises ``RelayError`` if it cannot start or a root task ends."""
    notifier = Notifier()
    supervisor = Supervisor()
    for number in (signal.SIGTERM, signal.SIGINT):
        supervisor.on_signal(number)
    if wait_s := restarts.wait_s:
        events.restart_delayed(seconds=wait_s, failed=restarts.failed)
        notifier.status(f"failed {restarts.failed} times in a row; starting in {wait_s:.0f} s")
        if await supervisor.stopped_within(wait_s):
            restarts.ended_well()
            return 0
    began_s = elapsed_s()
    events.started(version=version, store=shown_store(config), platforms=len(config.destinations))
    async with AsyncExitStack() as stack:
        stack.enter_context(supervisor.watching_threads())
        daemon = RelayDaemon(config, version, events, metrics, notifier, supervisor, stack, template)
        listeners = await daemon.start()
        events.ready(listeners=listeners, seconds=elapsed_s() - began_s)
        notifier.ready(f"{count(len(config.destinations), 'platform')}, listening on {', '.join(listeners)}")

        fault = await supervisor.wait()
        events.stopping(reason=supervisor.reason)
        notifier.stopping()
        stopping_s = elapsed_s()
    events.stopped(seconds=elapsed_s() - stopping_s, unfinished=daemon.unfinished)
    if fault is not None:
        described = ", ".join(f"{name} {text}" for name, text in describe(fault).items())
        raise RelayError(f"stopped because {supervisor.reason}: {described}; systemd starts it again") from fault
    restarts.ended_well()
    return 0


@dataclass(slots=True)
class RelayDaemon:
    """Builds the parts, each on those before it. What has been started is put on ``stack``, which stops it."""

    config: Config
    version: str
    events: Events
    metrics: Metrics
    notifier: Notifier
    supervisor: Supervisor
    stack: AsyncExitStack
    template: "Forked | None" = None  # of acceptors
    live: LiveConfig | None = None  # there once delivery runs
    unfinished: int = 0  # requests that were under way when the time to stop was over

    async def start(self) -> list[str]:
        """Start everything in the order a callback needs it. Return the addresses that are listened on."""
        store = await self._open_store()
        objectives = Objectives(wanted=self._objectives, history=store.history)
        sampling = self._start_sampling(store, objectives)
        credentials = self._open_credentials(store)
        hosts = self._share(store)
        registry, control = await self._start_delivery(store, credentials, hosts)
        access = Access(admin_users(self.config))
        lenses = Lenses(self.config.privacy.masks, self.config.privacy.compiled())
        live = self.live = LiveConfig(
            config=self.config,
            store=store,
            registry=registry,
            access=access,
            lenses=lenses,
            events=self.events,
            notifier=self.notifier,
        )
        if hosts is not None:
            live.followers.append(hosts.follow)
        reveals = RevealLimit(
            journal=store.journal, clock=store.clock, wall=wall_s, rate=lambda: live.config.privacy.reveals
        )
        reconciler = DaemonReconciler(
            config=lambda: live.config, find=registry.find, store=store, events=self.events, metrics=self.metrics,
            turns=EveryTurn() if hosts is None else hosts.comparison_turns,
        )  # fmt: skip
        self.supervisor.run("reconcile", reconciler.run())
        alerting = await self._start_alerts(store, control, live, credentials, reveals, hosts, reconciler, objectives)
        duties = start_duties(store, live, events=self.events, supervisor=self.supervisor, notifier=self.notifier)
        self.stack.push_async_callback(self.supervisor.cancel)
        reconciler.operation_started = duties.operations.nudge
        head = head_sender(
            store=store, desk=alerting.desk, target=lambda: live.config.audit.head_to, events=self.events
        )
        live.reloaded.append(head.nudge)
        self.supervisor.run("audit head", head.run())
        api = AdminApi(
            AdminParts(
                ledger=store,
                history=store.history,
                surveys=store.surveys,
                held_keys=store.held_keys,
                journal=store.journal,
                sealing=store.sealing,
                samples=sampling,
                control=control,
                hosts=hosts,
                access=access,
                lenses=lenses,
                reveals=reveals,
                ingest=ROUTES,
                config=live.for_operators,
                events=self.events,
                metrics=self.metrics,
                terms=live.terms,
                objective=objectives.standing,
                wall=wall_s,
                operation_started=duties.operations.nudge
                if hosts is None
                else hosts.telling_others(duties.operations.nudge),
                alerts=alerting.desk,
                work_out=WhatIfProcess().work_out,
                reconciler=reconciler if hosts is None else hosts.comparing(reconciler),
            )
        )
        desk = slot_desk(store, registry, config=lambda: live.config)
        offered = desk if hosts is None else hosts.lending(desk)
        acceptors = acceptors_of(self.config, self.template, inbox=store, events=self.events, metrics=self.metrics)
        servers = self._make_servers(store, live, api, duties, offered, self._start_spans(store), acceptors)
        await self._listen(servers)
        take_in_beside(acceptors, live, describe=api.describe, supervisor=self.supervisor, stack=self.stack)
        self.stack.callback(desk.close)
        self.supervisor.on_signal(signal.SIGHUP, live.reload_soon)
        return [address for server in reversed(servers) for address in server.addresses]

    async def _listen(self, servers: list[AdminServer | IngestServer]) -> None:
        await listen(servers, self.stack, patience_s=PATIENCE_S if self.config.ingest.processes else 0.0)

    async def _open_store(self) -> Store:
        """Open the store, and tell it the limits of the configuration."""
        store = await open_store(self.config, self.events)
        self.stack.push_async_callback(store.close)
        self.supervisor.run("store", store.ended())
        await store.configure(self.config.store_rules())
        return store

    def _start_spans(self, store: Store) -> BeginSpan | None:
        """Start what makes and sends spans, where it is configured; return what begins the span of a post."""
        if self.config.telemetry.otlp is None:
            return None
        from relay.telemetry.spans import Spans  # the extra otel

        spans = Spans(
            url=self.config.telemetry.otlp,
            sample=self.config.telemetry.sample,
            version=self.version,
            clock=store.clock,
            events=self.events,
            contexts=store.surveys.traceparents,
        )
        self.events.attempt_ended = spans.attempt
        self.stack.push_async_callback(spans.close)
        self.supervisor.run("spans", spans.run())
        return spans.accept

    def _objectives(self) -> dict[str, Objective]:
        """Return the objectives of the configuration in force, by platform."""
        platforms = self._in_force.platforms.items()
        return {name: kept for name, platform in platforms if (kept := platform.kept_objective) is not None}

    def _start_sampling(self, store: Store, objectives: Objectives) -> Sampling:
        """Start the samples of the history. The last one is kept when everything else has ended."""
        sampling = Sampling(
            history=store.history,
            counted=self.metrics.request_counts,
            objectives=objectives,
            clock=store.clock,
            events=self.events,
        )
        self.stack.push_async_callback(sampling.close)
        self.supervisor.run("sampling", sampling.run())
        return sampling

    @property
    def _agent(self) -> str:
        return f"callback-relay/{self.version}"

    @property
    def _in_force(self) -> Config:
        return self.config if self.live is None else self.live.config

    def _why_denied(self, address: str) -> str | None:
        """Say why a token endpoint may not be at an address, by the configuration in force."""
        return self._in_force.outbound.compiled().why_denied(address)

    def _open_sender(self, terms: Terms) -> Sender:
        return HttpSender(concurrency=terms.concurrency, user_agent=self._agent, outbound=terms.outbound)

    def _open_platform(self, terms: Terms) -> Sender:
        """Open the sender of a platform, which notes when the platform's certificate ends."""
        seen = self.metrics.certificates[terms.platform] = {}  # anew: the address may be another
        return HttpSender(
            concurrency=terms.concurrency,
            user_agent=self._agent,
            outbound=terms.outbound,
            certificate=lambda ends: seen.update(server=ends),
        )

    def _open_credentials(self, store: Store) -> Credentials:
        """Open what hands out tokens, to platforms and alert targets alike."""
        credentials = Credentials(
            sender=HttpSender(
                concurrency=_TOKEN_CONNECTIONS, user_agent=self._agent, outbound=Outbound(denied=self._why_denied)
            ),
            store=open_tokens(self.config),
            clock=store.clock,
            events=self.events,
        )
        self.stack.push_async_callback(credentials.close)
        return credentials

    def _share(self, store: Store) -> "HostWiring | None":
        """Return this host's part in sharing the store; None where the store is a file of its own."""
        if self.config.server is None:
            return None
        from relay.daemon.shared_store import share  # with it the server's client

        return share(self.config, store, version=self.version, events=self.events, metrics=self.metrics)

    async def _start_delivery(
        self, store: Store, credentials: Credentials, hosts: "HostWiring | None"
    ) -> tuple[Registry, PlatformControl]:
        """Start a pipeline for each platform that is this host's; return them, and what operators do to any."""
        registry = Registry(
            outbox=store,
            clock=store.clock,
            wall=wall_s,
            events=self.events,
            rng=random.Random(),
            open_sender=self._open_platform,
            authoriser=credentials.authoriser,
            claim_until=unending if hosts is None else hosts.claim_until,
        )
        store.watch(registry.changed)
        await registry.start(compile_all(self.config))

        async def stop_delivery() -> None:
            if hosts is not None:
                await hosts.leave(GRACE_S + _GOODBYE_S)
            self.unfinished += await registry.stop(GRACE_S)

        control = registry if hosts is None else await hosts.start(registry, self.supervisor.run, self.stack)
        self.stack.push_async_callback(stop_delivery)
        return registry, control

    async def _start_alerts(
        self,
        store: Store,
        control: PlatformControl,
        live: LiveConfig,
        credentials: Credentials,
        reveals: RevealLimit,
        hosts: "HostWiring | None",
        reconciler: DaemonReconciler,
        objectives: Objectives,
    ) -> Alerting:
        """Start what tells people when something is wrong."""
        observer = Observer(
            ledger=store,
            live=control.views,
            watches=(lambda _name: True) if hosts is None else hosts.watches,
            hosts_troubled=dict if hosts is None else hosts.troubled,
            terms=live.terms,
            refused_problems=lambda: live.refused_problems,
            reveals_refused=reveals.refused,
            reconciled=reconciler.facts,
            config=lambda: live.config,
            objective=objectives.standing,
            metrics=self.metrics,
        )
        alerting = Alerting(
            config=self.config,
            clock=store.clock,
            observe=observer.observe,
            open_sender=self._open_sender,
            authoriser=credentials.authoriser,
            host=platform.node(),
            events=self.events,
            metrics=self.metrics,
        )
        await alerting.start()
        self.stack.push_async_callback(alerting.stop, GRACE_S)
        live.followers.append(alerting.replace)
        self.supervisor.run("alerts", alerting.desk.run())
        return alerting

    def _make_servers(
        self,
        store: Store,
        live: LiveConfig,
        api: AdminApi,
        duties: SideDuties,
        desk: LendingDesk,
        begin_span: BeginSpan | None,
        acceptors: "Acceptors | None",
    ) -> list[AdminServer | IngestServer]:
        """Return the listeners, the admin side first; none of them listens yet."""
        config, events = self.config, self.events
        readiness = Readiness(store, [lambda: duties.descriptors.low, self.metrics.acceptors_lacking])
        live.admin = [
            AdminServer(settings=admin_settings(config, listen), api=api, ping=readiness.check, events=events)
            for listen in config.admin.listen
        ]
        intake = Intake(inbox=store, beside=ALONE if acceptors is None else acceptors.room)
        self.stack.callback(intake.close)
        quotas = QuotaRoutes(desk, decode=intake.decoder, clock=store.clock, wall=wall_s)
        live.ingest = [
            IngestServer(
                settings=ingest_settings(config, listen),
                directory=live.directory,
                intake=intake,
                ping=readiness.check,
                describe=api.describe,
                openapi=lambda: encoded(api.document),
                events=events,
                expiring=lambda seconds: duties.expiry.nudge(store.clock.now() + seconds),
                begin_span=begin_span,
                quotas=quotas,
            )
            for listen in config.ingest.listen
        ]
        return [*live.admin, *live.ingest]
