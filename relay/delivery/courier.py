"""Carries one batch to its platform and brings the answer back: build, authorise, encode, post, read.

1. **Build.** The payloads become a request (``outgoing.py``), in a thread where large ones must be looked into. A batch
   of which no request can be built is not sent.
2. **Authorise.** The credential is put in, which may wait for a token (``auth.py``). Without one nothing is sent.
3. **Encode.** The body is compressed, and the request signed anew for each attempt: with our wall clock's time, or the
   platform's where it refused ours.
4. **Post.** Once. The HTTP client follows no redirect and never sends again by itself.
5. **Read.** What came back, or did not, becomes a verdict without our secrets in it. It is told to the limit learner
   before anything else waits. A refused token is renewed, a refused signature made by the platform's clock next time.
"""

import math
import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

from relay.core.clock import Clock, wall_shift_s
from relay.core.model import Batch, Outcome, Verdict
from relay.core.secret import Secret
from relay.core.settlement import AttemptResult
from relay.delivery.auth import Authoriser, NoToken
from relay.delivery.beside import BUILT_BYTES, READ_BYTES, beside
from relay.delivery.gate.signals import LimitSignals
from relay.delivery.outgoing import prepare, read, unauthorised, without_secrets
from relay.delivery.sender import Request, Sender, always
from relay.delivery.terms import Terms
from relay.policy.coding import Coding
from relay.policy.takeover import SEND_WITHIN_S
from relay.telemetry.events import Events
from relay.wire.answers.answer import MAX_ANSWER_BYTES, Answer, Failure
from relay.wire.answers.classify import classify
from relay.wire.answers.results import MAX_RESULTS_BYTES
from relay.wire.compress import compress
from relay.wire.signing.draft import Draft
from relay.wire.signing.stamp import ClockOffset


def unending(_platform: str) -> float:
    """Say that this host may send for a platform for ever: no other host does."""
    return math.inf


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pipelines of this process share. ``wall`` is seconds since the epoch.

    ``building`` takes what would hold up the loop: large payloads and answers that must be looked into.
    ``claim_until`` tells of a platform until when this host may send for it (relay clock), where several hosts share
    the store.
    """

    clock: Clock
    wall: Callable[[], float]
    events: Events
    rng: random.Random
    building: Executor
    claim_until: Callable[[str], float] = unending


@dataclass(frozen=True, slots=True)
class Carried:
    """What came of carrying a batch."""

    verdict: Verdict
    result: AttemptResult
    renewed: bool = False  # refused for its token or signature, and there is another one to try
    bug: Exception | None = None  # an error of the relay itself: to be raised once the batch is settled


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a request without callbacks; ``answer`` None: nothing was sent."""

    answer: Answer | Failure | None
    verdict: Verdict
    result: AttemptResult
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class _Posted:
    """A request and when it went; ``offset_s`` is the platform's clock ahead of ours, as it was signed."""

    request: Request
    token: Secret
    raw_bytes: int
    offset_s: float
    at: float
    wall: float


