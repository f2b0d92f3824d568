"""What a store counts of its callbacks by what they have in common, in steps that hold up nothing."""

from typing import Literal, Protocol

from relay.views.survey import ChannelStep

Kind = Literal["platform", "event"]


class Surveys(Protocol):
    """Looks at many callbacks, a bounded part at a time, newest first."""

    async def channels(self, by: Kind, since: float, *, late_before: float, below: int | None) -> ChannelStep:
        """Count the next part of the callbacks accepted from ``since`` on, by platform or event.

        Late is what is pending, not held, and could have been sent before ``late_before``.
        """
        ...
