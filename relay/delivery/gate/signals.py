"""What requests and their answers say about a limit, told to the learner."""

from relay.core.model import Batch, Outcome, Verdict
from relay.limits.evidence.history import Signal
from relay.limits.learner import Learner
from relay.policy.gate.platform import Gate
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.declared import DeclaredLimits

_LET_THROUGH = frozenset(
    # A refusal of the content, not of the request: the platform looked at it, so no limit held it back.
    (Outcome.OK, Outcome.DUPLICATE, Outcome.REJECT, Outcome.SPLIT, Outcome.PLAIN)
)
_OVERLOADED = (408, 503)  # also what an outage says


class LimitSignals:
    """Tells one platform's ``learner`` of each request that goes out and of each answer."""

    def __init__(self, learner: Learner, gate: Gate) -> None:
        self._learner = learner
        self._gate = gate
        self._declared = DeclaredLimits()

    def forget(self) -> None:
        """Drop what was learned, declared and set, and begin anew."""
        self._learner.forget()
        self._declared.forget()

    def sent(self, batch: Batch, now: float) -> None:
        """The batch's request goes out now."""
        self._learner.sent(batch.attempt_id, batch.group, now)

    def void(self, batch: Batch) -> None:
        """What came of the batch's request says nothing about a limit."""
        self._learner.forget_token(batch.attempt_id, batch.group)

    def answered(
        self, batch: Batch, answer: Answer | Failure, verdict: Verdict, *, sent_at: float, now: float
    ) -> Exception | None:
        """Tell the learner what came back, and which limits the answer's headers declare.

        Returns a bug met in learning, after which the learner begins anew: a bug in guessing must not cost what is
        known, namely what came of the batch.
        """
        failure: Exception | None = None
        try:
            self._learn(batch, answer, verdict, sent_at=sent_at, now=now)
        except Exception as error:  # noqa: BLE001 - returned, and raised once the batch is settled
            self._learner.unlearn()
            failure = error
        # Who neither accepts nor throttles us may not know us: what it declares is others' limit.
        knows_us = verdict.outcome.accepted or verdict.outcome is Outcome.THROTTLED
        if isinstance(answer, Answer) and knows_us and (rates := self._declared.read(answer.headers)) is not None:
            self._learner.declared(rates)
        return failure

    def _learn(self, batch: Batch, answer: Answer | Failure, verdict: Verdict, *, sent_at: float, now: float) -> None:
        says_nothing = verdict.outcome is Outcome.UNSENT
        if verdict.outcome is Outcome.THROTTLED:  # or the callbacks draw the refusal themselves (SPEC 6, suspicion)
            suspicion = self._gate.of(batch, scope=verdict.scope).suspicion
            says_nothing = suspicion.convicted(item.seq for item in batch.items)
        if says_nothing:
            self.void(batch)
            return
        self._learner.answered(
            batch.attempt_id,
            batch.group,
            kind=kind_of(answer, verdict),
            sent_at=sent_at,
            now=now,
            wait_s=verdict.wait_s,
            whole=verdict.scope == "platform",
        )


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
