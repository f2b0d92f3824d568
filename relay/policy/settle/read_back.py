"""Settles a read-back, which asked what became of one item: the table "Read-backs" of docs/state-machine.md.

It is a request like any other for limits, stops and the breaker. What it says decides the item; where it says nothing
about it, the item waits for a person.
"""

import random
from dataclasses import replace

from relay.core.model import Ending, Item, ItemVerdict, Outcome, Requeue, Resend, Settlement, State
from relay.policy.backoff import backoff_s
from relay.policy.gate.platform import GroupGate
from relay.policy.settle.attempted import Attempted, Budget
from relay.policy.settle.per_item import retried


def settle_read_back(
    settlement: Settlement, attempted: Attempted, *, budget: Budget, gate: GroupGate, now: float, rng: random.Random
) -> Settlement:
    """Return what the read-back changes, and move ``gate``."""
    batch, verdict = attempted.batch, attempted.verdict
    (item,) = batch.items
    match verdict.outcome:
        case Outcome.OK | Outcome.DUPLICATE:
            gate.accepted(now)
            gate.hold(now, started_at=attempted.started_at, wait_s=verdict.wait_s, rng=rng)
            return replace(settlement, delivered=[item.seq])
        case Outcome.THROTTLED:
            gate.throttle(now, started_at=attempted.started_at, wait_s=verdict.wait_s, reason=verdict.reason, rng=rng)
            return _again(settlement, item, gate.opens_at(now), attempted, now)
        case Outcome.AUTH if attempted.renewed:
            gate.answered()
            return _again(settlement, item, gate.opens_at(now), attempted, now)
        case Outcome.DOWN | Outcome.AUTH:
            _failed(attempted, gate=gate, now=now, rng=rng, back_off=True)
            return _again(settlement, item, gate.opens_at(now), attempted, now)
        case Outcome.RETRY | Outcome.CRASH if verdict.ambiguous:  # it failed, which says nothing about the item
            if verdict.outcome is Outcome.RETRY:
                _failed(attempted, gate=gate, now=now, rng=rng, back_off=False)
            if batch.attempt > budget.times:
                return replace(settlement, held=[item.seq])
            wait_s = backoff_s(batch.attempt, base_s=budget.base_s, cap_s=budget.cap_s, rng=rng)
            return _again(settlement, item, max(now + wait_s, gate.opens_at(now)), attempted, now)
        case Outcome.RETRY:
            gate.answered()
            said = ItemVerdict(Outcome.RETRY, f"read back: {verdict.reason}", wait_s=verdict.wait_s)
            part = retried(item, said, attempted, budget=budget, gate=gate, now=now, rng=rng)
            if isinstance(part, Requeue):
                return replace(settlement, requeue=[part])
            return replace(settlement, endings=[part])
        case Outcome.REJECT:
            gate.answered()
            ending = Ending([item.seq], State.DEAD, f"rejected: read back: {verdict.reason}")
            return replace(settlement, endings=[ending])
        case _:
            gate.answered()
            return replace(settlement, held=[item.seq])


def _failed(attempted: Attempted, *, gate: GroupGate, now: float, rng: random.Random, back_off: bool) -> None:
    """Count a failure of the platform, and stop where it says for how long."""
    verdict, started_at = attempted.verdict, attempted.started_at
    gate.failed(now, started_at=started_at, reason=verdict.reason, rng=rng, back_off=back_off)
    if verdict.wait_s:
        gate.throttle(now, started_at=started_at, wait_s=verdict.wait_s, reason=verdict.reason, rng=rng)


def _again(settlement: Settlement, item: Item, due_at: float, attempted: Attempted, now: float) -> Settlement:
    """Ask again, unless the item's time is over: what became of it nobody knows then."""
    if item.expires_at <= now:
        ending = Ending([item.seq], State.EXPIRED, "expired", maybe_applied=True)
        return replace(settlement, endings=[ending])
    return replace(settlement, resend=Resend(due_at=due_at, charge=False, reason=attempted.verdict.reason))
