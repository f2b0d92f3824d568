"""Probes, careful steps beyond the limits in force: one more request, or a shorter window, now and then.

A probe that fails costs a refusal or two and doubles the time to the next. One that succeeds is followed by one twice
as large. Only requests *beyond* the limit are judged. A refusal among them may be noise: a limit would refuse the next
request too.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt

from relay.core.model import Rate
from relay.limits.fit.families import Family
from relay.limits.fit.written import SHORTEST_S, choose, rounded_up
from relay.limits.in_force.limit import LearnedLimit

_HITS_SHORTER = 20  # windows at the most that a shorter one must hold
_HITS_HIGHER = 2  # windows that a higher count must hold
_HITS_BUCKET = 4  # a token bucket forgives one or two
_LARGE = 1.1  # times the limit: a step beyond that leaves room for a smaller one
_TOO_FINE = 3.0  # times the slack: a window that is shorter by less cannot be told from the present one
_SHORTER_PARTS = (0.6, 0.7, 0.8)  # of a window that is believed: tried in turn
_MISSES = 2  # refusals of a probe that are too many
_AGAIN_S = 4.0  # another refusal that soon is no noise
_SOON = 5.0  # within this part of the window (1/5) an accepted request refutes the refusal before it
_STEP_NOISY = 0.03  # of the limit: one request more would be refused too seldom to be told from noise
_PER_HOUR = 3  # failed probes, once learned; the bar is five refusals
_PER_HOUR_NOISY = 6
_PER_HOUR_BACK = 8
_PER_HOUR_LEARNING = 10
_LEARNING_WINDOWS = 6.0
_HOUR_S = 3600.0


@dataclass(slots=True)
class Probe:
    """A step under way: ``rate`` is tried in place of ``of``'s own."""

    of: LearnedLimit
    rate: Rate
    since: float
    until: float
    hits: int = 0
    hit_at: float = float("-inf")
    misses: int = 0
    missed_at: float = float("-inf")
    hits_before: int = 0  # the latest miss
    misses_forgiven: int = 0
    beyond: int = 0  # n of the limit when it began

    @property
    def shorter(self) -> bool:
        """Whether the window is what is tried."""
        return self.rate.window_s < self.of.window_s

    @property
    def needed(self) -> int:
        """How many used-up windows prove it.

        Fixed windows accept shorter ones until two fall into one of theirs: after W / (W - shorter) of them.
        """
        if not self.shorter:
            if self.of.is_pace:
                return 1  # its stretches are as long as the windows behind it
            return _HITS_BUCKET if self.of.family is Family.BUCKET else _HITS_HIGHER
        return min(1 + ceil(self.of.window_s / (self.of.window_s - self.rate.window_s)), _HITS_SHORTER)

    def miss_was_noise(self, now: float) -> bool:
        """Say whether a request beyond the limit that is accepted now shows that the latest miss was noise.

        A limit would have refused it too, unless a window happened to end in between.
        """
        if self.of.family is Family.BUCKET:
            return False  # a bucket has room for a request or two again
        span_s = self.of.window_s - self.rate.window_s if self.shorter else self.of.window_s
        return (now - self.missed_at) * _SOON <= span_s and self.misses_forgiven <= self.hits_before + self.hits


