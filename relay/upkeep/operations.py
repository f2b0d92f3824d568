"""Carries out operators' operations (retry, drop, expire, resolve) in small steps, also after a restart.

The store fixed the matches when the operation started. A step applies the operation to the next few of them in one
commit. With a ``rate``, which counts callbacks, the steps are paced evenly. Each operation has a task of its own, so a
slow one holds up no other. When all that is left is in frozen batches, it sleeps until the store has settled one.
Where several hosts share the store, each works off the matches of the platforms that it sends for.
"""

import asyncio
import math
from collections.abc import Awaitable
from typing import Protocol

from aiolimiter import AsyncLimiter
from msgspec import UNSET

from relay.config.reading.units import parse_rate
from relay.core.clock import Clock
from relay.store.base import Reroute, Stepped
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist
from relay.upkeep.reporting import report_ended
from relay.views.operation_view import OperationView

_STEP = 500  # callbacks per commit, which take the writer some milliseconds
_ELSEWHERE_S = 2.0  # between two looks at what only a settle, or another host that shares the store, can bring on
_TICK_S = 0.25  # between two steps of a paced operation, if its rate allows


class Steps(Protocol):
    """The part of a store that operations need."""

    def open_operations(self) -> Awaitable[list[int]]:
        """Return the operations that are not finished."""
        ...

    def operation(self, number: int) -> Awaitable[OperationView | None]:
        """Return an operation's progress."""
        ...

    def step_operation(self, number: int, limit: int, reroute: Reroute) -> Awaitable[Stepped]:
        """Apply it to its next ``limit`` matches; ``reroute`` routes those that no route took."""
        ...


class OperationRunner:
    """Runs every open operation to its end."""

    def __init__(
        self,
        *,
        ledger: Steps,
        clock: Clock,
        events: Events,
        reroute: Reroute,
    ) -> None:
        self._ledger = ledger
        self._reroute = reroute
        self._events = events
        self._alarm = Alarm(clock)
        self._clock = clock
        self._running: dict[int, Alarm] = {}

    def nudge(self) -> None:
        """Take up an operation that was started."""
        self._alarm.ring()

    def released(self) -> None:
        """Go on with operations that waited for a batch: one was settled."""
        for alarm in self._running.values():
            alarm.ring()

    async def run(self) -> None:
        """Run all open operations and those started later, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                for number in await persist(self._ledger.open_operations, events=self._events):
                    if number not in self._running:
                        alarm = self._running[number] = Alarm(self._clock)
                        tasks.create_task(self._carry_out(number, alarm), name=f"operation {number}")
                await self._alarm.until(math.inf)

    async def _carry_out(self, number: int, released: Alarm) -> None:
        try:
            operation = await persist(lambda: self._ledger.operation(number), events=self._events)
            if operation is None:
                return
            step, pacer = _pace(operation)
            while operation.finished_at is None:
                if pacer is not None:
                    await pacer.acquire(step)
                before = operation.worked_off
                stepped = await persist(
                    lambda: self._ledger.step_operation(number, step, self._reroute), events=self._events
                )
                report_ended(self._events, stepped.ended)
                operation = stepped.progress
                if _waits(operation) or operation.worked_off == before:
                    await released.until(self._clock.now() + _ELSEWHERE_S)
            self._tell(number, operation)
        finally:
            del self._running[number]

    def _tell(self, number: int, operation: OperationView) -> None:
        self._events.operation(
            number=number,
            action=operation.action,
            state="done",
            matched=operation.matched,
            done=operation.done,
            skipped=sum(operation.skipped.values()),
        )


def _waits(operation: OperationView) -> bool:
    """Return whether all that is left waits for a batch to be settled."""
    left = operation.matched - operation.worked_off
    return left > 0 and operation.waiting == left


def _pace(operation: OperationView) -> tuple[int, AsyncLimiter | None]:
    """Return how many callbacks a step takes, and the pacer that spaces steps evenly."""
    text = operation.options.rate
    if text is UNSET:
        return _STEP, None
    rate = parse_rate(text)
    per_s = rate.limit / rate.window_s
    step = max(1, min(_STEP, int(per_s * _TICK_S)))
    return step, AsyncLimiter(step, step / per_s)
