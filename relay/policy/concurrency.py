"""How many requests may be under way: between 1 and the bound, by how long the platform takes to answer.

A gradient controller in the manner of Netflix's Gradient2 (concurrency-limits, ``Gradient2Limit``), with what it lacks:
failures in number lower the limit, a limit that is not used up is left alone, and lowering it is an
experiment: where answers do not get quicker, what slowed them was not our concurrency but fuller batches or a slower
platform. After a stop the limit is worked up to from 1, as TCP does (slow start, RFC 5681 section 3.1).
"""

from enum import IntEnum

_ROUND = 10  # answers judged together: fewer and chance rules, more and it comes late
_SMOOTHING = 0.3  # per round
_TOLERANCE = 1.5  # answers may take that much longer than usual before there is a queue over there
_BACK_OFF = 0.9  # for a round of failures, as AIMD does
_FAILING = 0.3  # of a round; fewer come by chance on any platform, however many requests are under way
_ROOM = 1.0  # a limit that is used up grows by so much per round while answers are as quick as usual
_LOWERED, _SHARPEST = 0.6, 0.5  # to this part the limit is lowered in one step, by how slow answers are
_QUICKER = 0.8  # if it was our concurrency, that brings answers to this part of their time
_MEASURED = 2  # rounds, before and after
_DOWN, _ALONE = 0.2, 0.5  # how fast the usual follows, per round
_LONGEST_S = 60.0
_RAMPED = float("inf")


class _Test(IntEnum):
    """The experiment of lowering the limit: answers are timed before and after."""

    NONE = 0
    BEFORE = 1
    AFTER = 2


class AdaptiveConcurrency:
    """The number of requests one platform may have under way. ``limit`` is at least 1 and at most ``bound``."""

    __slots__ = (
        *("_answers", "_failed", "_limit", "_most", "_ramp", "_recent_s", "_rounds", "_skip", "_sum_s"),
        *("_test", "_test_from", "_test_s", "_usual_s", "bound"),
    )

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._limit = float(bound)  # what the operator allowed, until answers slow down
        self._ramp = _RAMPED
        self._usual_s = 0.0  # an answer without a queue
        self._test, self._test_from, self._test_s = _Test.NONE, 0.0, 0.0
        self._recent_s, self._rounds = 0.0, 0
        self._skip = 0  # answers to come to requests that were sent before the limit was lowered
        self._answers, self._sum_s, self._failed, self._most = 0, 0.0, 0, 0

    @property
    def limit(self) -> int:
        """Return how many requests may be under way."""
        return max(1, min(self.bound, int(min(self._limit, self._ramp))))

    def restart(self) -> None:
        """Begin with one request: a stop has ended or the breaker closed. Each accepted answer allows one more.

        So what is under way doubles with each round trip until the limit is reached; a failure halves it.
        """
        self._abandon()
        self._ramp = 1.0

    def answered(self, answer_s: float, *, in_flight: int, failed: bool) -> None:
        """Learn from an answer: its time, how many were under way with it, and whether it was a failure.

        A throttle is not a failure here: it says nothing about concurrency, the rate limits see to it.
        """
        if self._ramp < _RAMPED:
            return self._climb(answer_s, failed)
        if failed:
            self._failed += 1
        elif self._skip:
            self._skip -= 1
            return None
        else:
            bounded = min(max(0.0, answer_s), _LONGEST_S)
            if not self._usual_s:
                self._usual_s = bounded
            self._sum_s += bounded
            self._answers += 1
        if in_flight > self._most:
            self._most = in_flight
        if self._answers + self._failed >= _ROUND:
            self._judge()
        return None

    def _abandon(self) -> None:
        """End a test without a result."""
        if self._test is not _Test.NONE:
            self._limit, self._test = self._test_from, _Test.NONE

    def _climb(self, answer_s: float, failed: bool) -> None:
        """Take a step of the ramp. Its answers, with few under way at first, show best what is usual."""
        if failed:
            self._ramp = max(1.0, self._ramp / 2)
            return
        bounded = min(max(0.0, answer_s), _LONGEST_S)
        self._usual_s = min(self._usual_s, bounded) if self._usual_s else bounded
        self._ramp += 1.0
        if self._ramp >= self._limit:
            self._measure(skip=int(self._ramp))
            self._ramp = _RAMPED

    def _judge(self) -> None:
        if self._failed >= _FAILING * (self._answers + self._failed):
            self._limit = max(1.0, self._limit * _BACK_OFF)
            self._test = _Test.NONE
        else:
            self._learn(self._sum_s / self._answers)
            if self._test is _Test.NONE or self._rounds >= _MEASURED:
                self._conclude()
        self._begin()

    def _learn(self, round_s: float) -> None:
        """Take the usual time from what is quicker, and from requests that were alone: these wait for none of ours."""
        self._rounds += 1
        self._recent_s += (round_s - self._recent_s) * _SMOOTHING if self._recent_s else round_s
        if self._most <= 1:
            self._usual_s += (self._recent_s - self._usual_s) * _ALONE
        elif self._recent_s < self._usual_s:
            self._usual_s += (self._recent_s - self._usual_s) * _DOWN

    def _conclude(self) -> None:
        """Let the limit grow while answers are quick; else time them, lower it, time them again, and know why."""
        test, self._test = self._test, _Test.NONE
        slow = self._recent_s > _TOLERANCE * self._usual_s
        used_up = self._most >= self.limit or (self._most > 1 and self._most * 2 >= self._limit)
        if test is _Test.AFTER and slow and self._recent_s > self._test_s * _QUICKER:
            self._limit = min(self._test_from, float(self.bound))
            self._usual_s = self._recent_s
        elif not used_up or (test is _Test.BEFORE and not slow):
            if test is not _Test.NONE:  # nothing came of it
                self._limit = min(self._test_from, float(self.bound))
        elif not slow or self._most <= 1:
            self._limit = min(float(self.bound), self._limit + _ROOM)
        elif test is _Test.NONE:
            self._test, self._test_from = _Test.BEFORE, self._limit
            self._limit = min(self._limit, float(self._most))  # what is not used tells nothing
            self._measure(skip=self._most)
        else:
            if test is _Test.AFTER:
                self._test_from = self._limit
            gradient = _TOLERANCE * self._usual_s / self._recent_s
            self._test, self._test_s = _Test.AFTER, self._recent_s
            self._limit = max(1.0, self._limit * min(_LOWERED, max(_SHARPEST, gradient)))
            self._measure(skip=self._most)

    def _measure(self, *, skip: int) -> None:
        """Forget earlier times, and leave out ``skip`` answers to come: to requests that were sent before."""
        self._recent_s, self._rounds, self._skip = 0.0, 0, skip
        self._begin()

    def _begin(self) -> None:
        """Begin the next round."""
        self._answers, self._sum_s, self._failed, self._most = 0, 0.0, 0, 0
