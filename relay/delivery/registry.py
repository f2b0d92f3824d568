"""All pipelines by platform: starts, supervises, replaces and stops them, and answers for them to operators.

A pipeline that raises is a bug: it is started again, or stands still (``lasting.py``), without touching the others.
What it had under way is settled or, failing that, found as crashed at the next start of the relay.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from relay.core.clock import Clock
from relay.core.errors import NoGroups, StoreError
from relay.core.model import Rate
from relay.core.raw import Kept, Record
from relay.delivery.auth import Authoriser
from relay.delivery.courier import Surroundings, unending
from relay.delivery.lasting import Lasting
from relay.delivery.pipeline import Pipeline
from relay.delivery.sender import Sender
from relay.delivery.terms import Terms
from relay.limits.known import OperatorLimit
from relay.limits.learner import Learner
from relay.limits.summary import summary
from relay.policy.gate.breaker import Breaker
from relay.policy.gate.orders import GroupLimit, GroupOrders
from relay.policy.gate.platform import Gate, dump_pause
from relay.store.base import Outbox
from relay.telemetry.events import Events
from relay.views.live import LiveFacts, PausedGroupView, StoppedGroupView
from relay.views.moments import Instant


@dataclass(slots=True)
class _Running:
    pipeline: Pipeline
    lasting: Lasting
    sender: Sender
    task: asyncio.Task[None]


class Registry:
    """The platforms under delivery."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        clock: Clock,
        wall: Callable[[], float],
        events: Events,
        rng: random.Random,
        open_sender: Callable[[Terms], Sender],
        authoriser: Callable[[Terms], Authoriser],
        claim_until: Callable[[str], float] = unending,
    ) -> None:
        """Wire it. ``claim_until``: until when this host may send for a platform (relay clock), -inf if it may not."""
        self._outbox = outbox
        self._clock = clock
        self._events = events
        self._building = ThreadPoolExecutor(1, thread_name_prefix="delivery-build")
        self._surroundings = Surroundings(clock, wall, events, rng, self._building, claim_until)
        self._claim_until = claim_until
        self._open_sender = open_sender
        self._authoriser = authoriser
        self._terms: dict[str, Terms] = {}
        self._running: dict[str, _Running] = {}
        self._changing = asyncio.Lock()
        self._to_open: set[str] = set()  # asked for, and not opened yet
        self._settling: set[asyncio.Future[list[None]]] = set()  # of ended pipelines, while the store is away

    async def start(self, terms: Iterable[Terms]) -> None:
        """Start a pipeline per platform that this host may send for; without any the store is not asked."""
        self._terms = {each.platform: each for each in terms}
        await self.open([name for name in self._terms if self._is_ours(name)])

    async def open(self, names: Iterable[str]) -> None:
        """Start the pipelines of platforms that have become ours, each with the gate it had when last settled."""
        mine = frozenset(names)
        self._to_open |= mine
        async with self._changing:
            if not mine & self._to_open:
                return  # opened with others that waited: gates are read once for many platforms
            opening, self._to_open = self._to_open, set()
            try:
                gates = await self._outbox.gates()
            except BaseException:  # whatever it was, also a cancellation: they are opened with the next
                self._to_open |= opening
                raise
            for name in sorted(opening):
                if name in self._terms and name not in self._running and self._is_ours(name):
                    self._run(self._terms[name], gates.get(name, {}))

    async def close(self, names: Iterable[str], within_s: float) -> int:
        """End the pipelines of platforms that another host is to have; return how many requests were cut off."""
        ended = [self._running.pop(name) for name in names if name in self._running]
        return sum(await asyncio.gather(*(self._end(running, within_s) for running in ended)))

    async def abort(self, names: Iterable[str]) -> int:
        """Cut off everything of platforms that another host may own by now; nothing is settled or kept."""
        ended = [self._running.pop(name) for name in names if name in self._running]
        return sum(await asyncio.gather(*(self._end(running, 0.0, keeps=False) for running in ended)))

    async def replace(self, terms: Iterable[Terms], within_s: float) -> None:
        """Put other terms in force: unchanged platforms are not touched, requests under way finish first."""
        async with self._changing:
            await self._replace({each.platform: each for each in terms}, within_s)

    async def _replace(self, wanted: dict[str, Terms], within_s: float) -> None:
        kept = await self._outbox.gates()  # first: where the store is away, all pipelines stay as they are
        self._terms = wanted
        stale = [name for name, running in self._running.items() if running.pipeline.terms != wanted.get(name)]
        ended = {name: self._running.pop(name) for name in stale}
        await asyncio.gather(*(self._end(running, within_s) for running in ended.values()))
        for name, each in wanted.items():
            if name in self._running or not self._is_ours(name):
                continue
            before = ended.get(name)
            if before is None:
                self._run(each, kept.get(name, {}))
            else:
                self._run(each, before.pipeline.gate.dump(), learner=_carried_over(before.pipeline, each))
        # in the file's order, as operators know it
        self._running = {name: self._running[name] for name in wanted if name in self._running}

    async def stop(self, within_s: float) -> int:
        """Stop claiming, let requests under way finish within the bound; return how many were cut off."""
        ended = await asyncio.gather(*(self._end(running, within_s) for running in self._running.values()))
        self._running.clear()
        for settling in self._settling:
            settling.cancel()
        self._building.shutdown(wait=False, cancel_futures=True)
        return sum(ended)

    def runs(self, platform: str) -> bool:
        """Say whether this host has a pipeline for the platform now."""
        return platform in self._running

    def changed(self, platform: str, count: int) -> None:
        """Tell the platform's pipeline of ``count`` more callbacks; 0 when only time or slots changed."""
        running = self._running.get(platform)
        if running is not None:
            running.pipeline.changed(count)

    def views(self) -> dict[str, LiveFacts]:
        """Return what only the running pipelines know, per platform."""
        now = self._clock.now()
        return {name: _view(running.pipeline, running.lasting, now) for name, running in self._running.items()}

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record | None = None) -> None:
        """Claim nothing more for the platform until ``resume`` or ``until``; survives restarts. Raises KeyError.

        ``until`` is a relay-clock time; None means until an operator resumes it. ``deed`` is kept with it.
        """
        ends = math.inf if until is None else until
        pipeline = self._running[name].pipeline
        gate = pipeline.gate
        at = gate.paused_at if gate.paused else self._clock.now()
        # On disk first: a pause that could not be kept is not in force either.
        await self._outbox.set_gate(name, {**pipeline.kept(), **dump_pause(True, reason, at, ends)}, deed=deed)
        gate.pause(reason, at, until=ends)
        self.changed(name, 0)

    async def pause_group(
        self, name: str, group: str, reason: str, *, until: float | None, deed: Record | None = None
    ) -> None:
        """Claim nothing more for a group until resumed or ``until``; survives restarts. Raises KeyError, NoGroups."""
        orders = self._orders(name)
        orders.pause(group, reason, self._clock.now(), math.inf if until is None else until)
        await self._order(name, orders, deed)

    async def resume_group(self, name: str, group: str, *, deed: Record | None = None) -> None:
        """End the pause of a group or, where there is none, its stop. Raises KeyError, NoGroups."""
        orders = self._orders(name)
        if orders.pauses.pop(group, None) is None:
            self._running[name].pipeline.gate.groups.release(self._clock.now(), only=group)
        await self._order(name, orders, deed)

    async def limit_group(
        self,
        name: str,
        group: str,
        rates: Sequence[Rate],
        *,
        until: float | None,
        reason: str,
        deed: Record | None = None,
    ) -> None:
        """Hold a group under ``rates`` beside all other limits; without any, no longer. Raises KeyError, NoGroups."""
        orders = self._orders(name)
        orders.limits.pop(group, None)
        if rates:
            orders.limits[group] = GroupLimit(tuple(rates), math.inf if until is None else until, reason)
        await self._order(name, orders, deed)

    def _orders(self, name: str) -> GroupOrders:
        """Return a copy of what operators said of a platform's groups. Raises KeyError, NoGroups."""
        pipeline = self._running[name].pipeline
        if not pipeline.terms.grouped:
            raise NoGroups(f"{name} has no groups: its configuration has no `group`")
        return GroupOrders.load(pipeline.gate.orders.dump())

    async def _order(self, name: str, orders: GroupOrders, deed: Record | None) -> None:
        """Put what operators say now on disk, then in force."""
        pipeline = self._running[name].pipeline
        await self._outbox.set_gate(name, {**pipeline.kept(), "orders": orders.dump()}, deed=deed)
        pipeline.gate.orders = orders
        pipeline.learner.changed = True  # its limits and these are put in force together
        self.changed(name, 0)

    async def resume(self, name: str) -> int:
        """End a pause or, where there is none, every stop and an open breaker: the operator knows better.

        Either way what waits for a retry time is due now; returns how many callbacks that is. Raises KeyError.
        """
        self._running[name].pipeline.gate.resume(self._clock.now())
        await self._outbox.set_gate(name, self._running[name].pipeline.kept())
        self._running[name].lasting.go()
        # Last, so that it also meets what an answer put back while the gate was still closed, with a time from there.
        brought = await self._outbox.retry_now(name)
        self.changed(name, 0)
        return brought

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        """Hold the platform under ``rates`` in place of what was learned or declared; the configured ones hold too.

        ``until`` is a relay-clock time, None means until forgotten; a restart does not end it. Raises KeyError.
        """
        pipeline = self._running[name].pipeline
        pipeline.learner.set(OperatorLimit(tuple(rates), math.inf if until is None else until, reason))
        await self._keep(pipeline)

    async def forget_limit(self, name: str) -> None:
        """Drop an operator's limit and everything learned or declared; learn anew. Raises KeyError."""
        pipeline = self._running[name].pipeline
        pipeline.forget_limit()
        await self._keep(pipeline)

    async def _keep(self, pipeline: Pipeline) -> None:
        """Put changed limits in force, and on disk; where that fails the next settle brings them there."""
        name = pipeline.terms.platform
        self.changed(name, 0)
        try:
            await self._outbox.set_gate(name, pipeline.kept())
        except StoreError:
            pipeline.learner.unkept = True
            raise

    async def flush(self, name: str, group: str | None = None) -> None:
        """Send the next batch of a platform or group without waiting for pace or linger.

        Raises KeyError, and NoGroups.
        """
        if group is not None:
            self._orders(name)  # it has groups
        self._running[name].pipeline.flush(group)

    def _is_ours(self, name: str) -> bool:
        return self._claim_until(name) > -math.inf

    def find(self, name: str) -> Pipeline | None:
        """Return the platform's pipeline, for requests beside its deliveries; None while none runs here.

        That is so of a platform that a reload took away and, for seconds, of one whose terms it replaces.
        """
        running = self._running.get(name)
        return None if running is None else running.pipeline

    def make(self, terms: Terms, kept: Kept, *, learner: Learner | None = None) -> tuple[Pipeline, Sender]:
        """Return a pipeline that does not run yet, with the gate it was kept with, and its connections."""
        gate = Gate(Breaker(terms.breaker), base_s=terms.budget.base_s, cap_s=terms.budget.cap_s)
        gate.load(kept)
        if learner is None:
            learner = Learner(terms.platform, destination=terms.destination, terms=terms.learn, grouped=terms.grouped)
            try:
                learner.load(kept.get("learned", {}))
            except ValueError as error:
                self._events.limit_not_kept(platform=terms.platform, reason=str(error))
        if gate.breaker.is_open:
            self._events.breaker_opened(platform=terms.platform, reason=gate.breaker.reason)
        sender = self._open_sender(terms)
        pipeline = Pipeline(
            terms=terms,
            gate=gate,
            learner=learner,
            outbox=self._outbox,
            sender=sender,
            authoriser=self._authoriser(terms),
            surroundings=self._surroundings,
        )
        return pipeline, sender

    def _run(self, terms: Terms, kept: Kept, *, learner: Learner | None = None) -> None:
        pipeline, sender = self.make(terms, kept, learner=learner)
        lasting = Lasting(pipeline, clock=self._clock, events=self._events)
        task = asyncio.create_task(lasting.run(), name=f"pipeline {terms.platform}")
        self._running[terms.platform] = _Running(pipeline, lasting, sender, task)

    async def _end(self, running: _Running, within_s: float, *, keeps: bool = True) -> int:
        running.task.cancel()
        await asyncio.wait([running.task])
        cut_off = await running.pipeline.drain(within_s, settles=keeps)
        if running.pipeline.settling is not None:
            self._settling.add(running.pipeline.settling)
            running.pipeline.settling.add_done_callback(self._settling.discard)
        await running.sender.close()
        if not keeps:
            return cut_off
        with contextlib.suppress(StoreError):  # reported by the store; what was settled last stands there
            await self._outbox.set_gate(running.pipeline.terms.platform, running.pipeline.kept())
        return cut_off