@dataclass(slots=True)
class Prober:
    """At most one probe at a time, and few failures per hour."""

    probe: Probe | None = None
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=16))

    def begin(
        self, rates: list[LearnedLimit], now: float, busy: Callable[[LearnedLimit], bool], *, noisy: bool
    ) -> bool:
        """Begin a probe if one is due; say whether the rates in force changed.

        Where noise refuses requests (``noisy``) more probes fail, and more are allowed.
        """
        if self.probe is not None:
            return False
        for limit in rates:
            clean_s = now - limit.clean_from
            if clean_s < limit.window_s or not busy(limit):
                continue
            learning = now - limit.since < _LEARNING_WINDOWS * max(limit.window_s, 60.0)
            recent = sum(at > now - _HOUR_S for at in self.failures)
            allowed = _PER_HOUR_LEARNING if learning else _PER_HOUR_NOISY if noisy else _PER_HOUR
            if limit.n < limit.peak:  # not beyond what was in use: on the way back after too much was taken off
                allowed = _PER_HOUR_BACK
            if recent >= allowed:
                continue
            tries_shorter = limit.settled and limit.tries_shorter
            if now >= limit.raise_at and (noisy or limit.settled) and not tries_shorter:
                least = int(_STEP_NOISY * limit.n) if noisy else 1
                step = min(max(limit.step, (limit.peak - limit.n + 1) // 2, least), limit.n)
                rate = Rate(limit.n + step, limit.window_s)
            elif not limit.settled:
                rate = Rate(limit.n, _shorter(limit))
            elif now >= limit.raise_at and tries_shorter:
                part = _SHORTER_PARTS[limit.shorter_tries % len(_SHORTER_PARTS)]
                rate = Rate(limit.n, rounded_up(choose(part * limit.window_s, (part + 0.15) * limit.window_s)))
            else:
                continue
            until = now + max(60.0, 30.0 * limit.window_s)
            self.probe = Probe(limit, rate, now, until, beyond=limit.n)
            return True
        return False

    def accepted(self, now: float, span_s: float, slack: float, oldest_open: float) -> bool:
        """Judge the probe by an accepted send whose n-th predecessor was sent ``span_s`` before it.

        Nothing is judged while a request of the probe is unanswered: a 408 comes seconds later.
        """
        probe = self.probe
        assert probe is not None
        limit = probe.of
        if span_s < limit.window_s - 2 * slack:
            if probe.miss_was_noise(now):
                probe.misses, probe.misses_forgiven, probe.missed_at = (
                    probe.misses - 1,
                    probe.misses_forgiven + 1,
                    float("-inf"),
                )
                probe.hits += probe.hits_before
            if now - probe.hit_at >= probe.rate.window_s:
                probe.hit_at = now
                probe.hits += 1
        if probe.hits >= probe.needed and oldest_open > probe.hit_at:
            self.probe = None
            self._succeeded(probe, now)
            return True
        if now > probe.until:
            self.probe = None
            if probe.shorter and limit.window_s - probe.rate.window_s < _TOO_FINE * slack:
                limit.low_s = max(limit.low_s, probe.rate.window_s)
            limit.raise_at = max(limit.raise_at, now + limit.window_s)
            limit.clean_from = now
            return True
        return False

    def refused(self, sent: float, now: float, last_accepted: float, *, noisy: bool) -> bool:
        """Count a refusal of a request beyond the limit; end the probe when it cannot be noise; say whether it ended.

        Where noise refuses requests (``noisy``) a second refusal ends it. The first is forgiven when something is
        accepted afterwards that the limit would have refused.
        """
        probe = self.probe
        assert probe is not None
        if sent <= probe.missed_at:  # under way together with the one that was refused
            return False
        again = last_accepted <= probe.missed_at or sent - probe.missed_at < _AGAIN_S
        probe.misses += 1
        probe.missed_at, probe.hits_before, probe.hits = now, probe.hits, 0
        if noisy and not again and probe.misses < _MISSES:
            return False
        self.probe = None
        self.failures.append(now)
        probe.of.clean_from = now
        if probe.shorter and probe.of.settled:
            probe.of.shorter_tries += 1
            probe.of.plan_raise(now, failed=True)
        elif probe.shorter:
            probe.of.low_s = max(probe.of.low_s, probe.rate.window_s)
        elif probe.rate.limit <= probe.of.peak and probe.rate.limit > _LARGE * probe.of.n:
            probe.of.refused_once, probe.of.peak = False, probe.rate.limit - 1  # the way back is shorter
            probe.of.raise_at = now + 3.0 * probe.of.window_s
        elif not (noisy or probe.of.refused_once or probe.of.is_pace):
            probe.of.refused_once = True  # it may be noise: once more before it counts
            probe.of.raise_at = now + 2.0 * probe.of.window_s
        else:
            self._failed(probe.of, probe.rate.limit, now)
        return True

    def end_if_large(self, rates: Sequence[LearnedLimit]) -> bool:
        """End a probe whose limit was replaced, or lowered so far that the probe is now a large step; say whether."""
        probe = self.probe
        if probe is None:
            return False
        in_force = any(limit is probe.of for limit in rates)
        if in_force and (probe.of.n >= probe.beyond or probe.rate.limit <= _LARGE * probe.of.n):
            return False
        self.probe = None
        return True

    @staticmethod
    def _succeeded(probe: Probe, now: float) -> None:
        limit = probe.of
        limit.clean_from = now
        if probe.shorter:
            if limit.low_s >= probe.rate.window_s:  # what refused before was noise, or has changed
                limit.low_s = probe.rate.window_s / 2
            limit.window_s = limit.high_s = probe.rate.window_s
            return
        if not limit.raised_lately(now) or limit.is_pace:
            limit.shrinks_since_raise = limit.shrinks_since_raise if limit.n < limit.n_before_raises else 0
            limit.n_before_raises = limit.n
        elif limit.family is not Family.BUCKET:  # which tells late: the raise before the latest held
            limit.n_before_raises = max(limit.n_before_raises, limit.n_before_raise)
        limit.n_before_raise = limit.n
        limit.n, limit.raised_at, limit.refusals_since_raise = probe.rate.limit, now, 0
        limit.refused_once = False
        limit.narrowing &= limit.step > 1  # at the finest step what was refused before is reached
        limit.step = limit.step // 2 if limit.narrowing else limit.step * 2

    @staticmethod
    def _failed(limit: LearnedLimit, tried: int, now: float) -> None:
        limit.peak = min(limit.peak, tried - 1)
        if limit.step > limit.least_step:
            limit.refused_once = False
            limit.narrowing, limit.step = True, limit.step // 2
            limit.raise_at = now + (1.0 if limit.is_pace else 3.0) * limit.window_s
        else:
            limit.plan_raise(now, failed=True)


def _shorter(limit: LearnedLimit) -> float:
    low_s = max(limit.low_s, SHORTEST_S)
    between = choose(low_s, limit.window_s * 0.99)
    if between < limit.window_s * 0.5:
        between = sqrt(max(low_s, limit.window_s / 8) * limit.window_s)
    return min(rounded_up(between), rounded_up(limit.window_s * 0.98))
