"""Sends the head of the audit chain to an alert target once a day, so that it is kept where nobody here can change it.

When it was sent is itself an audit record, so a restart sends it no earlier.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from relay.core.clock import Clock
from relay.core.raw import Record
from relay.privacy.chain import BY_ITSELF
from relay.store.journal import Journal
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist
from relay.views.moments import instant_text
from relay.views.past.journal import AuditHead, JournalFilter

DAY_S: Final = 86400.0
SENT: Final = "audit.head_sent"


class HeadStore(Protocol):
    """The part of a store that this needs."""

    @property
    def journal(self) -> Journal:
        """Its audit records."""
        ...

    def audit(self, record: Record) -> Awaitable[None]:
        """Keep an audit record."""
        ...


class HeadSender:
    """Sends the head to the target that the configuration in force names, if it names one."""

    def __init__(
        self,
        *,
        store: HeadStore,
        target: Callable[[], str | None],
        send: Callable[[str, AuditHead], Awaitable[None]],
        clock: Clock,
        wall: Callable[[], float],
        events: Events,
    ) -> None:
        """Wire it. ``target()`` is ``audit.head_to``; ``send(target, head)`` puts a message on its way."""
        self._store = store
        self._target = target
        self._send = send
        self._clock = clock
        self._wall = wall
        self._events = events
        self._alarm = Alarm(clock)

    def nudge(self) -> None:
        """Look again: another configuration is in force."""
        self._alarm.ring()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            target = self._target()
            last_at = await persist(self._last_at, events=self._events)
            due_at = self._clock.now() if last_at is None else last_at + DAY_S
            if target is None:
                due_at = self._clock.now() + DAY_S
            elif due_at <= self._clock.now():
                await persist(lambda target=target: self._tell(target), events=self._events)  # type: ignore[misc]
                continue
            await self._alarm.until(due_at)

    async def _last_at(self) -> float | None:
        """Return when the head was sent last, on the relay clock; None for never."""
        cursor: str | None = None
        while True:
            page = await self._store.journal.audits(JournalFilter(action=SENT), cursor=cursor, limit=1)
            if page.items:
                return page.items[0].at
            if (cursor := page.next) is None:
                return None

    async def _tell(self, target: str) -> None:
        """Record that the head is sent, then send it: the head of before the record."""
        head = await self._store.journal.audit_head()
        details: dict[str, Any] = {"count": head.count, "hash": head.hash}
        at = instant_text(self._wall())
        record = {**BY_ITSELF, "at": at, "action": SENT, "target": target, "reason": "audit.head_to"}
        await self._store.audit({**record, "details": details})
        await self._send(target, head)
