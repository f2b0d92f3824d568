"""Which fixed windows the evidence suggests, and when they begin."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf

from relay.limits.evidence.history import Closure
from relay.limits.fit.written import choose, common_between

_WINDOWS = 8  # looked at
_STARTS, _STARTS_PARTS = 16, 8  # stretches looked for, and into how many parts a count is divided for it


def fixed_windows(accepted: Sequence[float], closures: Sequence[Closure]) -> list[float]:
    """Return candidate fixed windows: written ones that fit the distances between reopenings, or these distances."""
    bounds = [closure.boundary() for closure in closures if closure.reopened < inf]
    spans: list[tuple[float, float]] = []
    for earlier, later in pairwise(bounds):
        spans += [((later[0] - earlier[1]) / k, (later[1] - earlier[0]) / k) for k in (1, 2)]
    for closure, (low, high) in list(zip(closures, bounds, strict=False))[-3:]:
        start = accepted[max(0, bisect_left(accepted, closure.onset.sent) - 1)]
        runs = [other.reopened for other in closures if other.reopened <= start]
        begun = runs[-1] if runs else accepted[0]
        spans.append((low - begun, high - begun))
    tally: dict[float, int] = {}
    for low, high in spans:
        if high > low > 0.0:
            for window_s in {choose(low, high), *common_between(low, high)}:
                tally[window_s] = tally.get(window_s, 0) + 1
    return sorted(tally, key=lambda window_s: (-tally[window_s], window_s))[:_WINDOWS]


def starts_between(spans: Sequence[tuple[float, float]], window_s: float, n: int) -> Iterator[tuple[float, float]]:
    """Yield the latest stretches within which a window began: more was accepted there than one window lets through.

    ``spans`` are the times of each accepted request and of the n-th after it. Stretches that overlap become one.
    """
    together: list[tuple[float, float]] = []
    found = 0
    for begin, end in spans[:: -max(1, n // _STARTS_PARTS)]:
        if together and (end - begin >= window_s or begin >= together[-1][1] or len(together) == _STARTS_PARTS):
            yield together[-1]
            found += 1
            together = []
        if found == _STARTS:
            return
        if end - begin < window_s:
            low, high = together[-1] if together else (begin, end)
            together.append((max(low, begin), min(high, end)))
    if together:
        yield together[-1]


def phase(began: Sequence[tuple[float, float]], shut: Sequence[tuple[float, float]], window_s: float) -> float:
    """Return when a window of ``window_s`` begins: within most of the stretches ``began``, and few of ``shut``."""
    edges: list[tuple[float, int]] = []
    for stretches, worth in ((began, 1), (shut, -1)):
        for begin, end in stretches:
            if 0.0 < end - begin < window_s:
                edges += [(begin % window_s, worth), (end % window_s, -worth)]
    edges.sort()
    score, since = 0, 0.0  # what reaches over the end counts alike everywhere, so it need not be known at the beginning
    best = (float("-inf"), 0.0, 0.0)
    for at, worth in [*edges, (window_s, 0)]:
        best = max(best, (score, at - since, (since + at) / 2))
        score, since = score + worth, at
    return best[2]
