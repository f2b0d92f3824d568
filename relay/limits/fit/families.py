"""The families of limits. Each answers the question: how much of what happened do you explain?

``accepted`` are sorted times of accepted sends, and ``n`` is a count of them. A *reject* is explained when the limit
was used up at that time. A run of n accepted sends *contradicts* a limit when one of them got through although it was
used up. The errors of a hypothesis are the rejects it leaves unexplained and the runs that contradict it.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import inf, log, sqrt
from operator import sub

NATS_PER_ERROR = 2.5  # one in twelve: a few per cent of requests fail by chance
_FINEST, _COARSEST = 0.003, 2.0  # of the logarithm of how far apart the bounds are: beyond, it tells no more
_BEYOND = 2  # so many more accepted stretches may be in error than the refusals make necessary
_EDGE_STEPS = 10
_EDGE_FAR = 4.0  # the logarithm of a factor of fifty: refills so far apart that explain the same show nothing


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
    """A limit of ``n`` in a window longer than ``low_s`` (refused) and at most ``high_s`` (accepted, or infinite).

    ``blur`` is how many requests more than ``n`` may get through at times: others use the same quota.
    """

    family: Family
    n: int
    low_s: float
    high_s: float
    unexplained: frozenset[int]  # indices of rejects
    contradicted: int
    spread: int = 0
    excess: float = 0.0  # the sum of the logarithms of the lengths of what contradicts

    @property
    def errors(self) -> int:
        """How much it gets wrong."""
        return len(self.unexplained) + self.contradicted


def sliding(
    accepted: Sequence[float],
    arrivals: Sequence[float],
    rejects: Sequence[float],
    n: int,
    slack: float,
    *,
    spread: int = 0,
) -> Hypothesis | None:
    """Fit the window of a sliding log of ``n``: every reject bounds it from below, every accepted send from above.

    A reject at r says W > r - (time of the n-th last arrival); an accepted send says W <= its distance from the n-th
    before it, or where the count is blurred the (n + blur)-th. ``arrivals`` are what the platform counts: the accepted
    ones, or all.
    """
    counting = arrivals is not accepted
    most = n + spread
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
        spans = [at - arrivals[known - most] for at in accepted if (known := bisect_left(arrivals, at - slack)) >= most]
    else:
        spans = list(map(sub, accepted[most:], accepted))
    upper = sorted(min(spans[first : first + most]) for first in range(0, len(spans), most))
    position, against = _between([low for low, _ in lower], upper, slack)
    low = lower[position][0]
    high = upper[against] if against < len(upper) else inf
    unexplained = frozenset(missing) | {index for at, index in lower[position + 1 :] if at > low + slack}
    excess = 0.0
    if against:  # what went through after each refusal counts apart, however little it was
        offset = len(accepted) - len(spans)
        bound = high if high > low else low - slack
        stretches = Counter(
            (place // most, bisect_left(rejects, accepted[offset + place]))
            for place, span in enumerate(spans)
            if span < bound
        )
        against, excess = len(stretches), sum(map(log, stretches.values()))
    family = Family.COUNTING if counting else Family.SLIDING
    return Hypothesis(family, n, low, max(low, high), unexplained, against, spread, excess)


def _between(lower: Sequence[float], upper: Sequence[float], slack: float) -> tuple[int, int]:
    """Return between which of the sorted bounds the window is likeliest: the place of the lower one, of the upper one.

    Bounds on the wrong side are errors. A window that has to be just so costs as much as an error or two.
    """
    best: tuple[float, int, int] | None = None
    for position, low in enumerate(lower):
        least = bisect_left(upper, low - slack)
        for against in range(least, max(least, min(least + _BEYOND, len(upper) - 1)) + 1):
            high = upper[against] if against < len(upper) else low if upper else inf
            cost = NATS_PER_ERROR * (len(lower) - 1 - position + against) - freedom(low, high)
            if best is None or cost < best[0]:
                best = cost, position, against
    assert best is not None
    return best[1:]


def freedom(low_s: float, high_s: float) -> float:
    """Return, in nats, how freely a window could be chosen between the bounds that the evidence leaves it.

    A hypothesis that holds for any window between 1 s and 6 s was likely to fit if true; one that holds between 7.00 s
    and 7.01 s was made to fit.
    """
    width = log(max(high_s, 1e-3) / max(low_s, 1e-3))
    return log(min(max(width, _FINEST), _COARSEST))


def fixed(
    accepted: Sequence[float],
    rejects: Sequence[float],
    n: int,
    window_s: float,
    phase: float | None,
    slack: float,
    *,
    spread: int = 0,
) -> Hypothesis:
    """Judge fixed windows of ``window_s``: aligned so that one begins at ``phase``, or begun by requests when None."""
    contradicted, excess, index, total = 0, 0.0, 0, len(accepted)
    starts: list[float] = []
    while index < total:
        start = accepted[index]
        if phase is not None:
            start = phase + ((start - phase) // window_s) * window_s
        end = bisect_left(accepted, start + window_s - slack, index)
        end = max(end, index + 1)
        against, beyond = divmod(end - index - 1, n + spread)
        contradicted += against
        if against:
            excess += log((against - 1) * (n + spread) + beyond + 1)
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
    return Hypothesis(family, n, min(low, window_s), window_s, frozenset(unexplained), contradicted, spread, excess)


def bucket(
    accepted: Sequence[float],
    rejects: Sequence[float],
    rate: float,
    slack: float,
    *,
    spread: int = 0,
    full: bool = True,
) -> Hypothesis:
    """Judge a token bucket that refills ``rate`` a second, and find between which refills it explains as much.

    Its size is the smallest that let everything through. The window is size/rate: a strict window of so many never
    asks the bucket for more than it has.
    """

    def judged(refill: float) -> tuple[float, frozenset[int]]:
        return judge_bucket(accepted, rejects, refill, slack, spread=spread, full=full)

    def misses(refill: float) -> int:
        return len(judged(refill)[1])

    size, unexplained = judged(rate)
    slow = _edge(misses, rate, len(unexplained), faster=False)
    fast = _edge(misses, rate, len(unexplained), faster=True)
    if fast < 1.5 * slow:
        size = min(size, judged(fast)[0])
    else:  # refills that far apart explain the same: the slowest is the safe one, and asks for the largest bucket
        size = judged(slow)[0]
    n = max(1, round(size) - spread)
    return Hypothesis(Family.BUCKET, n, n / fast * 0.999, n / slow, unexplained, 0, spread)


def judge_bucket(
    accepted: Sequence[float],
    rejects: Sequence[float],
    rate: float,
    slack: float,
    *,
    spread: int = 0,
    full: bool = True,
) -> tuple[float, frozenset[int]]:
    """Return the smallest size that let everything through, and which rejects it cannot explain.

    It was ``full`` when the evidence begins, or held as little as what was accepted since leaves possible.
    """
    level = [index - rate * at for index, at in enumerate(accepted)]
    lowest = list(accumulate(level, min))
    size = max(map(sub, level, lowest)) + 1.0
    if not full:
        lowest = list(accumulate(level, min, initial=max(level) - size + 1.0))[1:]
    unexplained = set()
    for position, at in enumerate(rejects):
        known = bisect_right(accepted, at + slack)
        if not known:
            unexplained.add(position)
            continue
        used = known - rate * at - min(lowest[known - 1], known - rate * at)
        if used + 1.5 + spread + rate * slack <= size:
            unexplained.add(position)
    return size, frozenset(unexplained)


def _edge(misses: Callable[[float], int], rate: float, errors: int, *, faster: bool) -> float:
    """Return the fastest, or slowest, refill that leaves no more unexplained than ``rate`` does, to 1 % or so."""
    good, factor = rate, 2.0 if faster else 0.5
    for _ in range(_EDGE_STEPS):
        tried = good * factor
        if misses(tried) <= errors:
            good = tried
            if abs(log(good / rate)) > _EDGE_FAR:
                break
        else:
            factor = sqrt(factor)
    return good
