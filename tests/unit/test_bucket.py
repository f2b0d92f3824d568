"""A token bucket, which never refuses after the same count twice: how it is told from small limits, and from chance."""

import random
from collections.abc import Sequence

from relay.limits.evidence.history import Closure, History, Signal
from relay.limits.fit.families import Family, judge_bucket
from relay.limits.fit.likelihood import Fit, fit
from relay.limits.in_force.ceiling import Ceiling
from relay.limits.in_force.noise import Noise
from relay.limits.in_force.outage import believable, refill_runs
from relay.limits.search import Search

SIZE, REFILL_S = 50, 5.0
GAP_S = 0.0125


def gathered(
    closures: int, *, seed: int = 1, stops_s: tuple[float, float] = (5.0, 9.0), others_s: float = 0.0
) -> History:
    """Return what is seen of a bucket that is emptied, asked in vain once, and left alone for a while.

    Others take ``others_s`` requests a second of it, give or take two each time.
    """
    rng, evidence = random.Random(seed), History()
    at, tokens = 1000.0, float(SIZE)
    for _ in range(closures):
        while tokens >= 1.0:
            evidence.accept(at, at + 0.02)
            tokens += REFILL_S * GAP_S - 1.0
            at += GAP_S
        for _ in range(2):
            evidence.reject(at, at + 0.02, Signal.BUSY, None, probe=False)
            at += GAP_S
        stop_s = rng.uniform(*stops_s)
        tokens = min(SIZE, tokens + (REFILL_S - others_s) * (stop_s + 2 * GAP_S))
        tokens -= rng.uniform(-2.0, 2.0) if others_s else 0.0
        at += stop_s
    evidence.accept(at, at + 0.02)
    return evidence


def crashes(closures: int, *, seed: int = 1) -> History:
    """Return what is seen of something that is up for about as long each time, however long it was down."""
    rng, evidence = random.Random(seed), History()
    at = 1000.0
    for _ in range(closures):
        for _ in range(rng.randint(28, 42)):
            evidence.accept(at, at + 0.02)
            at += GAP_S
        for _ in range(2):
            evidence.reject(at, at + 0.02, Signal.BUSY, None, probe=False)
            at += GAP_S
        at += rng.uniform(5.0, 9.0)
    evidence.accept(at, at + 0.02)
    return evidence


def found_in(evidence: History, since: float = float("-inf")) -> tuple[Fit, Sequence[Closure], Sequence[int]]:
    """Fit the evidence from ``since`` on."""
    found = fit(evidence, since=since)
    assert found is not None
    closures = [closure for closure in evidence.closures() if closure.onset.sent >= since]
    return found, closures, evidence.runs(closures)


def test_finds_size_and_refill() -> None:
    """50 at once and 5 a second."""
    found, _, _ = found_in(gathered(10))
    assert found.hypothesis.family is Family.BUCKET
    assert (found.n, found.window_s, found.unexplained) == (SIZE, 10.0, 0)


def test_it_is_not_taken_for_full_where_what_came_before_was_dropped() -> None:
    """From the second closure on the bucket was never full: every refusal is explained all the same."""
    evidence = gathered(10)
    since = evidence.closures()[0].reopened
    accepted = [at for at in evidence.accepted if at >= since]
    rejects = [reject.sent for reject in evidence.rejects if reject.sent >= since]
    size, unexplained = judge_bucket(accepted, rejects, REFILL_S, evidence.slack_s, full=False)
    assert size < SIZE
    assert not unexplained
    assert judge_bucket(accepted, rejects, REFILL_S, evidence.slack_s)[1]
    evidence.forget_before(since)
    assert found_in(evidence)[0].unexplained == 0


def test_is_believed_when_runs_are_as_long_as_it_had_time_to_fill() -> None:
    """Ten runs of 25 to 45 requests, each as long as the stop before it allows: chance does not do that."""
    found, closures, runs = found_in(gathered(10))
    assert refill_runs(found, closures, runs) > 10.0
    assert believable(found, closures, runs)


def test_is_not_believed_of_runs_that_have_nothing_to_do_with_the_stops() -> None:
    """As long on average, but as it comes."""
    found, _, _ = found_in(gathered(10))
    evidence = crashes(24)
    closures = evidence.closures()
    assert refill_runs(found, closures, evidence.runs(closures)) < 0.0


def test_equal_stops_say_nothing() -> None:
    """Runs are as equal as the stops: whatever lets 35 requests through would show the same."""
    found, closures, runs = found_in(gathered(12, stops_s=(7.0, 7.001)))
    assert refill_runs(found, closures, runs) < 7.5


def test_others_may_use_it_too() -> None:
    """They take one of five a second, not evenly: what is left is found, and the size stays on the safe side."""
    found, closures, runs = found_in(gathered(20, others_s=1.0))
    assert found.hypothesis.family is Family.BUCKET
    assert found.hypothesis.spread == 2
    assert found.unexplained <= 2
    assert found.n < SIZE
    assert 3.6 <= found.n / found.window_s <= 4.3
    assert believable(found, closures, runs)


def searched(evidence: History) -> tuple[Fit, float] | None:
    """Look for the first limit."""
    chance = Noise(evidence)
    return Search(evidence, chance, Ceiling(evidence, chance)).first(len(evidence.closures()))


def test_a_bucket_that_is_not_believed_yet_is_waited_for() -> None:
    """The latest runs alone look like a small limit, but the first one, of 50, says that it is none."""
    assert searched(gathered(7, stops_s=(6.8, 7.2))) is None
    found = searched(gathered(12))
    assert found is not None
    assert found[0].hypothesis.family is Family.BUCKET
