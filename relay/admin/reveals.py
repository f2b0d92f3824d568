"""How often each user may have a payload revealed: counted from the audit, so that a restart forgets nothing.

``privacy.reveals: 30/h`` means: in no hour does a user see more than 30 payloads. What was refused does not count.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from relay.core.clock import Clock
from relay.core.model import Rate
from relay.store.journal import Journal
from relay.views.past.journal import JournalFilter

REVEALED: Final = "payload.reveal"
REFUSED: Final = "payload.reveal_refused"
_PAGE: Final = 100
_LONGEST_S: Final = 31 * 86400.0  # a rate's longest window
_TOLD_S: Final = 3600.0


class RevealLimit:
    """Counts reveals by user, on the relay clock. ``rate()`` is what the configuration in force allows."""

    def __init__(self, *, journal: Journal, clock: Clock, rate: Callable[[], Rate]) -> None:
        self._journal = journal
        self._clock = clock
        self._rate = rate
        self._times: dict[str, deque[float]] = {}
        self._refused: dict[str, float] = {}

    async def left_s(self, user: str) -> float | None:
        """Return how long ``user`` must wait for the next reveal; None: not at all."""
        rate, now = self._rate(), self._clock.now()
        times = self._times.get(user)
        if times is None:
            times = self._times[user] = await self._kept(user, now)
        while times and times[0] <= now - _LONGEST_S:
            times.popleft()
        inside = [at for at in times if at > now - rate.window_s]
        if len(inside) < rate.limit:
            return None
        self._refused[user] = now
        return inside[-rate.limit] + rate.window_s - now

    def count(self, user: str) -> None:
        """Note a reveal that is recorded now."""
        self._times.setdefault(user, deque()).append(self._clock.now())

    def refused(self) -> tuple[str, ...]:
        """Return who was refused within the last hour because the number was used up."""
        since = self._clock.now() - _TOLD_S
        return tuple(sorted(user for user, at in self._refused.items() if at > since))

    async def _kept(self, user: str, now: float) -> deque[float]:
        """Return the times of a user's reveals as the audit has them, oldest first."""
        wanted = JournalFilter(who=user, action=REVEALED, since=now - _LONGEST_S)
        found: deque[float] = deque()
        cursor: str | None = None
        while True:
            page = await self._journal.audits(wanted, cursor=cursor, limit=_PAGE)
            found.extendleft(record.at for record in page.items)
            if (cursor := page.next) is None:
                return found
