"""Wires the alerts: a queue in memory with its own pipelines for the targets, and the desk that decides what is told.

Nothing is shared with the callbacks' store or their pipelines but the code, so alerts leave while those fail.
"""

import random
from collections.abc import Awaitable, Callable

from relay.alerts.apprise_sender import AppriseSender
from relay.alerts.desk import AlertDesk
from relay.alerts.facts import RelayFacts
from relay.alerts.keeping import BoardFile
from relay.alerts.mailbox import Mailbox
from relay.config.schema.alerts import AppriseTarget
from relay.config.schema.file import Config
from relay.core.clock import Clock, wall_s
from relay.core.model import StoreRules
from relay.daemon.stores import open_queue
from relay.delivery.auth import Authoriser
from relay.delivery.registry import Registry
from relay.delivery.sender import Sender
from relay.delivery.terms import Terms, compile_targets
from relay.store.base import Store
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep.head import HeadSender
from relay.views.past.journal import AuditHead

_KEEP_S = 600.0  # messages that came to an end; each is looked at every ten seconds


class Alerting:
    """The alerts of one daemon; ``desk`` is what operators ask."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        observe: Callable[[], Awaitable[RelayFacts]],
        open_sender: Callable[[Terms], Sender],
        authoriser: Callable[[Terms], Authoriser],
        host: str,
        events: Events,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._open_sender = open_sender
        self._queue = open_queue(clock)
        self._registry = Registry(
            outbox=self._queue,
            clock=clock,
            wall=wall_s,
            events=Events(log=events.log_of("alerts"), metrics=Metrics()),  # a target is none of the platforms
            rng=random.Random(),
            open_sender=self._sender,
            authoriser=authoriser,
        )
        self._queue.watch(self._registry.changed)
        self.desk = AlertDesk(
            settings=config.alerts,
            observe=observe,
            mailbox=Mailbox(self._queue, clock=clock, events=events),
            file=BoardFile(config.alerts_path, events=events),
            clock=clock,
            wall=wall_s,
            host=host,
            events=events,
        )
        metrics.alerts_firing = self.desk.firing

    async def start(self) -> None:
        """Go on from what was told before a restart, and start the targets' pipelines."""
        await self.desk.load()
        await self._queue.configure(_rules(self._config))
        await self._registry.start(compile_targets(self._config))

    async def replace(self, config: Config, within_s: float) -> None:
        """Put another configuration's targets and rules in force."""
        self._config = config
        await self._queue.configure(_rules(config))
        await self._registry.replace(compile_targets(config), within_s)
        self.desk.configure(config.alerts)

    async def stop(self, within_s: float) -> None:
        """Let messages under way arrive within the bound; what is left is told after the restart."""
        await self._registry.stop(within_s)

    def _sender(self, terms: Terms) -> Sender:
        target = self._config.alerts.targets[terms.platform]
        return AppriseSender(target.url) if isinstance(target, AppriseTarget) else self._open_sender(terms)


def _rules(config: Config) -> StoreRules:
    """Return what the queue acts on: each target's limit, which is its own."""
    targets = {name: target.platform for name, target in config.alerts.targets.items()}
    quotas = {name: section.private_quota(name) for name, section in targets.items()}
    return StoreRules(
        quotas={quota.name: quota for quota in quotas.values() if quota is not None},
        platforms={name: section.rules(name) for name, section in targets.items()},
        keep_delivered_s=_KEEP_S,
        keep_dead_s=_KEEP_S,
    )


def head_sender(*, store: Store, desk: AlertDesk, target: Callable[[], str | None], events: Events) -> HeadSender:
    """Return what sends the audit's head to an alert target, where ``target`` names one."""

    async def send(target: str, head: AuditHead) -> None:
        await desk.note(target, "audit-head", {"count": str(head.count), "hash": head.hash})

    return HeadSender(store=store, target=target, send=send, clock=store.clock, wall=wall_s, events=events)
