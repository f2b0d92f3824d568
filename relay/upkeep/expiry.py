"""Ends callbacks whose time is over, when it is over: sleeps until the next one is due."""

import math
from collections.abc import Awaitable
from typing import Protocol

from relay.core.clock import Clock
from relay.core.model import Expired
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist
from relay.upkeep.reporting import tell_ended

_LOOK_AGAIN_S = 60.0  # at most this late for an expiry accepted after the last look and never nudged about


class Expires(Protocol):
    """The part of a store that expiry needs."""

    def expire(self) -> Awaitable[Expired]:
        """End one step of what is over."""
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
        """Tell of a callback that expires at ``due_at``; wakes only when that is before the planned look."""
        if due_at < self._next_at:
            self._next_at = due_at
            self._alarm.ring()

    async def run(self) -> None:
        """Expire until cancelled."""
        while True:
            self._next_at = math.inf  # a nudge during the commit below is compared with nothing, so it is kept
            expired = await persist(self._ledger.expire, events=self._events)
            tell_ended(self._events, expired.ended)
            if expired.more:
                continue
            now = self._clock.now()
            # Not before one second from now: a store that leaves an overdue callback for its batch to settle
            # answers a time in the past.
            self._next_at = min(self._next_at, max(expired.next_at, now + 1.0), now + _LOOK_AGAIN_S)
            while await self._alarm.until(self._next_at):
                pass  # a nudge only moved the time
