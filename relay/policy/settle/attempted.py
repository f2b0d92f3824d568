"""What settling works on: one finished attempt, the retry budget, and the gate that the answer moves."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay.core.model import Batch, Item, Verdict
from relay.core.settlement import AttemptResult, Resend, Settlement
from relay.policy.backoff import backoff_s
from relay.policy.gate.platform import GroupGate
from relay.policy.gate.stop import StopCause

ReadBack = Literal["never", "unclear", "ambiguous"]
"""When a read-back decides: never, for answers nobody recognised, or also for requests that may have been applied."""


@dataclass(frozen=True, slots=True)
class Budget:
    """``retry:`` of a platform: re-sends after the first attempt, and the bounds of their backoff in seconds."""

    times: int
    base_s: float
    cap_s: float


@dataclass(frozen=True, slots=True)
class Attempted:
    """One finished attempt: the batch, what it drew and when (relay-clock seconds)."""

    batch: Batch
    verdict: Verdict
    result: AttemptResult
    started_at: float
    first_after_stop: bool  # sent while the gate was resuming
    renewed: bool = False  # refused for its token, and there is another one to try
    read_back: ReadBack = "never"
    asked: bool = False  # it was a read-back: what it drew is about the one item, not an answer to sending it


@dataclass(frozen=True, slots=True)
class Settling:
    """One attempt while it is settled. ``gate`` is the gate as this batch meets it, ``now`` when the answer was seen.

    The methods move the gate, or work out a time from the attempt; none of them changes the attempt itself.
    """

    attempted: Attempted
    budget: Budget
    gate: GroupGate
    now: float
    rng: random.Random

    @property
    def batch(self) -> Batch:
        """The batch that was sent."""
        return self.attempted.batch

    @property
    def items(self) -> Sequence[Item]:
        """The batch's items."""
        return self.attempted.batch.items

    @property
    def verdict(self) -> Verdict:
        """What the answer means."""
        return self.attempted.verdict

    @property
    def unchanged(self) -> Settlement:
        """A settlement that records the attempt and names no item yet."""
        batch = self.attempted.batch
        return Settlement(
            batch=batch.number, attempt_id=batch.attempt_id, platform=batch.platform, result=self.attempted.result
        )

    @property
    def opens_at(self) -> float:
        """When the gate lets the items go again."""
        return self.gate.opens_at(self.now)

    def backoff_at(self, resend: int) -> float:
        """Return when the ``resend``-th re-send (from 1) is due: with ``backoff: 2s..10m`` the third in 4 to 8 s."""
        budget = self.budget
        return self.now + backoff_s(resend, base_s=budget.base_s, cap_s=budget.cap_s, rng=self.rng)

    def resend(self, due_at: float, *, charge: bool = False) -> Resend:
        """Return the same batch, due again at ``due_at``."""
        return Resend(due_at=due_at, charge=charge, reason=self.verdict.reason)

    def accepted(self) -> None:
        """The platform took something: stops and failures are over. Where it says nothing is left, wait for that."""
        self.gate.accepted(self.now)
        if self.verdict.outcome.accepted:
            self.gate.hold(self._cause(self.verdict.wait_s, self.verdict.reason), self.rng)

    def throttled(self, *, wait_s: float | None, reason: str) -> None:
        """Stop the group or the platform: for ``wait_s`` where the platform named a wait, else for a growing time."""
        self.gate.throttle(self._cause(wait_s, reason), self.rng)

    def failed(self, *, back_off: bool) -> None:
        """Count a failure of the platform; with ``back_off`` it is also left alone for a growing time."""
        self.gate.failed(self._cause(self.verdict.wait_s, self.verdict.reason), self.rng, back_off=back_off)

    def obey(self) -> None:
        """Stop for a ``Retry-After`` that came with a failure rather than a throttle."""
        if self.verdict.wait_s:
            self.throttled(wait_s=self.verdict.wait_s, reason=self.verdict.reason)

    def refused(self, *, root: int, parts: int = 0) -> bool:
        """Count a wholly refused batch towards a storm; return whether it was the probe of an open breaker.

        ``root`` and ``parts`` as in ``Breaker.refused``. A refused probe is not halved, and puts the next probe off.
        """
        breaker, batch = self.gate.breaker, self.attempted.batch
        probing = breaker.is_open
        self.gate.answered()
        breaker.refused(
            self.now,
            root=root,
            alone=len(batch.items) == 1,
            reason=self.verdict.reason,
            rng=self.rng,
            parts=0 if probing else parts,
            replayed=batch.replayed,
        )
        if probing:
            breaker.open(self.now, breaker.reason, self.rng)
        return probing

    def outage_since(self, sent_at: float, *, reason: str) -> bool:
        """Return whether the platform accepted nothing since ``sent_at``; if so, open the breaker for ``reason``.

        Then an item without budget waits for the probe instead of dying: an outage buries nothing. Not with
        ``breaker: off``, where nothing would ever probe.
        """
        gate = self.gate
        if gate.breaker.terms is None or gate.last_accepted_at >= sent_at:
            return False
        gate.breaker.open(self.now, f"nothing accepted: {reason}", self.rng)
        return True

    def _cause(self, wait_s: float | None, reason: str) -> StopCause:
        return StopCause(self.now, self.attempted.started_at, reason, wait_s)
