"""What the side duties tell of the callbacks they ended, in the words that delivery has for its own."""

from collections.abc import Iterable

from relay.core.model import Ended, State
from relay.telemetry.events import Events


def tell_ended(events: Events, ended: Iterable[Ended]) -> None:
    """Tell what a step ended, once it is committed: a line per platform and reason."""
    for platform, state, reason, count in ended:
        tell = events.expired if state is State.EXPIRED else events.dead
        tell(platform=platform, count=count, reason=reason)
