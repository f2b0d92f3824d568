"""Says what an answer, or the lack of one, means for a batch (SPEC 6, "Outcomes" and "Re-sends").

Two questions are kept apart. The *outcome* is what a platform's rules, then the built-in ones, call the answer.
*Ambiguity* is what happened on the wire: whether the platform may have applied the request, whatever it is called.
"""

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from relay.core.errors import Unfit
from relay.core.model import Outcome, Verdict
from relay.wire.answers.answer import Answer, Failure, FailureKind
from relay.wire.answers.hints import exhausted_s, retry_after_s, throttled_s
from relay.wire.answers.reading import Reading, printable
from relay.wire.answers.rules import Rule

__all__ = ["Rule", "Verdict", "classify", "classify_read_back", "failure_reason", "plain_first"]

DEFAULT_CAP_S: Final = 3600.0
# RFC 9110 renamed the last ones; Python follows in 3.13, and a reason must not change with the interpreter.
_PHRASES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus} | {
    413: "413 Content Too Large",
    414: "414 URI Too Long",
    422: "422 Unprocessable Content",
}
_FAILURES: Final[dict[FailureKind, str]] = {
    "lacking": "the relay has no descriptor or memory left for a connection",
    "late": "not sent: this host could not be sure in time that it still owns the platform",
    "denied": "its address is denied",
    "refused": "connection refused",
    "unreachable": "unreachable",
    "dns": "name not resolved",
    "tls": "TLS failure",
    "timeout": "timeout",
    "reset": "connection reset",
    "truncated": "answer truncated",
    "not_http": "answer is not HTTP",
}
_BUILT_IN: Final = {
    401: Outcome.AUTH,
    403: Outcome.AUTH,
    407: Outcome.AUTH,  # of the proxy between
    408: Outcome.THROTTLED,
    413: Outcome.SPLIT,
    415: Outcome.PLAIN,
    429: Outcome.THROTTLED,
    503: Outcome.THROTTLED,
}
# What those answer who cannot read a compressed body, and do not say 415.
_UNREAD: Final = (400, 406, 415, 422, 500, 501)
_LACKING_S: Final = 1.0  # until it is tried again: all platforms lack it, and each try takes a slot
_HELD_AGAINST: Final = (Outcome.REJECT, Outcome.RETRY, Outcome.SPLIT, Outcome.CONFIRM)


def classify(
    result: Answer | Failure,
    *,
    rules: Sequence[Rule],
    compressed: bool,
    items: int,
    wall: float,
    cap_s: float = DEFAULT_CAP_S,
) -> Verdict:
    """Return the verdict on ``result`` for a batch of ``items`` sent ``compressed`` or plain; raises nothing.

    ``wall`` is the wall clock in seconds since the epoch, for waits given as a point in time; ``cap_s`` bounds every
    wait a platform asks for, except where a rule sets its own. A wait of 0 means that the time asked for is over.
    ``reason`` is made of fixed words and the rules' own, fit for a metric's label; ``excerpt`` may hold anything.
    """
    if isinstance(result, Failure):
        return _failed(result)
    reading = Reading(result)
    # The rules are about the platform's answers, and those of a proxy are none.
    ruled = None if result.proxy else _ruled(reading, rules, items=items, wall=wall, cap_s=cap_s)
    if ruled is not None:
        return ruled
    return _built_in(reading, no_rules=not rules, compressed=compressed, items=items, wall=wall, cap_s=cap_s)


def plain_first(verdict: Verdict, result: Answer | Failure) -> Verdict:
    """Return ``verdict`` on the compressed body of a batch, where this platform never accepted any compressed one.

    An endpoint that never heard of Content-Encoding calls the body nonsense or breaks on it. So before such an answer
    is held against the callbacks, rule or not, the same goes plain. An answer that names single items did read it.
    """
    unread = isinstance(result, Answer) and result.status in _UNREAD and not verdict.items
    return (
        replace(verdict, outcome=Outcome.PLAIN, wait_s=None) if unread and verdict.outcome in _HELD_AGAINST else verdict
    )


def classify_read_back(result: Answer | Failure, *, rules: Sequence[Rule], wall: float) -> Verdict:
    """Return the verdict of a read-back on the one item it asked about; raises nothing.

    Only the rules can say what became of the item. An answer they do not know says nothing about it (``confirm``),
    unless it is about the platform: throttled, not let in, or failed in a way that a later read-back may not.
    """
    if isinstance(result, Failure):
        return _failed(result)
    reading = Reading(result)
    ruled = None if result.proxy else _ruled(reading, rules, items=1, wall=wall, cap_s=DEFAULT_CAP_S)
    if ruled is not None:
        return ruled
    verdict = _built_in(reading, no_rules=False, compressed=False, items=1, wall=wall, cap_s=DEFAULT_CAP_S)
    return replace(verdict, outcome=Outcome.CONFIRM) if verdict.outcome is Outcome.REJECT else verdict


