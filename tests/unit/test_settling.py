"""The table "Answers" of docs/state-machine.md, row by row."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from relay.core.model import Batch, Item, ItemVerdict, Outcome, State, Verdict
from relay.core.settlement import AttemptResult, Resend, Settlement
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.settle.answer import Attempted, Budget, ReadBack, decide

NOW = 1_000_000.0
BUDGET = Budget(times=3, base_s=2.0, cap_s=600.0)


def item(seq: int, **changes: object) -> Item:
    """A callback on its first request."""
    fresh = Item(
        seq=seq,
        id=str(seq),
        payload=b"{}",
        key=None,
        event=None,
        content_type=None,
        accepted_at=NOW - 10,
        expires_at=NOW + 3600,
        attempts=0,
        spent=0,
        first_sent_at=0.0,
        maybe_applied=False,
    )
    return fresh._replace(**changes)  # type: ignore[arg-type]


def gate(open_after: int | None = 5) -> Gate:
    """An open gate; ``open_after`` None turns the breaker off."""
    terms = BreakerTerms(open_after, 30.0) if open_after else None
    return Gate(Breaker(terms), base_s=2.0, cap_s=600.0)


def draw(
    its: Gate,
    outcome: Outcome,
    *items: Item,
    ambiguous: bool = False,
    wait_s: float | None = None,
    now: float = NOW,
    number: int = 1,
    root: int | None = None,
    first_after_stop: bool = False,
    started_at: float | None = None,
    renewed: bool = False,
    each: str = "",
    each_waits_s: Sequence[float | None] = (),
    read_back: ReadBack = "never",
    asked: bool = False,
    attempt: int = 1,
    rng: random.Random | None = None,
    status: int | None = None,
    replayed: bool = False,
) -> Settlement:
    """What one answer to a batch of ``items`` changes; ``each`` names an outcome per item."""
    verdicts = [ItemVerdict(Outcome(word), "said", f"message {n}") for n, word in enumerate(each.split())]
    if each_waits_s:
        verdicts = [verdict._replace(wait_s=wait) for verdict, wait in zip(verdicts, each_waits_s, strict=True)]
    verdict = Verdict(outcome, ambiguous=ambiguous, reason="said", wait_s=wait_s, items=verdicts)
    batch = Batch(number, f"b{number}", attempt, number, "p", "", list(items), now, number if root is None else root)
    batch.replayed = replayed
    result = AttemptResult(outcome, now, 0.1, status=status, reason="said", ambiguous=ambiguous)
    began = now - 0.1 if started_at is None else started_at
    return decide(
        Attempted(batch, verdict, result, began, first_after_stop, renewed, read_back, asked),
        budget=BUDGET,
        gate=its,
        now=now,
        rng=rng or random.Random(1),
    )


def test_an_item_waits_as_long_as_its_own_verdict_asks() -> None:
    """The one that names a time waits for it; the other one for its backoff alone."""
    waits = [None, 300.0, None]
    settlement = draw(gate(), Outcome.OK, item(1), item(2), item(3), each="ok retry retry", each_waits_s=waits)

    due = {seq: part.due_at for part in settlement.requeue for seq in part.seqs}
    assert NOW + 300.0 <= due[2] <= NOW + 330.0
    assert NOW < due[3] < NOW + 300.0


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.DUPLICATE])
def test_accepted_items_are_delivered(outcome: Outcome) -> None:
    """ok and duplicate deliver all items and clear failures, stops and storm."""
    its = gate()
    its.breaker.failures, its.level, its.resuming = 3, 2, True

    settlement = draw(its, outcome, item(1), item(2))

    assert list(settlement.delivered) == [1, 2]
    assert (its.breaker.failures, its.level, its.resuming, its.last_accepted_at) == (0, 0, False, NOW)


def test_throttle_stops_the_platform_and_charges_nobody() -> None:
    """A certain throttle returns the items, due when the stop ends, uncharged; the hint is obeyed and jittered."""
    its = gate()

    settlement = draw(its, Outcome.THROTTLED, item(1), wait_s=60.0)

    (back,) = settlement.requeue
    assert not back.charge
    assert NOW + 60 <= its.opens_at(NOW) <= NOW + 66
    assert back.due_at == its.opens_at(NOW)
    assert its.single_file


def test_of_several_waits_of_throttled_items_the_longest_holds() -> None:
    """Each item may name a wait of its own; the platform is left alone until all of them are over."""
    its = gate()

    draw(its, Outcome.OK, item(1), item(2), item(3), each="throttled ok throttled", each_waits_s=[20.0, None, 90.0])

    assert NOW + 90 <= its.opens_at(NOW) <= NOW + 99


def test_ambiguous_throttle_keeps_the_batch() -> None:
    """A 408 may have been applied: the same batch goes again after the stop, uncharged."""
    settlement = draw(gate(), Outcome.THROTTLED, item(1), item(2), ambiguous=True)

    assert settlement.resend is not None
    assert not settlement.resend.charge
    assert settlement.requeue == ()


def test_throttle_without_hint_grows() -> None:
    """Stops in a row grow by backoff; answers to requests sent before the stop do not add to it."""
    its = gate()
    draw(its, Outcome.THROTTLED, item(1))
    first = its.opens_at(NOW) - NOW
    draw(its, Outcome.THROTTLED, item(2), started_at=NOW - 1)
    assert its.level == 1
    later = its.opens_at(NOW)
    draw(its, Outcome.THROTTLED, item(1), now=later + 1)

    assert 1.0 <= first <= 2.0
    assert 2.0 <= its.opens_at(later + 1) - (later + 1) <= 4.0


def test_hint_of_nothing_is_no_hot_loop() -> None:
    """A platform that keeps refusing "for 0 seconds" is asked at growing intervals, from the first one on."""
    its = gate()
    at = NOW
    gaps = []
    for _ in range(6):
        draw(its, Outcome.THROTTLED, item(1), wait_s=0.0, now=at)
        gaps.append(its.opens_at(at) - at)
        at = its.opens_at(at) + 0.2

    assert all(2.0 * 2**n / 2 <= gap <= 2.0 * 2**n for n, gap in enumerate(gaps))


def test_retry_after_on_a_failure_is_obeyed() -> None:
    """A 500 with Retry-After stops the platform, and the batch is not due before."""
    its = gate()

    settlement = draw(its, Outcome.RETRY, item(1), ambiguous=True, wait_s=120.0)

    assert its.opens_at(NOW) >= NOW + 120
    assert settlement.resend is not None
    assert settlement.resend.due_at >= NOW + 120


@pytest.mark.parametrize("outcome", [Outcome.DOWN, Outcome.AUTH])
def test_down_and_auth_back_off_without_charge(outcome: Outcome) -> None:
    """Never connected, or not let in: nothing was applied and nobody pays."""
    its = gate()

    settlement = draw(its, outcome, item(1))

    assert not settlement.requeue[0].charge
    assert its.opens_at(NOW) > NOW
    assert its.breaker.failures == 1


def test_auth_with_another_token_to_try_resends_at_once() -> None:
    """The same batch goes again under its id, uncharged, and the platform has not failed; Retry-After is obeyed."""
    its = gate()
    its.resuming = True

    settlement = draw(its, Outcome.AUTH, item(1), item(2), renewed=True)

    assert settlement.resend == Resend(due_at=NOW, charge=False, reason="said")
    assert not settlement.requeue
    assert (its.breaker.failures, its.opens_at(NOW), its.resuming) == (0, NOW, False)

    later = draw(its, Outcome.AUTH, item(1), renewed=True, wait_s=30.0)
    assert later.resend is not None
    assert later.resend.due_at >= NOW + 30


def test_retry_resends_the_same_batch_and_charges() -> None:
    """A 500 or timeout spends one re-send; the wait is drawn from [d/2, d]."""
    settlement = draw(gate(), Outcome.RETRY, item(1, spent=1), item(2), ambiguous=True)

    assert settlement.resend is not None
    assert settlement.resend.charge
    assert 2.0 <= settlement.resend.due_at - NOW <= 4.0


def test_used_up_budget_is_a_dead_letter() -> None:
    """With its budget used and others accepted since its first attempt, an item dies, marked maybe applied."""
    its = gate()
    its.last_accepted_at = NOW - 1

    settlement = draw(its, Outcome.RETRY, item(1, spent=3, first_sent_at=NOW - 60), ambiguous=True)

    (ending,) = settlement.endings
    assert (ending.state, ending.maybe_applied, list(ending.seqs)) == (State.DEAD, True, [1])


def test_an_outage_buries_nothing() -> None:
    """With nothing accepted since its first attempt, the breaker opens and the batch waits uncharged."""
    its = gate()

    settlement = draw(its, Outcome.RETRY, item(1, spent=3, first_sent_at=NOW - 60), ambiguous=True)

    assert settlement.endings == ()
    assert settlement.resend is not None
    assert not settlement.resend.charge
    assert its.breaker.is_open


def test_breaker_off_means_the_budget_alone_decides() -> None:
    """The same item dies with ``breaker: off``."""
    settlement = draw(gate(None), Outcome.RETRY, item(1, spent=3, first_sent_at=NOW - 60), ambiguous=True)

    assert settlement.endings[0].state is State.DEAD


def test_given_up_batch_tells_late_items_from_dead_ones() -> None:
    """An ambiguous batch is given up when no item has budget and time; expired ones end as expired."""
    its = gate()
    its.last_accepted_at = NOW - 1
    late = item(1, expires_at=NOW - 1, first_sent_at=NOW - 60)

    settlement = draw(its, Outcome.RETRY, late, item(2, spent=3, first_sent_at=NOW - 60), ambiguous=True)

    assert {(ending.state, tuple(ending.seqs)) for ending in settlement.endings} == {
        (State.DEAD, (2,)),
        (State.EXPIRED, (1,)),
    }


def test_plain_is_remembered() -> None:
    """415 to a compressed body: the same batch at once, uncompressed from now on, nothing charged."""
    its = gate()

    settlement = draw(its, Outcome.PLAIN, item(1), status=415)

    assert its.coding.plain
    assert settlement.resend is not None
    assert (settlement.resend.due_at, settlement.resend.charge) == (NOW, False)


def test_a_refusal_that_may_be_about_compression_is_tried_plain() -> None:
    """400 to a compressed body, none accepted before: the same batch plain, uncharged; remembered once accepted."""
    its = gate()
    its.coding.sent(1)

    settlement = draw(its, Outcome.PLAIN, item(1), item(2), status=400)

    assert settlement.resend is not None
    assert (settlement.resend.due_at, settlement.resend.charge) == (NOW, False)
    assert (its.coding.plain, its.coding.compresses(1), its.coding.compresses(2)) == (False, False, True)
    draw(its, Outcome.OK, item(1), item(2), status=200, attempt=2)
    assert its.coding.plain
    kept = gate()
    kept.load(its.dump())
    assert (kept.coding.plain, kept.coding.proven) == (True, False)


def test_a_read_back_says_nothing_of_compression() -> None:
    """It was no batch that was accepted."""
    its = gate()
    its.coding.sent(1)
    draw(its, Outcome.OK, item(1), read_back="ambiguous", asked=True)
    assert not its.coding.proven


@pytest.mark.parametrize("outcome", [Outcome.SPLIT, Outcome.REJECT])
def test_refused_batch_is_halved_in_order(outcome: Outcome) -> None:
    """A refusal that names no items halves the batch; order within the parts stays."""
    settlement = draw(gate(), outcome, *[item(seq) for seq in range(5)])

    assert [list(part) for part in settlement.split] == [[0, 1, 2], [3, 4]]


def test_refused_item_dies_alone() -> None:
    """A single refused item is a dead letter with the platform's reason."""
    settlement = draw(gate(), Outcome.REJECT, item(7))

    assert settlement.endings[0].reason == "rejected: said"


