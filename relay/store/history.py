"""What a store keeps of the past, beside the callbacks themselves: a sample for each minute.

A minute's totals are kept before the first change of that minute. What happened in a minute is the difference to the
next minute kept, or to the totals now: exact, also over a crash, because both were committed with what they count.
A minute in which nothing at all was committed is not kept. A running daemon commits every few seconds (``ping``), so
the relay was down then.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from relay.views.past.history import MinuteCounts, QueueLevel, Sampled

MINUTE_S: Final = 60


class MinuteHistory(Protocol):
    """Keeps samples and shows them."""

    async def levels(self) -> Mapping[str, QueueLevel]:
        """Return the totals of each platform that accepted anything, of one instant. Quick, however much is pending."""
        ...

    async def keep_minute(self, minute: int, counted: Mapping[str, MinuteCounts]) -> None:
        """Add what was counted per platform to a minute (whole minutes of the relay clock), if that minute is kept."""
        ...

    async def minutes(self, platform: str | None, since: float, now: float) -> Sequence[Sampled]:
        """Return each minute kept from ``since`` on, oldest first, the running one last; None: all platforms.

        The running minute is there also when nothing was committed in it yet.
        """
        ...
