"""One host among several over a shared store: wires leases, pipelines and what operators see and do together."""

import asyncio
import os
import platform as machine
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from relay.admin.resources.host_routes import NoSuccessor
from relay.admin.resources.reconcile_routes import Reconciler
from relay.config.schema.file import Config
from relay.core.clock import boot_id, boottime_s, wall_s
from relay.core.errors import StoreError
from relay.core.model import UNROUTED
from relay.delivery.registry import Registry
from relay.hosts.errands import Errands
from relay.hosts.listing import hosts_page, live_elsewhere
from relay.hosts.register import LeaseRegister
from relay.hosts.rules.beat import Heart, HeartFacts
from relay.hosts.rules.component import Component, components
from relay.hosts.rules.ownership import Ownership
from relay.hosts.rules.process import HIDDEN, Process
from relay.hosts.rules.topology import digest_of
from relay.hosts.runner import Keeper
from relay.hosts.shared_control import SharedControl, carry_out
from relay.hosts.shared_desk import VERBS, SharedDesk, hand_out
from relay.hosts.shared_reconciler import COMPARING, SharedReconciler, compare_here
from relay.ingest.lending.desk import SlotDesk
from relay.store.redis.comparison_turns import SharedTurns
from relay.store.redis.server.hearing import Hearing
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.telemetry.ownership_figures import OwnershipFigures
from relay.views.hosts import HostPage
from relay.views.live import LastTold
from relay.views.moments import plain
from relay.views.queue import HistorySize

_RELEASE = "hosts.release"

Watch = Callable[[str, Coroutine[Any, Any, None]], None]
"""``watch(name, work)`` runs what must not end while the relay runs."""


