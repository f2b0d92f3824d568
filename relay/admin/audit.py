"""Audit records: who, from where, when, what and why, written before the deed, so that no deed goes without."""

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from relay.admin.access import Caller
from relay.core.clock import Clock
from relay.telemetry.events import Events

_RECORDED_ONLY = ("filter",)  # it may hold an ordering key, which no log line does


class Records(Protocol):
    """The part of a store that keeps audit records."""

    def audit(self, record: Mapping[str, Any]) -> Awaitable[None]:
        """Keep ``record`` durably."""
        ...


class Audit:
    """Writes one record per change and per look into a payload."""

    def __init__(self, *, records: Records, clock: Clock, events: Events) -> None:
        self._records = records
        self._clock = clock
        self._events = events

    async def record(self, who: Caller, action: str, target: str, *, reason: str = "", **details: Any) -> None:
        """Commit that ``who`` asks for ``action`` on ``target``; raises ``StoreFailed``, and then nothing is done."""
        await self._records.audit(
            {
                "at": self._clock.now(),
                "who": who.name,
                "role": who.role,
                "from": who.remote,
                "action": action,
                "target": target,
                "reason": reason,
                "details": details,
            }
        )
        told = {name: value for name, value in details.items() if name not in _RECORDED_ONLY}
        self._events.audit(who=who.name, origin=who.remote, action=action, target=target, reason=reason, details=told)
