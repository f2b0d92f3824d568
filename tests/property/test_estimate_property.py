"""Whatever is fed to the estimator: bounded memory, sane rates, a dump that loads."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from relay.limits.estimator import Estimator
from relay.limits.evidence.history import History, Signal

ANSWERS = st.tuples(
    st.sampled_from(list(Signal)),
    st.floats(0.0, 100.0),
    st.floats(0.0, 10.0),
    st.one_of(st.none(), st.floats(-10.0, 1e9)),
)


@settings(max_examples=50)
@given(st.lists(ANSWERS, max_size=120), st.integers(1, 30))
def test_any_history_gives_sane_rates(answers: list[tuple[Signal, float, float, float | None]], repeat: int) -> None:
    """Rates are positive and few, and the dump of any state loads into the same rates."""
    estimator = Estimator()
    now = 0.0
    history = answers * repeat if len(answers) * repeat < 600 else answers
    for token, (kind, gap_s, answer_s, wait_s) in enumerate(history):
        estimator.sent(token, now)
        estimator.answered(token, now + answer_s, kind, wait_s)
        now += max(gap_s, answer_s)
        if estimator.changed:
            rates = estimator.enforced()
            assert len(rates) <= 3
            assert all(rate.limit >= 1 and rate.window_s > 0.0 for rate in rates)
    estimate = estimator.estimate(now)
    assert 0.0 <= estimate.confidence <= 1.0
    again = Estimator()
    again.load(json.loads(json.dumps(estimator.dump())))
    assert [rate.window_s for rate in again.enforced()] == [rate.window_s for rate in estimate.rates]


@settings(max_examples=40)
@given(st.integers(0, 12_000), st.integers(1, 50))
def test_evidence_stays_bounded(sends: int, refuse_every: int) -> None:
    """Neither accepted nor refused sends grow without end, and counts stay right within the stride."""
    evidence = History()
    for number in range(sends):
        evidence.sent(number, float(number))
        sent = evidence.take(number)
        assert sent == float(number)
        if number % refuse_every == refuse_every - 1:
            evidence.reject(sent, sent + 0.1, Signal.THROTTLED, None, probe=False)
        else:
            evidence.accept(sent, sent + 0.1)
    assert len(evidence.accepted) <= 1600
    assert len(evidence.rejects) <= 170
    assert evidence.accepted == sorted(evidence.accepted)
