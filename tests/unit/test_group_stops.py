"""The gate of a platform with groups: a throttle stops its group, everything else the platform."""

import copy
import random

import pytest
from relay.core.model import Batch, Item, Outcome, Verdict
from relay.core.settlement import AttemptResult, Settlement
from relay.policy.gate import group_stops
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.gate.stop import Stop, StopCause
from relay.policy.settle.answer import Attempted, Budget, decide

NOW = 1_000_000.0
NEVER = float("inf")


def gate() -> Gate:
    """An open gate."""
    return Gate(Breaker(BreakerTerms(5, 30.0)), base_s=2.0, cap_s=600.0)


def draw(
    its: Gate,
    outcome: Outcome,
    group: str,
    seq: int = 1,
    *,
    now: float = NOW,
    ambiguous: bool = False,
    wait_s: float | None = None,
    scope: str = "group",
    started_at: float | None = None,
) -> Settlement:
    """What one answer to a batch of one callback of ``group`` changes."""
    item = Item(seq, str(seq), b"{}", None, None, None, NOW - 10, NOW + 1e6, 0, 0, 0.0, False)
    verdict = Verdict(outcome, ambiguous=ambiguous, reason="said", wait_s=wait_s, scope=scope)
    batch = Batch(seq, f"b{seq}", 1, seq, "p", group, [item], now, seq)
    result = AttemptResult(outcome, now, 0.1, reason="said", ambiguous=ambiguous)
    first = its.first_after_stop(group)
    began = now - 0.1 if started_at is None else started_at
    return decide(
        Attempted(batch, verdict, result, began, first),
        budget=Budget(3, 2.0, 600.0),
        gate=its,
        now=now,
        rng=random.Random(1),
    )


def closed(its: Gate, now: float = NOW, under_way: tuple[str, ...] = ()) -> dict[str, float]:
    """The groups that take no turn."""
    return its.groups.closed(now, under_way)[0]


def test_throttle_stops_its_group() -> None:
    """One shop's 429 leaves the platform open, is obeyed for the shop, and its items are due when it ends."""
    its = gate()

    settlement = draw(its, Outcome.THROTTLED, "a", wait_s=60.0)

    assert its.opens_at(NOW) == NOW
    assert not its.single_file
    assert list(closed(its)) == ["a"]
    assert NOW + 60 <= closed(its)["a"] <= NOW + 66
    assert settlement.requeue[0].due_at == closed(its)["a"]
    assert closed(its, NOW + 66) == {}


def test_scope_platform_stops_all() -> None:
    """A rule that says ``scope: platform`` stops every group, and so does a throttle of a platform without groups."""
    for group in ("a", ""):
        its = gate()
        draw(its, Outcome.THROTTLED, group, wait_s=60.0, scope="platform" if group else "group")
        assert its.opens_at(NOW) >= NOW + 60
        assert closed(its) == {}


@pytest.mark.parametrize("outcome", [Outcome.DOWN, Outcome.AUTH])
def test_failures_are_the_platforms(outcome: Outcome) -> None:
    """Never connected or not let in backs off the platform, whatever group drew it, with its Retry-After."""
    its = gate()
    draw(its, outcome, "a", wait_s=50.0)
    assert its.opens_at(NOW) >= NOW + 50
    assert its.breaker.failures == 1
    assert closed(its) == {}


def test_retry_after_of_a_failure_stops_its_group() -> None:
    """A 500 with Retry-After leaves the other groups alone; the batch is due after it."""
    its = gate()
    settlement = draw(its, Outcome.RETRY, "a", ambiguous=True, wait_s=120.0)
    assert its.opens_at(NOW) == NOW
    assert settlement.resend is not None
    assert settlement.resend.due_at >= closed(its)["a"] >= NOW + 120


def test_after_a_stop_one_request_of_the_group_goes() -> None:
    """It waits for that answer; accepted, the group is free and starts small again; refused, the stop grows."""
    its = gate()
    draw(its, Outcome.THROTTLED, "a")
    at = closed(its)["a"]
    assert 1.0 <= at - NOW <= 2.0
    assert its.groups.closed(at, ()) == ({}, {"a": False})
    assert closed(its, at, under_way=("b", "a")) == {"a": NEVER}

    draw(its, Outcome.THROTTLED, "a", now=at + 1)
    again = closed(its, at + 1)["a"]
    assert 2.0 <= again - (at + 1) <= 4.0

    draw(its, Outcome.OK, "b", seq=2, now=again)
    assert its.first_after_stop("a")
    assert not its.first_after_stop("b")
    draw(its, Outcome.OK, "a", now=again)
    assert its.groups.closed(again, ("a",)) == ({}, {})
    draw(its, Outcome.THROTTLED, "a", now=again + 1)
    assert closed(its, again + 1)["a"] - (again + 1) <= 2.0


def test_suspicion_is_the_groups_own() -> None:
    """Three strikes in its shop convict an item: it pays from then on. Another shop's success is no witness."""
    for witness, convicted in (("a", True), ("b", False)):
        its = gate()
        at = NOW
        for _ in range(3):
            draw(its, Outcome.THROTTLED, "a", now=at)
            at = its.groups.get("a").stopped_until + 1
            draw(its, Outcome.THROTTLED, "a", now=at)
            at = its.groups.get("a").stopped_until + 1
            draw(its, Outcome.OK, witness, seq=2, now=at)
        settlement = draw(its, Outcome.THROTTLED, "a", now=at + 1)
        assert (settlement.resend is not None and settlement.resend.charge) is convicted


