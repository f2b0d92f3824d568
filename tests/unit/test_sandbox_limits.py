"""The platform's side of a limit: what each kind lets through and when it opens again."""

import pytest
from relay.core.calendar import Calendar
from relay.core.model import Rate, Weight
from relay.standin.throttle import Bucket, Fixed, Limiters, Sliding, build_limit
from relay.standin.weighing import Weighing

START = 1_800_000_000.0  # a multiple of 60, like every minute of the clock


def passed(limits: Limiters, times: list[float]) -> list[float]:
    """Offer a request at each time and return the times that were let through."""
    return [at for at in times if limits.admit(at) == 0.0]


def test_sliding_lets_n_through_and_opens_one_window_later() -> None:
    """A sliding log is full after N and has room exactly one window after the oldest."""
    limits = Limiters([Sliding(Rate(3, 10.0))])
    assert [limits.admit(START + second) for second in (0, 1, 2)] == [0.0, 0.0, 0.0]
    assert limits.admit(START + 4) == 6.0
    assert limits.admit(START + 10) == 0.0
    assert limits.admit(START + 10) == 1.0


def test_sliding_never_has_more_than_n_in_any_window() -> None:
    """Whatever is offered, no window of what passed holds more than N."""
    out = passed(Limiters([Sliding(Rate(5, 2.0))]), [START + step * 0.05 for step in range(400)])
    assert len(out) > 40
    assert all(later - earlier >= 2.0 for earlier, later in zip(out, out[5:], strict=False))


def test_refused_requests_can_keep_the_log_full() -> None:
    """Where refused requests count, a client that keeps knocking is never let in; one that waits is."""
    limits = Limiters([Sliding(Rate(2, 10.0), count_refused=True)])
    assert passed(limits, [START + second for second in range(40)]) == [START, START + 1]
    assert limits.admit(START + 49) == 0.0


def test_fixed_starts_anew_with_the_clock() -> None:
    """A fixed window lets N through just before the minute and N just after it."""
    limits = Limiters([Fixed(Rate(100, 60.0))])
    out = passed(limits, [START + 59.0] * 150 + [START + 60.0] * 150)
    assert out == [START + 59.0] * 100 + [START + 60.0] * 100
    assert limits.wait_s(START + 75.0) == 45.0


def test_bucket_lets_a_burst_through_and_then_the_pace() -> None:
    """A full bucket gives N at once, then one per W/N: nearly 2N in the first window."""
    limits = Limiters([Bucket(Rate(100, 60.0))])
    assert len(passed(limits, [START] * 300)) == 100
    assert limits.wait_s(START) == pytest.approx(0.6)
    assert len(passed(limits, [START + 0.6 * step for step in range(1, 100)])) == 99


def test_several_limits_hold_together() -> None:
    """A request that one limit turns away uses up nothing of the other."""
    limits = Limiters([build_limit("sliding", Rate(2, 1.0)), build_limit("fixed", Rate(3, 60.0))])
    assert [limits.admit(START + at) for at in (0.0, 0.0, 0.5, 1.0)] == [0.0, 0.0, 0.5, 0.0]
    assert limits.admit(START + 2.0) == 58.0


def test_no_limits_let_everything_through() -> None:
    """Without limits nothing waits."""
    assert Limiters([]).admit(START) == 0.0


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    """The message names what can be written instead."""
    with pytest.raises(ValueError, match=r"use sliding, .* fixed or bucket"):
        build_limit("leaky", Rate(1, 1.0))


def test_a_calendar_day_begins_at_midnight_there() -> None:
    """``2/day@+08:00`` counts from 16:00 UTC on, whatever the kind is called."""
    midnight = START + 57600.0 - START % 86400.0
    day = Rate(2, 86400.0, calendar=Calendar("day", 8 * 3600))
    for kind in ("sliding", "fixed"):
        limits = Limiters([build_limit(kind, day)])
        assert passed(limits, [midnight - 9, midnight - 8, midnight - 7, midnight]) == [
            midnight - 9, midnight - 8, midnight,
        ]  # fmt: skip
        assert limits.wait_s(midnight + 1) == 0.0


def test_what_requests_carry_is_counted() -> None:
    """Ten callbacks and 100 bytes in any 10 s; what is turned away counts in neither, but shows in the most asked."""
    limits = Weighing(
        [Rate(10, 10.0, "items"), Rate(100, 10.0, "bytes"), Rate(9, 3600.0, "points", Calendar("hour", 0))]
    )
    assert limits.admit(START, Weight(1, 6, 50)) == 0.0
    assert limits.admit(START + 1, Weight(1, 5, 10)) == 9.0
    assert limits.admit(START + 2, Weight(1, 4, 51)) == 8.0
    assert limits.admit(START + 3, Weight(1, 4, 50)) == 0.0
    assert limits.admit(START + 10, Weight(1, 6, 50)) == 0.0
    assert limits.admit(START + 11, Weight(1, 11, 1)) == 10.0, "it never fits"
    assert limits.most == {"10 items/10s": 25, "100 bytes/10s": 161, "9 points/hour@+00:00": 0}
    assert limits.admit(START + 60, Weight(1, 1, 1, points=9)) == 0.0
    assert limits.admit(START + 61, Weight(1, 1, 1, points=1)) == 3539.0
    assert limits.admit(START + 3600, Weight(1, 1, 1, points=1)) == 0.0
