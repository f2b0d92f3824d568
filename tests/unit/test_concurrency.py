"""The number of requests under way follows the platform's answer time."""

import heapq
import random
from collections.abc import Callable
from statistics import mean

import pytest
from relay.policy.concurrency import AdaptiveConcurrency

QUICK_S, SLOW_S = 0.005, 0.05


class Platform:
    """A model: ``workers`` serve requests in the order they come; the relay keeps as many under way as it may."""

    def __init__(self, limiter: AdaptiveConcurrency, service_s: Callable[[], float], workers: int = 10_000) -> None:
        self.limiter, self.service_s = limiter, service_s
        self.now = 0.0
        self.limits: list[int] = []
        self._free_at = [0.0] * workers
        self._under_way: list[tuple[float, float]] = []  # answered at, sent at

    def answer(self, answers: int, *, demand: int = 10_000) -> None:
        """Serve so many; never more than ``demand`` are under way."""
        for _ in range(answers):
            while len(self._under_way) < min(self.limiter.limit, demand):
                done_at = max(heapq.heappop(self._free_at), self.now) + self.service_s()
                heapq.heappush(self._free_at, done_at)
                heapq.heappush(self._under_way, (done_at, self.now))
            in_flight = len(self._under_way)
            self.now, sent_at = heapq.heappop(self._under_way)
            self.limiter.answered(self.now - sent_at, in_flight=in_flight, failed=False)
            self.limits.append(self.limiter.limit)


@pytest.mark.parametrize("bound", [1, 2, 16, 64])
def test_uses_the_bound_while_answers_are_quick(bound: int) -> None:
    """A platform that answers as ever gets all that was allowed, all the time."""
    platform = Platform(AdaptiveConcurrency(bound), lambda: SLOW_S)
    platform.answer(2000)
    assert set(platform.limits) == {bound}


@pytest.mark.parametrize("workers", [4, 10, 20])
def test_settles_near_what_the_platform_works_on(workers: int) -> None:
    """Where more under way only waits over there, little more than the platform works on is put under way, for good."""
    limiter = AdaptiveConcurrency(64)
    limiter.restart()
    platform = Platform(limiter, lambda: SLOW_S, workers)
    platform.answer(20_000)
    assert workers <= min(platform.limits[1000:])
    assert workers <= mean(platform.limits[1000:]) <= 2 * workers
    assert max(platform.limits[1000:]) <= 2 * workers + 1


def test_comes_down_when_the_platform_loses_workers() -> None:
    """A queue that begins over there is found within a few round trips, and when it is gone the limit returns."""
    limiter = AdaptiveConcurrency(64)
    platform = Platform(limiter, lambda: SLOW_S)
    platform.answer(300)
    platform._free_at = [platform.now] * 4
    platform.answer(500)
    assert 4 <= limiter.limit <= 8
    platform._free_at = [platform.now] * 10_000
    platform.answer(1000)
    assert limiter.limit == 64


@pytest.mark.parametrize(("bound", "within"), [(2, 200), (4, 200), (16, 200), (32, 200), (64, 300)])
def test_slowness_of_another_cause_does_not_pin_it(bound: int, within: int) -> None:
    """Answers ten times slower because batches became fuller: soon the full bound again, and it stays."""
    limiter = AdaptiveConcurrency(bound)
    platform = Platform(limiter, lambda: QUICK_S)
    platform.answer(505)
    platform.service_s = lambda: SLOW_S
    platform.answer(within)
    assert limiter.limit == bound
    platform.answer(3000)
    assert set(platform.limits[505 + within :]) == {bound}


def test_passing_slowness_leaves_the_limit() -> None:
    """Answers that are slow for a moment, or slow while few are under way, take nothing from the limit."""
    limiter = AdaptiveConcurrency(64)
    platform = Platform(limiter, lambda: QUICK_S)
    platform.answer(500)
    platform.service_s = lambda: SLOW_S
    platform.answer(80)
    platform.service_s = lambda: QUICK_S
    platform.answer(300)
    assert limiter.limit == 64
    platform.answer(200, demand=10)
    platform.service_s = lambda: SLOW_S
    platform.answer(1000, demand=10)
    assert set(platform.limits[-1000:]) == {64}


