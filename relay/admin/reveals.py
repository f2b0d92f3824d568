"""How often each user may have a payload revealed: counted from the audit, so that a restart forgets nothing.

``privacy.reveals: 30/h`` means: in no hour does a user see more than 30 payloads, on whichever host of a shared store.
What was refused does not count.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from relay.core.clock import Clock, wall_shift_s
from relay.core.model import Rate
from relay.store.journal import Journal
from relay.views.past.journal import JournalFilter

REVEALED: Final = "payload.reveal"
REFUSED: Final = "payload.reveal_refused"
_PAGE: Final = 100
_LINKS: Final = 1000
_LONGEST_S: Final = 31 * 86400.0  # a rate's longest window
_TOLD_S: Final = 3600.0


class RevealLimit:
    """Counts reveals by user, on the relay clock. ``rate()`` is what the configuration in force allows."""

    def __init__(self, *, journal: Journal, clock: Clock, wall: Callable[[], float], rate: Callable[[], Rate]) -> None:
        """``wall()`` is the wall clock, by which records are dated."""
        self._journal = journal
        self._clock = clock
        self._wall = wall
        self._rate = rate
        self._looked_at: int | None = None  # number of the newest record that was looked at
        self._reveals: dict[str, dict[int, float]] = {}  # by user: when, by the number of the record
        self._refused: dict[str, float] = {}

    async def left_s(self, user: str) -> float | None:
        """Return how long ``user`` must wait for the next reveal; None: not at all."""
        await self._catch_up()
        rate, now = self._rate(), self._clock.now()
        reveals = self._reveals.get(user)
        if reveals is None:
            reveals = self._reveals[user] = await self._kept(user, now)
        for number in [number for number, at in reveals.items() if at <= now - _LONGEST_S]:
            del reveals[number]
        inside = sorted(at for at in reveals.values() if at > now - rate.window_s)
        if len(inside) < rate.limit:
            return None
        self._refused[user] = now
        return inside[-rate.limit] + rate.window_s - now

    def refused(self) -> tuple[str, ...]:
        """Return who was refused within the last hour because the number was used up."""
        since = self._clock.now() - _TOLD_S
        return tuple(sorted(user for user, at in self._refused.items() if at > since))

    async def _catch_up(self) -> None:
        """Count what was recorded since the last look, by any host."""
        if self._looked_at is None:
            self._looked_at = (await self._journal.audit_head()).count
        shift_s = wall_shift_s(self._clock.now(), self._wall())
        while links := await self._journal.chain(after=self._looked_at, limit=_LINKS):
            self._looked_at = links[-1].n
            for link in links:
                self._count(link.n, link.record, shift_s)

    def _count(self, number: int, record: Any, shift_s: float) -> None:
        if not isinstance(record, dict) or record.get("action") != REVEALED:
            return
        reveals = self._reveals.get(str(record.get("who")))
        if reveals is not None:  # else all of that user's are read when they are asked for
            reveals[number] = datetime.fromisoformat(str(record["at"])).timestamp() - shift_s

    async def _kept(self, user: str, now: float) -> dict[int, float]:
        """Return the times of a user's reveals as the audit has them."""
        wanted = JournalFilter(who=user, action=REVEALED, since=now - _LONGEST_S)
        found: dict[int, float] = {}
        cursor: str | None = None
        while True:
            page = await self._journal.audits(wanted, cursor=cursor, limit=_PAGE)
            found.update((record.id, record.at) for record in page.items)
            if (cursor := page.next) is None:
                return found