def test_unrecognised_answer_holds_the_items() -> None:
    """An unknown body is never success: the items wait for a person."""
    assert list(draw(gate(), Outcome.CONFIRM, item(1), item(2)).held) == [1, 2]


def test_failures_in_a_row_open_the_breaker() -> None:
    """The fifth failure opens; a failed probe puts the next one off; an accepted one closes."""
    its = gate()
    for _ in range(5):
        draw(its, Outcome.RETRY, item(1), ambiguous=True)
    assert its.breaker.is_open
    assert NOW + 30 <= its.opens_at(NOW) <= NOW + 33

    draw(its, Outcome.RETRY, item(2), ambiguous=True, now=NOW + 34)
    assert NOW + 64 <= its.opens_at(NOW + 34) <= NOW + 67

    draw(its, Outcome.OK, item(3), now=NOW + 68)
    assert not its.breaker.is_open


def test_open_breaker_probes_at_its_own_pace() -> None:
    """However long an outage lasts, a probe goes every ``probe_every``, not at the pace of a grown backoff."""
    its = gate()
    rng = random.Random(1)
    at = NOW
    gaps = []
    for _ in range(20):
        draw(its, Outcome.DOWN, item(1), now=at, rng=rng)
        gaps.append(its.opens_at(at) - at)
        at = its.opens_at(at) + 0.2

    assert its.breaker.is_open
    assert all(30.0 <= gap <= 33.0 for gap in gaps[5:])
    assert len(set(gaps[5:])) > 1  # many relays must not probe in one moment