def test_backlog_after_idleness() -> None:
    """One small batch at a time, then a backlog of full ones, again and again: the bound is used most of the time."""
    limiter = AdaptiveConcurrency(16)
    platform = Platform(limiter, lambda: QUICK_S)
    backlogs: list[int] = []
    for _ in range(20):
        platform.service_s = lambda: QUICK_S
        platform.answer(200, demand=1)
        platform.service_s = lambda: SLOW_S
        platform.answer(500)
        backlogs += platform.limits[-500:]
    assert mean(backlogs) >= 14
    assert limiter.limit == 16


@pytest.mark.parametrize("seed", range(5))
def test_scattered_answer_times_do_not_pin_it(seed: int) -> None:
    """Answer times from a few ms to a second, without a queue: most of the bound is used."""
    rng = random.Random(seed)
    limiter = AdaptiveConcurrency(16)
    platform = Platform(limiter, lambda: rng.lognormvariate(-3.0, 1.0))
    platform.answer(20_000)
    assert mean(platform.limits) >= 10


def test_begins_with_one_and_doubles_each_round_trip() -> None:
    """After a stop one request goes, then two, four and so on up to the limit, which a ramp leaves as it was."""
    limiter = AdaptiveConcurrency(64)
    platform = Platform(limiter, lambda: SLOW_S)
    platform.answer(200)
    limiter.restart()
    platform._under_way.clear()
    assert limiter.limit == 1
    at = []
    for under_way in (1, 2, 4, 8, 16, 32):
        platform.answer(under_way)
        at.append(limiter.limit)
    assert at == [2, 4, 8, 16, 32, 64]
    platform.answer(500)
    assert set(platform.limits[-500:]) == {64}


def test_failure_halves_the_ramp() -> None:
    """A failure while working up halves what is under way; the way up goes on from there."""
    limiter = AdaptiveConcurrency(64)
    limiter.restart()
    for _ in range(15):
        limiter.answered(SLOW_S, in_flight=limiter.limit, failed=False)
    assert limiter.limit == 16
    limiter.answered(SLOW_S, in_flight=16, failed=True)
    assert limiter.limit == 8
    limiter.answered(SLOW_S, in_flight=8, failed=False)
    assert limiter.limit == 9
    for _ in range(10):
        limiter.answered(SLOW_S, in_flight=limiter.limit, failed=True)
    assert limiter.limit == 1


def test_failures_take_it_to_one_and_it_recovers() -> None:
    """A platform that only fails gets one request at a time, and all that is allowed when it works again."""
    limiter = AdaptiveConcurrency(8)
    for _ in range(400):
        limiter.answered(10.0, in_flight=limiter.limit, failed=True)
    assert limiter.limit == 1
    Platform(limiter, lambda: SLOW_S).answer(400)
    assert limiter.limit == 8


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
def test_absurd_answer_times(bad: float) -> None:
    """Times that cannot be leave the limit between 1 and the bound, and do no lasting harm."""
    limiter = AdaptiveConcurrency(8)
    for _ in range(500):
        limiter.answered(bad, in_flight=limiter.limit, failed=False)
        assert 1 <= limiter.limit <= 8
    Platform(limiter, lambda: SLOW_S).answer(2000)
    assert limiter.limit == 8


@pytest.mark.parametrize("at", range(20, 100, 20))
def test_interrupted_test_takes_nothing(at: int) -> None:
    """A stop while the limit is lowered to see what comes of it leaves what was allowed before."""
    limiter = AdaptiveConcurrency(16)
    platform = Platform(limiter, lambda: QUICK_S)
    platform.answer(200)
    platform.service_s = lambda: SLOW_S
    platform.answer(at)
    limiter.restart()
    platform.answer(40)
    assert limiter.limit == 16
