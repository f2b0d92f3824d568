"""``relay simulate``: the relay's own policy, pipeline and queue in virtual time, against a modelled platform.

The code is the daemon's: ``delivery.Registry`` and its pipeline, ``policy``, ``limits``, ``wire``, ``upkeep.Expiry``,
with the memory store. Only these are modelled: time, the platform (``model.py``) and what comes in (``traffic.py``).
"""

import asyncio
import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from relay.config.schema.file import Config
from relay.core.model import Batch, ClaimRequest, Expired, Lane, NewCallback, StoreRules, WaitUntil
from relay.core.secret import NO_SECRET
from relay.core.settlement import Settlement
from relay.delivery.auth import FixedAuth
from relay.delivery.registry import Registry
from relay.delivery.terms import compile_terms
from relay.simulate.model import ModelledPlatform, Outage
from relay.simulate.record import Found, Record
from relay.simulate.traffic import Incoming, Traffic
from relay.simulate.virtual import VirtualClock, VirtualLoop
from relay.standin.orders import order_callbacks
from relay.standin.settings import Settings
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events, LimitReport
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.upkeep.expiry import Expiry
from relay.views.ledger import NO_TOTALS, QueueTotals
from relay.wire.payload.cost import cost_reader

_ORDERS = 50  # made-up orders whose payloads are used again and again: only their sizes matter
_PRUNE_EVERY_S = 30.0  # delivered callbacks go, so that memory holds the backlog and not the whole run
# The run goes on this long after the last callback's expiry: a frozen batch may still wait for its retry time and a
# slot. What is pending after that waits for a person. A day in which nothing happens takes a second to simulate.
_LAST_LOOK_S = 86400.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run: a platform of a configuration, how the platform behaves, and what comes in."""

    config: Config
    platform: str
    settings: Settings
    outages: tuple[Outage, ...]
    traffic: Traffic
    seed: int

    @property
    def cost(self) -> str | int:
        """What a callback costs in points, to the relay; of several limits of points the first says it."""
        own = self.config.platforms[self.platform]
        limits = (own, *(self.config.quotas[name] for name in own.quotas))
        return next((section.points.cost for section in limits if section.points is not None), 1)

    @property
    def rules(self) -> StoreRules:
        """The store rules of this platform alone; delivered callbacks are not kept."""
        rules = self.config.store_rules()
        own = rules.platforms[self.platform]
        return StoreRules(
            quotas={name: rules.quotas[name] for name in own.quotas},
            platforms={self.platform: own},
            keep_delivered_s=0.0,
            keep_dead_s=rules.keep_dead_s,
        )


@dataclass(frozen=True, slots=True)
class FinalLedger:
    """The ledger's row at the end of the run, and how many callbacks wait for a person."""

    totals: QueueTotals
    held: int


