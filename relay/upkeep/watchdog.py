"""Proves to systemd that the daemon is alive, by round trips through the event loop and the store's writer.

A ping from a mere timer would go on while the writer thread hangs. This one stops; then ``WatchdogSec=`` ends the
process and ``Restart=`` starts it again. A store that answers "cannot commit" is alive: a full disk needs no restart. A
store that has ended is not alive: the watchdog ends too, and the process with it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.core.clock import Clock, elapsed_s
from relay.core.errors import StoreEnded, StoreFailed, StoreFull
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm


class Watchdog:
    """Makes the round trip every ``interval_s``, which is half of what systemd allows (sd_watchdog_enabled(3))."""

    def __init__(
        self,
        *,
        ping: Callable[[], Awaitable[None]],
        alive: Callable[[], None],
        events: Events,
        clock: Clock,
        interval_s: float,
        late_s: float = 1.0,
    ) -> None:
        self._ping = ping
        self._alive = alive
        self._events = events
        self._clock = clock
        self._interval_s = interval_s
        self._late_s = late_s

    async def run(self) -> None:
        """Make round trips until cancelled. Raises ``StoreEnded``.

        A slow trip makes an event while it lasts, and another with its length when it ends.
        """
        alarm = Alarm(self._clock)
        while True:
            await self._through_store()
            self._alive()
            wake_at = self._clock.now() + self._interval_s
            await alarm.until(wake_at)
            over_s = self._clock.now() - wake_at
            if over_s > self._late_s:
                self._events.watchdog_late(part="loop", seconds=over_s)

    async def _through_store(self) -> None:
        began_s = elapsed_s()
        # The timer reports a trip that still hangs. The ping itself is never cancelled: a slow writer will answer it.
        timer = asyncio.get_running_loop().call_later(self._late_s, self._still_waiting)
        try:
            await self._ping()
        except StoreEnded:
            raise
        except (StoreFailed, StoreFull):
            return  # it answered; readyz and the store's own events report the failure
        finally:
            timer.cancel()
        took_s = elapsed_s() - began_s
        if took_s > self._late_s:
            self._events.watchdog_late(part="store", seconds=took_s)

    def _still_waiting(self) -> None:
        self._events.watchdog_late(part="store", seconds=self._late_s)
