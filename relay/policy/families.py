"""The families of limits, each as the question: how much of what happened does it explain?

``accepted`` are sorted times of accepted sends, ``n`` counts in their units. A *reject* is explained when the limit was
used up at that time. A run of n accepted sends *contradicts* when one of them went through although it was used up.
Rejects left unexplained and runs that contradict are the errors of a hypothesis.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import log, sqrt
from operator import sub

_EDGE_STEPS = 10
_EDGE_FAR = 4.0  # natural logarithm: refills fifty times apart explain the same, so there is nothing to learn


class Family(StrEnum):
    """How a platform counts, in the words operators see."""

    SLIDING = "sliding"
    FIRST_REQUEST = "fixed, from the first request"
    FIXED = "fixed, aligned to the clock"
    COUNTING = "sliding, refused requests count"
    BUCKET = "token bucket"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A limit of ``n`` in a window between ``low_s`` (refused so far apart) and ``high_s`` (accepted, or infinite)."""

    family: Family
    n: int
    low_s: float
    high_s: float
    unexplained: frozenset[int]  # indices of rejects
    contradicted: int

    @property
    def errors(self) -> int:
        """Return how much it gets wrong."""
        return len(self.unexplained) + self.contradicted


def sliding(
    accepted: Sequence[float], arrivals: Sequence[float], rejects: Sequence[float], n: int, slack: float
) -> Hypothesis | None:
    """Fit the window of a sliding log of ``n``: every reject bounds it from below, every accepted send from above.

    A reject at r says W > r - (time of the n-th last arrival); an accepted send says W <= its distance from the n-th
    before it. ``arrivals`` are what the platform counts: the accepted ones, or all.
    """
    counting = arrivals is not accepted
    lower: list[tuple[float, int]] = []
    missing: list[int] = []
    for index, at in enumerate(rejects):
        known = bisect_right(arrivals, at + slack) - counting  # it is itself among all arrivals
        if known >= n:
            lower.append((at - arrivals[known - n], index))
        else:
            missing.append(index)
    if not lower:
        return None
    lower.sort()
    if counting:
        spans = [at - arrivals[known - n] for at in accepted if (known := bisect_left(arrivals, at - slack)) >= n]
    else:
        spans = list(map(sub, accepted[n:], accepted))
    upper = sorted(min(spans[first : first + n]) for first in range(0, len(spans), n))
    best: tuple[int, int] | None = None
    for position, (low, _) in enumerate(lower):
        errors = len(lower) - 1 - position + bisect_left(upper, low - slack)
        if best is None or errors < best[0]:
            best = (errors, position)
    assert best is not None
    position = best[1]
    low = lower[position][0]
    against = bisect_left(upper, low - slack)
    high = upper[against] if against < len(upper) else float("inf")
    unexplained = frozenset(missing) | {index for at, index in lower[position + 1 :] if at > low + slack}
    if against:  # what went through after each refusal counts apart, however little it was
        offset = len(accepted) - len(spans)
        against = len(
            {
                (place // n, bisect_left(rejects, accepted[offset + place]))
                for place, span in enumerate(spans)
                if span < low - slack
            }
        )
    family = Family.COUNTING if counting else Family.SLIDING
    return Hypothesis(family, n, low, max(low, high), unexplained, against)


def fixed(
    accepted: Sequence[float], rejects: Sequence[float], n: int, window_s: float, phase: float | None, slack: float
) -> Hypothesis:
    """Judge fixed windows of ``window_s``: aligned so that one begins at ``phase``, or begun by requests when None."""
    contradicted, index, total = 0, 0, len(accepted)
    starts: list[float] = []
    while index < total:
        start = accepted[index]
        if phase is not None:
            start = phase + ((start - phase) // window_s) * window_s
        end = bisect_left(accepted, start + window_s - slack, index)
        end = max(end, index + 1)
        contradicted += (end - index - 1) // n
        starts.append(start)
        index = end
    unexplained = set()
    low = 0.0
    for position, at in enumerate(rejects):
        window = bisect_right(starts, at + slack) - 1
        start = starts[window] if window >= 0 else at
        used = bisect_right(accepted, at + slack) - bisect_left(accepted, start)
        if at - start < window_s + slack and used >= n:
            low = max(low, at - accepted[bisect_right(accepted, at + slack) - n])
        else:
            unexplained.add(position)
    family = Family.FIRST_REQUEST if phase is None else Family.FIXED
    return Hypothesis(family, n, min(low, window_s), window_s, frozenset(unexplained), contradicted)


def bucket(accepted: Sequence[float], rejects: Sequence[float], rate: float, slack: float) -> Hypothesis:
    """Judge a token bucket that refills ``rate`` a second, and find between which refills it explains as much.

    Its size is the smallest that let everything through. The window is size/rate: a strict window of so many never
    asks the bucket for more than it has.
    """
    size, unexplained = judge_bucket(accepted, rejects, rate, slack)
    slow = _edge(accepted, rejects, rate, len(unexplained), slack, faster=False)
    fast = _edge(accepted, rejects, rate, len(unexplained), slack, faster=True)
    if fast < 1.5 * slow:
        size = min(size, judge_bucket(accepted, rejects, fast, slack)[0])
    else:  # refills that far apart explain the same: the slowest is the safe one, and asks for the largest bucket
        size = judge_bucket(accepted, rejects, slow, slack)[0]
    n = max(1, round(size))
    return Hypothesis(Family.BUCKET, n, n / fast * 0.999, n / slow, unexplained, 0)


def judge_bucket(
    accepted: Sequence[float], rejects: Sequence[float], rate: float, slack: float
) -> tuple[float, frozenset[int]]:
    """Return the smallest size that let everything through, and which rejects it cannot explain."""
    level = [index - rate * at for index, at in enumerate(accepted)]
    lowest = list(accumulate(level, min))
    size = max(map(sub, level, lowest)) + 1.0
    unexplained = set()
    for position, at in enumerate(rejects):
        known = bisect_right(accepted, at + slack)
        if not known:
            unexplained.add(position)
            continue
        used = known - rate * at - min(lowest[known - 1], known - rate * at)
        if used + 1.5 + rate * slack <= size:
            unexplained.add(position)
    return size, frozenset(unexplained)


def _edge(
    accepted: Sequence[float], rejects: Sequence[float], rate: float, errors: int, slack: float, *, faster: bool
) -> float:
    """Return the fastest, or slowest, refill that leaves no more unexplained than ``rate`` does, to 1 % or so."""
    good, factor = rate, 2.0 if faster else 0.5
    for _ in range(_EDGE_STEPS):
        tried = good * factor
        if len(judge_bucket(accepted, rejects, tried, slack)[1]) <= errors:
            good = tried
            if abs(log(good / rate)) > _EDGE_FAR:
                break
        else:
            factor = sqrt(factor)
    return good
