"""Turns a verdict into a settlement: the table "Answers" of docs/state-machine.md, row by row.

``decide`` is the only place that says what happens to items after an answer. It reads and moves the platform's gate
(plain data) and returns what the store has to commit.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from relay.core.model import (
    Ask,
    Ending,
    Item,
    Outcome,
    Requeue,
    Resend,
    Settlement,
    State,
    Verdict,
)
from relay.policy.backoff import backoff_s
from relay.policy.gate.platform import Gate, GroupGate
from relay.policy.settle.attempted import Attempted, Budget, ReadBack
from relay.policy.settle.per_item import settle_items, unclear
from relay.policy.settle.read_back import settle_read_back

__all__ = ["Attempted", "Budget", "ReadBack", "decide"]


_NOT_THIS_CODING = 415  # RFC 9110 section 15.5.16
# Who cannot be reached or lets nobody in does so for every group, and so does the Retry-After that comes with it.
_OF_THE_PLATFORM = (Outcome.DOWN, Outcome.AUTH)


def decide(attempted: Attempted, *, budget: Budget, gate: Gate, now: float, rng: random.Random) -> Settlement:
    """Return what the answer changes, and move ``gate``. Each item of the batch is named in exactly one part."""
    scope = "platform" if attempted.verdict.outcome in _OF_THE_PLATFORM else attempted.verdict.scope
    settlement = _decide(attempted, budget=budget, gate=gate.of(attempted.batch, scope=scope), now=now, rng=rng)
    if attempted.verdict.outcome is not Outcome.PLAIN:
        gate.coding.settled(
            attempted.batch.number,
            accepted=bool(settlement.delivered) and not attempted.asked,
            again=settlement.resend is not None,
        )
    return settlement


def _decide(attempted: Attempted, *, budget: Budget, gate: GroupGate, now: float, rng: random.Random) -> Settlement:
    batch, verdict = attempted.batch, attempted.verdict
    settlement = Settlement(
        batch=batch.number, attempt_id=batch.attempt_id, platform=batch.platform, result=attempted.result
    )
    if verdict.outcome is Outcome.UNSENT:
        return _unsent(settlement, attempted, now=now)
    if attempted.asked:
        return settle_read_back(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)
    if verdict.items:
        return settle_items(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)
    match verdict.outcome:
        case Outcome.OK | Outcome.DUPLICATE:
            gate.accepted(now)
            gate.suspicion.accepted(item.seq for item in batch.items)
            gate.hold(now, started_at=attempted.started_at, wait_s=verdict.wait_s, rng=rng)
            return replace(settlement, delivered=_seqs(batch.items))
        case Outcome.THROTTLED:
            return _throttled(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)
        case Outcome.AUTH if attempted.renewed:
            gate.answered()
            _obey(attempted, gate=gate, now=now, rng=rng)
            resend = Resend(due_at=gate.opens_at(now), charge=False, reason=verdict.reason)
            return replace(settlement, resend=resend)
        case Outcome.DOWN | Outcome.AUTH:
            gate.failed(now, started_at=attempted.started_at, reason=verdict.reason, rng=rng, back_off=True)
            _obey(attempted, gate=gate, now=now, rng=rng)
            return replace(settlement, requeue=[_back(batch.items, gate.opens_at(now), verdict)])
        case Outcome.RETRY:
            gate.failed(now, started_at=attempted.started_at, reason=verdict.reason, rng=rng, back_off=False)
            _obey(attempted, gate=gate, now=now, rng=rng)
            return _retried(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)
        case Outcome.CRASH:  # our own failure says nothing about the platform, but must not repeat for ever
            return _retried(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)
        case Outcome.PLAIN:
            gate.answered()
            gate.coding.refused(batch.number, plainly=attempted.result.status == _NOT_THIS_CODING)
            return replace(settlement, resend=Resend(due_at=now, charge=False, reason=verdict.reason))
        case Outcome.SPLIT | Outcome.REJECT:
            return _refused(settlement, attempted, gate=gate, now=now, rng=rng)
        case Outcome.CONFIRM:
            return _unrecognised(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)


def _obey(attempted: Attempted, *, gate: GroupGate, now: float, rng: random.Random) -> None:
    """Stop for a Retry-After that came with a failure rather than a throttle."""
    if attempted.verdict.wait_s:
        gate.throttle(
            now,
            started_at=attempted.started_at,
            wait_s=attempted.verdict.wait_s,
            reason=attempted.verdict.reason,
            rng=rng,
        )


def _seqs(items: Sequence[Item]) -> list[int]:
    return [item.seq for item in items]


def _back(items: Sequence[Item], due_at: float, verdict: Verdict) -> Requeue:
    return Requeue(seqs=_seqs(items), due_at=due_at, charge=False, reason=verdict.reason)


def _throttled(
    settlement: Settlement, attempted: Attempted, *, budget: Budget, gate: GroupGate, now: float, rng: random.Random
) -> Settlement:
    batch, verdict = attempted.batch, attempted.verdict
    seqs = _seqs(batch.items)
    if gate.suspicion.convicted(seqs):
        gate.answered()
        return _retried(settlement, attempted, budget=budget, gate=gate, now=now, rng=rng)
    gate.suspicion.throttled(seqs, first_after_stop=attempted.first_after_stop)
    gate.throttle(now, started_at=attempted.started_at, wait_s=verdict.wait_s, reason=verdict.reason, rng=rng)
    due_at = gate.opens_at(now)
    if len(seqs) > 1 and not verdict.ambiguous and gate.suspicion.suspects(seqs):
        return replace(settlement, split=_halves(seqs))
    if verdict.ambiguous or gate.suspicion.test:
        return replace(settlement, resend=Resend(due_at=due_at, charge=False, reason=verdict.reason))
    return replace(settlement, requeue=[_back(batch.items, due_at, verdict)])


def _retried(
    settlement: Settlement, attempted: Attempted, *, budget: Budget, gate: GroupGate, now: float, rng: random.Random
) -> Settlement:
    """Send the same batch again while an item has budget and time; else end its items, unless it is an outage.

    Where a read-back decides what may have been applied, the batch waits for that: nothing is charged, nothing ends.
    """
    items, verdict = attempted.batch.items, attempted.verdict
    if attempted.read_back == "ambiguous" and verdict.ambiguous:
        spent = max(item.spent for item in items)
        due_at = now + backoff_s(spent + 1, base_s=budget.base_s, cap_s=budget.cap_s, rng=rng)
        due_at = max(due_at, gate.opens_at(now))
        return replace(settlement, resend=Resend(due_at=due_at, charge=False, reason=verdict.reason))
    alive = [item for item in items if item.expires_at > now]
    if any(item.spent < budget.times for item in alive):
        spent = max(item.spent for item in items)
        due_at = now + backoff_s(spent + 1, base_s=budget.base_s, cap_s=budget.cap_s, rng=rng)
        if verdict.wait_s is not None:
            due_at = max(due_at, gate.stopped_until)
        return replace(settlement, resend=Resend(due_at=due_at, charge=True, reason=verdict.reason))
    first_sent_at = min((item.first_sent_at or attempted.started_at) for item in items)
    if alive and gate.breaker.terms is not None and gate.last_accepted_at < first_sent_at:
        gate.breaker.open(now, f"nothing accepted: {verdict.reason}", rng)
        return replace(settlement, resend=Resend(due_at=gate.opens_at(now), charge=False, reason=verdict.reason))
    endings = []
    for applied in (False, True):
        mine = [item for item in items if (verdict.ambiguous or item.maybe_applied) is applied]
        dead = [item.seq for item in mine if item.expires_at > now]
        late = [item.seq for item in mine if item.expires_at <= now]
        if dead:
            endings.append(Ending(dead, State.DEAD, f"retries used up: {verdict.reason}", maybe_applied=applied))
        if late:
            endings.append(Ending(late, State.EXPIRED, "expired", maybe_applied=applied))
    return replace(settlement, endings=endings)


def _refused(
    settlement: Settlement, attempted: Attempted, *, gate: GroupGate, now: float, rng: random.Random
) -> Settlement:
    """Bisect a refused batch until the poison item stands alone; only that one dies."""
    batch, verdict = attempted.batch, attempted.verdict
    probing = gate.breaker.is_open
    alone = len(batch.items) == 1
    gate.answered()
    gate.breaker.refused(
        now,
        root=batch.root,
        batch=batch.number,
        items=len(batch.items),
        reason=verdict.reason,
        rng=rng,
        parts=0 if alone or probing else 2,
        replayed=batch.replayed,
    )
    if probing:
        gate.breaker.open(now, gate.breaker.reason, rng)
        return _put_back(settlement, attempted, gate=gate, now=now)
    if not alone:
        return replace(settlement, split=_halves(_seqs(batch.items)))
    maybe_applied = verdict.ambiguous or batch.items[0].maybe_applied
    ending = Ending(_seqs(batch.items), State.DEAD, f"rejected: {verdict.reason}", maybe_applied=maybe_applied)
    return replace(settlement, endings=[ending])


def _unrecognised(
    settlement: Settlement, attempted: Attempted, *, budget: Budget, gate: GroupGate, now: float, rng: random.Random
) -> Settlement:
    batch, verdict = attempted.batch, attempted.verdict
    probing = gate.breaker.is_open
    gate.answered()
    gate.breaker.refused(
        now,
        root=batch.number,
        batch=batch.number,
        items=len(batch.items),
        reason=verdict.reason,
        rng=rng,
        replayed=batch.replayed,
    )
    if probing:
        gate.breaker.open(now, gate.breaker.reason, rng)
        if attempted.read_back == "never":
            return _put_back(settlement, attempted, gate=gate, now=now)
    return unclear(settlement, _seqs(batch.items), attempted, budget=budget, now=now, rng=rng)


def _unsent(settlement: Settlement, attempted: Attempted, *, now: float) -> Settlement:
    """Settle a batch of which no request was made: its slot went by, the platform and the others lose nothing by it.

    Each item's verdict says why: ``reject`` cannot be put into a request at all, ``confirm`` must be asked about on
    its own, ``split`` are too many for one body, ``retry`` only had the wrong company.
    """
    endings: list[Ending] = []
    of: dict[Outcome, list[int]] = {}
    for item, verdict in zip(attempted.batch.items, attempted.verdict.items, strict=True):
        if verdict.outcome is Outcome.REJECT:
            ending = Ending([item.seq], State.DEAD, verdict.reason, maybe_applied=item.maybe_applied)
            endings.append(ending)
        else:
            of.setdefault(verdict.outcome, []).append(item.seq)
    reason = attempted.verdict.reason
    again, unsure = of.get(Outcome.RETRY), of.get(Outcome.CONFIRM)
    asks = attempted.read_back != "never" and not attempted.asked  # a read-back that cannot be built asks nobody
    return replace(
        settlement,
        endings=endings,
        requeue=[Requeue(again, now, False, reason)] if again else (),
        ask=Ask(unsure, now, reason) if unsure and asks else None,
        held=unsure if unsure and not asks else (),
        split=_halves(of[Outcome.SPLIT]) if Outcome.SPLIT in of else (),
    )


def _put_back(settlement: Settlement, attempted: Attempted, *, gate: GroupGate, now: float) -> Settlement:
    """A refused probe proves nothing against its items; what may have been applied keeps its id."""
    batch, verdict = attempted.batch, attempted.verdict
    due_at = gate.opens_at(now)
    if verdict.ambiguous:
        return replace(settlement, resend=Resend(due_at=due_at, charge=False, reason=verdict.reason))
    return replace(settlement, requeue=[_back(batch.items, due_at, verdict)])


def _halves(seqs: Sequence[int]) -> list[Sequence[int]]:
    middle = (len(seqs) + 1) // 2
    return [seqs[:middle], seqs[middle:]]
