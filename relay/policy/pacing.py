"""The pace of partial batches, and the burst a platform tolerates.

A partial batch waits until ``(W + recent answer time) / N`` has passed since the last send: with that gap the slots
come back just as fast as they are used, so callbacks gather while slots are short and nothing waits on an idle
platform (SPEC 6, "When to send").
"""

from collections.abc import Iterable, Sequence

from relay.core.model import Rate

PACED_WINDOW_S = 300.0  # SPEC 6: longer windows pace only while less than half of their slots are free
_ANSWER_WEIGHT = 0.1  # one timeout among quick answers moves the pace of 100/min by about 10 ms
_ANSWER_CAP_S = 60.0  # a hung platform's breaker opens long before such an answer time means anything


def pace_s(rate: Rate, answer_s: float) -> float:
    """Return the gap between sends, in seconds, at which ``rate``'s slots never run out."""
    return (rate.window_s + answer_s) / rate.limit


def longest_pace_s(used: Iterable[tuple[Rate, int]], answer_s: float) -> float:
    """Return the largest pace of several rates, each given with its used slots; 0.0 when none of them paces."""
    longest = 0.0
    for rate, slots in used:
        if rate.window_s <= PACED_WINDOW_S or (rate.limit - slots) * 2 < rate.limit:
            longest = max(longest, pace_s(rate, answer_s))
    return longest


class AnswerTime:
    """The recent time from send to answer: a moving average, bounded."""

    __slots__ = ("recent_s",)

    def __init__(self) -> None:
        self.recent_s = 0.0

    def saw(self, answer_s: float) -> None:
        """Take one more answer time into account."""
        bounded = min(max(answer_s, 0.0), _ANSWER_CAP_S)
        self.recent_s += (bounded - self.recent_s) * _ANSWER_WEIGHT


class Burst:
    """At most ``burst`` requests back to back, then the pace W/N (GCRA, ITU-T I.371, as a virtual schedule)."""

    __slots__ = ("_gap_s", "_next_at", "_slack_s")

    def __init__(self, burst: int, rates: Sequence[Rate]) -> None:
        self._next_at = 0.0
        self._gap_s = 0.0
        self._slack_s = 0.0
        self.resize(burst, rates)

    def resize(self, burst: int, rates: Sequence[Rate]) -> None:
        """Put another burst or other rates in force over the same schedule.

        The pace is the largest W/N among windows up to 5 minutes; with only longer ones, that of the shortest.
        """
        short = [rate for rate in rates if rate.window_s <= PACED_WINDOW_S]
        paced = short or [min(rates, key=lambda rate: rate.window_s)]
        self._gap_s = max(pace_s(rate, 0.0) for rate in paced)
        self._slack_s = (burst - 1) * self._gap_s

    def free_at(self, now: float) -> float:
        """Return ``now`` when a request conforms, else when the next one does."""
        return max(now, self._next_at - self._slack_s)

    def take(self, now: float) -> None:
        """Count a request sent at ``now``."""
        self._next_at = max(now, self._next_at) + self._gap_s
