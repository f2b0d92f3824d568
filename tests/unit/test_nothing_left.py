"""Accepted answers that say nothing is left: what is read from them, and how the platform or group is held."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from relay.core.model import Batch, Item, ItemVerdict, Outcome, Verdict
from relay.core.settlement import AttemptResult, Settlement
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.gate.stop import NOTHING_LEFT
from relay.policy.settle.answer import Attempted, Budget, decide
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.answers.hints import exhausted_s
from tests.compiled import compiled_rule

NOW = 1_000_000.0
WALL = datetime(2027, 1, 15, 8, 0, tzinfo=UTC).timestamp()
CAP_S = 3600.0


def date(after_s: float) -> str:
    """The HTTP date so long after ``WALL``."""
    return format_datetime(datetime.fromtimestamp(WALL, UTC) + timedelta(seconds=after_s), usegmt=True)


def headers(**given: str) -> Headers:
    """Headers whose names are written with underscores."""
    return Headers([(name.replace("_", "-"), value) for name, value in given.items()])


@pytest.mark.parametrize(
    ("given", "wait_s"),
    [
        ({"RateLimit": '"x";r=0;t=30'}, 30.0),
        ({"RateLimit": '"burst";r=0;t=5, "daily";r=0;t=600, "month";r=9;t=3000'}, 600.0),
        ({"RateLimit": "limit=100, remaining=0, reset=12"}, 12.0),
        ({"RateLimit_Remaining": "0", "RateLimit_Reset": "9"}, 9.0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(WALL + 50))}, 50.0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(WALL + 50) * 1000)}, 50.0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset_After": "0.25", "X_RateLimit_Reset": "7"}, 0.25),
        ({"X_Rate_Limit_Remaining": " 0.0 ", "X_Rate_Limit_Reset": "7"}, 7.0),
        ({"X_Rate_Limit_Requests_Left": "0", "X_Rate_Limit_Time_Reset_Ms": "1500"}, 1.5),
        ({"X_Current_Token_Count": "0", "X_Next_Replenishment_Time": str(int(WALL + 3) * 1000)}, 3.0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "2027-01-15T10:00:20+02:00"}, 20.0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "90000"}, CAP_S),
        ({"RateLimit": '"x";r=3;t=30', "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "4"}, 4.0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": date(20), "Date": date(0)}, 20.0),
        ({"X_RateLimit_Remaining": "0, 5", "X_RateLimit_Reset": "30, 20"}, 30.0),  # the proxy's and the application's
        # not 0, no time, a time that is over
        ({"RateLimit": '"x";r=1;t=30'}, None),
        ({"RateLimit": '"x";t=30'}, None),
        ({"RateLimit": '"x";r=0'}, None),
        ({"RateLimit": '"x";r=-1;t=30'}, None),
        ({"RateLimit": '"x";r=0;t=0'}, None),
        ({"RateLimit": '"x";r=0;t=-5'}, None),
        ({"RateLimit": '"a;r=0;t=9";r=5;t=30'}, None),
        ({"X_RateLimit_Remaining": "0"}, None),
        ({"X_RateLimit_Reset": "30"}, None),
        ({"X_RateLimit_Remaining": "-1", "X_RateLimit_Reset": "30"}, None),
        ({"X_RateLimit_Remaining": "\u0660", "X_RateLimit_Reset": "30"}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "nan"}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(WALL - 50))}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": date(-8 * 3600), "Date": date(0)}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": date(-60), "Date": date(-3600)}, None),  # from a cache
        ({"Retry_After": "30"}, None),
        ({}, None),
    ],
)
def test_what_is_read(given: dict[str, str], wait_s: float | None) -> None:
    """A wait only where 0 is left and a time to come stands beside it; the longest of several; capped."""
    assert exhausted_s(headers(**given), wall=WALL, cap_s=CAP_S) == wait_s


@pytest.mark.parametrize(
    ("status", "rules", "wait_s"),
    [
        (200, [], 30.0),
        (409, [{"status": 409, "as": "duplicate"}], 30.0),
        (200, [{"status": 500, "as": "retry"}], None),
        (400, [], None),
        (500, [], None),
    ],
)
def test_verdict_carries_it(status: int, rules: list[dict[str, object]], wait_s: float | None) -> None:
    """Accepted answers carry the wait in their verdict; on answers that are neither that nor a throttle it is none."""
    answer = Answer(status, headers(RateLimit='"x";r=0;t=30'), b"{}")
    compiled = [compiled_rule(rule) for rule in rules]
    assert classify(answer, rules=compiled, compressed=False, items=1, wall=WALL).wait_s == wait_s


def gate() -> Gate:
    """An open gate."""
    return Gate(Breaker(BreakerTerms(5, 30.0)), base_s=2.0, cap_s=600.0)


def draw(
    its: Gate,
    outcome: Outcome,
    *,
    now: float = NOW,
    wait_s: float | None = None,
    started_at: float | None = None,
    group: str = "",
    each: str = "",
    asked: bool = False,
) -> Settlement:
    """What one answer changes; ``each`` names an outcome per item."""
    verdicts = [ItemVerdict(Outcome(word), "said") for word in each.split()]
    items = [
        Item(n, str(n), b"{}", None, None, None, NOW, NOW + 1e6, 0, 0, 0.0, False) for n in range(len(verdicts) or 1)
    ]
    batch = Batch(1, "b1", 1, 1, "p", group, items, now, 1)
    verdict = Verdict(outcome, ambiguous=False, reason="said", wait_s=wait_s, items=verdicts)
    result = AttemptResult(outcome, now, 0.1)
    began = now - 0.1 if started_at is None else started_at
    return decide(
        Attempted(batch, verdict, result, began, its.first_after_stop(group), asked=asked),
        budget=Budget(3, 2.0, 600.0),
        gate=its,
        now=now,
        rng=random.Random(3),
    )


@pytest.mark.parametrize(("each", "asked"), [("", False), ("ok retry", False), ("", True)])
def test_holds_without_failure(each: str, asked: bool) -> None:
    """The platform is held until then and jittered; its items are delivered, and nothing is counted or single file."""
    its = gate()
    its.breaker.failures = 3

    settlement = draw(its, Outcome.OK, wait_s=30.0, each=each, asked=asked)

    assert list(settlement.delivered) == [0]
    assert NOW + 30 < its.opens_at(NOW) <= NOW + 33
    assert (its.throttled, its.stop_reason) == (True, NOTHING_LEFT)
    assert (its.level, its.single_file, its.breaker.failures, its.breaker.is_open) == (0, False, 0, False)


def test_later_answers_do_not_shorten_it() -> None:
    """An answer to a request that was under way, with room or a shorter wait, leaves the hold as it is."""
    its = gate()
    draw(its, Outcome.OK, wait_s=30.0)
    until = its.opens_at(NOW)
    draw(its, Outcome.OK, now=NOW + 1, started_at=NOW - 1)
    draw(its, Outcome.OK, now=NOW + 2, started_at=NOW - 1, wait_s=5.0)
    assert its.opens_at(NOW + 2) == until


def test_refusal_in_a_hold_stops_as_ever() -> None:
    """A throttle of a request that was under way grows the level, stops longer where it says so, and is single file."""
    its = gate()
    draw(its, Outcome.OK, wait_s=5.0)
    draw(its, Outcome.THROTTLED, now=NOW + 1, wait_s=50.0)
    assert NOW + 51 <= its.opens_at(NOW + 1) <= NOW + 56
    assert (its.level, its.single_file, its.stop_reason) == (1, True, "said")


def test_platform_that_always_says_so_is_served() -> None:
    """Nothing left for an hour, on every answer: waits a minute, then less and less, for it accepts all the same."""
    its = gate()
    at, gaps = NOW, []
    for _ in range(12):
        draw(its, Outcome.OK, now=at, wait_s=3600.0)
        gaps.append(its.opens_at(at) - at)
        at = its.opens_at(at) + 0.2
    assert 60 <= gaps[0] <= 66
    assert all(later <= earlier / 3 for earlier, later in pairwise(gaps[:9]))
    assert gaps[-1] < 0.01

    draw(its, Outcome.THROTTLED, now=at, wait_s=1.0)
    at = its.opens_at(at) + 0.2
    draw(its, Outcome.OK, now=at, wait_s=3600.0)
    assert its.opens_at(at) - at >= 60  # it refused: there is a limit after all


def test_honest_platform_is_believed() -> None:
    """One request per 10 s, nothing left after each: every hold lasts to its end, however many there are."""
    its = gate()
    at = NOW
    for _ in range(50):
        draw(its, Outcome.OK, now=at, wait_s=10.0)
        assert 10.0 <= its.opens_at(at) - at <= 11.0
        at = its.opens_at(at) + 0.2


def test_group_is_held_alone() -> None:
    """A group's answer holds the group: not the others, not single file, and without a word to the store."""
    its = gate()
    draw(its, Outcome.OK, group="a", wait_s=30.0)
    closed, resuming = its.groups.closed(NOW, ["a"])
    assert NOW + 30 < closed["a"] <= NOW + 33
    assert resuming == {}
    assert its.opens_at(NOW) == NOW
    draw(its, Outcome.OK, group="a", now=NOW + 1, started_at=NOW - 1)
    assert its.groups.closed(NOW + 1, [])[0] == closed
    assert its.groups.closed(NOW + 40, ["a"]) == ({}, {})
    assert its.groups.take_changes() == {}
    assert "groups" not in its.dump()


def test_group_that_always_says_so_is_served() -> None:
    """Doubt in a group's headers outlives the hold."""
    its = gate()
    at = NOW
    for _ in range(8):
        draw(its, Outcome.OK, group="a", now=at, wait_s=3600.0)
        until = its.groups.closed(at, [])[0].get("a", at)
        gap, at = until - at, until + 0.2
        its.groups.closed(at, [])
    assert gap < 0.1


def test_held_groups_leave_room_for_refused_ones() -> None:
    """However many groups say that nothing is left, the next refusal stops its own group and not the platform."""
    its = gate()
    for number in range(1200):
        draw(its, Outcome.OK, group=f"g{number}", wait_s=50.0)
    draw(its, Outcome.THROTTLED, group="late", wait_s=20.0)
    assert its.opens_at(NOW) == NOW
    assert "late" in its.groups.closed(NOW, [])[0]
    its.groups.closed(NOW + 4000, [])
    assert its.groups.dump().keys() <= {"late"}
    assert not list(its.groups.in_force(NOW + 4000))
