"""Turns at a shared quota: who was refused goes before who has just sent.

1. Of those that wait, the one whose last send lies furthest back goes first.
2. Free slots are left to those ahead. Where there are more than they need, others may pass: with 3 free slots and 2
   parties ahead, a third one goes. Nobody is passed more than ``MAX_PASSED`` times, so each keeps a share.
3. A party with a share of 3 goes three times before its turn is over (``policy.credits``).
4. A party that is offered a slot and does not take it within ``GRACE_S`` leaves the line: it is paused, gone, or has
   nothing left to send.
"""

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

from relay.policy.credits import Credits

Party = TypeVar("Party", bound=Hashable)

MAX_PASSED = 3  # SPEC 6 asks for one in ten; fewer passes are fairer, none would make every free slot a handshake
GRACE_S = 0.25  # a live waiter is woken by a timer or a wake-up and asks within milliseconds
_REMEMBERED = 1024  # parties whose last send is kept; one forgotten counts as having waited longest


class _Waiter:
    __slots__ = ("offered_at", "passed", "share", "until")

    def __init__(self) -> None:
        self.offered_at = math.inf
        self.passed = 0
        self.share = False
        self.until = math.inf


class Turns(Generic[Party]):
    """The line in front of one shared quota."""

    __slots__ = ("_credits", "_line", "_sends", "_sent")

    def __init__(self, given: "Credits[Party] | None" = None) -> None:
        """``given`` says who goes more than once in a turn; None: nobody."""
        self._credits = given
        self._line: dict[Party, _Waiter] = {}
        self._sent: dict[Party, int] = {}  # each party's last send, counted; the oldest first
        self._sends = 0

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
        if not self._line or (len(self._line) == 1 and party in self._line):
            return now
        mine = self._sent.get(party, 0)
        until = math.inf
        ahead = 0
        for other in sorted(self._line, key=lambda other: self._sent.get(other, 0)):
            if other == party or self._sent.get(other, 0) > mine:
                break
            waiter = self._line[other]
            if waiter.offered_at == math.inf:
                waiter.offered_at = now
            grace_ends_at = waiter.offered_at + GRACE_S
            if now >= grace_ends_at:
                del self._line[other]
                continue
            ahead += 1
            until = min(until, grace_ends_at)
            if ahead >= spare or waiter.passed >= MAX_PASSED:
                return until
        return now

    def served(self, party: Party) -> list[Party]:
        """Note that ``party`` sends; return who waits for another's turn to pass, as they may ask again now."""
        self._line.pop(party, None)
        if self._credits is None or self._credits.turn_is_over(party):
            self._sent.pop(party, None)
            self._sends += 1
            self._sent[party] = self._sends
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        for waiter in self._line.values():
            waiter.passed += 1
        return self.waiting_for_others()

    def stale(self, now: float) -> bool:
        """Return whether all who wait have let their time go by, so that nobody would miss this line.

        Who waits without a time waits for an answer; the caller knows that none is due.
        """
        return all(waiter.until == math.inf or waiter.until + GRACE_S <= now for waiter in self._line.values())

    def waiting_for_others(self) -> list[Party]:
        """Return who was told to wait for its share."""
        return [party for party, waiter in self._line.items() if waiter.share]

    def waiting_for_answers(self) -> list[Party]:
        """Return who waits without a time: the next answer gives them one."""
        return [party for party, waiter in self._line.items() if waiter.until == math.inf]

    def everybody(self) -> list[Party]:
        """Return all who wait: the time that each was told may have come nearer."""
        return list(self._line)
