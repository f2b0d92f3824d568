"""Moves suspicion from the platform to the item that always draws a throttle (SPEC 6, "Retry budget").

A limit that is merely reached refuses whatever comes next and accepts it later. An item that draws the refusal as the
*first* request after a cooldown, again, while other keys are accepted right after it, is the cause itself. Three times
in a row convicts it. Nothing is stored: after a restart suspicion starts anew, which only delays the conviction.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

STRIKES = 3
_REMEMBERED = 4096  # callbacks with a history; beyond, the oldest are forgotten


@dataclass(slots=True)
class Suspicion:
    """What is known against the items of one platform."""

    strikes: dict[int, int] = field(default_factory=dict)  # seq -> strikes in a row; 0: was refused before
    test: bool = False  # the stop that begins now shall be followed by what was refused, not by other keys
    _charged: frozenset[int] = frozenset()  # drew it first after a cooldown; waits for what the next request draws

    def convicted(self, seqs: Iterable[int]) -> bool:
        """Whether every one of ``seqs`` has its strikes together."""
        return all(self.strikes.get(seq, 0) >= STRIKES for seq in seqs)

    def suspects(self, seqs: Iterable[int]) -> bool:
        """Whether every one of ``seqs`` has at least one strike: halve them to find the one."""
        return all(self.strikes.get(seq, 0) >= 1 for seq in seqs)

    def throttled(self, seqs: Iterable[int], *, first_after_stop: bool) -> None:
        """Take note of a throttled batch."""
        refused = frozenset(seqs)
        if self._charged and not refused <= self._charged:
            self._clear(self._charged)  # others are refused too: the limit was simply reached
        self._charged = frozenset()
        again = all(seq in self.strikes for seq in refused)
        for seq in refused:
            self.strikes.setdefault(seq, 0)
        while len(self.strikes) > _REMEMBERED:
            del self.strikes[next(iter(self.strikes))]
        if again and first_after_stop:
            self._charged, self.test = refused, False
        else:
            self.test = again

    def accepted(self, seqs: Iterable[int]) -> None:
        """Take note of an accepted batch: it clears its items and may bear witness against others."""
        for seq in self._charged:
            self.strikes[seq] = self.strikes.get(seq, 0) + 1
        self._charged, self.test = frozenset(), False
        if self.strikes:
            for seq in seqs:
                self.strikes.pop(seq, None)

    def _clear(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self.strikes[seq] = 0
