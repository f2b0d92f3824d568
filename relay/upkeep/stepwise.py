"""Runs what would hold up the store as a whole: in small steps, with pauses in which callbacks are committed.

Two duties are done so: deleting rows that need not be kept any longer (``Ledger.prune``), and sealing what lay in the
store before it was sealed (``Sealing.step``).
"""

from collections.abc import Awaitable, Callable

from relay.core.clock import Clock, elapsed_s
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist

_REST_S = 60.0  # retention is in days: once a minute keeps up with it
SHARE = 4.0
"""A pause is this many times as long as its step took, so a duty gets a fifth of the writer at most."""
_SHORTEST_S = 0.02


class Stepwise:
    """Runs one duty of the store step by step, and looks once a minute whether there is more."""

    def __init__(
        self, step: Callable[[], Awaitable[bool]], *, clock: Clock, events: Events, share: float = SHARE
    ) -> None:
        """Wire it. ``step()`` does a little, and returns whether there may be more."""
        self._step = step
        self._share = share
        self._clock = clock
        self._events = events
        self._alarm = Alarm(clock)

    def nudge(self) -> None:
        """Look at once: there is more to do."""
        self._alarm.ring()

    async def run(self) -> None:
        """Step until cancelled."""
        while True:
            began_s = elapsed_s()
            more = await persist(self._step, events=self._events)
            rest_s = max(_SHORTEST_S, self._share * (elapsed_s() - began_s)) if more else _REST_S
            await self._alarm.until(self._clock.now() + rest_s)