def test_storm_of_single_rejects_opens_and_spares_the_backlog() -> None:
    """Five batches in a row wholly rejected open the breaker; the probe after it returns its item unharmed."""
    its = gate()
    for number in range(5):
        draw(its, Outcome.REJECT, item(number), number=number)
    assert its.breaker.is_open

    settlement = draw(its, Outcome.REJECT, item(9), number=9)

    assert settlement.endings == ()
    assert not settlement.requeue[0].charge


@pytest.mark.parametrize("outcome", [Outcome.REJECT, Outcome.SPLIT, Outcome.CONFIRM])
def test_a_refused_probe_that_may_have_been_applied_keeps_its_id(outcome: Outcome) -> None:
    """Whatever a rule calls a 500: the same batch goes again, uncharged, when the breaker lets the next probe go."""
    its = gate()
    for number in range(5):
        draw(its, Outcome.REJECT, item(number), number=number)

    settlement = draw(its, outcome, item(9), item(10), number=9, ambiguous=True)

    assert (settlement.endings, settlement.requeue, settlement.split, settlement.held) == ((), (), (), ())
    assert settlement.resend is not None
    assert (settlement.resend.due_at, settlement.resend.charge) == (its.breaker.probe_at, False)


@pytest.mark.parametrize("outcome", [Outcome.REJECT, Outcome.CONFIRM])
@pytest.mark.parametrize("each", ["", "reject reject"])
def test_replayed_items_count_for_themselves(outcome: Outcome, each: str) -> None:
    """What a person sent again and is refused again says nothing about the others: no storm, each ends as it did."""
    its = gate()
    for number in range(20):
        settlement = draw(its, outcome, item(2 * number), item(2 * number + 1), each=each, number=number, replayed=True)
        for half in settlement.split:
            draw(its, outcome, item(half[0]), number=100 + half[0], root=number, replayed=True)
    assert not its.breaker.is_open

    for number in range(5):
        assert not its.breaker.is_open
        draw(its, Outcome.REJECT, item(number), number=200 + number)
    assert its.breaker.is_open  # fresh ones still count


