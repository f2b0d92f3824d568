"""Which refusals are chance: any platform fails now and then, and some of that looks like a limit.

Chance refuses any request; a limit only those sent when it was used up, and it refuses the next one too.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import exp
from operator import sub

from relay.limits.evidence.history import Closure, History
from relay.limits.in_force.limit import STOP_S, LearnedLimit

_NEARLY = 0.95  # of what was accepted before: requests that failed otherwise were in the window too
_CHANCE = 0.004  # of all requests
_FULL = 0.9  # of the limit: the use at which a refusal may be due to it
_SUSPECTS = 3
_SUSPECTS_KEPT = 32
_UNLIKELY = 0.002
_NOISY = 1.5  # requests in the latest few thousand: once may be anything
_PRIOR = (0.2, 300)  # refusals by chance, of so many requests, before any were seen
_LONE_KEPT = 6000  # requests
_BEYOND_ODDS = 0.05


class Noise:
    """What was refused by chance under one quota."""

    def __init__(self, evidence: History) -> None:
        self._evidence = evidence
        self._accepted = 0.0  # requests in the present stretch, and of the same stretch:
        self._lone = 0.0  # refused by chance
        self._failed = 0.0  # failed otherwise
        self._suspects: list[float] = []  # lone refusals that may be chance

    def accepted(self) -> None:
        """Count an accepted request."""
        self._accepted += 1.0
        if self._accepted > _LONE_KEPT:
            self._accepted, self._lone, self._failed = self._accepted / 2, self._lone / 2, self._failed / 2

    def failed(self) -> None:
        """Count a failure that says nothing about a limit."""
        self._failed += 1.0

    def clear(self) -> None:
        """Another limit is in force: suspicions against the old one are void."""
        self._suspects.clear()

    @property
    def _share(self) -> float:
        """Return the part of the requests that is refused by chance, as far as was seen.

        Where a part fails for other reasons, one by one, about as much looks like a limit by chance.
        """
        return min((_PRIOR[0] + self._lone + self._failed / 2) / (_PRIOR[1] + self._accepted), _CHANCE)

    @property
    def noisy(self) -> bool:
        """Whether requests are refused by chance here."""
        return self._failed > _NOISY or self._lone > _NOISY

    def beyond_noise(self, latest: Closure, now: float, rates: Sequence[LearnedLimit]) -> bool:
        """Say whether lone refusals came more often than chance alone, while the limit was used up.

        Chance refuses any request; a limit only those sent when most of it was used, and what it refused is not
        accepted a window later. Where nothing fails by chance, the first one is enough.
        """
        at, longest = latest.onset.sent, rates[-1]
        if not any(self._used_up(limit, at) for limit in rates):
            self._lone += 1.0
            return False
        unrefuted = [old for old in self._suspects if not self.noisy or not self._refuted(old, longest)]
        self._lone += len(self._suspects) - len(unrefuted)
        self._suspects = [*unrefuted[-_SUSPECTS_KEPT:], at]
        if not self.noisy:
            return True
        for windows in (4.0, 20.0):
            since = now - windows * (longest.window_s + STOP_S)
            suspects = sum(old > since for old in self._suspects)
            if suspects >= _SUSPECTS and _odds(suspects, self._share * self._evidence.count(since, now)) < _UNLIKELY:
                self._suspects.clear()
                return True
        return False

    def raise_too_high(self, latest: Closure, now: float, rates: Sequence[LearnedLimit]) -> bool:
        """Say whether refusals since the latest raise are more than chance."""
        raise_too_high = False
        for limit in rates:
            used = self._evidence.used(latest.onset.sent - limit.window_s, latest.onset.sent)
            if not limit.raised_lately(now) or used < limit.n_before_raises:
                continue
            limit.refusals_since_raise += 1
            beyond = self._evidence.count(limit.raised_at, now)
            raise_too_high |= _odds(limit.refusals_since_raise, self._share * beyond) < _BEYOND_ODDS
        return raise_too_high

    def _used_up(self, limit: LearnedLimit, at: float) -> bool:
        begin = at - limit.window_s - 2 * (self._evidence.answer_s + self._evidence.slack_s)
        return self._evidence.used(begin, at) >= _FULL * limit.n

    def _refuted(self, at: float, limit: LearnedLimit) -> bool:
        """Say whether as much as before the refusal at ``at`` was accepted within one window soon after it."""
        evidence = self._evidence
        used = int(_NEARLY * evidence.count(at - limit.window_s, at)) // evidence.stride
        first = bisect_right(evidence.accepted, at + evidence.slack_s)
        last = bisect_right(evidence.accepted, at + limit.window_s)
        times = evidence.accepted[max(0, first - used + 1) : last]
        spans = map(sub, times[used - 1 :], times) if used > 1 else iter(())
        return min(spans, default=float("inf")) < limit.window_s - evidence.slack_s


def _odds(seen: int, expected: float) -> float:
    """Return how likely chance alone makes so many (Poisson)."""
    term = below = exp(-expected)
    for number in range(1, seen):
        term *= expected / number
        below += term
    return 1.0 - below
