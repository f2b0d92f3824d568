"""Finds the limit that explains the evidence best: which counts and windows to ask the families about.

Nothing is searched on a grid. A count is what was accepted from a reopening to a refusal; given a count, sliding
windows are bounded by the evidence itself, and fixed ones by the distances between reopenings.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log
from operator import sub

from relay.core.model import Rate
from relay.policy.evidence import Closure, Evidence
from relay.policy.families import Family, Hypothesis, bucket, fixed, judge_bucket, sliding
from relay.policy.windows import SHORTEST_S, WRITTEN, choose, common_between, is_common

_COUNTS = 10  # candidates looked at, most frequent first
_COUNTS_COSTLY = 4  # of these, for the families that take longest to judge
_WINDOWS = 8  # fixed windows looked at per count
_RUNS = 8  # latest closures that counts and boundaries are taken from
_NATS_PER_ERROR = 2.5  # one in twelve: a few per cent of requests fail by chance
_NATS_FORGIVEN = 1.5  # of these for a lone refusal, which chance makes too
_FIXED_LEAST = 0.5  # of the sliding window that explains most
_FINEST, _COARSEST = 0.003, 2.0
_BUCKET_NATS = 1.0
_UNHINTED_NATS = 1.0  # many hints are a fixed number that says little
_HINT_ROUNDED_S = 1.5  # hints are whole seconds, rounded up
_UNUSUAL_NATS = 1.5  # a window nobody writes
_STATED = (Family.FIXED, Family.FIRST_REQUEST)  # judged for one window and no other
_MORE = 3  # requests: what overtakes others on the way
_BUCKET_CLOSURES = 5  # two free numbers fit any fewer
_ORDER = list(Family)


@dataclass(frozen=True, slots=True)
class Fit:
    """The best hypothesis, in requests; ``onsets`` is how many closures begin where it says they must.

    Closures of a single refusal are left out where there are others: chance makes them too.
    """

    hypothesis: Hypothesis
    window_s: float
    onsets: int
    closures: int
    rejects: int
    accepted: int
    unexplained: int  # of the rejects
    chance: int  # refusals that it leaves unexplained too, taken for chance
    newest: bool  # explains the latest closure

    @property
    def n(self) -> int:
        """Return the limit."""
        return self.hypothesis.n

    def clean(self, unexplained: float, contradicted: int) -> bool:
        """Say whether it leaves at most this part of the rejects and so many accepted sends unexplained."""
        return self.unexplained <= unexplained * self.rejects and self.hypothesis.contradicted <= contradicted


def fit(
    evidence: Evidence,
    *,
    since: float = float("-inf"),
    known: Sequence[Rate] = (),
    noisy: bool = False,
    blurred: bool = True,
) -> Fit | None:
    """Return the best fit over what was sent from ``since`` on, or None without a refusal.

    Where requests are refused by chance (``noisy``), closures of one refusal are not held against it.

    Refusals that one of the ``known`` rates accounts for are left out: what remains may show another limit. Not
    ``blurred``, a window is longer than what was refused, by however little.
    """
    accepted = evidence.accepted[bisect_left(evidence.accepted, since) :]
    rejects = [reject for reject in evidence.rejects if not reject.probe and reject.sent >= since]
    slack = evidence.slack_s
    for rate in known:
        rejects = [
            reject
            for reject in rejects
            if evidence.count(reject.sent - rate.window_s + slack, reject.sent + slack) < rate.limit
        ]
    closures = evidence.closures(rejects)
    if not accepted or not closures:
        return None
    sent = [reject.sent for reject in rejects]
    counts = _counts(accepted, closures, slack)
    found = [
        hypothesis
        for hypothesis in _hypotheses(accepted, sent, closures, counts, slack)
        if hypothesis.high_s >= max(SHORTEST_S, 4 * slack) and _possible(hypothesis, accepted, slack)
    ]
    if not found:
        return None
    places = {(reject.sent, reject.seen): index for index, reject in enumerate(rejects)}
    lone = {places[(closure.onset.sent, closure.onset.seen)] for closure in closures if closure.lone}
    if len(closures) - len(lone) < 2:
        lone = set()  # refusals come one by one here: they are all there is
    best = min(found, key=lambda each: _cost(each, lone, _unhinted(each, accepted, closures, slack)))
    if not noisy or best.family is Family.BUCKET:  # which refuses one by one
        lone = set()
    onset_at = [
        place for closure in closures if (place := places[(closure.onset.sent, closure.onset.seen)]) not in lone
    ]
    good = [index not in best.unexplained for index in onset_at]
    newest = not any(index in best.unexplained for index in range(onset_at[-1], len(rejects)) if index not in lone)
    unexplained = len(best.unexplained - lone)
    best = _bounded(best, accepted, closures, slack)
    if evidence.stride > 1:
        best = replace(best, n=best.n * evidence.stride)
    window_s = best.high_s if best.family in _STATED else choose(best.low_s, best.high_s, slack if blurred else 0.0)
    if window_s < SHORTEST_S:
        return None
    total = len(accepted) * evidence.stride
    chance = len(best.unexplained & lone)
    return Fit(best, window_s, sum(good), len(good), len(rejects) - len(lone), total, unexplained, chance, newest)


def _cost(hypothesis: Hypothesis, lone: Set[int], unhinted: int) -> tuple[float, int]:
    """Return how unlikely it is, in nats: errors, and how finely the window had to be chosen to have so few.

    A hypothesis that holds for any window between 1 s and 6 s was likely to fit if true; one that holds between 7.00 s
    and 7.01 s was made to fit. A little is given to what forbids less, and a bucket has a number more to choose.
    """
    width = log(max(hypothesis.high_s, 1e-3) / max(hypothesis.low_s, 1e-3))
    cost = (
        _NATS_PER_ERROR * hypothesis.errors
        - _NATS_FORGIVEN * len(hypothesis.unexplained & lone)
        - log(min(max(width, _FINEST), _COARSEST))
    )
    cost -= 0.5 * log(hypothesis.n / max(hypothesis.low_s, 1e-3))
    cost += _UNHINTED_NATS * unhinted
    if hypothesis.family in _STATED and not is_common(hypothesis.high_s):
        cost += _UNUSUAL_NATS
    return cost + (_BUCKET_NATS if hypothesis.family is Family.BUCKET else 0.0), _ORDER.index(hypothesis.family)


def _unhinted(hypothesis: Hypothesis, accepted: Sequence[float], closures: Sequence[Closure], slack: float) -> int:
    """Count the latest closures whose hint asked for clearly longer than a sliding window of that length would."""
    if hypothesis.family in _STATED or hypothesis.family is Family.BUCKET:
        return 0
    found = 0
    for closure in closures[-_RUNS:]:
        known = bisect_right(accepted, closure.last.sent + slack)
        if closure.last.wait_s and known >= hypothesis.n:
            window_s = choose(hypothesis.low_s, hypothesis.high_s, slack)
            opens_at = accepted[known - hypothesis.n] + window_s
            found += closure.last.seen + closure.last.wait_s > opens_at + _HINT_ROUNDED_S + 2.0 * slack
    return found


def _possible(hypothesis: Hypothesis, accepted: Sequence[float], slack: float) -> bool:
    """Say whether no window ever carried more than twice the count, which is the most that any family lets through."""
    most = 2 * hypothesis.n + _MORE
    return min(map(sub, accepted[most:], accepted), default=float("inf")) >= hypothesis.low_s - slack


def _hypotheses(
    accepted: Sequence[float], sent: Sequence[float], closures: Sequence[Closure], counts: Sequence[int], slack: float
) -> Iterable[Hypothesis]:
    arrivals = sorted([*accepted, *sent])
    windows = _fixed_windows(accepted, closures)
    bounds = [closure.boundary() for closure in closures[-_RUNS:] if closure.reopened < float("inf")]
    phases = {window_s: _phase(bounds, window_s, slack) for window_s in windows}
    for place, n in enumerate(counts):
        simple = sliding(accepted, accepted, sent, n, slack)
        if simple is None:
            continue
        yield simple
        if place >= _COUNTS_COSTLY:
            continue
        counting = sliding(accepted, arrivals, sent, n, slack)
        if counting is not None:
            yield counting
        if simple.errors or _unhinted(simple, accepted, closures, slack):
            for window_s in windows:
                if window_s < _FIXED_LEAST * simple.low_s:
                    continue  # n requests within it are no reason to be refused that late
                yield fixed(accepted, sent, n, window_s, None, slack)
                if bounds:
                    yield fixed(accepted, sent, n, window_s, phases[window_s], slack)
    if len(closures) < _BUCKET_CLOSURES:
        return
    judged = [
        (len(unexplained), rate)
        for rate in _refills(accepted, sent, slack)
        for _, unexplained in [judge_bucket(accepted, sent, rate, slack)]
    ]
    if judged:
        yield bucket(accepted, sent, min(judged)[1], slack)


def _counts(accepted: Sequence[float], closures: Sequence[Closure], slack: float) -> list[int]:
    """Return candidate limits, by how often each occurs before an onset.

    With a backlog it is what was accepted since one of the last reopenings; where callbacks come one by one, what was
    accepted in the window before, which would be the same at every onset if it was the right one.
    """
    starts = [accepted[0], *(closure.reopened for closure in closures if closure.reopened < float("inf"))]
    looked_at = [*closures[:2], *closures[-_RUNS:]]
    tally: dict[int, int] = {}
    for closure in looked_at:
        end = bisect_right(accepted, closure.onset.sent + slack)
        before = [start for start in starts if start <= closure.onset.sent + slack]
        for start in before[-4:]:
            count = end - bisect_left(accepted, start)
            if count:
                tally[count] = tally.get(count, 0) + 1
    for span in WRITTEN:
        seen: dict[int, int] = {}
        for closure in looked_at:
            begin = closure.onset.sent - span
            if accepted[0] < begin:
                count = bisect_right(accepted, closure.onset.sent + slack) - bisect_right(accepted, begin + slack)
                seen[count] = seen.get(count, 0) + 1
        for count, times in seen.items():
            if count and times * 2 > len(looked_at):
                tally[count] = max(tally.get(count, 0), times)
            elif count:
                tally.setdefault(count, 0)
    ranked = sorted(tally, key=lambda count: (-tally[count], -count))
    return ranked[:_COUNTS]


def _fixed_windows(accepted: Sequence[float], closures: Sequence[Closure]) -> list[float]:
    """Return candidate fixed windows: common ones that fit between reopenings, else the distances themselves."""
    bounds = [closure.boundary() for closure in closures[-_RUNS:] if closure.reopened < float("inf")]
    spans: list[tuple[float, float]] = []
    for earlier, later in pairwise(bounds):
        spans += [((later[0] - earlier[1]) / k, (later[1] - earlier[0]) / k) for k in (1, 2)]
    for closure, (low, high) in list(zip(closures[-_RUNS:], bounds, strict=False))[-3:]:
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


def _phase(bounds: Sequence[tuple[float, float]], window_s: float, slack: float) -> float:
    """Return when a window begins if every so many seconds one does, so that most reopenings are explained."""

    def explained(at: float) -> int:
        return sum((at - low) % window_s <= high - low for low, high in bounds)

    tried = [edge for low, high in bounds for edge in (high - slack, (low + high) / 2, low + slack)]
    return max(tried, key=explained, default=0.0)


def _refills(accepted: Sequence[float], sent: Sequence[float], slack: float) -> list[float]:
    """Return candidate refill rates: accepted between two refusals, when the bucket was empty, over the time."""
    if len(sent) < 4:
        return []
    rates = set()
    size = len(sent)
    for first in {0, 1, size // 4}:
        for last in {size - 1, size - 2, size * 3 // 4}:
            span = sent[last] - sent[first]
            if last > first and span > 20 * slack:
                count = bisect_right(accepted, sent[last] + slack) - bisect_right(accepted, sent[first] + slack)
                if count >= 3:
                    rates.add(count / span)
    return sorted(rates)


def _bounded(best: Hypothesis, accepted: Sequence[float], closures: Sequence[Closure], slack: float) -> Hypothesis:
    """Narrow the bounds of the window by what the platform itself said of the wait, and by the first reopening."""
    if best.family not in (Family.SLIDING, Family.COUNTING):
        return best
    low, high = best.low_s, best.high_s
    spans: list[float] = []
    for closure in closures:
        known = bisect_right(accepted, closure.last.sent + slack)
        if known < best.n:
            continue
        begun = accepted[known - best.n]
        if closure.reopened < float("inf"):
            spans.append(closure.reopened - begun)
        if closure.last.wait_s:
            stated = closure.last.seen + closure.last.wait_s - begun
            if low < stated - 1.5 <= high:
                low = stated - 1.5
    if high == float("inf"):
        high = min((span for span in spans if span > low), default=max(2.0 * low, low + slack))
    return replace(best, low_s=low, high_s=max(high, low))