def test_bisect_of_fresh_and_replayed_counts_when_all_of_it_was_refused() -> None:
    """Five replayed ones alone are no proof; all parts tried, the fresh ones too, are one batch of a storm."""
    its = gate()
    parts: list[list[int]] = [list(range(16))]  # 15 is fresh
    for number in range(1, 100):
        part = parts.pop() if parts[-1] != [15] else parts.pop(0)
        settlement = draw(its, Outcome.REJECT, *map(item, part), number=number, root=1, replayed=15 not in part)
        parts += [list(half) for half in settlement.split]
        if parts == [[15]]:
            break
    assert its.breaker.storm.batches == 0
    draw(its, Outcome.REJECT, item(15), number=100, root=1)
    assert its.breaker.storm.batches == 1


def test_accepted_batch_ends_a_storm() -> None:
    """Four rejects, one accepted, four rejects: no storm."""
    its = gate()
    for number in range(4):
        draw(its, Outcome.REJECT, item(number), number=number)
    draw(its, Outcome.OK, item(50), number=50)
    for number in range(4):
        draw(its, Outcome.REJECT, item(number + 60), number=number + 60)

    assert not its.breaker.is_open


def test_bisect_counts_once_towards_a_storm() -> None:
    """One bisected batch, all parts refused, is one batch of the storm however many requests it took."""
    its = gate()
    draw(its, Outcome.REJECT, item(1), item(2), number=1)
    draw(its, Outcome.REJECT, item(1), number=2, root=1)
    draw(its, Outcome.REJECT, item(2), number=3, root=1)

    assert its.breaker.storm.batches == 1


