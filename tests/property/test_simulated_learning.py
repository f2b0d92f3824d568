"""The estimator inside the real pipeline, in virtual time: limits are found and kept to, and trouble is not a limit."""

from itertools import pairwise

import pytest
from relay.simulate.figures import RunFigures
from tests.property.test_simulation import WholeRecord, ran, scenario

SINGLES = "batch: {max_items: 1}, expires: 24h, retry: {times: 30, backoff: 2s..10m}"
MINUTES = 20


def later(record: WholeRecord, *, from_s: float, to_s: float, limited: bool) -> int:
    """Count the requests of a stretch that were let through, or turned away."""
    return sum(from_s <= each.at_s < to_s and each.limited is limited and each.counted for each in record.requests)


@pytest.mark.parametrize(
    ("kind", "over"),
    [
        *(("sliding", over) for over in ("429", "429+retry-after", "408", "refuse", "200+errcode")),
        *(("fixed", over) for over in ("429", "408")),
    ],
)
def test_an_unannounced_limit_is_found_and_used(kind: str, over: str) -> None:
    """60 a minute nobody announced, with a backlog: from the fifth minute on 95 % is used, few are refused.

    Every way to refuse with one kind of window, two with the other: its rest is in tests/unit/test_estimate_table.py.
    """
    rules = "classify: [{status: 200, path: errcode, in: [45011], as: throttled}, "
    rules += "{status: 200, path: errcode, in: [0], as: ok}]"
    planned = scenario(f"{SINGLES}, {rules}", rate="80/min", minutes=MINUTES, limit=[f"{kind}:60/min"], over=over)
    record, _, found = ran(planned)

    assert found.found[-1].rates == ("60/min",)
    begin, end = 5 * 60.0, MINUTES * 60.0
    possible = 60 * (end - begin) / 60.125
    assert later(record, from_s=begin, to_s=end, limited=False) >= 0.95 * possible
    assert later(record, from_s=begin, to_s=end, limited=True) <= 2  # in a quarter of an hour
    assert found.repeats == 0
    assert found.dead == 0


def test_what_was_found_paces_as_what_was_written() -> None:
    """10 a second into 100/min nobody announced: once it is known, callbacks wait as long as if it was configured."""
    planned = scenario("batch: {max_items: 100}", rate="10/s", minutes=12, limit=["100/min"], over="429")
    record, ended, found = ran(planned)

    assert ended.totals.delivered == found.accepted
    assert found.found[-1].rates == ("100/min",)
    learned_s = found.found[-1].at_s
    late = list(record.delays)[-10 * 60 * 5 :]  # the last 5 minutes
    assert learned_s < 5 * 60
    assert sorted(late)[int(len(late) * 0.99)] <= 0.75


def test_a_known_limit_is_left_alone_when_it_refuses() -> None:
    """Two minutes of 503 under a learned 30/min: from the second refusal in a row on, 15 s less jitter and more."""
    platform = f"{SINGLES.replace('2s..10m', '500ms..10m')}, breaker: off"
    planned = scenario(platform, rate="40/min", minutes=14, limit=["30/min"], over="429", outages=("2m@10m:503",))
    record, _, _ = ran(planned)
    first, *later = [each.at_s for each in record.requests if 10 * 60.0 <= each.at_s < 12 * 60.0]
    after_one_stop = [at for at in later if at > first + 0.5]  # others were under way with the first
    assert len(after_one_stop) >= 3
    assert min(then - at for at, then in pairwise(after_one_stop)) >= 7.5


@pytest.mark.parametrize("learn", ["observe", "false"])
def test_what_is_not_enforced_changes_nothing(learn: str) -> None:
    """``observe`` and ``false`` send the same requests; ``observe`` alone tells of the limit."""
    runs: dict[str, tuple[WholeRecord, RunFigures]] = {}
    for word in {"false", learn}:
        planned = scenario(f"{SINGLES}, learn_limit: {word}", rate="2/s", minutes=6, limit=["60/min"], over="429")
        record, _, found = ran(planned)
        runs[word] = record, found
    assert runs[learn][0].requests == runs["false"][0].requests
    assert [each.enforced for each in runs[learn][1].found] == ([False] if learn == "observe" else [])


@pytest.mark.parametrize(
    ("seed", "trouble"),
    [
        (0, {"outages": ("10m@5m",)}),
        (1, {"outages": ("2m@3m:503", "2m@7m:503", "2m@11m:503", "4m@20m")}),
        (0, {"outages": ("5m@5m:408", "30s@15m:hang", "5m@20m:hang")}),
        (1, {"fault": ["503:0.05", "reset:0.02"]}),
        (0, {"fault": ["503:0.5"]}),
        (1, {"fault": ["400:0.3"]}),
    ],
    ids=str,
)
def test_trouble_is_not_taken_for_a_limit(trouble: dict[str, object], seed: int) -> None:
    """Outages, a platform half alive, refused content: nothing is learned, by breaker and suspicion all the same.

    Many seeds of trouble: tests/unit/test_estimate_table.py.
    """
    platform = "batch: {max_items: 1}, expires: 30m, timeout: 5s"
    planned = scenario(platform, rate="1/s", minutes=25, seed=seed, **trouble)  # type: ignore[arg-type]
    _, _, found = ran(planned)
    assert list(found.found) == []


def test_a_storm_opens_the_breaker_and_teaches_no_limit() -> None:
    """Everything is rejected (a revoked app): the breaker opens, the backlog is kept, no limit is believed."""
    platform = f"{SINGLES.replace('24h', '2h')}, breaker: {{open_after: 5, probe_every: 30s}}"
    planned = scenario(platform, rate="1/s", minutes=10, fault=["400:1"])
    _, ended, found = ran(planned)
    assert list(found.found) == []
    assert found.dead <= 5
    assert ended.totals.expired + found.dead == found.accepted  # two hours later, as nobody came


def test_a_floor_is_kept() -> None:
    """With ``learn_floor: 45/min`` a limit of 30/min is known, and what is in force is the floor."""
    planned = scenario(f"{SINGLES}, learn_floor: 45/min", rate="1/s", minutes=12, limit=["30/min"], over="429")
    _, _, found = ran(planned)
    assert found.found[-1].rates == ("45/min",)
