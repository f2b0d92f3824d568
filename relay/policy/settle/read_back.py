"""Settles a read-back, which asked what became of one item: the table "Read-backs" of docs/state-machine.md.

It is a request like any other for limits, stops and the breaker. What it says decides the item; where it says nothing
about it, the item waits for a person.
"""

from dataclasses import replace

from relay.core.model import ItemVerdict, Outcome, State
from relay.core.settlement import Ending, Requeue, Settlement
from relay.policy.settle.attempted import Settling
from relay.policy.settle.per_item import retried


def settle_read_back(settling: Settling) -> Settlement:
    """Return what the read-back changes, and move the gate."""
    verdict, gate, budget = settling.verdict, settling.gate, settling.budget
    attempt = settling.batch.attempt
    (item,) = settling.items
    match verdict.outcome:
        case Outcome.OK | Outcome.DUPLICATE:
            settling.accepted()
            return replace(settling.unchanged, delivered=[item.seq])
        case Outcome.THROTTLED:
            settling.throttled(wait_s=verdict.wait_s, reason=verdict.reason)
            return _again(settling, settling.opens_at)
        case Outcome.AUTH if settling.attempted.renewed:
            gate.answered()
            return _again(settling, settling.opens_at)
        case Outcome.DOWN | Outcome.AUTH:
            settling.failed(back_off=True)
            settling.obey()
            return _again(settling, settling.opens_at)
        case Outcome.RETRY | Outcome.CRASH if verdict.ambiguous:  # it failed, which says nothing about the item
            if verdict.outcome is Outcome.RETRY:
                settling.failed(back_off=False)
                settling.obey()
            if attempt > budget.times:
                return replace(settling.unchanged, held=[item.seq])
            return _again(settling, max(settling.backoff_at(attempt), settling.opens_at))
        case Outcome.RETRY:
            gate.answered()
            answer = ItemVerdict(
                Outcome.RETRY, f"read back: {verdict.reason}", wait_s=verdict.wait_s, code=verdict.code
            )
            part = retried(settling, item, answer)
            if isinstance(part, Requeue):
                return replace(settling.unchanged, requeue=[part])
            return replace(settling.unchanged, endings=[part])
        case Outcome.REJECT:
            gate.answered()
            ending = Ending([item.seq], State.DEAD, f"rejected: read back: {verdict.reason}", code=verdict.code)
            return replace(settling.unchanged, endings=[ending])
        case _:
            gate.answered()
            return replace(settling.unchanged, held=[item.seq])


def _again(settling: Settling, due_at: float) -> Settlement:
    """Ask again, unless the item's time is over: what became of it nobody knows then."""
    (item,) = settling.items
    if item.expires_at <= settling.now:
        ending = Ending([item.seq], State.EXPIRED, "expired", maybe_applied=True)
        return replace(settling.unchanged, endings=[ending])
    return replace(settling.unchanged, resend=settling.resend(due_at))
