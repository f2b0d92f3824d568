"""A quota that others use too: refused after another count each time, which a crash loop looks like."""

from collections.abc import Iterable

import pytest
from benchmarks.limits.table import Case, score
from relay.limits.evidence.history import History, Signal
from relay.limits.fit.families import Family, fixed, sliding
from relay.limits.fit.likelihood import fit

WINDOW_S = 60.0


def gathered(runs: Iterable[int], *, window_s: float = WINDOW_S) -> History:
    """Return what is seen of a sliding window that lets another count through each time, asked every ten seconds."""
    evidence = History()
    begun = 1000.0
    for count in runs:
        for number in range(count):
            evidence.accept(begun + 0.01 * number, begun + 0.01 * number + 0.02)
        refused = [begun + 0.01 * count, *(begun + late for late in range(10, int(window_s), 10))]
        for at in refused:
            evidence.reject(at, at + 0.02, Signal.BUSY, None, probe=False)
        begun += window_s + 1.0
    return evidence


def test_finds_the_count_between_bounds() -> None:
    """80 to 84 a minute: the lower count, how much it varies, and the window."""
    evidence = gathered([82, 80, 83, 81, 84, 82, 80, 84])
    found = fit(evidence)
    assert found is not None
    assert 79 <= found.n <= 81
    assert 2 <= found.hypothesis.spread <= 5
    assert found.window_s == WINDOW_S
    assert (found.unexplained, found.hypothesis.contradicted) == (0, 0)


def test_takes_the_exact_count_where_there_is_one() -> None:
    """What is refused after the same count each time does not vary."""
    found = fit(gathered([80] * 8))
    assert found is not None
    assert (found.n, found.hypothesis.spread, found.window_s) == (80, 0, WINDOW_S)


def test_a_count_that_varies_has_to_earn_it() -> None:
    """Refused early in the first window and never again: chance, though a count of 44 to 80 would explain it all."""
    evidence = gathered([80] * 11)
    for at in (1000.433, 1000.437, 1000.493, 1000.497):
        evidence.reject(at, at + 0.02, Signal.BUSY, None, probe=False)
    found = fit(evidence)
    assert found is not None
    assert (found.n, found.hypothesis.spread) == (80, 0)


def test_a_whole_window_let_through_is_no_small_error() -> None:
    """That 80 went through again and again refutes a longer window, however well it explains the refusals."""
    evidence = gathered([99, 80, 81, 80])
    found = fit(evidence)
    assert found is not None
    assert found.window_s == WINDOW_S
    assert found.n <= 81


def test_what_others_give_back_is_part_of_the_count() -> None:
    """After 80 at once one more gets through every ten seconds, as the others' requests leave the window."""
    evidence = History()
    begun = 1000.0
    for count in (80, 79, 81, 80, 79, 80, 81, 80):
        sent = [begun + 0.01 * number for number in range(count)]
        sent += [begun + late for late in (10.0, 20.0, 30.0, 40.0, 50.0)]
        for at in sent:
            evidence.accept(at, at + 0.02)
        for at in sent[count - 1 :]:
            evidence.reject(at + 0.1, at + 0.12, Signal.BUSY, None, probe=False)
        begun += 61.0
    found = fit(evidence)
    assert found is not None
    assert found.n in (79, 80)
    assert found.window_s == WINDOW_S
    assert found.hypothesis.spread >= 5


@pytest.mark.parametrize("spread", [0, 4])
def test_a_varying_count_is_contradicted_only_above_its_bounds(spread: int) -> None:
    """A limit of 80 that varies by four lets 84 through; one that does not vary is refuted by them."""
    evidence = gathered([84, 80, 84, 80])
    rejects = [reject.sent for reject in evidence.rejects]
    log = sliding(evidence.accepted, evidence.accepted, rejects, 80, 0.03, spread=spread)
    aligned = fixed(evidence.accepted, rejects, 80, 61.0, 1000.0, 0.03, spread=spread)
    assert log is not None
    assert (log.errors > 0, aligned.contradicted > 0) == (spread == 0, spread == 0)
    assert log.family is Family.SLIDING


def test_is_not_hit_on_and_on_where_what_others_give_back_gets_through() -> None:
    """It takes ten windows to believe, and then refusals are few: before, they were 1,600 an hour."""
    row = score(Case("sliding", 45, "408-5s", "shared"), seed=3)
    assert row.goodput >= 0.9, row
    assert row.rejects_per_hour <= 100, row
