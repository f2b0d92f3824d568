"""The life of a batch, for one platform.

A callback lies in the store, accepted and durable. The pipeline takes it out and to its platform:

1. **Gate.** May the platform be talked to? A pause, a cooldown it asked for, a backoff after failures or an open
   breaker stop the whole platform (``policy/gate/platform.py``); nothing is claimed meanwhile, so nothing ages in
   memory.
2. **Claim.** ``Outbox.claim`` does three things in one commit: it takes a slot under every quota, freezes the batch -
   membership and id - and records the attempt. Or it answers until when to wait: for a slot, for the pace, for more
   callbacks, for a retry time. Only then may a byte be sent, and after a crash the same batch goes again under its id.
   Beside the configured quotas those hold that were learned from refusals (``limits/learner.py``); they are put in
   force here, before the next claim.
3. **Send.** The payloads are spliced into the envelope as they came (``delivery/outgoing.py``), authorised (which may
   wait for a token), compressed, signed and posted once. The HTTP client follows no redirect and never sends again by
   itself. ``Idempotency-Key`` carries the batch id, ``Relay-Attempt`` n; a signature is made anew for each attempt,
   with our wall clock's time, or the platform's where it refused that. A batch of which no request can be built is
   settled without being sent.
4. **Classify.** Whatever came back, or did not, becomes a verdict (``wire/answers/classify.py``): an outcome, and
   whether the platform may have applied the batch; ``wire/answers/results.py`` adds what the answer says of each
   item. A refused token is renewed (``auth.py``), a refused signature made anew by the platform's clock, and the
   same batch goes again. Where it stays open what was applied, and the platform can be asked (``confirm``), the next
   request of the item is a read-back instead. What the answer says about an unannounced limit goes to the estimator.
5. **Settle.** ``policy/settle/answer.py`` turns the verdict into what happens to each item and to the gate;
   ``Outbox.settle`` commits it in one transaction and the slot starts its way back, one full window after the answer.
   A settle that cannot be committed is repeated from memory: the batch is not sent again for the store's sake.

Up to ``concurrency`` batches are between 2 and 5 at once, and never two with the same key: the store hands out only
the head of a key. Retry times are columns in the store; nothing here sleeps for a callback.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

from relay.core.clock import Clock, wall_shift_s
from relay.core.errors import StoreError
from relay.core.model import AttemptResult, Batch, Lane, Outcome, Quota, Settlement, Verdict, WaitUntil, Wish
from relay.delivery.auth import Authoriser, NoToken
from relay.delivery.beside import BUILT_BYTES, READ_BYTES, beside
from relay.delivery.outgoing import asks_back, prepare, read, unauthorised, without_secrets
from relay.delivery.reporting import tell_limit, tell_settled
from relay.delivery.sender import Request, Sender
from relay.delivery.signals import kind_of
from relay.delivery.terms import Terms
from relay.delivery.wakeup import Wakeup
from relay.limits.learner import Learner
from relay.policy.batching import scattered, turn_of
from relay.policy.concurrency import AdaptiveConcurrency
from relay.policy.gate.platform import Gate
from relay.policy.settle.answer import Attempted, decide
from relay.store.base import Outbox
from relay.telemetry.events import Events
from relay.wire.answers.answer import MAX_ANSWER_BYTES, Answer, Failure
from relay.wire.answers.declared import Declared
from relay.wire.answers.results import MAX_RESULTS_BYTES
from relay.wire.compress import compress
from relay.wire.signing.draft import Draft
from relay.wire.signing.stamp import ClockOffset

_GATE_LAG_S = 30.0  # last_accepted_at alone is written this often at most
_KNOWS_US = frozenset((Outcome.OK, Outcome.DUPLICATE, Outcome.THROTTLED))  # who does not states others' limits
_FAILED = frozenset((Outcome.RETRY, Outcome.DOWN))
_SETTLE_AGAIN_S = 0.5  # between tries to commit a settle while the store is down


class Pipeline:
    """Claims, sends and settles for one platform until cancelled."""

    def __init__(
        self,
        *,
        terms: Terms,
        gate: Gate,
        learning: Learner,
        outbox: Outbox,
        sender: Sender,
        authoriser: Authoriser,
        clock: Clock,
        wall: Callable[[], float],
        events: Events,
        rng: random.Random,
        building: Executor,
    ) -> None:
        """``building`` takes what would hold up the loop: large payloads and answers that must be looked into."""
        self.terms = terms
        self._building = building
        self.gate = gate
        self.learning = learning
        self.concurrency = AdaptiveConcurrency(terms.concurrency)
        self.concurrency.restart()
        self.last_error = ""
        self.wait_reason = ""
        self.waits_until = 0.0
        self._outbox = outbox
        self._sender = sender
        self._authoriser = authoriser
        self._redactor = authoriser.redactor(terms.secrets)
        self._offset = ClockOffset()
        self._declared = Declared()
        self._clock = clock
        self._wall = wall
        self._events = events
        self._rng = rng
        self._wakeup = Wakeup(clock)
        self._turn = 0
        self._quotas: Sequence[Quota] | None = None  # learned ones in force; None: whatever a predecessor put there
        self._flush = False
        self._under_way: dict[asyncio.Task[None], str] = {}  # with the group each is for
        self._gate_kept: dict[str, Any] = gate.dump_own()
        self._broken: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """Batches claimed and not settled."""
        return len(self._under_way)

    @property
    def room(self) -> int:
        """How many requests may be under way now."""
        single = self.gate.single_file or self.learning.careful(self._clock.now())
        return 1 if single else self.concurrency.limit

    def changed(self, count: int) -> None:
        """Take note of ``count`` more callbacks to send, or of changed slots when 0."""
        if count:
            self._wakeup.arrived(count)
        else:
            self._wakeup.wake()

    def flush(self) -> None:
        """Send the next batch without waiting for pace or linger; limits hold."""
        self._flush = True
        self._wakeup.wake()

    async def run(self) -> None:
        """Claim and send until cancelled; raises what a delivery raised, which is a bug."""
        while True:
            self._wakeup.begin()
            if self._broken is not None:
                broken, self._broken = self._broken, None
                raise broken
            now = self._clock.now()
            if (self.learning.changed or now >= self.learning.ends_at) and not await self._put_limits(now):
                continue
            if self.in_flight >= self.room:
                await self._sleep(WaitUntil(float("inf"), "concurrency"))
                continue
            opens_at = self.gate.opens_at(now)
            if opens_at > now:
                await self._sleep(WaitUntil(opens_at, self._gate_reason()))
                continue
            try:
                claimed = await self._outbox.claim(self._wish())
            except StoreError:  # the store reports its own failure; what was not claimed was not sent
                await self._sleep(WaitUntil(self._clock.now() + _SETTLE_AGAIN_S, "store"))
                continue
            if isinstance(claimed, WaitUntil):
                self._flush = False
                await self._sleep(claimed)
            else:
                self._turn += 1
                first = self.gate.first_after_stop(claimed.group)
                task = asyncio.create_task(self._deliver(claimed, first_after_stop=first))
                self._under_way[task] = claimed.group
                task.add_done_callback(self._delivered)

    def forget_limit(self) -> None:
        """Drop what was learned, declared and set of the platform's limits, and learn anew."""
        self.learning.forget()
        self._declared.forget()

    async def drain(self, within_s: float) -> int:
        """Wait for what is under way, at most ``within_s``; return how many were cut off (they count as crashed)."""
        if not self._under_way:
            return 0
        _, left = await asyncio.wait(self._under_way, timeout=within_s)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        return len(left)

    def _wish(self) -> Wish:
        terms, gate = self.terms, self.gate
        testing = gate.resuming and gate.suspicion.test
        turn = scattered(self._turn) if terms.grouped else self._turn
        closed, resuming = gate.groups.closed(self._clock.now(), self._under_way.values())
        return Wish(
            platform=terms.platform,
            group=None,
            max_items=terms.max_items,
            max_bytes=terms.max_bytes,
            frame_bytes=terms.envelope.frame_bytes,
            item_bytes=terms.envelope.item_bytes,
            linger_s=terms.linger_s,
            turn=turn_of(Lane.RETRY) if testing else turn,
            probe=(gate.single_file and not testing) or self._flush,
            closed=closed,
            resuming=resuming,
        )

    async def _put_limits(self, now: float) -> bool:
        """Put the limits that are known now in force; return whether the store took them."""
        quotas = self.learning.quotas(now)
        try:
            if quotas != self._quotas:
                await self._outbox.set_quotas(self.terms.platform, quotas)
            self._quotas = quotas
        except StoreError:
            self._quotas = None
            self.learning.changed = True
            await self._sleep(WaitUntil(self._clock.now() + _SETTLE_AGAIN_S, "store"))
            return False
        for news in self.learning.news(now):
            tell_limit(self._events, self.terms.platform, news, enforced=self.learning.enforces)
        return True

    async def _sleep(self, wait: WaitUntil) -> None:
        self.wait_reason, self.waits_until = wait.reason, wait.at
        # while slots or the gate hold everything back, more callbacks change nothing
        missing = wait.missing or (1 if wait.reason in ("idle", "retry") else 0)
        await self._wakeup.sleep(min(wait.at, self.learning.ends_at), missing=missing)
        self.wait_reason = ""

    def _gate_reason(self) -> str:
        if self.gate.paused:
            return "paused"
        return "breaker" if self.gate.breaker.is_open else "throttled"

    async def _deliver(self, batch: Batch, *, first_after_stop: bool) -> None:
        started_at = self._clock.now()
        renewed = False
        try:
            verdict, result, renewed = await self._attempt(batch, started_at)
        except Exception as error:  # noqa: BLE001 - a bug of ours: the batch must not stay under way for ever; then tell
            verdict = Verdict(Outcome.CRASH, ambiguous=True, reason=f"relay error: {type(error).__name__}")
            ended_at = self._clock.now()
            result = AttemptResult(
                Outcome.CRASH, ended_at, ended_at - started_at, reason=verdict.reason, ambiguous=True
            )
            self._broken = error
            self.learning.forget_token(batch.attempt_id, batch.group)
        was_open, alone, was_plain = self.gate.breaker.is_open, self.gate.single_file, self.gate.coding.plain
        attempted = Attempted(
            batch,
            verdict,
            result,
            started_at,
            first_after_stop,
            renewed=renewed,
            read_back=self.terms.read_back,
            asked=asks_back(batch, self.terms),
        )
        self.gate.expect_wait(self.learning.patience_s(batch.group))
        settlement = decide(attempted, budget=self.terms.budget, gate=self.gate, now=result.ended_at, rng=self._rng)
        self._pace_up(result, alone=alone)
        self._wakeup.wake()  # a gate that closed or opened is news before the commit
        await self._settle(settlement)
        if not result.outcome.accepted:
            self.last_error = result.reason
        tell_settled(self._events, batch, settlement, gate=self.gate, was_open=was_open, was_plain=was_plain)

    async def _prepare(self, batch: Batch) -> Draft | Verdict:
        build = partial(prepare, batch, terms=self.terms, shift_s=wall_shift_s(self._clock.now(), self._wall()))
        size = sum(len(item.payload) for item in batch.items) if self.terms.searches else 0
        return await beside(self._building, build, size=size, most=BUILT_BYTES)

    async def _attempt(self, batch: Batch, started_at: float) -> tuple[Verdict, AttemptResult, bool]:
        """Send the batch once; also return whether it was refused for a token that has been renewed since."""
        draft = await self._prepare(batch)
        if isinstance(draft, Verdict):
            return draft, _result(draft, started_at, self._clock.now(), None), False
        try:
            draft = await self._authoriser.authorise(draft)
        except NoToken as missing:  # nothing was sent; the slot was taken all the same, which errs on the safe side
            verdict = unauthorised(missing)
            return verdict, _result(verdict, started_at, self._clock.now(), None), False
        raw_bytes = len(draft.body)
        offset_s = self._offset.seconds
        request = self._request(draft, batch)
        sent_at, sent_wall = self._clock.now(), self._wall()
        self.learning.sent(batch.attempt_id, batch.group, sent_at)
        answer = await self._sender.send(request)
        ended_at, ended_wall = self._clock.now(), self._wall()
        compressed = "Content-Encoding" in request.headers
        proven = self.gate.coding.proven
        judge = partial(read, answer, batch, terms=self.terms, compressed=compressed, proven=proven, wall=ended_wall)
        size = len(answer.body) if isinstance(answer, Answer) and self.terms.reads_answers else 0
        verdict = without_secrets(await beside(self._building, judge, size=size, most=READ_BYTES), self._redactor)
        self._learn(batch, answer, verdict, sent_at=sent_at, now=ended_at)
        renewed = False
        if isinstance(answer, Answer):
            if verdict.outcome in _KNOWS_US and (rates := self._declared.read(answer.headers)) is not None:
                self.learning.declared(rates)
            if verdict.outcome is Outcome.AUTH and not answer.proxy:
                if not self._offset.tried:  # else it is told what came of that first
                    renewed = await self._authoriser.renewed(draft.token, sent_at=sent_at)
                if not renewed and self.terms.signer is not None:
                    renewed = self._offset.refused(
                        answer.headers, offset_s, sent_wall=sent_wall, answered_wall=ended_wall
                    )
            elif verdict.outcome.accepted:
                self._authoriser.accepted()
                self._offset.accepted(offset_s)
        result = _result(verdict, sent_at, ended_at, answer)
        return verdict, replace(result, raw_bytes=raw_bytes, wire_bytes=len(request.body)), renewed

    def _learn(self, batch: Batch, answer: Answer | Failure, verdict: Verdict, *, sent_at: float, now: float) -> None:
        """Tell the estimator what came back, unless the callbacks themselves draw it (SPEC 6, suspicion) or we did."""
        says_nothing = verdict.outcome is Outcome.UNSENT
        if verdict.outcome is Outcome.THROTTLED:
            suspicion = self.gate.of(batch, scope=verdict.scope).suspicion
            says_nothing = suspicion.convicted(item.seq for item in batch.items)
        if says_nothing:
            self.learning.forget_token(batch.attempt_id, batch.group)
            return
        try:
            self.learning.answered(
                batch.attempt_id,
                batch.group,
                kind=kind_of(answer, verdict),
                sent_at=sent_at,
                now=now,
                wait_s=verdict.wait_s,
                whole=verdict.scope == "platform",
            )
        except Exception as error:  # noqa: BLE001 - a bug in guessing must not cost what is known: what came of the batch
            self.learning.unlearn()
            self._broken = error

    def _pace_up(self, result: AttemptResult, *, alone: bool) -> None:
        """Learn from how long the answer took how many requests may be under way; after a stop begin with one."""
        if result.outcome.accepted or result.outcome in _FAILED:
            failed = result.outcome in _FAILED
            self.concurrency.answered(result.duration_s, in_flight=self.in_flight, failed=failed)
        if alone and not self.gate.single_file:
            self.concurrency.restart()

    def _request(self, draft: Draft, batch: Batch) -> Request:
        """Return what is sent: signed fields, compression and a signature over the bytes, in this order."""
        terms, wall = self.terms, self._wall() + self._offset.seconds
        if terms.signer is not None and terms.signer.before_coding:
            draft = terms.signer.sign(draft, wall=wall)
        body, encoding = compress(draft.body, terms.codec if self.gate.coding.compresses(batch.number) else "none")
        if encoding is not None:
            draft = replace(draft.with_headers([("Content-Encoding", encoding)]), body=body)
            self.gate.coding.sent(batch.number)
        if terms.signer is not None and not terms.signer.before_coding:
            draft = terms.signer.sign(draft, wall=wall)
        return Request(
            url=draft.url,
            method=draft.method,
            headers=draft.headers,
            body=draft.body,
            timeout_s=terms.timeout_s,
            answer_bytes=MAX_ANSWER_BYTES if terms.results is None else MAX_RESULTS_BYTES,
        )

    async def _settle(self, settlement: Settlement) -> None:
        settlement = self._with_gate(settlement)
        while True:
            try:
                return await self._outbox.settle(settlement)
            except StoreError:  # reported by the store; the answer is known and must not be asked for again
                await asyncio.sleep(_SETTLE_AGAIN_S)

    def kept(self) -> dict[str, Any]:
        """Return what a restart must know: the gate and what was learned."""
        return {**self.gate.dump(), "learned": self.learning.dump()}

    def _with_gate(self, settlement: Settlement) -> Settlement:
        """Carry the gate along when a restart would miss the change."""
        gate, kept, groups = self.gate.dump_own(), self._gate_kept, self.gate.groups.take_changes()
        fresh = gate["last_accepted_at"] - kept["last_accepted_at"] < _GATE_LAG_S
        unchanged = {**gate, "last_accepted_at": 0} == {**kept, "last_accepted_at": 0}
        if fresh and not groups and unchanged and not self.learning.unkept:
            return settlement
        self._gate_kept = gate
        gate = {**gate, "learned": self.learning.dump()}
        return replace(settlement, gate={**gate, "groups": groups} if groups else gate)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._wakeup.wake()


def _result(verdict: Verdict, sent_at: float, ended_at: float, answer: Answer | Failure | None) -> AttemptResult:
    return AttemptResult(
        outcome=verdict.outcome,
        ended_at=ended_at,
        duration_s=ended_at - sent_at,
        status=answer.status if isinstance(answer, Answer) else None,
        reason=verdict.reason,
        excerpt=verdict.excerpt,
        ambiguous=verdict.ambiguous,
    )
