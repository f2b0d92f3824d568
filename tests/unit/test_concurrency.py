"""The number of requests under way follows the platform's answer time."""

from relay.policy.concurrency import AdaptiveConcurrency


def settle(limiter: AdaptiveConcurrency, answers: int, capacity: int | None) -> None:
    """Answer in 50 ms up to ``capacity`` under way, in proportion beyond it."""
    for _ in range(answers):
        under_way = limiter.limit
        queued = max(1.0, under_way / capacity) if capacity else 1.0
        limiter.answered(0.05 * queued, in_flight=under_way, failed=False)


def test_uses_the_bound_while_answers_are_quick() -> None:
    """A platform that answers as ever gets all that was allowed."""
    limiter = AdaptiveConcurrency(16)
    settle(limiter, 2000, None)
    assert limiter.limit == 16


def test_comes_down_when_answers_slow() -> None:
    """Where more under way only waits over there, less is put under way, and never less than one."""
    limiter = AdaptiveConcurrency(64)
    settle(limiter, 300, None)
    settle(limiter, 200, 4)
    assert 1 <= limiter.limit <= 16


def test_recovers() -> None:
    """After a slow time the limit grows back to the bound."""
    limiter = AdaptiveConcurrency(32)
    settle(limiter, 300, None)
    settle(limiter, 200, 2)
    settle(limiter, 3000, None)
    assert limiter.limit == 32


def test_failures_take_it_to_one() -> None:
    """A platform that only fails gets one request at a time."""
    limiter = AdaptiveConcurrency(8)
    for _ in range(400):
        limiter.answered(10.0, in_flight=limiter.limit, failed=True)
    assert limiter.limit == 1


def test_follows_a_new_bound() -> None:
    """A reload's bound holds at once, in both directions."""
    limiter = AdaptiveConcurrency(8)
    limiter.resize(2)
    assert limiter.limit == 2
    limiter.resize(20)
    assert limiter.limit == 20
