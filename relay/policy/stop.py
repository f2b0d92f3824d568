"""A stop: left alone until a time, growing in a row, and one request first when it ends.

A platform has one, and each of its groups that was throttled. A stop holds nobody's callbacks: they stay in the queue.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.policy.backoff import backoff_s
from relay.policy.suspicion import Suspicion

_HINT_JITTER = 0.1  # a hinted stop ends up to a tenth late, so that many relays do not return in one moment


@dataclass(slots=True, kw_only=True)
class Stop:
    """``base_s`` and ``cap_s`` bound the growing waits; all times are relay-clock seconds."""

    base_s: float
    cap_s: float
    stopped_until: float = 0.0
    stop_reason: str = ""
    throttled: bool = False  # the platform's wish rather than its failure
    level: int = 0  # stops in a row without anything accepted
    resuming: bool = False
    suspicion: Suspicion = field(default_factory=Suspicion)
    _stopped_at: float = 0.0

    def throttle(self, now: float, *, started_at: float, wait_s: float | None, reason: str, rng: random.Random) -> None:
        """Stop until the hint, or by growing backoff. Answers to requests sent before a stop do not make it grow.

        A hint that proved too short - the first request after it was refused again - does not shorten the backoff: a
        platform that keeps saying "in 0 seconds" must not be asked in a hot loop.
        """
        until = self.stopped_until
        fresh = started_at >= self._stopped_at
        if wait_s is not None:
            until = now + wait_s * (1.0 + _HINT_JITTER * rng.random())
        if fresh and (wait_s is None or self.level):
            until = max(until, now + self._backoff_s(rng))
        self._stop(now, until, started_at=started_at, reason=reason, throttled=True)

    def back_off(self, now: float, *, started_at: float, reason: str, rng: random.Random, at_most: float) -> None:
        """Stop for a growing time after a failure, not beyond ``at_most``.

        A request sent before the stop adds nothing to it.
        """
        if started_at >= self._stopped_at:
            until = min(now + self._backoff_s(rng), at_most)
            self._stop(now, until, started_at=started_at, reason=reason, throttled=False)

    def end(self) -> None:
        """Something was accepted: the next stop starts small again."""
        self.level, self.resuming = 0, False

    def _backoff_s(self, rng: random.Random) -> float:
        return backoff_s(self.level + 1, base_s=self.base_s, cap_s=self.cap_s, rng=rng)

    def _stop(self, now: float, until: float, *, started_at: float, reason: str, throttled: bool) -> None:
        if started_at >= self._stopped_at:
            self.level += 1
            self._stopped_at = now
        if until >= self.stopped_until:
            self.stopped_until, self.stop_reason, self.throttled = until, reason, throttled
        self.resuming = True

    def dump_stop(self) -> dict[str, Any]:
        """Return what a restart must know; suspicion starts anew."""
        return {
            "stopped_until": self.stopped_until,
            "stop_reason": self.stop_reason,
            "throttled": self.throttled,
            "level": self.level,
            "resuming": self.resuming,
        }

    def load_stop(self, kept: Mapping[str, Any]) -> None:
        """Continue from ``dump_stop``; what is missing keeps its start value."""
        self.stopped_until = float(kept.get("stopped_until", 0.0))
        self.stop_reason = str(kept.get("stop_reason", ""))
        self.throttled = bool(kept.get("throttled", False))
        self.level = int(kept.get("level", 0))
        self.resuming = bool(kept.get("resuming", False))
