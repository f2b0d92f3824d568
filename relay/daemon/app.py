"""The daemon: opens the store, starts the parts in the order a callback needs them, and stops them in reverse.

Start: store (recovered from a crash, slots rebuilt) - pipelines - side duties - admin - ingest - READY. Whatever fails
on the way is undone and told in one line. Stop: ingest finishes its requests and closes, pipelines let what is under
way finish within a bound, the rest stays in the store; then the side duties, the admin listener and the store.
"""

import os
import random
import signal
from contextlib import AsyncExitStack

from relay.admin.access import Access
from relay.admin.http.api import AdminApi
from relay.admin.http.server import AdminServer
from relay.config.reading.units import parse_duration
from relay.config.schema.file import Config
from relay.core.clock import elapsed_s, wall_s
from relay.core.errors import RelayError
from relay.daemon.intake import drop_ins, ingest_settings
from relay.daemon.live import LiveConfig, admin_settings, admin_users
from relay.daemon.readiness import Readiness
from relay.daemon.restarts import Restarts
from relay.daemon.stores import open_store, open_tokens
from relay.daemon.supervisor import Supervisor
from relay.daemon.systemd import Notifier
from relay.delivery.auth import Credentials
from relay.delivery.registry import Registry
from relay.delivery.sender import HttpSender, Sender
from relay.delivery.terms import Terms, compile_all
from relay.ingest.server import IngestServer, Intake
from relay.telemetry.events import Events
from relay.telemetry.failure import describe
from relay.telemetry.metrics import Metrics
from relay.upkeep.descriptors import Descriptors
from relay.upkeep.expiry import Expiry
from relay.upkeep.operations import OperationRunner
from relay.upkeep.prune import Pruner
from relay.upkeep.watchdog import Watchdog
from relay.web.inherited import inherited_sockets, shared_out

_GRACE_S = 10.0  # for requests under way, in and out; the unit's TimeoutStopSec is longer
_TOKEN_CONNECTIONS = 64  # each credential asks its endpoint once at a time: one that hangs holds up no other
_WATCHDOG_S = 5.0  # without systemd: how often loop and store are proven to move


async def serve(config: Config, *, version: str, events: Events, metrics: Metrics, restarts: Restarts) -> int:
    """Run until SIGTERM or SIGINT (0), or until a root task dies (1). Raises ``RelayError`` when it cannot start."""
    notifier = Notifier()
    supervisor = Supervisor()
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):
        supervisor.on_signal(number)
    if wait_s := restarts.wait_s:
        events.restart_delayed(seconds=wait_s, failed=restarts.failed)
        notifier.status(f"failed {restarts.failed} times in a row; starting in {wait_s:.0f} s")
        if await supervisor.stopped_within(wait_s):
            restarts.ended_well()
            return 0
    began_s = elapsed_s()
    unfinished = 0
    events.started(version=version, store=config.store.url, platforms=len(config.platforms))
    async with AsyncExitStack() as stack:
        stack.enter_context(supervisor.watching_threads())
        store = await open_store(config, events)
        stack.push_async_callback(store.close)
        supervisor.run("store", store.ended())
        await store.configure(config.store_rules())

        def open_sender(terms: Terms) -> Sender:
            return HttpSender(
                concurrency=terms.concurrency, user_agent=f"callback-relay/{version}", outbound=terms.outbound
            )

        tokens = open_tokens(config)
        credentials = Credentials(
            sender=HttpSender(concurrency=_TOKEN_CONNECTIONS, user_agent=f"callback-relay/{version}"),
            store=tokens,
            clock=store.clock,
            events=events,
        )
        stack.push_async_callback(credentials.close)
        registry = Registry(
            outbox=store,
            clock=store.clock,
            wall=wall_s,
            events=events,
            rng=random.Random(),
            open_sender=open_sender,
            authoriser=credentials.authoriser,
        )
        store.watch(registry.changed)
        await registry.start(compile_all(config))

        async def stop_delivery() -> None:
            nonlocal unfinished
            unfinished += await registry.stop(_GRACE_S)

        stack.push_async_callback(stop_delivery)

        access = Access(admin_users(config))
        live = LiveConfig(
            config=config,
            store=store,
            registry=registry,
            access=access,
            events=events,
            notifier=notifier,
        )

        operations = OperationRunner(ledger=store, clock=store.clock, events=events, reroute=live.reroute)
        store.watch_operations(operations.released)
        supervisor.run("operations", operations.run())
        expiry = Expiry(ledger=store, clock=store.clock, events=events)
        supervisor.run("expiry", expiry.run())
        supervisor.run("pruner", Pruner(ledger=store, clock=store.clock, events=events).run())
        descriptors = Descriptors(events=events, clock=store.clock)
        supervisor.run("descriptors", descriptors.run())
        watchdog = Watchdog(
            ping=store.ping,
            alive=notifier.alive,
            events=events,
            clock=store.clock,
            interval_s=notifier.watchdog_s / 2 if notifier.watchdog_s else _WATCHDOG_S,
        )
        supervisor.run("watchdog", watchdog.run())
        stack.push_async_callback(supervisor.cancel)

        api = AdminApi(
            ledger=store,
            control=registry,
            access=access,
            config=live.for_operators,
            events=events,
            metrics=metrics,
            terms=live.terms,
            wall=wall_s,
            operation_started=operations.nudge,
        )
        readiness = Readiness(store, descriptors)
        live.admin = [
            AdminServer(settings=admin_settings(config, listen), api=api, ping=readiness.check, events=events)
            for listen in config.admin.listen
        ]
        intake = Intake(inbox=store)
        stack.callback(intake.close)
        live.ingest = [
            IngestServer(
                settings=ingest_settings(config, listen),
                directory=live.directory,
                drop_ins=drop_ins(config, live.directory),
                intake=intake,
                ping=readiness.check,
                describe=api.describe,
                events=events,
                duration=parse_duration,
                expiring=lambda seconds: expiry.nudge(store.clock.now() + seconds),
            )
            for listen in config.ingest.listen
        ]
        servers: list[AdminServer | IngestServer] = [*live.admin, *live.ingest]
        sockets = inherited_sockets(os.environ, pid=os.getpid())
        shares = await shared_out(sockets, [(server.name, server.listen) for server in servers])
        for server, share in zip(servers, shares, strict=True):
            await server.start(inherited=share)
            stack.push_async_callback(server.close, _GRACE_S)

        supervisor.on_signal(signal.SIGHUP, live.reload_soon)
        listeners = [address for server in reversed(servers) for address in server.addresses]
        events.ready(listeners=listeners, seconds=elapsed_s() - began_s)
        notifier.ready(f"{len(config.platforms)} platforms, listening on {', '.join(listeners)}")

        fault = await supervisor.wait()
        events.stopping(reason=supervisor.reason)
        notifier.stopping()
        stopping_s = elapsed_s()
    events.stopped(seconds=elapsed_s() - stopping_s, unfinished=unfinished)
    if fault is not None:
        told = ", ".join(f"{name} {text}" for name, text in describe(fault).items())
        raise RelayError(f"stopped because {supervisor.reason}: {told}; systemd starts it again") from fault
    restarts.ended_well()
    return 0