def _carried_over(before: Pipeline, terms: Terms) -> Learner | None:
    """Return what was learned under the terms before; None when it was about another destination."""
    if before.terms.destination != terms.destination:
        return None
    before.learner.configure(terms.learn, grouped=terms.grouped)
    return before.learner


def _view(pipeline: Pipeline, lasting: Lasting, now: float) -> LiveFacts:
    gate = pipeline.gate
    limited = pipeline.wait_reason in ("limit", "share") and pipeline.waits_until > now
    stopped = gate.stopped_until > now
    return LiveFacts(
        paused=gate.paused,
        pause_reason=gate.pause_reason,
        paused_since=gate.paused_at,
        paused_until=None if gate.paused_until == math.inf else gate.paused_until,
        broken=bool(lasting.stopped) or gate.breaker.is_open or (stopped and not gate.throttled),
        breaker_open=gate.breaker.is_open,
        breaker_reason=lasting.stopped or gate.breaker.reason or (gate.stop_reason if stopped else ""),
        broken_since=lasting.stopped_at
        if lasting.stopped
        else gate.breaker.opened_at
        if gate.breaker.is_open
        else gate.since,
        probe_at=gate.opens_at(now) if (gate.breaker.is_open or stopped) and not lasting.stopped else None,
        throttled_until=gate.stopped_until if stopped and gate.throttled else None,
        throttled_since=gate.since,
        throttle_reason=gate.stop_reason if stopped and gate.throttled else "",
        paused_groups=tuple(
            PausedGroupView(
                group=group,
                reason=pause.reason,
                since=Instant(pause.since),
                until=None if pause.until == math.inf else Instant(pause.until),
            )
            for group, pause in gate.orders.pauses.items()
        ),
        hours=str(pipeline.terms.hours or ""),
        opens_at=pipeline.waits_until if pipeline.wait_reason == "hours" else None,
        gather_s=pipeline.terms.gather_s,
        stopped_groups=tuple(
            StoppedGroupView(
                group=group, reason=stop.stop_reason, since=Instant(stop.since), until=Instant(stop.stopped_until)
            )
            for group, stop in gate.groups.in_force(now)
        ),
        limited_until=pipeline.waits_until if limited else None,
        limited_since=pipeline.limited_since or None,
        waits_for=pipeline.wait_reason,
        waits_until=pipeline.waits_until if pipeline.wait_reason else None,
        in_flight=pipeline.in_flight,
        allowed=pipeline.room,
        last_error=pipeline.last_error,
        learned_limit=summary(pipeline.learner, now),
    )
