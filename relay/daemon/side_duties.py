"""Starts what runs beside delivery: operations, expiry, pruning, sealing, and the watch over descriptors and store."""

from typing import NamedTuple

from relay.daemon.live import LiveConfig
from relay.daemon.supervisor import Supervisor
from relay.daemon.systemd import Notifier
from relay.store.base import Store
from relay.telemetry.events import Events
from relay.upkeep.descriptors import Descriptors
from relay.upkeep.expiry import Expiry
from relay.upkeep.operations import OperationRunner
from relay.upkeep.stepwise import SHARE, Stepwise
from relay.upkeep.watchdog import Watchdog

_HISTORY_SHARE = 1.0  # a pause as long as its step
_WATCHDOG_S = 5.0  # between two checks of loop and store, without systemd


class SideDuties(NamedTuple):
    """Those that a request may wake, or that tell how the process is."""

    operations: OperationRunner
    expiry: Expiry
    descriptors: Descriptors


def start_duties(
    store: Store, live: LiveConfig, *, events: Events, supervisor: Supervisor, notifier: Notifier
) -> SideDuties:
    """Start them all; ``supervisor`` runs them until it is cancelled."""
    operations = OperationRunner(ledger=store, clock=store.clock, events=events, reroute=live.reroute)
    store.watch_operations(operations.released)
    supervisor.run("operations", operations.run())
    expiry = Expiry(ledger=store, clock=store.clock, events=events)
    supervisor.run("expiry", expiry.run())
    sealing = Stepwise(store.sealing.step, clock=store.clock, events=events)
    supervisor.run("sealing", sealing.run())
    live.rekeyed = sealing.nudge
    # What moves into a history file waits for disks more than it works, and has to keep up with what is delivered.
    share = SHARE if live.config.store.keep.history is None else _HISTORY_SHARE
    pruner = Stepwise(store.prune, clock=store.clock, events=events, share=share)
    supervisor.run("pruner", pruner.run())
    store.watch_taken(pruner.nudge)
    store.watch_taken(lambda: expiry.nudge(store.clock.now()))
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
    return SideDuties(operations, expiry, descriptors)