class Courier:
    """Carries the batches of one platform."""

    def __init__(
        self,
        *,
        terms: Terms,
        coding: Coding,
        signals: LimitSignals,
        sender: Sender,
        authoriser: Authoriser,
        surroundings: Surroundings,
    ) -> None:
        self._terms = terms
        self._coding = coding
        self._signals = signals
        self._sender = sender
        self._authoriser = authoriser
        self._redactor = authoriser.redactor(terms.secrets)
        self._offset = ClockOffset()
        self._clock = surroundings.clock
        self._wall = surroundings.wall
        self._building = surroundings.building
        self._claim_until = surroundings.claim_until

    async def carry(self, batch: Batch, *, asked_at: float) -> Carried:
        """Send ``batch`` once and return what came of it. Raises nothing: an error of ours comes back as a crash.

        ``asked_at`` is when the claim was asked for: where several hosts share the store, the first byte goes within
        2 s of it, or none does.
        """
        began_at = self._clock.now()
        try:
            return await self._carry(batch, began_at, self._still_ours(asked_at))
        except Exception as error:  # noqa: BLE001 - a bug of ours: the batch must not stay under way for ever; then tell
            self._signals.void(batch)
            verdict = Verdict(Outcome.CRASH, ambiguous=True, reason=f"relay error: {type(error).__name__}")
            return Carried(verdict, _result(verdict, began_at, self._clock.now()), bug=error)

    def _still_ours(self, asked_at: float) -> Callable[[], bool]:
        """Return what tells whether a first byte may be sent: looked at right before it."""
        platform = self._terms.platform
        if self._claim_until(platform) == math.inf:
            return always
        return lambda: self._clock.now() < min(asked_at + SEND_WITHIN_S, self._claim_until(platform))

    async def ask(self, batch: Batch, draft: Draft, *, answer_bytes: int, asked_at: float) -> Asked:
        """Send a request that carries no callback, once, as the batches of this platform are sent."""
        terms, began_at, may_go = self._terms, self._clock.now(), self._still_ours(asked_at)
        try:
            draft = await self._authoriser.authorise(draft)
        except NoToken as missing:
            verdict = unauthorised(missing)
            return Asked(None, verdict, _result(verdict, began_at, self._clock.now()))
        wall = self._wall() + self._offset.seconds
        if terms.signer is not None:
            draft = terms.signer.sign(draft, wall=wall)
        request = Request(draft.url, draft.method, draft.headers, draft.body, terms.timeout_s, answer_bytes, may_go)
        posted = _Posted(request, draft.token, 0, self._offset.seconds, self._clock.now(), self._wall())
        self._signals.sent(batch, posted.at)
        answer = await self._sender.send(request)
        ended_at, ended_wall = self._clock.now(), self._wall()
        verdict = classify(answer, rules=terms.rules, compressed=False, items=1, wall=ended_wall)
        verdict = without_secrets(verdict, self._redactor)
        bug = self._signals.answered(batch, answer, verdict, sent_at=posted.at, now=ended_at)
        if bug is not None:
            raise bug
        renewed = isinstance(answer, Answer) and verdict.outcome is Outcome.AUTH and not answer.proxy
        renewed = renewed and await self._renew(posted, answer, ended_wall)  # type: ignore[arg-type]
        status = answer.status if isinstance(answer, Answer) else None
        return Asked(answer, verdict, replace(_result(verdict, posted.at, ended_at), status=status), renewed)

    async def _carry(self, batch: Batch, began_at: float, may_go: Callable[[], bool]) -> Carried:
        draft = await self._build(batch)
        if isinstance(draft, Verdict):
            return Carried(draft, _result(draft, began_at, self._clock.now()))
        try:
            draft = await self._authoriser.authorise(draft)
        except NoToken as missing:  # nothing was sent; the slot was taken all the same, which errs on the safe side
            verdict = unauthorised(missing)
            return Carried(verdict, _result(verdict, began_at, self._clock.now()))
        offset_s = self._offset.seconds
        request = self._encode(draft, batch, may_go)
        posted = _Posted(request, draft.token, len(draft.body), offset_s, self._clock.now(), self._wall())
        self._signals.sent(batch, posted.at)
        answer = await self._sender.send(request)
        return await self._read(batch, posted, answer)

    async def _build(self, batch: Batch) -> Draft | Verdict:
        build = partial(prepare, batch, terms=self._terms, shift_s=wall_shift_s(self._clock.now(), self._wall()))
        size = sum(len(item.payload) for item in batch.items) if self._terms.searches else 0
        return await beside(self._building, build, size=size, most=BUILT_BYTES)

    def _encode(self, draft: Draft, batch: Batch, may_go: Callable[[], bool]) -> Request:
        """Return what is sent: signed fields, compression and a signature over the bytes, in this order."""
        terms, wall = self._terms, self._wall() + self._offset.seconds
        if terms.signer is not None and terms.signer.before_coding:
            draft = terms.signer.sign(draft, wall=wall)
        body, encoding = compress(draft.body, terms.codec if self._coding.compresses(batch.number) else "none")
        if encoding is not None:
            draft = replace(draft.with_headers([("Content-Encoding", encoding)]), body=body)
            self._coding.sent(batch.number)
        if terms.signer is not None and not terms.signer.before_coding:
            draft = terms.signer.sign(draft, wall=wall)
        return Request(
            url=draft.url,
            method=draft.method,
            headers=draft.headers,
            body=draft.body,
            timeout_s=terms.timeout_s,
            answer_bytes=MAX_ANSWER_BYTES if terms.results is None else MAX_RESULTS_BYTES,
            may_go=may_go,
        )

    async def _read(self, batch: Batch, posted: _Posted, answer: Answer | Failure) -> Carried:
        ended_at, ended_wall = self._clock.now(), self._wall()
        judge = partial(
            read,
            answer,
            batch,
            terms=self._terms,
            compressed="Content-Encoding" in posted.request.headers,
            proven=self._coding.proven,
            wall=ended_wall,
        )
        size = len(answer.body) if isinstance(answer, Answer) and self._terms.reads_answers else 0
        verdict = without_secrets(await beside(self._building, judge, size=size, most=READ_BYTES), self._redactor)
        bug = self._signals.answered(batch, answer, verdict, sent_at=posted.at, now=ended_at)
        renewed = False
        if isinstance(answer, Answer):
            if verdict.outcome is Outcome.AUTH and not answer.proxy:
                renewed = await self._renew(posted, answer, ended_wall)
            elif verdict.outcome.accepted:
                self._authoriser.accepted()
                self._offset.accepted(posted.offset_s)
        result = replace(
            _result(verdict, posted.at, ended_at),
            status=answer.status if isinstance(answer, Answer) else None,
            raw_bytes=posted.raw_bytes,
            wire_bytes=len(posted.request.body),
        )
        return Carried(verdict, result, renewed, bug)

    async def _renew(self, posted: _Posted, answer: Answer, answered_wall: float) -> bool:
        """Return whether the refused request may go again, with another token or by the platform's clock."""
        # A clock that was tried is judged first: the refusal may be about it rather than about the token.
        if not self._offset.tried and await self._authoriser.renewed(posted.token, sent_at=posted.at):
            return True
        return self._terms.signer is not None and self._offset.refused(
            answer.headers, posted.offset_s, sent_wall=posted.wall, answered_wall=answered_wall
        )


def _result(verdict: Verdict, began_at: float, ended_at: float) -> AttemptResult:
    return AttemptResult(
        outcome=verdict.outcome,
        ended_at=ended_at,
        duration_s=ended_at - began_at,
        reason=verdict.reason,
        excerpt=verdict.excerpt,
        ambiguous=verdict.ambiguous,
        code=verdict.code,
    )
