"""What a store counts of its callbacks by what they have in common, in steps that hold up nothing."""

from collections.abc import Sequence
from typing import Literal, Protocol

from relay.core.model import Filter
from relay.views.past.survey import ChannelStep, GroupStep

Kind = Literal["platform", "event"]


class Surveys(Protocol):
    """Looks at many callbacks, a bounded part at a time, newest first."""

    async def channels(self, by: Kind, since: float, *, late_before: float, below: int | None) -> ChannelStep:
        """Count the next part of the callbacks accepted from ``since`` on, by platform or event.

        Late is what is pending, not held, and could have been sent before ``late_before``.
        """
        ...

    async def groups(self, platform: str, wanted: Filter, *, held: bool, below: int | None) -> GroupStep:
        """Group the next part of a platform's dead or expired callbacks that match, or of the held ones.

        ``wanted`` says the state, ``dead`` or ``expired``, unless ``held``. Nobody dead without a reason is left out:
        its reason is empty.
        """
        ...

    async def traceparents(self, seqs: Sequence[int]) -> list[str]:
        """Return the trace contexts that these callbacks carry, each once, 1000 at most."""
        ...
