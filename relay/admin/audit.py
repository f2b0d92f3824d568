"""Audit records: who, from where, when, what and why, committed before the deed or with it: no deed goes without.

A record holds no value of a payload. An ordering key may be one, so it is masked, and so are numbers in a reason.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from relay.admin.access import Caller
from relay.core.raw import Record
from relay.privacy.masking import mask_inside, mask_text
from relay.telemetry.events import Events
from relay.views.moments import instant_text

_RECORDED_ONLY = ("filter",)  # it may hold what a person typed of an order, which no log line does


class Records(Protocol):
    """The part of a store that keeps audit records."""

    def audit(self, record: Record) -> Awaitable[None]:
        """Keep ``record`` durably."""
        ...


class Audit:
    """Writes one record per change and per look into a payload."""

    def __init__(self, *, records: Records, wall: Callable[[], float], events: Events) -> None:
        """Wire it. ``wall()`` is the wall clock: people read a record's time."""
        self._records = records
        self._wall = wall
        self._events = events

    async def record(self, who: Caller, action: str, target: str, *, reason: str = "", **details: Any) -> None:
        """Commit that ``who`` asks for ``action`` on ``target``; raises ``StoreFailed``, and then nothing is done."""
        deed = self.deed(who, action, target, reason=reason, **details)
        await self._records.audit(deed)
        self.tell(deed)

    def deed(self, who: Caller, action: str, target: str, *, reason: str = "", **details: Any) -> Record:
        """Return the record, for a store that commits it together with the deed; ``tell`` comes after that."""
        return deed(self._wall(), who, action, target, reason=reason, **details)

    def tell(self, deed: Record) -> None:
        """Log a record that was committed."""
        told = {name: value for name, value in deed["details"].items() if name not in _RECORDED_ONLY}
        self._events.audit(
            who=deed["who"],
            origin=deed["from"],
            action=deed["action"],
            target=deed["target"],
            reason=deed["reason"],
            details=told,
        )


def deed(wall_s: float, who: Caller, action: str, target: str, *, reason: str = "", **details: Any) -> Record:
    """Return the record that ``who`` did ``action`` to ``target``."""
    return {
        "at": instant_text(wall_s),
        "who": who.name,
        "role": who.role,
        "from": who.remote,
        "action": action,
        "target": target,
        "reason": reason,
        "details": {name: _without_key(value) for name, value in details.items()},
    }


def _without_key(value: Any) -> Any:
    """Return a detail; of a filter, with its ordering key masked, and what is recognised in reasons of answers."""
    if not isinstance(value, dict):
        return value
    masks = {"key": mask_text, "reason": mask_inside, "code": mask_inside}
    return {
        name: masks[name](each) if name in masks and isinstance(each, str) else each for name, each in value.items()
    }
