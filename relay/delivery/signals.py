"""What an answer says about a limit: from verdict and wire to the ``Signal`` the estimator learns from."""

from relay.core.model import Outcome, Verdict
from relay.limits.evidence.history import Signal
from relay.wire.answers.answer import Answer, Failure

_LET_THROUGH = frozenset(
    # A refusal of the content, not of the request: the platform looked at it, so no limit held it back.
    (Outcome.OK, Outcome.DUPLICATE, Outcome.REJECT, Outcome.SPLIT, Outcome.PLAIN)
)
_OVERLOADED = (408, 503)  # also what an outage says


def kind_of(answer: Answer | Failure, verdict: Verdict) -> Signal:
    """Return what ``verdict`` on ``answer`` says about a limit."""
    outcomes = {item.outcome for item in verdict.items} or {verdict.outcome}
    if outcomes == {Outcome.THROTTLED}:
        unsaid = isinstance(answer, Answer) and answer.status in _OVERLOADED and verdict.wait_s is None
        return Signal.BUSY if unsaid else Signal.THROTTLED
    if outcomes == {Outcome.DOWN}:
        return Signal.DOWN
    if isinstance(answer, Failure):
        return Signal.BUSY if answer.kind == "timeout" else Signal.FAILED
    broke = verdict.outcome is Outcome.PLAIN and answer.status >= 500
    return Signal.ACCEPTED if outcomes & _LET_THROUGH and not broke else Signal.FAILED
