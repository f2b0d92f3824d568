"""A limit of which little is known yet is used up with care: one request at a time, so that one too many costs one."""

import pytest
from relay.limits.estimator import Estimator
from relay.limits.evidence.history import Signal
from relay.limits.fit.families import Family
from relay.limits.in_force.limit import LearnedLimit
from relay.limits.tracker import Tracker

COUNT = 80


@pytest.mark.parametrize(
    ("age_s", "answer_s", "careful"), [(100.0, 0.015, True), (700.0, 0.015, False), (100.0, 0.5, False)]
)
def test_a_young_limit_is_used_up_with_care(age_s: float, answer_s: float, careful: bool) -> None:
    """One at a time near the end of the count, for ten windows, and where that is fast enough to use it up at all."""
    estimator, at = Estimator(), 10_000.0
    limit = {"n": COUNT, "window_s": 60.0, "low_s": 59.0, "high_s": 60.0, "family": "sliding", "since": at - age_s}
    later = {"onsets": 5, "clean_from": at, "raise_at": at + 3600.0, "raise_every_s": 3600.0}
    estimator.load({"rates": [limit | later]})
    for place in range(75):
        assert not estimator.careful(at) or place >= 0.9 * COUNT
        estimator.sent(place, at)
        estimator.answered(place, at + answer_s, Signal.ACCEPTED)
        at += 0.02
    assert estimator.careful(at) == careful
    estimator.observing = True
    assert not estimator.careful(at)


def test_a_limit_that_was_lately_too_high_is_used_up_with_care() -> None:
    """It has held for days, but something was taken off it a minute ago."""
    tracker, now = Tracker(), 1_000_000.0
    limit = LearnedLimit(COUNT, 60.0, 60.0, 60.0, Family.SLIDING, since=0.0)
    tracker.rates = [limit]
    for place in range(75):
        tracker.evidence.accept(now - 2.0 + 0.02 * place, now - 1.9 + 0.02 * place)
    assert not tracker.careful(now)
    limit.shrunk_at = now - 60.0
    assert tracker.careful(now)
