"""Watches how many file descriptors are left. Without one, new connections and requests fail.

The listeners accept no more connections than their share (``web.admit``). The rest can be used up by many platforms, by
a leak, or because the limit was never raised. An event says so before the last one is used, and another when it is
over.
"""

import os
import resource

from relay.core.clock import Clock
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm

_LOOK_EVERY_S = 5.0
_LOW = 0.9  # of the limit in use
_WELL = 0.8  # it is over only below this, so that a count around the first bound makes no event at each look


class Descriptors:
    """Counts them every few seconds. ``low`` says in words that few are left; otherwise it is empty."""

    def __init__(self, *, events: Events, clock: Clock, interval_s: float = _LOOK_EVERY_S) -> None:
        self.low = ""
        self._events = events
        self._clock = clock
        self._interval_s = interval_s

    async def run(self) -> None:
        """Count until cancelled."""
        alarm = Alarm(self._clock)
        while True:
            self.look()
            await alarm.until(self._clock.now() + self._interval_s)

    def look(self) -> None:
        """Count now, and emit an event if few are left or no longer."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        used = _open_descriptors(most)
        was_low = bool(self.low)
        is_low = used > most * (_WELL if was_low else _LOW)
        self.low = (
            f"descriptors_low: {used} of {most} file descriptors are in use; raise LimitNOFILE= of the unit, or close "
            "connections"
            if is_low
            else ""
        )
        self._events.descriptors(used=used, most=most, low=is_low, changed=is_low != was_low)


def _open_descriptors(most: int) -> int:
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # minus the one that reads the directory
    except OSError:  # no descriptor is left to read the directory
        return most
