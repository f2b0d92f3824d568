"""Seals what lay in the store before it was sealed, in small steps with pauses, and wipes what deleting left."""

from collections.abc import Awaitable
from typing import Protocol

from relay.core.clock import Clock, elapsed_s
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist

_REST_S = 60.0
_SHARE = 4  # a pause is this many times as long as its step took, so sealing gets a fifth of the writer at most
_SHORTEST_S = 0.02


class SealingSteps(Protocol):
    """The part of a store that this needs."""

    def step(self) -> Awaitable[bool]:
        """Seal a few callbacks; return whether to go on."""
        ...


class BackgroundSealing:
    """Runs the steps of sealing."""

    def __init__(self, *, sealing: SealingSteps, clock: Clock, events: Events) -> None:
        self._sealing = sealing
        self._clock = clock
        self._events = events
        self._alarm = Alarm(clock)

    def nudge(self) -> None:
        """Look at once: keys were put in force, or something was forgotten."""
        self._alarm.ring()

    async def run(self) -> None:
        """Seal until cancelled."""
        while True:
            began_s = elapsed_s()
            more = await persist(self._sealing.step, events=self._events)
            rest_s = max(_SHORTEST_S, _SHARE * (elapsed_s() - began_s)) if more else _REST_S
            await self._alarm.until(self._clock.now() + rest_s)
