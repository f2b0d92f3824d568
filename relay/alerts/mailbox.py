"""Messages on their way: handed to a queue in memory that delivers as to platforms, and asked what became of each.

The queue is a store of its own with its own pipelines, so that alerts leave while the store of the callbacks fails, and
a target that hangs holds up nobody else. It is bounded: a target that takes nothing has the newest messages dropped.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from relay.alerts.rules import AlertKey
from relay.core.clock import Clock
from relay.core.model import Accepted, Expired, Lane, NewCallback
from relay.telemetry.events import Events
from relay.views.alerts import DrillView, LastSent, Sent
from relay.views.callback_view import AttemptView, CallbackView
from relay.views.moments import Instant

_MOST_WAITING: Final = 100  # messages of one target; at 18 a minute five minutes' worth
_EXPIRES_S: Final = 3600.0
_DRILL_S: Final = 20.0  # a drill waits for one answer; the command line gives up after 30 s
_LOOK_S: Final = 0.1  # while a drill waits


class MessageQueue(Protocol):
    """The part of a store that messages need; see ``relay.store.base``."""

    def accept(self, rows: Sequence[NewCallback]) -> Awaitable[Accepted]:
        """Queue messages."""
        ...

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return what has become of one."""
        ...

    async def expire(self) -> Expired:
        """End those whose time is over."""
        ...

    async def prune(self) -> bool:
        """Forget ended ones."""
        ...


@dataclass(slots=True)
class _Message:
    target: str
    about: tuple[AlertKey, ...]
    tries: int = 0


class Mailbox:
    """Sends messages and keeps account of them; ``last`` is by target."""

    def __init__(self, queue: MessageQueue, *, clock: Clock, events: Events) -> None:
        self._queue = queue
        self._clock = clock
        self._events = events
        self._waiting: dict[str, _Message] = {}
        self.last: dict[str, LastSent] = {}

    def waiting(self) -> Mapping[str, int]:
        """Return how many messages each target has before it."""
        return Counter(message.target for message in self._waiting.values())

    def unsent(self) -> frozenset[AlertKey]:
        """Return what the messages that are still on their way are about."""
        return frozenset(key for message in self._waiting.values() for key in message.about)

    async def post(self, target: str, payloads: Sequence[bytes], about: Collection[AlertKey]) -> None:
        """Put messages about some alerts on their way to a target; what it has no room for is dropped and told."""
        room = max(0, _MOST_WAITING - self.waiting().get(target, 0))
        for _ in payloads[room:]:
            self._ended(target, "dropped", f"{_MOST_WAITING} messages wait already")
        taken = await self._queue.accept([_row(target, payload, _EXPIRES_S) for payload in payloads[:room]])
        for message_id in taken.ids:
            self._waiting[message_id] = _Message(target, tuple(about))

    async def look(self) -> None:
        """Ask what has become of the messages on their way; count and tell what came to an end."""
        await self._queue.expire()
        for message_id, message in list(self._waiting.items()):
            found = await self._queue.callback(message_id)
            again = max(0, len(_answered(found)) - 1) - message.tries
            if again > 0:
                message.tries += again
                self._events.alert_retried(target=message.target, count=again)
            if found is not None and found.state == "pending" and not found.held:
                continue
            del self._waiting[message_id]
            if found is not None and found.state == "delivered":
                self._ended(message.target, "ok", "")
            else:
                self._ended(message.target, "failed", _why(found))
        await self._queue.prune()

    async def drill(self, target: str, payload: bytes) -> DrillView:
        """Send one message and wait for its first answer."""
        (message_id,) = (await self._queue.accept([_row(target, payload, _DRILL_S)])).ids
        until = self._clock.now() + _DRILL_S
        found = await self._queue.callback(message_id)
        while found is not None and found.state == "pending" and not _answered(found) and self._clock.now() < until:
            await asyncio.sleep(_LOOK_S)
            found = await self._queue.callback(message_id)
        arrived = found is not None and found.state == "delivered"
        self._ended(target, "ok" if arrived else "failed", "" if arrived else _why(found))
        if not (answered := _answered(found)):
            why = f"no answer within {_DRILL_S:.0f} s; earlier messages wait, or its limit is used up"
            return DrillView(target=target, arrived=arrived, status=None, reason=why, answer="")
        last = answered[-1]
        return DrillView(target=target, arrived=arrived, status=last.status, reason=last.reason, answer=last.excerpt)

    def forget(self, targets: Collection[str]) -> None:
        """Give up messages of targets that are none any more; ``targets`` are those that stay."""
        for message_id, message in list(self._waiting.items()):
            if message.target not in targets:
                del self._waiting[message_id]
                self._ended(message.target, "dropped", "the target is no longer in the configuration")

    def _ended(self, target: str, result: Sent, reason: str) -> None:
        self.last[target] = LastSent(result=result, at=Instant(self._clock.now()), reason=reason)
        self._events.alert_sent(target=target, result=result, reason=reason)


def _row(target: str, payload: bytes, expires_s: float) -> NewCallback:
    return NewCallback(
        platform=target,
        payload=payload,
        key=None,
        event=None,
        lane=Lane.NORMAL,
        expires_s=expires_s,
        idempotency_key=None,
        content_type="application/json",
        traceparent=None,
        group="",
    )


def _answered(found: CallbackView | None) -> list[AttemptView]:
    return [] if found is None else [attempt for attempt in found.attempts if attempt.outcome is not None]


def _why(found: CallbackView | None) -> str:
    """Return why a message did not arrive, in the relay's own words."""
    if found is None:
        return "forgotten"
    if found.held:
        return "its answer was not recognised"
    answered = _answered(found)
    return (answered[-1].reason if answered else "") or found.reason or "not sent"
