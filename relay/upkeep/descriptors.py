"""Watches how many file descriptors are left: when there are none, connections and requests fail one by one.

The listeners take no more connections than their share (web.accepting); what uses the rest up is many platforms, a
leak, or a limit that was never raised. It is told before it hurts, and again when it is over.
"""

import os
import resource

from relay.core.clock import Clock
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm

_LOOK_EVERY_S = 5.0
_LOW = 0.9  # of the limit in use
_WELL = 0.8  # and over again only below this, so that it is not told at every look


class Descriptors:
    """Counts them every few seconds; ``low`` says in words that few are left, and is empty otherwise."""

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
        """Count now, and tell of a change."""
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
        return len(os.listdir("/proc/self/fd")) - 1  # less the one it is read through
    except OSError:  # not even one is left for looking
        return most