def test_stops_are_kept_one_by_one() -> None:
    """Only what changed goes to the store: a new stop, and None for one that is over; a restart continues from it."""
    its = gate()
    draw(its, Outcome.THROTTLED, "a", wait_s=60.0)
    draw(its, Outcome.THROTTLED, "b", wait_s=60.0)
    kept = dict(its.groups.take_changes())
    assert sorted(kept) == ["a", "b"]
    assert its.groups.take_changes() == {}

    again = gate()
    again.load({**its.dump_own(), "groups": kept})
    assert closed(again) == closed(its)
    assert again.dump() == its.dump()

    draw(its, Outcome.OK, "b", now=NOW + 70)
    assert its.groups.take_changes() == {"b": None}


def test_stops_that_are_over_are_forgotten() -> None:
    """Groups that were stopped once take no memory: accepted ones soon, untried ones after the longest backoff."""
    its = gate()
    for number in range(500):
        draw(its, Outcome.THROTTLED, f"g{number}", now=NOW + number, wait_s=1.0)
        if number % 2:
            draw(its, Outcome.OK, f"g{number}", now=NOW + number + 2)
        closed(its, NOW + number + 2)
    assert len(its.groups.dump()) == 250
    assert its.groups.closed(NOW + 5000, ()) == ({}, {})
    assert its.groups.dump() == {}


def test_too_many_stopped_groups_stop_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many shops stopped at once the next one stops all: memory is bounded and no wait is broken."""
    monkeypatch.setattr(group_stops, "MOST_STOPPED", 3)
    its = gate()
    for group in "abcd":
        draw(its, Outcome.THROTTLED, group, wait_s=60.0)
    assert sorted(closed(its)) == ["a", "b", "c"]
    assert its.opens_at(NOW) >= NOW + 60
    later = NOW + 100
    draw(its, Outcome.THROTTLED, "e", now=later, wait_s=60.0)
    assert list(closed(its, later)) == ["e"]


def test_release_lets_all_groups_be_tried() -> None:
    """An operator's resume ends the stops; the first request of each group still goes alone."""
    its = gate()
    draw(its, Outcome.THROTTLED, "a", wait_s=600.0)
    its.groups.release(NOW + 1)
    assert its.groups.closed(NOW + 1, ()) == ({}, {"a": False})
    assert closed(its, NOW + 1, ("a",)) == {"a": NEVER}


@pytest.mark.parametrize("group", ["", "a"])
def test_a_pause_makes_nothing_due_never(group: str) -> None:
    """What a paused platform answers to the last requests returns with a time: after the resume it is due."""
    its = gate()
    its.paused = True
    certain = draw(its, Outcome.THROTTLED, group, wait_s=60.0)
    unclear = draw(its, Outcome.THROTTLED, group, seq=2, ambiguous=True)
    assert NOW + 60 <= certain.requeue[0].due_at <= NOW + 66
    assert unclear.resend is not None
    assert unclear.resend.due_at <= NOW + 66


def test_leaves_a_known_limit_alone_from_the_second_refusal_in_a_row() -> None:
    """The first refusal may be chance and stops for a moment; after the second, a window does not open at once."""
    rng = random.Random(1)
    stop = Stop(base_s=1.0, cap_s=600.0)
    stop.patience_s = 15.0
    stop.throttle(StopCause(NOW, NOW, "408", None), rng)
    assert stop.stopped_until <= NOW + 1.0
    waits = []
    now = NOW
    for _ in range(3):
        now = stop.stopped_until + 0.1
        stop.throttle(StopCause(now, now, "408", None), rng)
        waits.append(stop.stopped_until - now)
    assert 7.5 <= waits[0] <= 15.0
    assert 15.0 <= waits[1] <= 30.0 <= waits[2] <= 60.0


def test_patience_is_never_shorter_than_backoff() -> None:
    """A limit of a second changes nothing about how long a platform is left alone."""
    rng = random.Random(1)
    stop = Stop(base_s=2.0, cap_s=600.0)
    stop.patience_s = 0.25
    for _ in range(2):
        stop.throttle(StopCause(NOW, NOW, "408", None), rng)
    assert 2.0 <= stop.stopped_until - NOW <= 4.0


@pytest.mark.parametrize("seed", range(20))
def test_the_kept_answer_is_what_a_fresh_look_says(seed: int) -> None:
    """Whatever is refused, accepted, released or left to time: claims hear of it, though nothing is looked at twice."""
    its, rng, now = gate(), random.Random(seed), NOW
    groups = ["a", "b", "c", "d"]
    for seq in range(60):
        step = rng.random()
        group = rng.choice(groups)
        if step < 0.4:
            draw(its, Outcome.THROTTLED, group, seq, now=now, wait_s=rng.choice([None, 1.0, 60.0]))
        elif step < 0.6:
            draw(its, Outcome.OK, group, seq, now=now)
        elif step < 0.65:
            its.groups.release(now, only=rng.choice([None, group]))
        else:
            now += rng.choice([0.5, 5.0, 700.0])
        under_way = tuple(rng.sample(groups, 2))
        fresh = copy.deepcopy(its)
        for each in groups:
            fresh.groups.get(each)  # whoever takes a stop may change it, so all are looked at again
        assert its.groups.closed(now, under_way) == fresh.groups.closed(now, under_way)


def test_a_claim_looks_at_no_stop_while_nothing_changes() -> None:
    """The same answer again until the first stop ends, however many there are."""
    its = gate()
    for number in range(300):
        draw(its, Outcome.THROTTLED, f"g{number}", number, wait_s=60.0 + number)
    first, _ = its.groups.closed(NOW, ())
    assert len(first) == 300
    assert its.groups.closed(NOW + 1, ())[0] is first
    first_end = min(first.values())
    assert set(first) - set(its.groups.closed(first_end, ())[0]) == {min(first, key=lambda group: first[group])}
