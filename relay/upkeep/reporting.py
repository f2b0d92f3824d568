"""The events for callbacks that the side duties ended, the same as delivery has for those it ended."""

from collections.abc import Iterable

from relay.core.model import Ended, State
from relay.telemetry.events import Events


def report_ended(events: Events, ended: Iterable[Ended]) -> None:
    """Emit an event for each platform and reason that a step ended. Call it after the commit."""
    for platform, state, reason, count in ended:
        tell = events.expired if state is State.EXPIRED else events.dead
        tell(platform=platform, count=count, reason=reason)
