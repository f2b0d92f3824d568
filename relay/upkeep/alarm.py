"""Waiting as the side duties do it: until a time on the relay clock, or a nudge, or the store's recovery."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from relay.core.clock import Clock
from relay.core.errors import StoreFailed, StoreFull
from relay.telemetry.events import Events

_Result = TypeVar("_Result")

_LONGEST_S = 3600.0  # a timer armed for longer is armed again: loop timers do not like infinity
_FIRST_S = 0.5  # after a failed commit the store needs a moment to re-open and probe
_SLOWEST_S = 15.0  # a disk that stays full is asked four times a minute


class Alarm:
    """One sleeper, woken by its time or by ``ring``; a ring while nobody sleeps ends the next sleep at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the sleeper."""
        self._rung.set()

    async def until(self, at: float) -> bool:
        """Sleep until ``at`` on the relay clock (may be infinite) or a ring; return whether it was a ring."""
        while not self._rung.is_set():
            left_s = at - self._clock.now()  # decides; the timer only wakes, and may wake early
            if left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LONGEST_S)):
                    await self._rung.wait()
        self._rung.clear()
        return True


async def persist(call: Callable[[], Awaitable[_Result]], *, events: Events) -> _Result:
    """Repeat ``call`` until the store can do it, waiting longer each time."""
    delay_s = _FIRST_S
    while True:
        try:
            return await call()
        except (StoreFailed, StoreFull) as error:
            events.store_failed(error=error)
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, _SLOWEST_S)
