"""Deletes rows that need not be kept any longer, in small steps with pauses in which callbacks are committed."""

from collections.abc import Awaitable
from typing import Protocol

from relay.core.clock import Clock, elapsed_s
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist

_REST_S = 60.0  # retention is in days: once a minute keeps up with it
_SHARE = 4  # a pause is this many times as long as its step took, so pruning gets a fifth of the writer at most
_SHORTEST_S = 0.02


class Prunes(Protocol):
    """The part of a store that pruning needs."""

    def prune(self) -> Awaitable[bool]:
        """Delete a few rows; return whether there may be more."""
        ...


class Pruner:
    """Runs ``Ledger.prune`` step by step."""

    def __init__(self, *, ledger: Prunes, clock: Clock, events: Events) -> None:
        self._ledger = ledger
        self._clock = clock
        self._events = events
        self._alarm = Alarm(clock)

    def nudge(self) -> None:
        """Start at once: the store is nearly full."""
        self._alarm.ring()

    async def run(self) -> None:
        """Prune until cancelled."""
        while True:
            began_s = elapsed_s()
            more = await persist(self._ledger.prune, events=self._events)
            rest_s = max(_SHORTEST_S, _SHARE * (elapsed_s() - began_s)) if more else _REST_S
            await self._alarm.until(self._clock.now() + rest_s)
