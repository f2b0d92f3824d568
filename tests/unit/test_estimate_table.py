"""A seeded part of the score table, and outages: the bars of docs/performance.md on every run."""

import pytest
from benchmarks.limits.outages import CHANGES, false_limit, follow
from benchmarks.limits.table import Case, score

CLEAN = [
    Case("sliding", 1, "429", "clean"),
    Case("fixed", 10, "429", "clean"),
    Case("first-request", 45, "200+errcode", "clean"),
    Case("sliding", 60, "408-5s", "clean"),
    Case("sliding", 60, "refused", "clean"),
    Case("fixed", 60, "429+retry-after", "clean"),
    Case("fixed", 60, "200+errcode", "clean"),
    Case("fixed", 60, "refused", "clean"),
    Case("bucket", 60, "429", "clean"),
    Case("sliding+refused", 60, "429", "clean"),
    Case("sliding", 300, "refused", "clean"),
]


SHARED = [
    Case("sliding", 60, "429", "shared"),
    Case("sliding", 45, "200+errcode", "shared"),
    Case("fixed", 60, "refused", "shared"),
    Case("sliding", 60, "408-5s", "shared"),
]


@pytest.mark.parametrize("case", [*CLEAN, *SHARED], ids=lambda case: case.name)
def test_meets_the_bars(case: Case) -> None:
    """95 % of what is possible, at most 5 refusals an hour, in 3 windows or 5 minutes; beside others 90 % and 20."""
    row = score(case)
    assert row.passes(), row


@pytest.mark.parametrize("seed", [*range(5), 32, 114, 164, 427, 442, 545, 549, 690])
def test_an_outage_is_no_limit(seed: int) -> None:
    """However a platform fails, nothing is ever enforced for it."""
    assert false_limit(seed) == ""


@pytest.mark.parametrize("signal", ["429", "408-5s", "refused"])
def test_finds_a_limit_introduced_in_mid_run(signal: str) -> None:
    """100/min from a quarter of an hour on is found, whatever it answers, and used two hours later."""
    followed = follow(CHANGES[0], signal=signal, before_h=0.25, after_h=2.0)
    assert followed.learned == "100/min"
    assert followed.goodput >= 0.95
    assert followed.rejects_per_hour <= 5


def test_peers_keep_hitting_the_wall() -> None:
    """The table's peers are refused hundreds of times an hour where the relay is not: the model is no straw man."""
    case = Case("sliding", 60, "429", "clean")
    rows = {name: score(case, name) for name in ("relay", "aimd", "cubic", "fixed-retry")}
    assert rows["relay"].rejects_per_hour <= 5
    assert all(rows[name].rejects_per_hour > 100 for name in rows if name != "relay")


CHANCE = [
    Case("fixed", 60, "429", "failures"),
    Case("first-request", 60, "429+retry-after", "failures"),
    Case("fixed", 10, "refused", "failures"),
    Case("sliding", 300, "408-5s", "failures"),
]


@pytest.mark.parametrize("case", CHANCE, ids=lambda case: case.name)
def test_chance_does_not_keep_a_limit_low(case: Case) -> None:
    """Where 1 % of all requests fail, no refusal by chance leaves the relay with far less than it may send."""
    row = score(case)
    assert row.goodput >= 0.8, row


@pytest.mark.parametrize(
    ("change", "family", "signal"),
    [(1, "sliding", "408-5s"), (2, "fixed", "429"), (2, "bucket", "429"), (0, "bucket", "refused")],
)
def test_follows_a_change(change: int, family: str, signal: str) -> None:
    """A limit that is halved, tripled or introduced in mid-run is used four hours later."""
    followed = follow(CHANGES[change], family=family, signal=signal)
    assert followed.goodput >= 0.9, followed
    assert followed.rejects_per_hour <= 20, followed


@pytest.mark.parametrize("signal", ["408-5s", "refused"])
def test_two_limits_at_once_are_not_taken_for_one_far_below(signal: str) -> None:
    """10/s and 100/min introduced together: the one that was found first stays when the other is."""
    followed = follow(CHANGES[3], signal=signal)
    assert followed.learned.endswith("/s, 100/min")
    assert followed.goodput >= 0.95, followed
    assert followed.rejects_per_hour <= 5


def test_scores_failures_against_what_the_stops_leave() -> None:
    """Short windows, where each refusal by chance stops more than a window, are used nearly as by one who knows."""
    case = Case("sliding", 1, "429", "failures")
    row = score(case)
    assert row.goodput >= 0.85, row