def test_bisect_of_a_big_batch_counts_when_enough_stood_alone() -> None:
    """Five items alone rejected count the bisect although other parts are untried."""
    its = gate()
    parts: list[list[int]] = [list(range(100))]
    alone = 0
    for number in range(1, 200):
        part = parts.pop()
        settlement = draw(its, Outcome.REJECT, *map(item, part), number=number, root=1)
        parts += [list(half) for half in settlement.split]
        alone += bool(settlement.endings)
        assert its.breaker.storm.batches == (alone >= 5)
        if alone == 5:
            break

    assert alone == 5
    assert parts


def test_poison_item_is_convicted_and_stops_nobody() -> None:
    """Refused first after a cooldown, others accepted right after, three times in a row: it pays from there on."""
    its = gate()
    at = NOW
    poison, other = item(1), item(2)
    draw(its, Outcome.THROTTLED, poison, now=at)
    for _ in range(3):
        at = its.opens_at(at) + 1
        draw(its, Outcome.THROTTLED, poison, now=at, first_after_stop=True)
        at = its.opens_at(at) + 1
        draw(its, Outcome.OK, other, now=at, first_after_stop=True)

    settlement = draw(its, Outcome.THROTTLED, poison, now=at + 1)

    assert settlement.resend is not None
    assert settlement.resend.charge
    assert its.opens_at(at + 1) == at + 1


def test_two_strikes_convict_nobody() -> None:
    """Twice first after a cooldown with others accepted right after may be chance: nothing is charged for it."""
    its = gate()
    at = NOW
    suspect, other = item(1), item(2)
    draw(its, Outcome.THROTTLED, suspect, now=at)
    for strikes in (0, 1, 2):
        assert its.suspicion.strikes.get(1, 0) == strikes
        at = its.opens_at(at) + 1
        settlement = draw(its, Outcome.THROTTLED, suspect, now=at, first_after_stop=True)
        assert settlement.resend is None or not settlement.resend.charge
        assert its.opens_at(at) > at
        if strikes < 2:
            at = its.opens_at(at) + 1
            draw(its, Outcome.OK, other, now=at, first_after_stop=True)


def test_merely_reached_limit_convicts_nobody() -> None:
    """When others are refused as well, strikes are cleared and nothing is ever charged."""
    its = gate()
    at = NOW
    for _ in range(20):
        settlement = draw(its, Outcome.THROTTLED, item(1), now=at, first_after_stop=True)
        assert settlement.resend is None or not settlement.resend.charge
        at = its.opens_at(at) + 1
        settlement = draw(its, Outcome.THROTTLED, item(2), now=at, first_after_stop=True)
        assert settlement.resend is None or not settlement.resend.charge
        at = its.opens_at(at) + 1


