"""How late callbacks of a platform may be: so many of them delivered within a time. Example: 99 % within 90 s.

Of 1,000 callbacks that ended in an hour 10 may be late with a share of 99 %. With 4 late ones 60 % of that is left.
With 20 it burns twice as fast as it may.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.core.model import Item, Lane
from relay.policy.hours import SendingHours

_ROUNDED_S: Final = 0.001  # times of today as floats are exact to a microsecond


@dataclass(frozen=True, slots=True)
class Objective:
    """``share`` (0 to 1) of the callbacks within ``within_s``, not counting the hours in which nothing may be sent."""

    within_s: float
    share: float
    hours: SendingHours | None = None

    def late(self, items: Iterable[Item], delivered_at: float) -> int:
        """Return how many of the items, delivered just then, were late. Times are seconds since the epoch."""
        within_s, hours, late = self.within_s, self.hours, 0
        for item in items:
            since = item.not_before or item.accepted_at
            if delivered_at - since > within_s and (
                hours is None or delivered_at - since - hours.closed_s(since) > within_s
            ):
                late += 1
        return late


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the callbacks of a span: how many ended or are overdue, and how many of these were late."""

    ended: int = 0
    late: int = 0  # also those that died or expired, and those that wait and are overdue

    @property
    def ratio(self) -> float:
        """The share that was in time; 1.0 where nothing ended."""
        return 1.0 - self._late / self._ended if self._ended else 1.0

    def burns(self, share: float) -> float:
        """Return how many times as many were late as may be; infinite where none may be."""
        may = round(self._ended * (1.0 - share), 6)
        return self._late / may if may > 0.0 else math.inf if self._late else 0.0

    def left(self, share: float) -> float:
        """Return the share that is left of what may be late: 1.0 none was late, 0.0 all of it is used up."""
        return max(0.0, 1.0 - self.burns(share))

    @property
    def _ended(self) -> int:
        # A person who retries takes dead letters back, perhaps more than ended in the span
        return max(0, self.ended)

    @property
    def _late(self) -> int:
        return min(max(0, self.late), self._ended)


def not_before(lane: Lane, *, accepted_at: float, expires_at: float, expires_s: float) -> float:
    """Return when a callback might first go, for ``Item.not_before``; 0.0: at once, or a person sent it again.

    ``expires_at`` is ``expires_s`` after that.
    """
    at = expires_at - expires_s
    return at if lane is not Lane.REPLAY and at > accepted_at + _ROUNDED_S else 0.0
