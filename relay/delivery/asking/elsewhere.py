"""Requests that others than the relay send to a platform: what they learn counts as what the relay's own would.

A slot may be given back, or a refusal told, after a reload took the platform away. Then there is nobody to tell.
"""

import random
from collections.abc import Callable
from itertools import count
from typing import Final

from relay.core.clock import Clock
from relay.core.model import Batch
from relay.delivery.pipeline import Pipeline
from relay.limits.evidence.history import Signal
from relay.limits.learner import Learner
from relay.policy.gate.stop import StopCause
from relay.store.base import Outbox

REASON: Final = "a request of others was refused"


class Elsewhere:
    """Tells the pipelines of requests that are not theirs; ``find`` returns None for one that does not run."""

    def __init__(
        self, find: Callable[[str], Pipeline | None], *, outbox: Outbox, clock: Clock, rng: random.Random
    ) -> None:
        self._find = find
        self._outbox = outbox
        self._clock = clock
        self._rng = rng
        self._tokens = count(-1, -1)  # attempts have the numbers above 0

    def stopped_until(self, platform: str, group: str) -> float:
        """Return until when the platform, or the group, asked to be left alone; 0.0 where it did not."""
        pipeline = self._find(platform)
        if pipeline is None:
            return 0.0
        gate = pipeline.gate
        stops = (gate, gate.groups.get(group)) if group else (gate,)
        return max((stop.stopped_until for stop in stops if stop.throttled), default=0.0)

    def accepted(self, platform: str, group: str, count: int) -> None:
        """Let the learner know of requests that were let through."""
        pipeline = self._find(platform)
        if pipeline is None:
            return
        for _ in range(count):
            self._tell(pipeline.learner, group, Signal.ACCEPTED, None)

    async def refused(self, platform: str, group: str, wait_s: float | None) -> None:
        """Stop the platform, or the group, as if a request of the relay's own had been refused, and keep it."""
        pipeline, now = self._find(platform), self._clock.now()
        if pipeline is None:
            return
        self._tell(pipeline.learner, group, Signal.THROTTLED, wait_s)
        gate = pipeline.gate
        gate.expect_wait(pipeline.learner.patience_s(group))
        asked = Batch(0, "", 1, 0, platform, group, [], now, 0)
        gate.of(asked, scope="group").throttle(StopCause(now, now, REASON, wait_s), self._rng)
        pipeline.changed(0)
        await self._outbox.set_gate(platform, pipeline.kept())

    def _tell(self, learner: Learner, group: str, kind: Signal, wait_s: float | None) -> None:
        now, token = self._clock.now(), next(self._tokens)
        learner.sent(token, group, now)
        learner.answered(token, group, kind=kind, sent_at=now, now=now, wait_s=wait_s, whole=not group)