def test_suspected_batch_is_halved() -> None:
    """A batch of several that earned a strike is halved to find the one."""
    its = gate()
    at = NOW
    items = [item(seq) for seq in range(4)]
    draw(its, Outcome.THROTTLED, *items, now=at)
    at = its.opens_at(at) + 1
    draw(its, Outcome.THROTTLED, *items, now=at, first_after_stop=True)
    at = its.opens_at(at) + 1
    draw(its, Outcome.OK, item(9), now=at, first_after_stop=True)

    settlement = draw(its, Outcome.THROTTLED, *items, now=at + 1)

    assert [list(part) for part in settlement.split] == [[0, 1], [2, 3]]


def test_gate_survives_a_restart() -> None:
    """What a gate dumps, a new one loads: pause, stop, breaker."""
    its = gate()
    for _ in range(5):
        draw(its, Outcome.DOWN, item(1))
    its.paused, its.pause_reason = True, "stock-taking"

    again = gate()
    again.load(its.dump())

    assert again.dump() == its.dump()
    assert replace(again, paused=False).opens_at(NOW) == replace(its, paused=False).opens_at(NOW)


def parts(settlement: Settlement) -> dict[str, list[int]]:
    """Which items each part of a settlement names; every item stands in one part only."""
    named = {
        "delivered": list(settlement.delivered),
        "again": [seq for again in settlement.requeue for seq in again.seqs],
        "ended": [seq for ending in settlement.endings for seq in ending.seqs],
        "held": list(settlement.held),
        "asked": list(settlement.ask.seqs) if settlement.ask else [],
        "split": [seq for part in settlement.split for seq in part],
    }
    every = [seq for seqs in named.values() for seq in seqs]
    assert len(every) == len(set(every))
    return {name: seqs for name, seqs in named.items() if seqs}


def test_results_settle_each_item_by_itself() -> None:
    """Good items are delivered; a failed one is charged, ends, or is held, whatever becomes of the others."""
    its = gate()
    its.breaker.failures = 3
    batch = [item(seq, spent=2) for seq in range(5)]

    settlement = draw(its, Outcome.OK, *batch, each="ok duplicate retry reject confirm")

    assert parts(settlement) == {"delivered": [0, 1], "again": [2], "ended": [3], "held": [4]}
    (again,) = settlement.requeue
    assert (again.charge, again.maybe_applied, again.message) == (True, False, "message 2")
    assert NOW + 4 <= again.due_at <= NOW + 8
    (dead,) = settlement.endings
    assert (dead.state, dead.reason, dead.message) == (State.DEAD, "rejected: said", "message 3")
    assert (its.breaker.failures, its.last_accepted_at) == (0, NOW)


def test_results_retry_spends_the_items_own_budget() -> None:
    """An item without budget dies with the platform's words while its neighbour goes on; an expired one expires."""
    batch = [item(1, spent=3, first_sent_at=NOW - 60), item(2), item(3, expires_at=NOW - 1), item(4)]

    settlement = draw(gate(), Outcome.OK, *batch, each="retry retry retry ok")

    assert [(ending.state, list(ending.seqs)) for ending in settlement.endings] == [
        (State.DEAD, [1]),
        (State.EXPIRED, [3]),
    ]
    assert settlement.endings[0].reason == "retries used up: said"
    assert [list(again.seqs) for again in settlement.requeue] == [[2]]


def test_results_throttle_stops_the_platform_uncharged() -> None:
    """A throttled item stops the platform as a throttled batch does; what was accepted beside it is delivered."""
    its = gate()

    settlement = draw(its, Outcome.OK, item(1), item(2), item(3), each="ok throttled throttled")

    assert parts(settlement) == {"delivered": [1], "again": [2, 3]}
    assert not any(again.charge for again in settlement.requeue)
    assert its.opens_at(NOW) > NOW
    assert {again.due_at for again in settlement.requeue} == {its.opens_at(NOW)}


