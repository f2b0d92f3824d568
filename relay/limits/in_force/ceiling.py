"""The limits in force under one quota: how they get there, become stricter, and give way to a pace."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, inf

from relay.limits.evidence.history import Closure, History
from relay.limits.fit.families import Family
from relay.limits.fit.likelihood import Fit
from relay.limits.fit.written import common_between, is_common, rounded_up
from relay.limits.in_force.limit import FEW, NEARLY_USED, PROVEN_WINDOWS, STOP_S, LearnedLimit, near
from relay.limits.in_force.noise import Noise

_SHRINK = 0.02  # of the limit is taken off, at least one request: others use it too, or the window is a little short
_SLOWLY, _ABOVE = 2, 1.2  # so often a little is taken off; then down to so much of what got through
_STOPS = 6.0  # times a stop: in shorter windows stops take much of what would get through
_LONGER = 1.05  # times the window, where one request less would be too much
_NEXT_WRITTEN = 1.7  # times a window nobody writes that is refused: up to there the next written one is taken
_EARLY = 0.5  # of the limit: refused when less was used, so the window must be longer
_SHRINK_AGAIN = 20.0  # windows; a shrink that soon after another was not enough
_FIRST_RAISE_WINDOWS = 3.0  # then the first step up: a count that is too low is found out early
_FIRST_RAISE_S = 15.0
_IMPLIED = 0.9  # a shorter window that holds nearly as many adds nothing
RATES = 3  # that many windows at once; no platform in reference use has more
_YOUNG_WINDOWS = 10.0  # so long after it was found or changed, a limit is young
_IN_USE_WINDOWS = 1.5  # a limit that was nearly used up within so many is in use
_LOOKS, _LOOK_AGAIN_S = 4, 60.0  # in a window whether it is used up, and at the latest
_RAISE_AFTER_SHRINK_S = 60.0
_THROUGHPUT_CLOSURES_LEAST, _THROUGHPUT_WINDOWS = 4, 2.0  # fewer do not show what gets through
_FLOOR = 0.9  # of what got through: no limit is made stricter than that
_SHORTER_LEAST = 0.5  # of the window: so short a window may be tried once noise was seen
_PACE = 20  # requests at least in the window of a pace, so that a step is 5 %
_PACE_PART = 0.97  # of what got through
THROUGHPUT_CLOSURES = 8  # the latest ones, between which what got through is counted


class Ceiling:
    """``rates`` are the limits in force, shortest window first; ``changed`` is set whenever they are.

    Below ``floor_s`` requests a second the operator lets nothing be enforced.
    """

    def __init__(self, evidence: History, noise: Noise) -> None:
        self.floor_s = 0.0
        self._evidence = evidence
        self._noise = noise
        self.rates: list[LearnedLimit] = []
        self.changed = False
        self._looked_at = -inf

    def tightest_first(self) -> list[LearnedLimit]:
        """Return the limits, the one that binds most first."""
        return sorted(self.rates, key=lambda limit: limit.rate_s)

    def busy(self, limit: LearnedLimit, now: float) -> bool:
        """Say whether a limit was nearly used up just before ``now``."""
        since = now - _IN_USE_WINDOWS * limit.window_s - 2 * self._evidence.slack_s
        return self._evidence.count(since, now) >= NEARLY_USED * limit.n

    def young_and_nearly_used(self, limit: LearnedLimit, now: float) -> bool:
        """Say whether a young limit is nearly used up: the next requests may be too many."""
        lately = now - max(limit.since, limit.shrunk_at) < _YOUNG_WINDOWS * limit.window_s
        return lately and self._evidence.used(now - limit.window_s, now) >= NEARLY_USED * limit.n

    def note_used_up(self, now: float) -> bool:
        """Count the windows that are used up without a refusal; say whether that makes a limit surer."""
        if not self.rates or now - self._looked_at < min(self.rates[0].window_s / _LOOKS, _LOOK_AGAIN_S):
            return False
        self._looked_at = now
        confidence_rose = [limit.note_used_up(now) for limit in self.rates if self.busy(limit, now)]
        return any(confidence_rose)

    @staticmethod
    def proven(limit: LearnedLimit, now: float) -> bool:
        """Say whether a limit was in force so long that one found later does not replace it."""
        return not limit.is_pace and now - limit.since > PROVEN_WINDOWS * limit.window_s

    def adopt(self, found: Fit, now: float, *, since: float = -inf) -> None:
        """Put in force what was found in the evidence from ``since`` on; older evidence is dropped.

        Proven limits of another window stay beside it. All others are replaced.
        """
        if since > -inf:
            self._evidence.forget_before(since)
        hypothesis = found.hypothesis
        fresh = LearnedLimit(
            n=max(1, found.n),
            window_s=max(found.window_s, 0.05),
            low_s=hypothesis.low_s,
            high_s=hypothesis.high_s,
            family=hypothesis.family if found.clean(0.25, 2 + found.closures // 4) else Family.UNCERTAIN,
            since=now,
            onsets=found.onsets,
            spread=hypothesis.spread,
            clean_from=now,
        )
        fresh.shorter_next = not is_common(fresh.window_s)
        fresh.raise_at = now + max(_FIRST_RAISE_WINDOWS * fresh.window_s, _FIRST_RAISE_S)
        kept = []
        for limit in self.rates:
            implied = limit.window_s <= fresh.window_s and limit.n > _IMPLIED * fresh.n
            if self.proven(limit, now) and not near(limit.window_s, fresh.window_s) and not implied:
                kept.append(limit)
        self._install([*kept[-RATES + 1 :], fresh])

    def replace(self, found: Fit, now: float) -> None:
        """Put what was found in force in place of everything that is."""
        self.rates.clear()
        self.adopt(found, now)

    def allow_shorter_windows(self, now: float) -> None:
        """Let shorter windows be tried again: what refused the earlier ones may have been noise."""
        for limit in self.rates:
            if not self.proven(limit, now):
                self._allow_shorter(limit)

    @staticmethod
    def _allow_shorter(limit: LearnedLimit) -> None:
        if limit.family is not Family.BUCKET:
            limit.low_s = min(limit.low_s, limit.window_s * _SHORTER_LEAST)

    def undo_raise(self, now: float) -> bool:
        """Undo the raises that a refusal followed soon; say whether there were any."""
        taken_back = [limit.undo_raise(now) for limit in self.rates]
        self.changed |= any(taken_back)
        return any(taken_back)

    def shrink(self, closures: Sequence[Closure], now: float) -> None:
        """Take a little off the limits that were used up at the latest refusal, and more when that is not enough.

        Where that would be less than what got through, another kind of limit refuses, and a pace is put in force.
        """
        throughput = self.throughput(closures)
        busy = [limit for limit in self.rates if self.busy(limit, closures[-1].onset.sent)]
        for limit in busy or self.rates[-1:]:
            soon = now - limit.shrunk_at < _SHRINK_AGAIN * (limit.window_s + STOP_S)
            shrinks = limit.shrinks + 1 if soon else 1
            n = self._lower_count(limit, throughput, shrinks)
            limit.spread = limit.spread // 2
            limit.clean_from = now
            if (n if limit.n > FEW else limit.n / _LONGER) < _FLOOR * throughput * limit.window_s:
                self.pace(throughput, closures, now)
                return
            meant_s = self._next_written(limit, closures[-1])
            if meant_s > limit.window_s:
                limit.low_s, limit.window_s, limit.high_s = limit.window_s, meant_s, meant_s
            elif limit.n > FEW:
                limit.peak, limit.n = max(limit.peak, limit.n), n
            else:  # one of a few requests is too much: a longer window takes off less
                limit.low_s, limit.window_s = limit.window_s, rounded_up(limit.window_s * _LONGER)
                limit.high_s = limit.window_s
            limit.shrinks, limit.shrunk_at = shrinks, now
            self._plan_recovery(limit, now, again=soon)
            self.changed = True

    def _lower_count(self, limit: LearnedLimit, throughput: float, shrinks: int) -> int:
        """Return the count that is put in force after so many shrinks in a row."""
        part = _SHRINK * 2.0 ** min(max(shrinks - 2, 0), 2)
        n = max(1, min(limit.n - 1 - limit.spread // 4, int(limit.n * (1.0 - part))))
        # Little by little did not help: the count is far too high, or the window far too short.
        if shrinks > _SLOWLY and throughput and limit.window_s > _STOPS * STOP_S:
            n = min(n, ceil(_ABOVE * throughput * limit.window_s))
        return n

    def _next_written(self, limit: LearnedLimit, latest: Closure) -> float:
        """Return the next longer window that people write, where the present one may be too short; else 0."""
        early = self._refused_early(limit, latest.onset.sent)
        if limit.is_pace or (is_common(limit.window_s) and not early):
            return 0.0
        longest_s = limit.window_s * (_LONGER if latest.lone and not early else _NEXT_WRITTEN)
        return min(common_between(limit.window_s, longest_s), default=0.0)

    def _plan_recovery(self, limit: LearnedLimit, now: float, *, again: bool) -> None:
        shorter_next = limit.shorter_next
        limit.plan_raise(now, failed=not self._noise.noisy, again=again)
        limit.shorter_next = shorter_next  # no probe asked about the window
        soon_s = max(_RAISE_AFTER_SHRINK_S, 5.0 * limit.window_s)
        if self._noise.noisy:  # it may have been noise
            limit.raise_at = now + min(soon_s * 2.0 ** min(limit.shrinks_since_raise, 8), limit.raise_every_s)
        elif limit.tries_shorter and not is_common(limit.window_s):  # a window nobody writes is likely too long
            limit.raise_at = now + soon_s
        limit.shrinks_since_raise += 1

    def _refused_early(self, limit: LearnedLimit, at: float) -> bool:
        """Say whether the platform refused long before the limit was used up: then its window is longer."""
        if limit.is_pace or limit.family is Family.BUCKET or self._noise.noisy:
            return False
        slack = self._evidence.slack_s
        return self._evidence.used(at - limit.window_s - slack, at + slack) < _EARLY * limit.n

    def throughput(self, closures: Sequence[Closure]) -> float:
        """Return the requests per second that got through between the latest refusals; 0 where they are too few."""
        longest_s = self.rates[-1].window_s + STOP_S if self.rates else STOP_S
        end = closures[-1].onset.sent
        recent = [closure.onset.sent for closure in closures if closure.onset.sent > end - _SHRINK_AGAIN * longest_s]
        recent = recent[-THROUGHPUT_CLOSURES:]
        span_s = end - recent[0]
        if len(recent) < _THROUGHPUT_CLOSURES_LEAST or span_s < _THROUGHPUT_WINDOWS * longest_s:
            return 0.0
        return self._evidence.count(recent[0], end) / span_s

    def pace(self, throughput: float, closures: Sequence[Closure], now: float) -> None:
        """Put a pace in force: a little less than what got through, evenly. No limit that let that through refuses it.

        Its window is twice the shortest stretch between full runs: the limit behind it has such a window.
        """
        if throughput < self.floor_s:
            return
        onsets = [closure.onset.sent for closure in closures]
        runs = [self._evidence.count(*pair) for pair in pairwise(onsets)]
        full = max(runs, default=0) / 2
        spans = [later - earlier for (earlier, later), run in zip(pairwise(onsets), runs, strict=True) if run >= full]
        n = max(_PACE, int(throughput * 2.0 * min(spans, default=0.0)))
        window_s = rounded_up(n / (_PACE_PART * throughput))
        pace = LearnedLimit(n, window_s, window_s, window_s, Family.UNCERTAIN, now, clean_from=now)
        pace.is_pace, pace.answer_s = True, self._evidence.answer_s
        pace.plan_raise(now, failed=False)
        pace.raise_at = now + max(window_s, _FIRST_RAISE_S)
        kept = [limit for limit in self.rates if limit.rate_s > throughput and self.proven(limit, now)]
        self._install([*kept[: RATES - 1], pace])

    def _install(self, rates: list[LearnedLimit]) -> None:
        self.rates = sorted(rates, key=lambda limit: limit.window_s)
        self._noise.clear()
        self.changed = True
