"""The life of a batch, for one platform.

A callback lies in the store, accepted and durable. The pipeline takes it to its platform:

1. **Gate.** May the platform be talked to? A pause, a wait it asked for, a backoff after failures or an open breaker
   stops the whole platform (``policy/gate/platform.py``), and so do its sending hours (``policy/hours.py``). Nothing is
   claimed meanwhile.
2. **Claim.** ``Outbox.claim`` does three things in one commit. It takes a slot under every quota. It freezes the batch:
   its callbacks and its id. It records the attempt. Only then may a byte be sent; after a crash the same batch goes
   again under the same id. Or the answer is until when to wait: for a slot, for the pace, for more callbacks, for a
   retry time. Limits that were learned from refusals (``limits/learner.py``) hold beside the configured ones; a changed
   one is put in force before the next claim.
3. **Carry.** ``courier.py`` builds the request, authorises, compresses and signs it, posts it once and reads the
   answer. ``Idempotency-Key`` carries the batch id, ``Relay-Attempt`` counts from 1. What comes back is a verdict
   (``wire/answers/classify.py``): an outcome, and whether the platform may have applied the batch. There may be one
   verdict per item.
4. **Decide.** ``policy/settle/answer.py`` turns the verdict into what happens to each item, and moves the gate:

   1. accepted: delivered;
   2. throttled: the platform or the group stops, and the items wait without charge;
   3. failed: the batch goes again after a backoff, and each item is charged one re-send;
   4. refused: the batch is halved until the callback that is refused stands alone, and that one dies;
   5. a token or a signature was refused and there is another: the same batch goes again at once;
   6. unclear, and the platform can be asked (``confirm``): the next request is a read-back;
   7. no request could be built: nothing was sent, and what cannot be sent dies.
5. **Settle.** ``Outbox.settle`` commits that in one transaction. The slot is free one full window after the answer. A
   settle that cannot be committed is repeated from memory: the batch is not sent again for the store's sake.

Up to ``concurrency`` batches are between 2 and 5 at once, and never two with the same key: the store hands out only
the first callback of a key. Retry times are columns in the store; nothing here sleeps for a callback.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress

from relay.core.errors import Fenced, StoreError
from relay.core.model import Batch, ClaimRequest, Lane, Outcome, Quota, WaitUntil
from relay.core.raw import Kept
from relay.core.settlement import AttemptResult, Settlement
from relay.delivery.auth import Authoriser
from relay.delivery.courier import Asked, Courier, Surroundings
from relay.delivery.gate.kept_gate import KeptGate
from relay.delivery.gate.signals import LimitSignals
from relay.delivery.outgoing import asks_back
from relay.delivery.reporting import report_limit, report_settled
from relay.delivery.sender import Sender
from relay.delivery.terms import Terms
from relay.delivery.wakeup import Wakeup
from relay.limits.learner import Learner
from relay.policy.batching import scattered, turn_of
from relay.policy.concurrency import AdaptiveConcurrency
from relay.policy.gate.platform import Gate
from relay.policy.settle.answer import Attempted, decide
from relay.policy.settle.attempted import Settling
from relay.policy.settle.cut_off import cut_off
from relay.policy.settle.question import settle_question
from relay.store.base import Outbox
from relay.wire.signing.draft import Draft

_FAILED = frozenset((Outcome.RETRY, Outcome.DOWN))
_CLOCK_LOOK_S = 60.0  # outside the sending hours the wall clock is looked at this often: it may be set
_SETTLE_AGAIN_S = 0.5  # between tries to commit a settle while the store is down


class Pipeline:
    """Claims, sends and settles for one platform until cancelled."""

    def __init__(
        self,
        *,
        terms: Terms,
        gate: Gate,
        learner: Learner,
        outbox: Outbox,
        sender: Sender,
        authoriser: Authoriser,
        surroundings: Surroundings,
    ) -> None:
        self.terms = terms
        self.gate = gate
        self.learner = learner
        self.concurrency = AdaptiveConcurrency(terms.concurrency)
        self.concurrency.restart()
        self.last_error = ""
        self.wait_reason = ""
        self.waits_until = 0.0
        self.limited_since = 0.0  # since when slots hold it back; while they do not, when it last took one
        self._limited = False
        self._outbox = outbox
        self._signals = LimitSignals(learner, gate)
        self._courier = Courier(
            terms=terms,
            coding=gate.coding,
            signals=self._signals,
            sender=sender,
            authoriser=authoriser,
            surroundings=surroundings,
        )
        self._clock = surroundings.clock
        self._wall = surroundings.wall
        self._claim_until = surroundings.claim_until
        self._events = surroundings.events
        self._rng = surroundings.rng
        self._wakeup = Wakeup(self._clock)
        self._turn = 0
        self._quotas: Sequence[Quota] | None = None  # learned ones in force; None: whatever a predecessor put there
        self._flush = False
        self._flush_group: str | None = None
        self._under_way: dict[asyncio.Task[None], tuple[Batch, float]] = {}  # and since when
        self._claiming: asyncio.Future[Batch | WaitUntil] | None = None
        self._kept = KeptGate(gate, learner)
        self._broken: BaseException | None = None
        self._asking = 0  # requests without callbacks that are under way
        self.settling: asyncio.Future[list[None]] | None = None  # what was cut off in the end, until the store is there

    @property
    def in_flight(self) -> int:
        """Requests under way: batches claimed and not settled, and questions."""
        return len(self._under_way) + self._asking

    @property
    def room(self) -> int:
        """How many requests may be under way now."""
        single = self.gate.single_file or self.learner.careful(self._clock.now())
        return 1 if single else self.concurrency.limit

    @property
    def _limits_end_at(self) -> float:
        return min(self.learner.ends_at, self.gate.orders.limits_end_at)

    def changed(self, count: int) -> None:
        """Take note of ``count`` more callbacks to send, or of changed slots when 0."""
        if count:
            self._wakeup.arrived(count)
        else:
            self._wakeup.wake()

    def flush(self, group: str | None = None) -> None:
        """Send what is queued, of one group where it is named, without waiting for pace or linger; limits hold.

        It is over once nothing is left to claim: what arrives while it waits for a free slot goes with it.
        """
        self._flush, self._flush_group = True, group
        self._wakeup.wake()

    async def run(self) -> None:
        """Claim and send until cancelled; raises what a delivery raised, which is a bug."""
        while True:
            self._wakeup.begin()
            if self._broken is not None:
                broken, self._broken = self._broken, None
                raise broken
            now = self._clock.now()
            self.gate.lapse(now)
            if (self.learner.changed or now >= self._limits_end_at) and not await self._put_limits(now):
                continue
            if self.in_flight >= self.room:
                await self._sleep(WaitUntil(float("inf"), "concurrency"))
                continue
            opens_at = self.gate.opens_at(now)
            if opens_at > now:
                await self._sleep(WaitUntil(opens_at, self.gate.wait_reason))
                continue
            if now >= self._claim_until(self.terms.platform):  # another host may own it soon, unless ours is renewed
                await self._sleep(WaitUntil(now + _SETTLE_AGAIN_S, "owner"))
                continue
            if self.terms.hours is not None and (closed_s := self.terms.hours.closed_s(self._wall())):
                await self._sleep(WaitUntil(now + closed_s, "hours"), at_most=now + _CLOCK_LOOK_S)
                continue
            try:
                claimed = await self._claim()
            except Fenced:
                self._events.fenced(platform=self.terms.platform, what="claim")
                await self._sleep(WaitUntil(self._clock.now() + _SETTLE_AGAIN_S, "owner"))
                continue
            except StoreError:  # the store reports its own failure; what was not claimed was not sent
                await self._sleep(WaitUntil(self._clock.now() + _SETTLE_AGAIN_S, "store"))
                continue
            if isinstance(claimed, WaitUntil):
                self._flush, self._flush_group = False, None
                await self._sleep(claimed)
            else:
                self._begin(claimed, asked_at=now)

    async def _claim(self) -> Batch | WaitUntil:
        """Claim. What is being claimed when the pipeline ends is claimed all the same, and ``drain`` sends it."""
        self._claiming = claiming = asyncio.ensure_future(self._outbox.claim(self._claim_request()))
        try:
            claimed = await asyncio.shield(claiming)
        except Exception:  # of any kind: only a cancellation leaves a claim behind
            self._claiming = None
            raise
        self._claiming = None
        return claimed

    def _begin(self, batch: Batch, *, asked_at: float) -> None:
        self._turn += 1
        if not self._limited:
            self.limited_since = self._clock.now()
        first = self.gate.first_after_stop(batch.group)
        task = asyncio.create_task(self._deliver(batch, asked_at=asked_at, first_after_stop=first))
        self._under_way[task] = batch, asked_at
        task.add_done_callback(self._delivered)

    @property
    def turns(self) -> int:
        """How many batches were claimed."""
        return self._turn

    async def ask(self, draft: Callable[[str], Draft], *, answer_bytes: int) -> Asked | WaitUntil:
        """Send a request that carries no callback, under every limit, or say until when to wait.

        ``draft`` makes it of the id that the request gets. What comes back moves the gate as a batch's answer does.
        """
        now = self._clock.now()
        self.gate.lapse(now)
        if (self.learner.changed or now >= self._limits_end_at) and not await self._put_limits(now):
            return WaitUntil(now + _SETTLE_AGAIN_S, "store")
        if now >= self._claim_until(self.terms.platform):
            return WaitUntil(now + _SETTLE_AGAIN_S, "owner")
        if self.in_flight >= self.room:
            return WaitUntil(now, "concurrency")
        if (opens_at := self.gate.opens_at(now)) > now:
            return WaitUntil(opens_at, self.gate.wait_reason)
        self._asking += 1
        try:
            batch = await self._outbox.reserve(self.terms.platform)
            if isinstance(batch, WaitUntil):
                return batch
            asked = await self._courier.ask(batch, draft(batch.id), answer_bytes=answer_bytes, asked_at=now)
            attempted = Attempted(batch, asked.verdict, asked.result, now, first_after_stop=False)
            gate, ended_at = self.gate.of(batch, scope="platform"), asked.result.ended_at
            settling = Settling(attempted, self.terms.budget, gate, ended_at, self._rng)
            settle_question(settling)
            await self._settle(settling.unchanged)
        finally:
            self._asking -= 1
            self._wakeup.wake()
        if asked.answer is not None:
            self._events.attempt(batch, asked.result)
        return asked

    def kept(self) -> Kept:
        """Return what a restart must know: the gate and what was learned."""
        return self._kept.whole()

    def forget_limit(self) -> None:
        """Drop what was learned, declared and set of the platform's limits, and learn anew."""
        self._signals.forget()

    async def drain(self, within_s: float, *, settles: bool) -> int:
        """Wait for what is under way, at most ``within_s``; return how many were cut off.

        What was cut off may have been applied: with ``settles`` its batch goes again, without a charge. So does what
        the store claims only later. Else both are left to whoever takes the platform over.
        """
        if not self._under_way and self._claiming is None:
            return 0
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._finish()
        left = dict(self._under_way)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        if settles and (left or self._claiming is not None):
            self.settling = asyncio.gather(*(self._settle_cut_off(*cut) for cut in left.values()), self._settle_late())
            await asyncio.wait((self.settling,), timeout=_SETTLE_AGAIN_S)
        return len(left)

    async def _finish(self) -> None:
        if self._claiming is not None:
            with suppress(StoreError):  # nothing was claimed
                claimed = await asyncio.shield(self._claiming)
                if isinstance(claimed, Batch):
                    self._begin(claimed, asked_at=self._clock.now())
            self._claiming = None
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _claim_request(self) -> ClaimRequest:
        terms, gate = self.terms, self.gate
        testing = gate.resuming and gate.suspicion.test
        turn = scattered(self._turn) if terms.grouped else self._turn
        closed, resuming = gate.closed(self._clock.now(), [batch.group for batch, _ in self._under_way.values()])
        return ClaimRequest(
            platform=terms.platform,
            group=None if self._flush_group in closed else self._flush_group,
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
        quotas = [*self.learner.quotas(now), *self.gate.orders.quotas(self.terms.platform, now)]
        try:
            if quotas != self._quotas:
                await self._outbox.set_quotas(self.terms.platform, quotas)
            self._quotas = quotas
        except StoreError:
            self._quotas = None
            self.learner.changed = True
            await self._sleep(WaitUntil(self._clock.now() + _SETTLE_AGAIN_S, "store"))
            return False
        for news in self.learner.news(now):
            report_limit(self._events, self.terms.platform, news, enforced=self.learner.enforces)
        return True

    async def _sleep(self, wait: WaitUntil, *, at_most: float = math.inf) -> None:
        self.wait_reason, self.waits_until = wait.reason, wait.at
        if wait.reason in ("limit", "share"):
            self.limited_since = self.limited_since if self._limited else self._clock.now()
            self._limited = True
        elif wait.reason != "concurrency":  # which lasts for as long as the answers to what took the slots
            self._limited = False
        # while slots or the gate hold everything back, more callbacks change nothing
        missing = wait.missing or (1 if wait.reason in ("idle", "retry") else 0)
        await self._wakeup.sleep(min(wait.at, self._limits_end_at, at_most), missing=missing)
        self.wait_reason = ""

    async def _deliver(self, batch: Batch, *, asked_at: float, first_after_stop: bool) -> None:
        started_at = self._clock.now()
        carried = await self._courier.carry(batch, asked_at=asked_at)
        result = carried.result
        if carried.bug is not None:
            self._broken = carried.bug
        was_open, alone, was_plain = self.gate.breaker.is_open, self.gate.single_file, self.gate.coding.plain
        attempted = Attempted(
            batch,
            carried.verdict,
            result,
            started_at,
            first_after_stop,
            renewed=carried.renewed,
            read_back=self.terms.read_back,
            asked=asks_back(batch, self.terms),
        )
        self.gate.expect_wait(self.learner.patience_s(batch.group))
        settlement = decide(attempted, budget=self.terms.budget, gate=self.gate, now=result.ended_at, rng=self._rng)
        self._pace_up(result, alone=alone)
        self._wakeup.wake()  # a gate that closed or opened is news before the commit
        await self._settle(settlement)
        if not result.outcome.accepted:
            self.last_error = result.reason
        report_settled(
            self._events,
            batch,
            settlement,
            gate=self.gate,
            was_open=was_open,
            was_plain=was_plain,
            objective=self.terms.objective,
        )

    def _pace_up(self, result: AttemptResult, *, alone: bool) -> None:
        """Learn from how long the answer took how many requests may be under way; after a stop begin with one."""
        if result.outcome.accepted or result.outcome in _FAILED:
            failed = result.outcome in _FAILED
            self.concurrency.answered(result.duration_s, in_flight=self.in_flight, failed=failed)
        if alone and not self.gate.single_file:
            self.concurrency.restart()

    async def _settle_cut_off(self, batch: Batch, started_at: float) -> None:
        settlement = cut_off(batch, started_at=started_at, now=self._clock.now())
        self._events.attempt(batch, settlement.result)
        await self._settle(settlement)

    async def _settle_late(self) -> None:
        """Settle what is claimed only after the pipeline has ended: nobody sends it, so it goes as what was cut off."""
        with suppress(StoreError):  # nothing was claimed
            claimed = None if self._claiming is None else await self._claiming
            if isinstance(claimed, Batch):
                await self._settle_cut_off(claimed, self._clock.now())

    async def _settle(self, settlement: Settlement) -> None:
        settlement = self._kept.carried_by(settlement)
        while True:
            try:
                return await self._outbox.settle(settlement)
            except Fenced:  # who lost the lease settles nothing: the next owner sends the batch again under its id
                self._events.fenced(platform=self.terms.platform, what="settle")
                return None
            except StoreError:  # reported by the store; the answer is known and must not be asked for again
                await asyncio.sleep(_SETTLE_AGAIN_S)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._wakeup.wake()
