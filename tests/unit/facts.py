"""Facts and views for tests that name only what they are about; the rest is as it is when nothing is the matter."""

from typing import Any

from relay.views.callback_view import AttemptView, CallbackView
from relay.views.live import LiveFacts
from relay.views.moments import plain, read
from relay.views.queue import QueueFacts
from relay.views.waiting import WaitingView

_CALLBACK: dict[str, Any] = {
    "id": "X",
    "platform": "shop-a",
    "state": "pending",
    "key": None,
    "event": None,
    "priority": "normal",
    "group": "",
    "accepted_at": 1.0,
    "due_at": 1.0,
    "expires_at": 90_000.0,
    "ended_at": None,
    "spent": 0,
    "held": False,
    "in_flight": False,
    "maybe_applied": False,
    "reason": "",
    "code": None,
    "message": "",
    "bytes": 2,
    "batch": None,
    "attempt_count": 0,
    "attempts": [],
    "payload_deleted": False,
}
_ATTEMPT: dict[str, Any] = {
    "attempt": 1,
    "batch": "b1",
    "started_at": 1.0,
    "duration_s": 0.1,
    "outcome": "ok",
    "status": 200,
    "reason": "",
    "excerpt": "",
    "ambiguous": False,
}


def callback(**given: Any) -> CallbackView:
    """A pending callback that nothing holds back."""
    return read(CallbackView, {**_CALLBACK, **given})


def attempt(**given: Any) -> AttemptView:
    """An attempt that went well."""
    return read(AttemptView, {**_ATTEMPT, **given})


def live(given: dict[str, Any]) -> LiveFacts:
    """What goes on at a platform."""
    return read(LiveFacts, given)


def queue(given: dict[str, Any]) -> QueueFacts:
    """A platform's queue."""
    return read(QueueFacts, plain(given))


def waiting(given: dict[str, Any]) -> WaitingView:
    """A wait."""
    return read(WaitingView, given)
