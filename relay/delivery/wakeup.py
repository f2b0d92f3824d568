"""Lets one pipeline sleep until a time, or until enough has changed to look again."""

import asyncio
import math

from relay.core.clock import Clock

_LONGEST_S = 3600.0  # a timer never sleeps longer: it only wakes, the clock decides
_NEVER = 2**62  # more arrivals than there will be


class Wakeup:
    """One sleeper, many wakers. Waking nobody is remembered for the next sleep, so no change is ever missed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleeper: asyncio.Future[None] | None = None
        self._missing = 0
        self._arrived = 0
        self._woken = False

    def wake(self) -> None:
        """End the sleep now."""
        self._woken = True
        self._rouse()

    def arrived(self, count: int) -> None:
        """Note ``count`` more callbacks; ends the sleep when it waits for no more than have arrived since."""
        self._arrived += count
        if self._arrived >= self._missing:
            self._rouse()

    def begin(self) -> None:
        """Forget what happened before: call it before looking, so that what happens meanwhile counts."""
        self._woken = False
        self._arrived = 0

    async def sleep(self, until: float, *, missing: int) -> None:
        """Sleep until the relay clock shows ``until``, ``wake``, or ``missing`` arrivals since ``begin``.

        ``missing`` 0 means that arrivals change nothing.
        """
        self._missing = missing or _NEVER
        while not self._woken and self._arrived < self._missing:
            left_s = until - self._clock.now()
            if left_s <= 0:
                return
            loop = asyncio.get_running_loop()
            self._sleeper = loop.create_future()
            timer = None if math.isinf(left_s) else loop.call_later(min(left_s, _LONGEST_S), self._rouse)
            try:
                await self._sleeper
            finally:
                self._sleeper = None
                if timer is not None:
                    timer.cancel()

    def _rouse(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
