"""Settles a request that carries no callback: a page of orders, or what became of one order.

It says whether the platform can be talked to, and nothing about callbacks: a list that fails must not stop deliveries.
"""

from relay.core.model import Outcome
from relay.policy.settle.attempted import Settling


def settle_question(settling: Settling) -> None:
    """Move the gate: a throttle stops the platform, one that cannot be reached is left alone, an answer ends a stop."""
    match settling.verdict.outcome:
        case Outcome.THROTTLED:
            settling.throttled(wait_s=settling.verdict.wait_s, reason=settling.verdict.reason)
        case Outcome.DOWN:
            settling.failed(back_off=True)
        case Outcome.UNSENT | Outcome.RETRY | Outcome.AUTH:
            pass
        case _:
            settling.gate.answered()
