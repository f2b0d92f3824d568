"""Makes a request of a claimed batch, or says why none can be made; and makes a verdict of the answer.

What cannot be built is found here, before a byte is sent. The callbacks at fault become dead letters that say so; the
others return to their places uncharged (``policy/settle/answer.py``).
"""

from dataclasses import replace

from relay.core.errors import Unbuildable, Unfit
from relay.core.model import Batch, Item, ItemVerdict, Outcome, Verdict
from relay.delivery.terms import Asking, Terms
from relay.delivery.tokens import NoToken
from relay.privacy.redaction import Redactor
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.classify import classify, classify_read_back, plain_first, unsent
from relay.wire.payload.extract import InvalidJson
from relay.wire.payload.fields import problem_of
from relay.wire.payload.target import facts_of
from relay.wire.signing.draft import CONTENT_TYPE, Draft, ready_url

_JSON = "application/json"


def asks_back(batch: Batch, terms: Terms) -> bool:
    """Return whether the batch's next request asks what became of its item instead of sending it.

    That is so for a read-back, and for a single callback that an earlier request of this batch may have applied.
    """
    return batch.confirm or (len(batch.items) == 1 and _in_doubt(batch, terms))


def prepare(batch: Batch, *, terms: Terms, shift_s: float = 0.0) -> Draft | Verdict:
    """Return the request for ``batch``, not authorised, compressed or signed yet; or a verdict of ``unsent``.

    ``shift_s`` is what the wall clock is ahead of the relay's: times in a request are wall time of now.
    """
    if asks_back(batch, terms):
        if terms.asking is None:  # a reload took it away; what became of the item is for a person to say
            return _unsent(batch, Outcome.CONFIRM, "no read-back is configured any more")
        return _read_back(batch, terms.asking)
    if _in_doubt(batch, terms):
        return _unsent(batch, Outcome.CONFIRM, "each callback is asked about on its own")
    try:
        method, url = _target(batch.items, terms)
        if terms.results is not None:
            terms.results.check_all(batch.items)
        items = batch.items
        if shift_s:
            items = [item._replace(accepted_at=item.accepted_at + shift_s) for item in items]
        body, content_type = terms.envelope.build(items)
    except Unbuildable as error:
        return _refused(batch, error)
    if len(body) > terms.max_bytes and _may_part(batch):
        # A reload changed the envelope or lowered batch.max_bytes since the batch was made: two bodies instead of one.
        return _unsent(batch, Outcome.SPLIT, "the body would exceed batch.max_bytes")
    headers = {
        CONTENT_TYPE: content_type,
        **terms.headers,
        "Idempotency-Key": batch.id,
        "Relay-Attempt": str(batch.attempt),
    }
    return Draft(batch.id, method, ready_url(url), headers, body)


def read(
    answer: Answer | Failure, batch: Batch, *, terms: Terms, compressed: bool, proven: bool, wall: float
) -> Verdict:
    """Return what came of the request; ``wall`` in seconds since the epoch. Raises nothing.

    ``proven`` says that this platform has accepted a compressed body before.
    """
    if asks_back(batch, terms) and terms.asking is not None:
        verdict = classify_read_back(answer, rules=terms.asking.rules, wall=wall)
        return replace(verdict, reason=f"read back: {verdict.reason}")
    verdict = classify(
        answer,
        rules=terms.rules,
        compressed=compressed,
        items=len(batch.items),
        wall=wall,
    )
    if terms.results is not None:
        verdict = terms.results.read(answer, verdict, batch.items, wall=wall)
    return verdict if proven or not compressed else plain_first(verdict, answer)


def unauthorised(missing: NoToken) -> Verdict:
    """Return the verdict on a batch for which there is no token: nothing of it was sent."""
    if missing.lacking:
        return unsent(missing.reason, missing.detail)
    return Verdict(Outcome.AUTH, ambiguous=False, reason=missing.reason, excerpt=missing.detail)


def without_secrets(verdict: Verdict, redactor: Redactor) -> Verdict:
    """Return ``verdict`` as it may be kept and shown: a platform may answer with what we sent it, our token too."""
    clean = redactor.text
    reason, excerpt = clean(verdict.reason), clean(verdict.excerpt)
    items = verdict.items
    if items:
        reasons = {said: clean(said) for said in {item.reason for item in items}}
        items = [item._replace(reason=reasons[item.reason], message=clean(item.message)) for item in items]
    elif reason == verdict.reason and excerpt == verdict.excerpt:
        return verdict
    return replace(verdict, reason=reason, excerpt=excerpt, items=items)


def _in_doubt(batch: Batch, terms: Terms) -> bool:
    """Return whether a re-send of this batch might be applied twice, and a read-back can find out."""
    return terms.read_back == "ambiguous" and batch.attempt > 1 and any(item.maybe_applied for item in batch.items)


def _may_part(batch: Batch) -> bool:
    """Return whether the batch may be parted: no request of it may have been applied under its id."""
    return len(batch.items) > 1 and batch.attempt == 1 and not any(item.maybe_applied for item in batch.items)


def _target(items: list[Item], terms: Terms) -> tuple[str, str]:
    if terms.target is None:
        return terms.method, terms.url
    (item,) = items  # checked with the configuration: fields in the URL go with envelopes of one callback
    try:
        return terms.target.of(facts_of(item))
    except (InvalidJson, Unfit) as error:
        raise Unbuildable({item.seq: f"the URL: {problem_of(error)}"}) from None


def _read_back(batch: Batch, asking: Asking) -> Draft | Verdict:
    (item,) = batch.items
    headers = dict(asking.headers)
    try:
        method, url = asking.target.of(facts_of(item))
        body = b"" if asking.body is None else asking.body(item.payload)
    except (InvalidJson, Unfit) as error:
        return _unsent(batch, Outcome.CONFIRM, f"the read-back cannot be built: {problem_of(error)}")
    if body:
        headers.setdefault(CONTENT_TYPE, _JSON)
    return Draft(batch.id, method, ready_url(url), headers, body)


def _refused(batch: Batch, error: Unbuildable) -> Verdict:
    verdicts = []
    for item in batch.items:
        reason = error.reasons.get(item.seq)
        if reason is None:
            verdicts.append(ItemVerdict(Outcome.RETRY, "unbuildable company"))
        else:
            verdicts.append(ItemVerdict(Outcome.REJECT, f"unbuildable: {reason}"))
    return Verdict(Outcome.UNSENT, ambiguous=False, reason="unbuildable", items=verdicts)


def _unsent(batch: Batch, outcome: Outcome, reason: str) -> Verdict:
    verdicts = [ItemVerdict(outcome, reason)] * len(batch.items)
    return Verdict(Outcome.UNSENT, ambiguous=False, reason=reason, items=verdicts)
