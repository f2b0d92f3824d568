"""How the side duties wait: until a time on the relay clock, until a nudge, or until the store has recovered."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from relay.core.clock import Clock
from relay.core.errors import StoreDamaged, StoreFailed, StoreFull
from relay.telemetry.events import Events

_Result = TypeVar("_Result")

_LONGEST_S = 3600.0  # a longer wait is several timers: the loop takes no infinite one
_FIRST_S = 0.5  # after a failed commit the store needs a moment to re-open and probe
_SLOWEST_S = 15.0  # so a disk that stays full is tried four times a minute
_DAMAGED_S = 600.0  # a damaged page is mended by a restart at best; a reading that went wrong once is tried soon


class Alarm:
    """One sleeper, woken at its time or by ``ring``. A ring while nobody sleeps ends the next sleep at once."""

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
    """Repeat ``call`` until the store can do it, with a longer wait each time: 0.5 s, 1 s, ... 15 s.

    What meets a damaged page waits longer and longer, up to 10 min.
    """
    delay_s = _FIRST_S
    while True:
        try:
            return await call()
        except StoreDamaged:
            slowest_s = _DAMAGED_S  # the store tells of it
        except (StoreFailed, StoreFull) as error:
            slowest_s = _SLOWEST_S
            events.store_failed(error=error)
        delay_s = min(delay_s, slowest_s)
        await asyncio.sleep(delay_s)
        delay_s *= 2
