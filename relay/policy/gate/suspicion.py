"""Moves suspicion from the platform to the item that always draws a throttle (SPEC 6, "Retry budget").

Two things look alike: a limit that is reached, and an item that the platform always answers with a throttle.

1. A limit that is reached refuses whatever comes next, and accepts it later.
2. An item that is the cause is refused as the *first* request after a stop, while another one is accepted right after
   it. That is a strike. Three strikes in a row convict it: from then on its refusals are retries, charged to its own
   budget, and stop nobody else.

Nothing is stored: after a restart suspicion begins anew, which only delays the conviction.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

STRIKES = 3
_REMEMBERED = 4096  # callbacks with a history; beyond, the oldest are forgotten


@dataclass(slots=True)
class Suspicion:
    """What is known against the items of one platform."""

    strikes: dict[int, int] = field(default_factory=dict)  # seq -> strikes in a row; 0: was refused before
    test: bool = False  # after this stop the refused items go first, not other keys
    _charged: frozenset[int] = frozenset()  # refused first after a stop; the answer to the next request decides

    def convicted(self, seqs: Iterable[int]) -> bool:
        """Whether every one of ``seqs`` has its strikes together; none of them is nobody's fault."""
        named = list(seqs)
        return bool(named) and all(self.strikes.get(seq, 0) >= STRIKES for seq in named)

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
        """Take note of an accepted batch: its items are cleared, and those refused just before it get a strike."""
        for seq in self._charged:
            self.strikes[seq] = self.strikes.get(seq, 0) + 1
        self._charged, self.test = frozenset(), False
        if self.strikes:
            for seq in seqs:
                self.strikes.pop(seq, None)

    def _clear(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self.strikes[seq] = 0
