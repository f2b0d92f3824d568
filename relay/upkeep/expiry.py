"""Expires callbacks at their time: sleeps until the next one is due."""

import math
from collections.abc import Awaitable
from typing import Protocol

from relay.core.clock import Clock
from relay.core.model import Expired
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist
from relay.upkeep.reporting import report_ended

_LOOK_AGAIN_S = 60.0  # the most an expiry can be late: for a callback accepted after the last look, without a nudge


class Expires(Protocol):
    """The part of a store that expiry needs."""

    def expire(self) -> Awaitable[Expired]:
        """Expire some of the callbacks that are due."""
        ...


class Expiry:
    """Runs ``Ledger.expire`` when something is due."""

    def __init__(self, *, ledger: Expires, clock: Clock, events: Events) -> None:
        self._ledger = ledger
        self._clock = clock
        self._events = events
        self._alarm = Alarm(clock)
        self._next_at = math.inf

    def nudge(self, due_at: float) -> None:
        """Take into account that a callback expires at ``due_at``. Wakes only if that is before the planned look."""
        if due_at < self._next_at:
            self._next_at = due_at
            self._alarm.ring()

    async def run(self) -> None:
        """Expire until cancelled."""
        while True:
            self._next_at = math.inf  # so that a nudge during the commit below always counts
            expired = await persist(self._ledger.expire, events=self._events)
            report_ended(self._events, expired.ended)
            if expired.more:
                continue
            now = self._clock.now()
            # One second from now at the earliest: for a callback that is overdue and waits for its batch to settle, the
            # store answers a time in the past.
            self._next_at = min(self._next_at, max(expired.next_at, now + 1.0), now + _LOOK_AGAIN_S)
            while await self._alarm.until(self._next_at):
                pass  # it was a nudge, which moved the time