def test_item_that_is_always_throttled_beside_accepted_ones_is_convicted() -> None:
    """One callback that always draws a throttle while its batch is accepted pays for itself in the end."""
    its, at = gate(), NOW
    for _ in range(5):
        draw(its, Outcome.OK, item(1), item(2), each="throttled ok", now=at, first_after_stop=True)
        at = its.opens_at(at) + 1

    settlement = draw(its, Outcome.OK, item(1), item(3), each="throttled ok", now=at)

    assert settlement.requeue[0].charge
    assert its.opens_at(at) == at


def test_results_that_accept_nothing_count_towards_a_storm() -> None:
    """Five answers that reject every item open the breaker; the probe after it returns its items unharmed."""
    its = gate()
    for number in range(5):
        draw(its, Outcome.REJECT, item(1), item(2), each="reject reject", number=number)
    assert its.breaker.is_open

    settlement = draw(its, Outcome.REJECT, item(8), item(9), each="reject retry", number=9)

    assert parts(settlement) == {"again": [8, 9]}
    assert not any(again.charge for again in settlement.requeue)
    assert NOW + 30 <= its.opens_at(NOW) <= NOW + 33


def test_results_partly_accepted_end_a_storm() -> None:
    """An answer that accepts one item of many is an accepted one."""
    its = gate()
    for number in range(12):
        draw(its, Outcome.OK, item(1), item(2), each="reject reject" if number % 4 else "ok reject", number=number)
    assert not its.breaker.is_open


def test_results_that_ask_everybody_to_retry_are_a_failure() -> None:
    """A platform whose every entry says "later" fails, and an outage buries nothing."""
    its = gate()
    settlements = [
        draw(its, Outcome.RETRY, item(1, spent=3, first_sent_at=NOW - 60), each="retry", number=number)
        for number in range(5)
    ]
    assert its.breaker.is_open
    assert all(parts(settlement) == {"again": [1]} for settlement in settlements)
    assert not any(settlement.requeue[0].charge for settlement in settlements)


def test_unclear_items_are_asked_about_where_that_is_configured() -> None:
    """An unrecognised answer, or an entry like that, leads to a read-back instead of a person."""
    whole = draw(gate(), Outcome.CONFIRM, item(1), item(2), read_back="unclear")
    one = draw(gate(), Outcome.OK, item(1), item(2), each="ok confirm", read_back="ambiguous")

    assert (parts(whole), parts(one)) == ({"asked": [1, 2]}, {"delivered": [1], "asked": [2]})
    assert whole.ask is not None
    assert NOW + 1 <= whole.ask.due_at <= NOW + 2


def test_what_may_have_been_applied_waits_for_a_read_back() -> None:
    """Where a read-back decides, an ambiguous batch is neither charged nor given up, its budget used or not."""
    its = gate()
    its.last_accepted_at = NOW - 1
    for spent in (0, 3):
        settlement = draw(
            its, Outcome.RETRY, item(1, spent=spent, first_sent_at=NOW - 60), ambiguous=True, read_back="ambiguous"
        )
        assert settlement.resend is not None
        assert (settlement.resend.charge, settlement.endings) == (False, ())

    blind = draw(its, Outcome.RETRY, item(1, spent=0), ambiguous=True, read_back="unclear")
    assert blind.resend is not None
    assert blind.resend.charge


def asked(its: Gate, outcome: Outcome, *, ambiguous: bool = False, attempt: int = 1, **changes: object) -> Settlement:
    """What a read-back about item 1 changes."""
    about = item(1, maybe_applied=True, **changes)
    return draw(its, outcome, about, ambiguous=ambiguous, read_back="ambiguous", asked=True, attempt=attempt)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.OK, {"delivered": [1]}),
        (Outcome.DUPLICATE, {"delivered": [1]}),
        (Outcome.RETRY, {"again": [1]}),
        (Outcome.REJECT, {"ended": [1]}),
        (Outcome.CONFIRM, {"held": [1]}),
        (Outcome.SPLIT, {"held": [1]}),
    ],
)
def test_read_back_decides(outcome: Outcome, expected: dict[str, list[int]]) -> None:
    """Applied is delivered, not applied goes again and is charged, refused dies, anything else waits for a person."""
    settlement = asked(gate(), outcome)

    assert parts(settlement) == expected
    assert all(again.charge for again in settlement.requeue)