def _ruled(reading: Reading, rules: Sequence[Rule], *, items: int, wall: float, cap_s: float) -> Verdict | None:
    """Return what the first rule that holds says, or None; also where one could not be asked, whatever follows it."""
    result = reading.answer
    try:
        rule, met = next((rule, met) for rule in rules if (met := rule.match(reading)) is not None)
    except (StopIteration, Unfit):
        return None
    outcome = rule.outcome
    if outcome is Outcome.SPLIT and items <= 1:
        outcome = Outcome.REJECT  # one item cannot be halved
    wait_s = None if rule.wait is None else rule.wait(reading, wall=wall)
    if wait_s is None:
        wait_s = _hint(result, outcome, wall, cap_s)
    return Verdict(
        outcome=outcome,
        ambiguous=_ambiguous(result, wall) and not outcome.accepted,
        reason=met.reason or status_reason(result.status),
        code=met.code,
        wait_s=wait_s,
        excerpt=reading.excerpt(),
        scope=rule.scope,
    )


def failure_reason(failure: Failure) -> str:
    """Return a failure in the relay's own words."""
    if failure.kind in ("timeout", "denied") and failure.detail:
        return failure.detail  # "timeout after 10 s": the number is the configured one; or which address is denied
    return _FAILURES[failure.kind]


def _failed(failure: Failure) -> Verdict:
    """Never connected is the platform being down, or our own lack; anything later may have been applied."""
    if failure.kind in ("lacking", "late"):
        return unsent(failure_reason(failure), failure.detail)
    return Verdict(
        outcome=Outcome.RETRY if failure.connected else Outcome.DOWN,
        ambiguous=failure.connected,
        reason=failure_reason(failure),
        wait_s=None,
        excerpt="" if failure.kind == "denied" else printable(failure.detail),  # its reason says it all
    )


def unsent(reason: str, detail: str) -> Verdict:
    """Return the verdict on a request that was not made because the relay itself lacked something for a moment."""
    return Verdict(Outcome.UNSENT, ambiguous=False, reason=reason, wait_s=_LACKING_S, excerpt=printable(detail))


def _ambiguous(answer: Answer, wall: float) -> bool:
    """Tell whether a request that got this answer may have been applied although it was not accepted.

    408 and 5xx often come from something in front of the platform that gave up waiting for it. Only a 503 that says
    when to come again is a refusal in so many words. 429, other 4xx, 2xx and 3xx are the platform's own decision.
    """
    status = answer.status
    if status == 503:
        return retry_after_s(answer.headers, wall=wall, cap_s=DEFAULT_CAP_S) is None
    return status == 408 or status >= 500 or status < 200


def _built_in(reading: Reading, *, no_rules: bool, compressed: bool, items: int, wall: float, cap_s: float) -> Verdict:
    """Judge by status alone. Where a platform has rules and none held (``no_rules`` False), a 2xx proves nothing."""
    answer = reading.answer
    status = answer.status
    reason = status_reason(status)
    if answer.proxy:
        reason = f"{reason} from the proxy {answer.proxy}"
    if 200 <= status < 300:
        outcome = Outcome.OK if no_rules else Outcome.CONFIRM
        reason = reason if no_rules else f"{reason}, no rule matched"
    elif status >= 500 or status < 200:
        outcome = _BUILT_IN.get(status, Outcome.RETRY)
    else:
        outcome = _BUILT_IN.get(status, Outcome.REJECT)
    if (outcome is Outcome.SPLIT and items <= 1) or (outcome is Outcome.PLAIN and not compressed):
        outcome = Outcome.REJECT  # one item cannot be halved, and a plain body cannot be made plainer
    return Verdict(
        outcome=outcome,
        ambiguous=_ambiguous(answer, wall),
        reason=reason,
        wait_s=_hint(answer, outcome, wall, cap_s),
        excerpt=reading.excerpt(),
    )


def _hint(answer: Answer, outcome: Outcome, wall: float, cap_s: float) -> float | None:
    """Return the wait the headers ask for; of an accepted answer, for how long nothing is left."""
    if outcome is Outcome.THROTTLED:
        return throttled_s(answer.headers, wall=wall, cap_s=cap_s)
    if outcome in (Outcome.RETRY, Outcome.AUTH):
        # Reset headers stand on every answer of some platforms; on one that is no throttle they ask for nothing.
        return retry_after_s(answer.headers, wall=wall, cap_s=cap_s)
    if outcome.accepted:
        return exhausted_s(answer.headers, wall=wall, cap_s=cap_s)
    return None


def status_reason(status: int) -> str:
    """Return the status with its registered phrase: the platform's own phrase could be anything."""
    return _PHRASES.get(status) or str(status)
