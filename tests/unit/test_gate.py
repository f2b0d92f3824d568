"""The gate of a platform: what stops it together, and what a restart must know."""

import random

import pytest
from relay.policy.coding import Coding
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.gate.stop import StopCause

NOW = 1_000_000.0


def gate() -> Gate:
    """A gate whose breaker opens at the second failure and probes every 30 s."""
    return Gate(Breaker(BreakerTerms(2, 30.0)), base_s=2.0, cap_s=600.0)


def opened(its: Gate) -> Gate:
    """Open its breaker."""
    for _ in range(2):
        its.failed(StopCause(NOW, NOW, "down"), random.Random(1), back_off=False)
    assert its.breaker.is_open
    return its


@pytest.mark.parametrize(("wait_s", "after_s"), [(600.0, 600.0), (5.0, 30.0)])
def test_a_stop_holds_behind_an_open_breaker(wait_s: float, after_s: float) -> None:
    """A Retry-After of ten minutes is kept although the breaker would probe sooner; the later of the two decides."""
    its = opened(gate())
    its.throttle(StopCause(NOW, NOW, "429", wait_s), random.Random(1))

    assert its.opens_at(NOW) >= NOW + after_s
    assert its.opens_at(NOW) <= NOW + after_s * 1.1 + 1
    assert its.opens_at(NOW + after_s * 1.1 + 2) == NOW + after_s * 1.1 + 2


def test_a_pause_opens_by_an_operator_only() -> None:
    """Whatever else has ended."""
    its = opened(gate())
    its.pause("stock-taking", NOW)
    assert its.opens_at(NOW + 1e6) == float("inf")
    assert its.ends_at(NOW + 1e6) == NOW + 1e6


def test_a_pause_for_a_time_ends_by_itself_also_after_a_restart() -> None:
    """Until its time it holds; then it is over, and a pause without a time that follows has no end."""
    its = opened(gate())
    its.pause("stock-taking", NOW, until=NOW + 60)
    again = gate()
    again.load(its.dump())

    again.lapse(NOW + 59)
    assert (again.paused, again.opens_at(NOW + 59)) == (True, NOW + 60)
    again.lapse(NOW + 60)
    assert (again.paused, again.pause_reason) == (False, "")
    again.pause("stock-taking", NOW + 61)
    again.lapse(NOW + 1e6)
    assert again.paused


def test_an_operator_ends_a_pause_first_and_then_the_stops() -> None:
    """Resumed once, a paused platform still waits for its stop and its probe; resumed again, it waits for nothing."""
    its = opened(gate())
    its.throttle(StopCause(NOW, NOW, "429", 60.0), random.Random(1))
    its.pause("stock-taking", NOW)

    its.resume(NOW + 1)
    assert (its.paused, its.pause_reason) == (False, "")
    assert its.opens_at(NOW + 1) >= NOW + 30

    its.resume(NOW + 2)
    assert its.opens_at(NOW + 2) == NOW + 2
    assert its.single_file


def test_everything_a_restart_must_know_is_kept() -> None:
    """Pause with its reason, stop, breaker, when it last accepted, and that it takes no compressed bodies."""
    its = opened(gate())
    its.throttle(StopCause(NOW, NOW, "429", 60.0), random.Random(1))
    its.pause("stock-taking", NOW - 9)
    its.last_accepted_at = NOW - 5
    its.coding = Coding(plain=True, proven=True)

    again = gate()
    again.load(its.dump())

    assert (again.paused, again.pause_reason, again.paused_at) == (True, "stock-taking", NOW - 9)
    assert (again.coding.plain, again.coding.proven, again.last_accepted_at) == (True, True, NOW - 5)
    assert (again.stopped_until, again.stop_reason, again.throttled) == (its.stopped_until, "429", True)
    assert (again.level, again.resuming) == (its.level, True)
    assert (again.breaker.is_open, again.breaker.failures, again.breaker.reason) == (True, 2, "down")
    assert again.breaker.probe_at == its.breaker.probe_at > NOW
