"""Settles a read-back, which asked what became of one item: the table "Read-backs" of docs/state-machine.md.

It is a request like any other for limits, stops and the breaker. What it says decides the item; where it says nothing
about it, the item waits for a person.
"""

import random
from dataclasses import replace

from relay.core.model import Ending, ItemVerdict, Outcome, Requeue, Resend, Settlement, State
from relay.policy.attempted import Attempted, Budget
from relay.policy.backoff import backoff_s
from relay.policy.gate import Gate
from relay.policy.itemwise import retried


def settle_read_back(
    settlement: Settlement, attempted: Attempted, *, budget: Budget, gate: Gate, now: float, rng: random.Random
) -> Settlement:
    """Return what the read-back changes, and move ``gate``."""
    batch, verdict = attempted.batch, attempted.verdict
    (item,) = batch.items
    again_at = now + backoff_s(batch.attempt, base_s=budget.base_s, cap_s=budget.cap_s, rng=rng)
    match verdict.outcome:
        case Outcome.OK | Outcome.DUPLICATE:
            gate.accepted(now)
            return replace(settlement, delivered=[item.seq])
        case Outcome.THROTTLED:
            gate.throttle(now, started_at=attempted.started_at, wait_s=verdict.wait_s, reason=verdict.reason, rng=rng)
            return _again(settlement, gate.opens_at(now), verdict.reason)
        case Outcome.DOWN | Outcome.AUTH:
            gate.failed(now, started_at=attempted.started_at, reason=verdict.reason, rng=rng, back_off=True)
            return _again(settlement, gate.opens_at(now), verdict.reason)
        case Outcome.RETRY | Outcome.CRASH if verdict.ambiguous or verdict.outcome is Outcome.CRASH:
            # The read-back failed, which says nothing about the item.
            gate.failed(now, started_at=attempted.started_at, reason=verdict.reason, rng=rng, back_off=False)
            if batch.attempt <= budget.times:
                return _again(settlement, max(again_at, gate.opens_at(now)), verdict.reason)
            return replace(settlement, held=[item.seq])
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


def _again(settlement: Settlement, due_at: float, reason: str) -> Settlement:
    return replace(settlement, resend=Resend(due_at=due_at, charge=False, reason=reason))