class HostWiring:
    """This host's part in sharing the store."""

    def __init__(self, config: Config, store: SpoolingStore, *, version: str, events: Events, metrics: Metrics) -> None:
        self._config = config
        self._store = store
        self._name = config.host or machine.node()
        process = _this_process()
        heart = Heart(name=self._name, process=str(process), version=version, since=wall_s())
        self._ownership = Ownership(heart, process, new_identity=lambda: secrets.token_hex(8), started=process_started)
        self._ownership.configure(components_of(config), _digest(config), publish=False)
        self._figures = metrics.ownership = OwnershipFigures(
            self._lease_ages, lambda: sum(store.spooled().values()), self._history, store.set_aside
        )
        self._events = events
        self._operation_heard: Callable[[], None] = lambda: None
        self._keeper: Keeper | None = None
        self._registry: Registry | None = None
        self._desk: SlotDesk | None = None
        self._reconciler: Reconciler | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def claim_until(self, platform: str) -> float:
        """Until when this host may send for a platform, on the relay clock."""
        return float("-inf") if self._keeper is None else self._keeper.claim_until(platform)

    async def start(self, registry: Registry, watch: Watch, stack: AsyncExitStack) -> SharedControl:
        """Begin to look for platforms to own; return what operators may do on any host.

        ``watch`` is given what must not end while the relay runs.
        """
        store = self._store
        register = LeaseRegister(
            store.link,
            store.keys,
            host=self._name,
            process=str(_this_process()),
            round_trip=self._figures.round_trip.add,
        )
        self._registry = registry
        self._keeper = keeper = Keeper(
            self._ownership,
            sayer=register,
            store=store,
            senders=registry,
            timeouts=lambda: {name: each.timeout for name, each in self._config.platforms.items()},
            describe=self._describe,
            events=self._events,
            boottime=boottime_s,
        )
        errands = Errands(self._name, store.link, prefix=store.keys.prefix, owns=self._serves, do=self._carry_out)
        self._errands = errands
        hearing = Hearing(store.link)
        hearing.subscribe(store.keys.operations, lambda _text: self._operation_heard())
        hearing.subscribe(store.keys.wake, store.heard)
        hearing.subscribe(errands.asks, errands.heard_question)
        hearing.subscribe(errands.answers, errands.heard_answer)
        hearing.subscribe(store.keys.leases, keeper.nudged)
        listening = asyncio.create_task(hearing.run(), name="hearing")
        keeping = asyncio.create_task(keeper.run(), name="hosts")
        watch("hosts", _both(keeping, listening))

        async def stop() -> None:
            for task in (keeping, listening):
                task.cancel()
            await asyncio.gather(keeping, listening, return_exceptions=True)

        stack.push_async_callback(stop)
        self.control = SharedControl(
            registry,
            errands,
            runs=registry.runs,
            configured=lambda: list(self._config.platforms),
            elsewhere=lambda: live_elsewhere(keeper.heard, self._name),
        )
        return self.control

    @property
    def comparison_turns(self) -> SharedTurns:
        """Which of the hosts compares a platform."""
        return self._store.comparison_turns

    def comparing(self, local: Reconciler) -> SharedReconciler:
        """Return what compares on any host; ``local`` compares the platforms that are this host's."""
        self._reconciler = local
        return SharedReconciler(
            local, self._errands, owns=self._ownership.owns, compared=lambda: list(self._config.reconcile)
        )

    def lending(self, desk: SlotDesk) -> SharedDesk:
        """Return what hands out slots on any host; ``desk`` does so of the limits that are this host's."""
        self._desk = desk
        return SharedDesk(desk, self._errands, owns=self._ownership.owns, clock=self._store.clock)

    def telling_others(self, started: Callable[[], None]) -> Callable[[], None]:
        """Return what takes up an operation here, by ``started``, and on the other hosts; theirs are taken up here."""
        self._operation_heard = started

        def start() -> None:
            started()
            task = asyncio.create_task(self._tell_of_operation(), name="tell of an operation")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

        return start

    async def _tell_of_operation(self) -> None:
        try:
            await self._store.link.publish(self._store.keys.operations, self._name)
        except StoreError:  # the others look when they have reached the store again
            return

    async def leave(self, within_s: float) -> None:
        """Hand over what this host owns."""
        if self._keeper is not None:
            await self._keeper.leave(within_s)

    async def follow(self, config: Config, _within_s: float) -> None:
        """Put a reloaded file in force here, and publish it to the others."""
        self._config = config
        self._ownership.configure(components_of(config), _digest(config), publish=True)
        if self._keeper is not None:
            self._keeper.wake()

    def watches(self, platform: str) -> bool:
        """Say whether this host tells people of a platform: the one that sends for it, or the first if none does."""
        if self._ownership.owns(platform):
            return True
        page = self.page()
        return platform not in {name for host in page.items for name in host.platforms} and self._speaks(page)

    def troubled(self) -> dict[str, str]:
        """Return what is wrong with the hosts. Each tells of its own file; the first live one of all the rest."""
        page = self.page()
        found = {host.name: "mismatch" for host in page.items if host.name == self._name and host.state == "mismatch"}
        if self._speaks(page):
            found.update((host.name, "gone") for host in page.items if host.state == "gone")
            found.update(dict.fromkeys(page.unowned or (), "unowned"))
        return found

    def _speaks(self, page: HostPage) -> bool:
        live = [host.name for host in page.items if host.state != "gone"]
        return not live or live[0] == self._name

    def page(self) -> HostPage:
        """Return all hosts."""
        keeper = self._keeper
        if keeper is None or keeper.heard is None:
            return HostPage(items=[], reason="the store has not answered yet")
        return hosts_page(keeper.heard, heard_at=keeper.heard_at, configured=list(self._config.platforms))

    async def last_told(self) -> LastTold | None:
        """Return what the store told before it was away, and how the platforms stood then; None while it is there."""
        return await self._store.last_told(self.control.seen)

    async def release(self, platform: str | None) -> dict[str, str]:
        """Hand over a platform's component, or all that this host owns; return who takes each."""
        if platform is None:
            mine = self._ownership.owned()
            if not mine:
                raise NoSuccessor(f"{self._name} owns nothing that could be handed over")
            return self._hand_over(mine)
        if platform not in self._config.platforms:
            raise KeyError(platform)
        if self._ownership.owns(platform):
            return self._hand_over([self._ownership.component_of(platform)])
        return dict(await self._errands.ask(platform, _RELEASE))

    def _hand_over(self, wanted: list[Component]) -> dict[str, str]:
        given: dict[str, str] = {}
        for component in wanted:
            successor = self._ownership.hand_over(component, boottime_s())
            if successor is not None:
                given.update(dict.fromkeys(component, successor))
        if not given:
            raise NoSuccessor(f"no other host is there to take over from {self._name}; start one, then release again")
        if self._keeper is not None:
            self._keeper.wake()
        return given

    def _serves(self, name: str) -> bool:
        if self._registry is None or not self._ownership.owns(name):
            return False
        return name == UNROUTED or self._registry.runs(name)

    async def _carry_out(self, name: str, verb: str, words: Mapping[str, object]) -> object:
        assert self._registry is not None
        if verb == _RELEASE:
            try:
                return self._hand_over([self._ownership.component_of(name)])
            except NoSuccessor:
                return {}
        if verb in COMPARING and self._reconciler is not None:
            return await compare_here(self._reconciler, name, verb, words)
        if verb in VERBS and self._desk is not None:
            return await hand_out(self._desk, verb, words)
        return await carry_out(self._registry, name, verb, words)

    def _describe(self) -> HeartFacts:
        """Return what lies in the spool and in the history file and what goes on at our platforms, for the heart."""
        views = {} if self._registry is None else self._registry.views()
        held = self._history()
        return HeartFacts(
            spooled=sum(self._store.spooled().values()),
            set_aside=self._store.set_aside(),
            history=None if held is None else held.callbacks,
            live={name: plain(view) for name, view in views.items()},
        )

    def _history(self) -> HistorySize | None:
        return None if self._store.history_file is None else self._store.history_file.held

    def _lease_ages(self) -> dict[str, float | None]:
        now = boottime_s()
        return {name: self._ownership.lease_age_s(name, now) for name in self._config.platforms}


async def _both(*tasks: asyncio.Task[None]) -> None:
    """End when one of them ends; they are cancelled by whoever started them."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if not task.cancelled():
            await task


def components_of(config: Config) -> list[Component]:
    """Return the components of a file; what no route took is a platform of its own."""
    platforms = config.store_rules().platforms
    found = components({name: rule.quotas for name, rule in platforms.items() if name != UNROUTED})
    return [*found, (UNROUTED,)]


def _digest(config: Config) -> str:
    groups = {name: None if each.group is None else str(each.group) for name, each in config.platforms.items()}
    return digest_of(config.store_rules(), groups)


def process_started(number: int) -> int | None:
    """Return when a process started, in clock ticks after the boot (proc(5), stat, field 22), or None without one.

    A process of another user may be hidden (proc(5), hidepid; ProtectProc= of the unit): then ``HIDDEN``.
    """
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return HIDDEN
        return HIDDEN
    return int(stat.rpartition(")")[2].split()[19])


def _this_process() -> Process:
    number = os.getpid()
    return Process(boot_id(), os.readlink("/proc/self/ns/pid"), number, process_started(number) or 0)
