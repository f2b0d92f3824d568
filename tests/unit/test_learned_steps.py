"""Steps beyond a limit in force, by hand: what a refusal does to them, and what is given back."""

import random

from relay.core.model import Rate
from relay.policy.chance import Chance
from relay.policy.evidence import Evidence, Kind
from relay.policy.families import Family
from relay.policy.inforce import InForce
from relay.policy.learned import Learned, smooth
from relay.policy.probing import Prober


def limit(n: int = 100, window_s: float = 60.0) -> Learned:
    """Return a limit that is believed and due for a step."""
    return Learned(n, window_s, window_s, window_s, Family.SLIDING, since=-1e6, clean_from=-1e6)


def probing(learned: Learned, now: float) -> Prober:
    """Return a prober whose step is under way."""
    prober = Prober()
    assert prober.begin([learned], now, lambda _: True, noisy=True)
    return prober


def test_one_refusal_among_chance_does_not_end_a_step() -> None:
    """Where requests fail by chance, a step survives one refusal and ends with the second."""
    prober = probing(limit(), 0.0)
    assert not prober.refused(10.0, 10.1, last_accepted=9.0, noisy=True)
    assert prober.probe is not None
    assert prober.refused(40.0, 40.1, last_accepted=39.0, noisy=True)
    assert prober.probe is None


def test_two_refusals_in_a_row_are_a_limit() -> None:
    """Nothing accepted in between: the step ends although chance refuses here."""
    prober = probing(limit(), 0.0)
    assert not prober.refused(10.0, 10.1, last_accepted=9.0, noisy=True)
    assert prober.refused(12.0, 12.1, last_accepted=9.0, noisy=True)


def test_without_chance_the_first_refusal_ends_a_step() -> None:
    """Where nothing fails by chance, one refusal costs one refusal."""
    prober = probing(limit(), 0.0)
    assert prober.refused(10.0, 10.1, last_accepted=9.0, noisy=False)


def test_what_is_accepted_beyond_refutes_the_refusal() -> None:
    """A request beyond the limit that is accepted right after a refusal makes it chance: the next does not end it."""
    prober = probing(limit(), 0.0)
    prober.refused(10.0, 10.1, last_accepted=9.0, noisy=True)
    prober.accepted(12.0, 1.0, 0.002, float("inf"))
    assert prober.probe is not None
    assert prober.probe.misses == 0


def test_a_large_raise_is_taken_back_by_half() -> None:
    """Three times as much was accepted for minutes: one refusal leaves more than was known before."""
    learned = limit()
    learned.before, learned.n, learned.raised_at = 100, 300, 0.0
    assert learned.take_back(60.0)
    assert 150 < learned.n < 200
    assert learned.raise_at < 60.0 + 1200.0


def test_a_small_raise_is_taken_back_whole() -> None:
    """A few per cent more were a mistake."""
    learned = limit()
    learned.before, learned.n, learned.raised_at = 100, 104, 0.0
    assert learned.take_back(60.0)
    assert learned.n == 100


def test_nothing_is_shrunk_below_what_got_through() -> None:
    """10 per second is refused by a longer limit that lets 100 a minute through: a pace of that, not 1 per second."""
    evidence = Evidence()
    rates = InForce(evidence, Chance(evidence))
    rates.rates = [limit(2, 1.0)]
    for number in range(200):
        at = 0.6 * number
        kind = Kind.BUSY if number % 20 == 19 else Kind.ACCEPTED
        if kind is Kind.ACCEPTED:
            evidence.accept(at, at + 0.05)
        else:
            evidence.reject(at, at + 0.05, kind, None, probe=False)
    for _ in range(10):
        rates.shrink(evidence.closures(), 120.0)
    assert min(learned.rate_s for learned in rates.rates) > 0.85 * 0.95 / 0.6


def test_a_pace_goes_in_small_bursts() -> None:
    """The same pace, a tenth of the requests at a time, and the answer time is not lost."""
    rng = random.Random(1)
    for _ in range(100):
        rate = Rate(rng.randint(1, 500), rng.uniform(1.0, 600.0))
        fine = smooth(rate, 0.05)
        assert fine.limit <= max(1, rate.limit // 10)
        assert fine.window_s <= rate.window_s * fine.limit / rate.limit * 1.01
