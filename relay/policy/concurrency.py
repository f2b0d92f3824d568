"""How many requests may be under way: between 1 and the bound, by how long the platform takes to answer.

A gradient controller in the manner of Netflix's Gradient2 (concurrency-limits, ``Gradient2Limit``), with what it lacks:
a refused or failed request lowers the limit, and a limit that is not used up is left alone.
"""

from typing import Any

_LONG_UP, _LONG_DOWN = 1 / 3000, 1 / 50  # per answer: a queue must not become the usual before it is gone
_SHORT_ANSWERS = 10  # answers judged together: fewer and chance rules, more and it comes late
_TOLERANCE = 1.5  # answers may take that much longer than usual before there is a queue over there
_SMOOTHING = 0.2
_ROOM = 1.0  # a limit that is used up grows by so much while answers are as quick as usual
_BACK_OFF = 0.9  # for a round with failures, as AIMD does
_LONGEST_S = 60.0


class AdaptiveConcurrency:
    """The number of requests one platform may have under way. ``limit`` is at least 1 and at most ``bound``."""

    __slots__ = ("_answers", "_failed", "_limit", "_long_s", "_most", "_sum_s", "bound")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._limit = float(bound)  # what the operator allowed, until answers slow down
        self._long_s = 0.0
        self._answers, self._sum_s, self._failed, self._most = 0, 0.0, 0, 0

    @property
    def limit(self) -> int:
        """Return how many requests may be under way."""
        return max(1, min(self.bound, int(self._limit)))

    def resize(self, bound: int) -> None:
        """Put another bound in force."""
        grown = self._limit >= self.bound
        self.bound = bound
        self._limit = float(bound) if grown else min(self._limit, float(bound))

    def answered(self, answer_s: float, *, in_flight: int, failed: bool) -> None:
        """Learn from an answer: its time, how many were under way with it, and whether it was a failure.

        A throttle is not a failure here: it says nothing about concurrency, the rate limits see to it.
        """
        self._most = max(self._most, in_flight)
        if failed:
            self._failed += 1
        else:
            bounded = min(max(answer_s, 0.0), _LONGEST_S)
            self._sum_s += bounded
            self._answers += 1
            weight = _LONG_UP if bounded > self._long_s else _LONG_DOWN
            self._long_s = self._long_s + (bounded - self._long_s) * weight if self._long_s else bounded
        if self._answers + self._failed >= _SHORT_ANSWERS:
            self._judge()

    def _judge(self) -> None:
        limit = self._limit
        if self._failed:
            wanted = limit * _BACK_OFF
        else:
            short_s = self._sum_s / self._answers
            gradient = min(1.0, max(0.5, _TOLERANCE * self._long_s / max(short_s, 1e-6)))
            used_up = self._most * 2 >= limit
            wanted = limit * gradient + (_ROOM / _SMOOTHING if used_up and gradient >= 1.0 else 0.0)
        smoothed = wanted if self._failed else limit + (wanted - limit) * _SMOOTHING
        self._limit = min(float(self.bound), max(1.0, smoothed))
        self._answers, self._sum_s, self._failed, self._most = 0, 0.0, 0, 0

    def dump(self) -> dict[str, Any]:
        """Return what a restart may as well know."""
        return {"limit": round(self._limit, 3), "long_s": round(self._long_s, 6)}