def test_read_back_that_says_not_applied_obeys_the_budget() -> None:
    """Without re-sends left the item dies, and is not marked as maybe applied by this."""
    its = gate()
    its.last_accepted_at = NOW

    assert (
        asked(its, Outcome.RETRY, spent=3, first_sent_at=NOW - 60).endings[0].reason
        == "retries used up: read back: said"
    )


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.DOWN, Outcome.AUTH])
def test_read_back_about_the_platform_is_repeated(outcome: Outcome) -> None:
    """A read-back that met a stop or a refusal goes again, uncharged, when the platform may be talked to."""
    its = gate()

    settlement = asked(its, outcome)

    assert settlement.resend is not None
    assert not settlement.resend.charge
    assert settlement.resend.due_at == its.opens_at(NOW) > NOW


def test_read_back_that_fails_is_given_up_in_the_end() -> None:
    """A 500 to a read-back says nothing: it is asked again as often as a batch, then a person decides."""
    first, last = (asked(gate(), Outcome.RETRY, ambiguous=True, attempt=attempt) for attempt in (3, 4))

    assert first.resend is not None
    assert parts(last) == {"held": [1]}


def test_unsent_batch_ends_only_what_cannot_be_built() -> None:
    """Nothing was sent: the unbuildable item is dead, the others are at their places at once, the gate as it was."""
    its = gate()
    before = its.dump()

    settlement = draw(its, Outcome.UNSENT, item(1), item(2), item(3), each="retry reject retry")

    assert parts(settlement) == {"again": [1, 3], "ended": [2]}
    assert (settlement.requeue[0].due_at, settlement.requeue[0].charge) == (NOW, False)
    assert its.dump() == before


def test_unsent_batch_is_parted_or_asked_about() -> None:
    """Too long a body becomes two; items in doubt are asked about one by one, or held where nobody can be asked."""
    halves = draw(gate(), Outcome.UNSENT, *map(item, range(3)), each="split split split")
    ask = draw(gate(), Outcome.UNSENT, item(1), item(2), each="confirm confirm", read_back="ambiguous")
    held = draw(gate(), Outcome.UNSENT, item(1), each="confirm")
    broken = draw(gate(), Outcome.UNSENT, item(1), each="confirm", read_back="ambiguous", asked=True)

    assert [list(part) for part in halves.split] == [[0, 1], [2]]
    assert [parts(one) for one in (ask, held, broken)] == [{"asked": [1, 2]}, {"held": [1]}, {"held": [1]}]


def test_read_back_is_not_asked_for_ever() -> None:
    """An item whose time is over while the platform cannot be asked expires, marked as maybe applied."""
    (ending,) = asked(gate(), Outcome.DOWN, expires_at=NOW - 1).endings

    assert (ending.state, ending.maybe_applied) == (State.EXPIRED, True)


@pytest.mark.parametrize(
    ("outcome", "wait_s", "shortest_s", "longest_s"),
    [
        (Outcome.THROTTLED, 100.0, 100.0, 110.0),
        (Outcome.THROTTLED, None, 1.0, 2.0),
        (Outcome.THROTTLED, 0.0, 1.0, 2.0),
        (Outcome.RETRY, 100.0, 100.0, 110.0),
        (Outcome.DOWN, None, 1.0, 2.0),
        (Outcome.AUTH, 100.0, 100.0, 110.0),
        (Outcome.OK, 20.0, 20.0, 22.0),
    ],
)
def test_every_stop_is_jittered(outcome: Outcome, wait_s: float | None, shortest_s: float, longest_s: float) -> None:
    """No two relays return in one moment, whatever stopped them."""
    waits = set()
    for seed in range(20):
        its = gate()
        draw(its, outcome, item(1), wait_s=wait_s, rng=random.Random(seed))
        waits.add(its.opens_at(NOW) - NOW)
    assert len(waits) == 20
    assert shortest_s <= min(waits) < max(waits) <= longest_s
