"""Which refusals are noise: any platform fails now and then, and some of that looks like a limit.

Noise refuses any request. A limit refuses only requests that were sent when it was used up, and it refuses the next one
too.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import exp
from operator import sub

from relay.limits.evidence.history import Closure, History
from relay.limits.in_force.limit import NEARLY_USED, STOP_S, LearnedLimit

_NEARLY = 0.95  # of what was accepted before the refusal: requests that failed otherwise were in the window too
_MOST_NOISE = 0.004  # of all requests: more than that is hardly noise
_SUSPECTS = 3  # lone refusals, before their odds are asked for
_SUSPECTS_KEPT = 32
_UNLIKELY = 0.002  # the odds below which lone refusals are no noise
_NOISY = 1.5  # failures among the latest few thousand requests: one may be anything
_PRIOR = (0.2, 300)  # before anything was seen: so many refused by noise, of so many requests
_KEPT = 6000  # requests; then all counts are halved
_RAISE_ODDS = 0.05  # the odds below which refusals since a raise are no noise


class Noise:
    """Counts what noise refuses under one quota."""

    def __init__(self, evidence: History) -> None:
        self._evidence = evidence
        self._accepted = 0.0  # requests lately; of these:
        self._lone = 0.0  # refused by noise
        self._failed = 0.0  # failed in a way that says nothing about a limit
        self._suspects: list[float] = []  # when the lone refusals were sent that may be noise

    def accepted(self) -> None:
        """Count an accepted request."""
        self._accepted += 1.0
        if self._accepted > _KEPT:
            self._accepted, self._lone, self._failed = self._accepted / 2, self._lone / 2, self._failed / 2

    def failed(self) -> None:
        """Count a failure that says nothing about a limit."""
        self._failed += 1.0

    def clear(self) -> None:
        """Forget the suspects: another limit is in force."""
        self._suspects.clear()

    @property
    def _share(self) -> float:
        """Return the part of the requests that noise refuses, as far as was seen.

        A platform that answers 500 now and then answers 503 now and then too: half of such failures are added.
        """
        return min((_PRIOR[0] + self._lone + self._failed / 2) / (_PRIOR[1] + self._accepted), _MOST_NOISE)

    @property
    def noisy(self) -> bool:
        """Whether noise refuses requests here."""
        return self._failed > _NOISY or self._lone > _NOISY

    def beyond_noise(self, latest: Closure, now: float, rates: Sequence[LearnedLimit]) -> bool:
        """Say whether lone refusals came more often than noise makes them.

        One that was sent while no limit was used up is noise, and so is one after which as much was accepted within a
        window. The others are counted over 4 and 20 windows. Where there is no noise, the first of them is enough.
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
        """Say whether noise would hardly make the refusals since the latest raise."""
        raise_too_high = False
        for limit in rates:
            used = self._evidence.used(latest.onset.sent - limit.window_s, latest.onset.sent)
            if not limit.raised_lately(now) or used < limit.n_before_raises:
                continue
            limit.refusals_since_raise += 1
            beyond = self._evidence.count(limit.raised_at, now)
            raise_too_high |= _odds(limit.refusals_since_raise, self._share * beyond) < _RAISE_ODDS
        return raise_too_high

    def _used_up(self, limit: LearnedLimit, at: float) -> bool:
        begin = at - limit.window_s - 2 * (self._evidence.answer_s + self._evidence.slack_s)
        return self._evidence.used(begin, at) >= NEARLY_USED * limit.n

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
    """Return how likely noise alone makes ``seen`` or more where it makes ``expected`` on average (Poisson)."""
    term = below = exp(-expected)
    for number in range(1, seen):
        term *= expected / number
        below += term
    return 1.0 - below
