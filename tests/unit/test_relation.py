"""Refusals that have nothing to do with our rate: at a third of it they must have become clearly fewer."""

import pytest
from relay.limits.evidence.correlation import Correlation
from tests.property.test_simulation import ran, scenario


def answers(correlation: Correlation, requests: int, refused: int, in_force_s: float | None) -> None:
    """Note so many requests, one a second, the refusals spread among them."""
    for number in range(requests):
        now_refused = number * refused // requests != (number + 1) * refused // requests
        correlation.answered(float(number), refused=now_refused, in_force_s=in_force_s)


@pytest.mark.parametrize(
    ("free", "low", "none"),
    [
        ((100, 30), (60, 18), True),  # three in ten, whatever is sent
        ((100, 30), (60, 3), False),  # it helped
        ((100, 4), (200, 2), False),  # a limit and a little chance
        ((100, 30), (30, 9), False),  # too few to tell
    ],
)
def test_what_does_not_get_rarer_is_no_limit(free: tuple[int, int], low: tuple[int, int], none: bool) -> None:
    """Shares of refusals are held against each other, without a limit and at a third of what got through then."""
    correlation = Correlation()
    answers(correlation, *free, None)
    answers(correlation, 50, 10, 0.6)
    answers(correlation, *low, 0.2)
    assert correlation.is_absent(1000.0) is none
    assert (correlation.until > 1000.0) is none


def test_a_limit_that_was_put_far_too_high_for_a_moment_is_no_measure() -> None:
    """What got through without a limit is what a third is taken of, not the highest rate that was ever tried."""
    correlation = Correlation()
    answers(correlation, 100, 30, None)
    answers(correlation, 1, 0, 100.0)
    answers(correlation, 60, 18, 0.6)
    assert not correlation.is_absent(1000.0)


def test_after_a_restart_a_third_is_of_the_highest_rate_in_force() -> None:
    """The evidence is not kept over a restart, the limits are."""
    correlation = Correlation()
    answers(correlation, 10, 3, 3.0)
    answers(correlation, 60, 18, 0.9)
    assert correlation.is_absent(1000.0)


def test_each_time_it_is_looked_at_later() -> None:
    """An hour, then two: a platform that refuses at random is left to backoff."""
    correlation = Correlation()
    holds = []
    for _ in range(2):
        answers(correlation, 100, 30, None)
        answers(correlation, 10, 3, 0.6)
        answers(correlation, 60, 18, 0.2)
        assert correlation.is_absent(0.0)
        holds.append(correlation.until)
    assert holds == [3600.0, 7200.0]


def test_a_platform_that_refuses_at_random_is_not_strangled() -> None:
    """Three requests in ten draw a 429 whatever is sent: the backlog is gone soon after nothing more comes."""
    platform = "batch: {max_items: 10}, retry: {times: 30, backoff: 2s..10m}"
    _, ended, found = ran(scenario(platform, rate="5/s", minutes=20, fault=["429:0.3"]))
    assert ended.totals.delivered == found.accepted
    assert found.ran_s <= 3600
    assert found.found[-1].rates == ()


def test_waiting_for_the_platform_is_part_of_what_got_through() -> None:
    """100 at once and five minutes of Retry-After are 20 a minute, not 100: half of that is no third of it."""
    correlation = Correlation()
    now = 0.0
    for _ in range(3):
        for number in range(101):
            correlation.answered(now + 0.05 * number, refused=number == 100, in_force_s=None)
        now += 300.0
    for number in range(60):
        correlation.answered(now + 6.0 * number, refused=number % 3 == 0, in_force_s=1.0 / 6.0)
    assert not correlation.is_absent(now + 360.0)
