"""What must have been seen before a limit is believed that a platform never spoke of."""

from dataclasses import replace

import pytest
from relay.limits.evidence.history import Closure, Reject, Signal
from relay.limits.fit.families import Family, Hypothesis
from relay.limits.fit.likelihood import Fit
from relay.limits.in_force.outage import believable, is_outage

WINDOW_S = 60.0
FOUND = Fit(
    hypothesis=Hypothesis(Family.SLIDING, 100, 57.0, 60.0, frozenset(), 0),
    window_s=WINDOW_S,
    onsets=5,
    closures=5,
    rejects=20,
    accepted=3000,
    unexplained=0,
    noise=0,
    newest=True,
    first_at=0.0,
    unsure=0.1,
)
RUNS = [310, 742, 411, 905, 632]  # callbacks came one by one: no two are alike


def closures(kind: Signal = Signal.BUSY) -> list[Closure]:
    """Return five stretches of refusals of 20 s each, ten minutes apart."""
    found = []
    for number in range(5):
        onset, last = (Reject(600.0 * number + late, 600.0 * number + late + 0.1, kind) for late in (0.0, 20.0))
        found.append(Closure(onset, last, onset.sent + 25.0, 4))
    return found


def test_refusals_just_where_it_was_used_up_are_a_limit() -> None:
    """Five stretches in 3,000 requests that began at the one request the limit names: chance makes that never."""
    assert believable(FOUND, closures(), RUNS)


@pytest.mark.parametrize(
    "found",
    [
        replace(FOUND, first_at=2400.0 - WINDOW_S / 2),  # nothing was foretold but by what happened in one window
        replace(FOUND, unsure=5.0),  # requests overtake each other: any would have done
        replace(FOUND, newest=False),  # and the latest refusal is another matter
        replace(FOUND, onsets=2),
        replace(FOUND, unexplained=5),
        replace(FOUND, accepted=30),  # a stretch every sixth request: it begins anywhere
    ],
)
def test_what_an_outage_would_show_too_is_not_believed(found: Fit) -> None:
    """Each of these is seen while a platform is merely down now and then."""
    assert not believable(found, closures(), RUNS)


def test_two_stretches_do_where_the_platform_speaks_of_a_limit() -> None:
    """A 429 means what it says: two stretches that persisted are enough, whatever came between."""
    found = replace(FOUND, onsets=2, closures=2)
    assert believable(found, closures(Signal.THROTTLED)[:2], RUNS[:2])
    assert not believable(found, closures(Signal.BUSY)[:2], RUNS[:2])


def test_refusals_long_after_everything_left_the_window_are_an_outage() -> None:
    """Nothing of the last 60 s was accepted any more, and it still refused: no limit of a minute does that."""
    refused = [Reject(at, at + 0.1, Signal.BUSY) for at in (10.0, 200.0)]
    closure = Closure(*refused, 210.0, 2)

    assert is_outage(closure, 9.0, WINDOW_S)
    assert not is_outage(closure, 120.0, WINDOW_S)
