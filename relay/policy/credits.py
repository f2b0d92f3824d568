"""Shares of a shared limit: who has a share of 3 goes three times in its turn, where others go once.

It is counted in requests that went, not in time: who has nothing to send loses no turn to anybody.
"""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Sharer = TypeVar("Sharer", bound=Hashable)


class Credits(Generic[Sharer]):
    """How often each party has gone in its present turn; ``shares`` names those that may go more than once."""

    __slots__ = ("_gone", "shares")

    def __init__(self, shares: Mapping[Sharer, int]) -> None:
        self.shares = shares
        self._gone: dict[Sharer, int] = {}

    def turn_is_over(self, party: Sharer) -> bool:
        """Count that ``party`` goes; say whether its turn is over with that."""
        share = self.shares.get(party, 1)
        if share == 1:
            return True
        gone = self._gone[party] = self._gone.get(party, 0) + 1
        if gone < share:
            return False
        del self._gone[party]
        return True
