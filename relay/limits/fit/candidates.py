"""Which limits to ask the families about: counts, windows and refills that the evidence itself suggests.

Nothing is searched on a grid. A count is what was accepted from a reopening to a refusal. Given a count, the evidence
bounds a sliding window, and a fixed window is a distance between reopenings.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf

from relay.limits.evidence.history import Closure
from relay.limits.fit.families import Family, Hypothesis, bucket, fixed, judge_bucket, sliding
from relay.limits.fit.phases import fixed_windows, phase, starts_between
from relay.limits.fit.written import WRITTEN, choose

_COUNTS = 10  # candidates looked at, most frequent first
_COUNTS_COSTLY = 4  # of these for fixed windows, which take longest to judge
_RUNS = 8  # latest closures that counts and boundaries are taken from
_MOST_VARYING = 1.4  # times the count: where more gets through at times, no quota is shared
_RUNS_VARYING = 32  # latest closures that the bounds of a varying count are taken from
_FIXED_LEAST = 0.5  # of the sliding window that explains most
_PINNED = 1.1  # bounds of a sliding window this near each other may come from fixed windows
_HINT_ROUNDED_S = 1.5  # hints are whole seconds, rounded up
_BUCKET_SPREAD = 2  # requests: what others take of a bucket comes evenly, as it is filled
_BUCKET_CLOSURES = 5  # two free numbers fit any fewer
STATED = (Family.FIXED, Family.FIRST_REQUEST)
"""Families that are judged for one given window; the others find theirs."""


class Candidates:
    """What to ask about one stretch of evidence: ``accepted`` and ``rejects`` are sorted send times.

    ``slack_s`` is by how much the order of arrivals may differ from that of sends. Where the evidence is not ``whole``,
    a limit may have been used up already when it begins.
    """

    def __init__(
        self,
        accepted: Sequence[float],
        rejects: Sequence[float],
        closures: Sequence[Closure],
        slack_s: float,
        *,
        whole: bool = True,
    ) -> None:
        self.accepted = accepted
        self.rejects = rejects
        self.closures = closures
        self.slack_s = slack_s
        self._whole = whole
        self._arrivals = sorted([*accepted, *rejects])
        reopened = [closure for closure in closures[-_RUNS:] if closure.reopened < inf]
        # A fixed window began within each stretch that opened it, and none while it was shut.
        self._opened = [closure.boundary() for closure in reopened]
        self._shut = [(closure.onset.sent + slack_s, closure.last.sent - slack_s) for closure in reopened]
        self._fixed_windows = fixed_windows(accepted, closures[-_RUNS:])

    def exact(self) -> Iterator[Hypothesis]:
        """Yield limits that let the same count through each time."""
        for place, n in enumerate(_counts(self.accepted, self.closures, self.slack_s)):
            simple = self._sliding(self.accepted, n, 0)
            if simple is None:
                continue
            yield simple
            if place >= _COUNTS_COSTLY:
                continue
            counting = self._sliding(self._arrivals, n, 0)
            if counting is not None:
                yield counting
            if simple.errors or simple.high_s < _PINNED * simple.low_s or self.against_hints(simple):
                # n requests in a much shorter window are no reason to be refused that late
                yield from self._fixed(n, 0, least_s=_FIXED_LEAST * simple.low_s)
        if len(self.closures) >= _BUCKET_CLOSURES:
            yield from self._buckets(0)

    def varying(self) -> Iterator[Hypothesis]:
        """Yield limits whose count varies, as where others use the same quota."""
        if len(self.closures) >= _BUCKET_CLOSURES:
            yield from self._buckets(_BUCKET_SPREAD)
        runs, most_at_all = self._varying_runs()
        if len(runs) < 2:
            return
        for n in {runs[0], runs[len(runs) // 4], runs[len(runs) // 2]}:
            for most in {runs[len(runs) * 3 // 4], runs[-1], most_at_all}:
                simple = self._sliding(self.accepted, n, most - n) if n < most <= _MOST_VARYING * n else None
                if simple is None:
                    continue
                yield simple
                counting = self._sliding(self._arrivals, n, most - n)
                if counting is not None:
                    yield counting
                yield from self._fixed(n, most - n, least_s=0.0)

    def against_hints(self, hypothesis: Hypothesis) -> int:
        """Count the latest closures whose hint (Retry-After) asks for a longer wait than the window explains."""
        if hypothesis.family in STATED or hypothesis.family is Family.BUCKET:
            return 0
        found = 0
        for closure in self.closures[-_RUNS:]:
            known = bisect_right(self.accepted, closure.last.sent + self.slack_s)
            if closure.last.wait_s and known >= hypothesis.n:
                window_s = choose(hypothesis.low_s, hypothesis.high_s, self.slack_s)
                opens_at = self.accepted[known - hypothesis.n] + window_s
                found += closure.last.seen + closure.last.wait_s > opens_at + _HINT_ROUNDED_S + 2.0 * self.slack_s
        return found

    def _sliding(self, arrivals: Sequence[float], n: int, spread: int) -> Hypothesis | None:
        return sliding(self.accepted, arrivals, self.rejects, n, self.slack_s, spread=spread)

    def _fixed(self, n: int, spread: int, *, least_s: float) -> Iterator[Hypothesis]:
        spans = list(zip(self.accepted, self.accepted[n + spread :], strict=False))
        for window_s in self._fixed_windows:
            if window_s < least_s:
                continue
            yield fixed(self.accepted, self.rejects, n, window_s, None, self.slack_s, spread=spread)
            if self._opened:
                began = [*self._opened, *starts_between(spans, window_s - self.slack_s, n + spread)]
                begins = phase(began, self._shut, window_s)
                yield fixed(self.accepted, self.rejects, n, window_s, begins, self.slack_s, spread=spread)

    def _buckets(self, spread: int) -> Iterator[Hypothesis]:
        judged = [
            (
                len(judge_bucket(self.accepted, self.rejects, rate, self.slack_s, spread=spread, full=self._whole)[1]),
                rate,
            )
            for rate in _refills(self.accepted, self.rejects, self.slack_s)
        ]
        if judged:
            yield bucket(self.accepted, self.rejects, min(judged)[1], self.slack_s, spread=spread, full=self._whole)

    def _varying_runs(self) -> tuple[list[int], int]:
        """Return the sorted full runs between the latest closures, and the most accepted from one start to the next.

        A run is full when it is at least half as long as the longest. Where others give their part back one by one,
        requests get through between runs too, so the second number is larger.
        """
        runs: list[tuple[int, int]] = []  # where each begins in the accepted, and how long it is
        for earlier, later in pairwise(self.closures[-_RUNS_VARYING - 1 :]):
            begin = bisect_left(self.accepted, earlier.reopened)
            runs.append((begin, bisect_right(self.accepted, later.onset.sent + self.slack_s) - begin))
        most = max((count for _, count in runs), default=0)
        full = [(begin, count) for begin, count in runs if count * 2 >= most]
        cycle = max((later - earlier for (earlier, _), (later, _) in pairwise(full)), default=0)
        counts = [count for _, count in full]
        first = bisect_right(self.accepted, self.closures[0].onset.sent + self.slack_s)
        if first <= 2 * most:  # a longer one began before there was a limit
            counts = [count for count in (first, *counts) if count * 2 >= max(first, most)]
        return sorted(counts), cycle


def _counts(accepted: Sequence[float], closures: Sequence[Closure], slack: float) -> list[int]:
    """Return candidate limits, by how often each occurs before an onset.

    With a backlog that is what was accepted since one of the last reopenings. Where callbacks come one by one, it is
    what was accepted in a window before the onset: for the right window it is the same at every onset.
    """
    starts = [accepted[0], *(closure.reopened for closure in closures if closure.reopened < inf)]
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


def _refills(accepted: Sequence[float], sent: Sequence[float], slack: float) -> list[float]:
    """Return candidate refill rates: what was accepted between two refusals (the bucket was empty), by the time."""
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
