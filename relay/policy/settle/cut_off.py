"""Settles a request that the relay itself cut off: a reload or a hand-over did not wait any longer for its answer.

The platform may have applied it, as after any crash. So the same batch goes again under its id, at once, and no
callback is charged for what the relay did.
"""

from relay.core.model import Batch, Outcome
from relay.core.settlement import AttemptResult, Resend, Settlement

_REASON = "crash"


def cut_off(batch: Batch, *, started_at: float, now: float) -> Settlement:
    """Return what becomes of a batch whose request was cut off ``now``."""
    result = AttemptResult(Outcome.CRASH, now, now - started_at, None, _REASON, ambiguous=True)
    again = Resend(now, charge=False, reason=_REASON)
    return Settlement(batch.number, batch.attempt_id, batch.platform, result, resend=again)