def simulate(scenario: Scenario, record: Record) -> FinalLedger:
    """Run ``scenario`` until everything has ended or waits for a person; fill ``record``.

    Raises what a pipeline raised, which is a bug of the relay.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_run(scenario, record))


async def _run(scenario: Scenario, record: Record) -> FinalLedger:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    started_at = scenario.traffic.start_at
    clock = VirtualClock(loop, started_at)
    store = MemoryStore(clock=clock)
    await store.configure(scenario.rules)
    witness = _Witness(store=store, platform=scenario.platform, record=record, loop=loop)
    cost = cost_reader(scenario.cost)
    platform = ModelledPlatform(
        settings=scenario.settings,
        outages=scenario.outages,
        clock=clock,
        started_at=started_at,
        rng=random.Random(f"{scenario.seed} platform"),
        members=witness.under_way,
        cost=cost,
        record=record,
    )
    events = _SimulatedEvents(witness)
    registry = Registry(
        outbox=witness,
        clock=clock,
        wall=clock.now,
        events=events,
        rng=random.Random(f"{scenario.seed} relay"),
        open_sender=lambda terms: platform,
        authoriser=lambda terms: FixedAuth(None, NO_SECRET),  # the model looks at no credentials
    )
    store.watch(registry.changed)
    expiry = Expiry(ledger=witness, clock=clock, events=events)
    own = scenario.config.platforms[scenario.platform]
    await registry.start([compile_terms(scenario.platform, own)])
    duties = [asyncio.create_task(expiry.run()), asyncio.create_task(_prune(store))]
    feed = _Feed(scenario, witness=witness, expiry=expiry, clock=clock, loop=loop, expires_s=own.expires, cost=cost)
    feed.post()
    try:
        async with asyncio.timeout_at(scenario.traffic.for_s + own.expires + _LAST_LOOK_S):
            await witness.over.wait()
    except TimeoutError:
        pass  # what is left is held or blocked and waits for a person
    await registry.stop(0.0)
    for duty in duties:
        if duty.done():
            duty.result()  # a duty ends only by an exception, which this raises
        duty.cancel()
    if witness.failure is not None:
        raise witness.failure
    statuses = await store.platform_status()
    totals = await store.totals()
    return FinalLedger(totals.get(scenario.platform, NO_TOTALS), statuses[scenario.platform].held)


async def _prune(store: MemoryStore) -> None:
    while True:
        await asyncio.sleep(_PRUNE_EVERY_S)
        while await store.prune():
            pass


class _Witness:
    """The outbox that the pipeline gets: passes each call on to the store and records its result."""

    def __init__(self, *, store: MemoryStore, platform: str, record: Record, loop: VirtualLoop) -> None:
        self.under_way: dict[str, Batch] = {}
        self.over = asyncio.Event()
        self.failure: BaseException | None = None
        self.store = store
        self._all_in = False
        self._platform = platform
        self._record = record
        self._loop = loop
        self._in_flight = 0
        self.watch = store.watch
        self.gates = store.gates
        self.set_gate = store.set_gate
        self.set_quotas = store.set_quotas
        self.retry_now = store.retry_now
        self.reserve = store.reserve

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Claim, and remember what is under way."""
        claimed = await self.store.claim(request)
        if isinstance(claimed, Batch):
            self.under_way[claimed.id] = claimed
            self._in_flight += len(claimed.items)
            self.changed()
        return claimed

    async def settle(self, settlement: Settlement) -> None:
        """Settle, and note what it ended."""
        await self.store.settle(settlement)
        batch = next(each for each in self.under_way.values() if each.attempt_id == settlement.attempt_id)
        del self.under_way[batch.id]
        self._in_flight -= len(batch.items)
        for ending in settlement.endings:
            self._record.ends[ending.reason] += len(ending.seqs)
        self.changed()

    async def expire(self) -> Expired:
        """Expire; the backlog may have shrunk."""
        expired = await self.store.expire()
        self.changed()
        return expired

    def all_in(self) -> None:
        """Note that nothing more comes in."""
        self._all_in = True
        self.changed()

    def changed(self) -> None:
        """Record the backlog. The run is over when all has come in and nothing is pending."""
        pending = self.store.pending(self._platform)
        self._record.level(self._loop.time(), pending=pending, waiting=max(0, pending - self._in_flight))
        if self._all_in and not pending:
            self.over.set()

    def learned(self, source: str, rates: tuple[str, ...], *, enforced: bool, confidence: float) -> None:
        """Record a limit that the relay learned."""
        self._record.found.append(Found(self._loop.time(), source, rates, enforced, confidence))

    def delivered_late(self, count: int) -> None:
        """Record callbacks that the platform's objective counts as late."""
        self._record.late += count

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``."""
        self.failure = error
        self.over.set()


class _SimulatedEvents(Events):
    """Records learned limits. A pipeline that fails ends the run; it is not started again."""

    def __init__(self, witness: _Witness) -> None:
        super().__init__(log=make_logger(file=io.BytesIO(), level="error"), metrics=Metrics())
        self._witness = witness

    def delivered(self, *, platform: str, latencies: Sequence[float], late: int) -> None:
        """Callbacks were delivered."""
        super().delivered(platform=platform, latencies=latencies, late=late)
        self._witness.delivered_late(late)

    def limit_learned(self, limit: LimitReport) -> None:
        """A limit was learned."""
        self._witness.learned(limit.source, tuple(limit.rates), enforced=limit.enforced, confidence=limit.confidence)

    def pipeline_failed(self, *, platform: str, error: BaseException, restart_s: float) -> None:
        """A platform's pipeline raised, which is a bug."""
        self._witness.fail(error)


class _Feed:
    """Posts each callback at its time, by a chain of timers: to switch to a task for each would cost more."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        witness: _Witness,
        expiry: Expiry,
        clock: VirtualClock,
        loop: VirtualLoop,
        expires_s: float,
        cost: Callable[[bytes], int],
    ) -> None:
        self._cost = cost
        self._platform = scenario.platform
        self._incoming: Iterator[Incoming] = scenario.traffic.incoming(seed=scenario.seed)
        self._payloads = cycle(each.payload for life in order_callbacks(_ORDERS, seed=scenario.seed) for each in life)
        self._next: Incoming | None = next(self._incoming, None)
        self._witness = witness
        self._expiry = expiry
        self._clock = clock
        self._loop = loop
        self._expires_s = expires_s

    def post(self) -> None:
        """Post everything that is due, and set the timer for the next callback."""
        rows = []
        now_s = self._loop.time()
        while self._next is not None and self._next.at_s <= now_s:
            rows.append(self._row(self._next.key))
            self._next = next(self._incoming, None)
        if rows:
            self._witness.store.accept(rows).result()
            self._expiry.nudge(self._clock.now() + self._expires_s)
            self._witness.changed()
        if self._next is None:
            self._witness.all_in()
        else:
            self._loop.call_at(self._next.at_s, self._post)

    def _post(self) -> None:
        try:
            self.post()
        except Exception as error:  # noqa: BLE001 - the loop would only log it; the run must end with it
            self._witness.fail(error)

    def _row(self, key: str | None) -> NewCallback:
        payload = next(self._payloads)
        return NewCallback(
            platform=self._platform,
            payload=payload,
            key=key,
            event=None,
            lane=Lane.NORMAL,
            expires_s=self._expires_s,
            idempotency_key=None,
            content_type=None,
            traceparent=None,
            group="",
            points=self._cost(payload),
        )
