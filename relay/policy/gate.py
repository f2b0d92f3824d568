"""May this platform be talked to now? Pause, cooldown after a throttle, backoff after failures, and the breaker.

A gate stops the *platform*, never a callback: what waits behind it stays where it is in the queue. After any stop one
request goes first (``resuming``), taking other keys where there are any; the others follow when it was not refused.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.policy.backoff import backoff_s
from relay.policy.breaker import Breaker
from relay.policy.suspicion import Suspicion

_HINT_JITTER = 0.1  # a hinted stop ends up to a tenth late, so that many relays do not return in one moment


@dataclass(slots=True)
class Gate:
    """One platform's gate. ``base_s`` and ``cap_s`` bound the growing stops; all times are relay-clock seconds."""

    breaker: Breaker
    base_s: float
    cap_s: float
    paused: bool = False
    pause_reason: str = ""
    stopped_until: float = 0.0
    stop_reason: str = ""
    throttled: bool = False  # the stop is the platform's wish rather than its failure
    level: int = 0  # stops in a row without anything accepted
    resuming: bool = False
    last_accepted_at: float = 0.0
    plain: bool = False  # 415: compressed bodies are not understood
    suspicion: Suspicion = field(default_factory=Suspicion)
    _stopped_at: float = 0.0

    def opens_at(self, now: float) -> float:
        """Return when a request may be claimed: ``now`` or earlier means at once, infinity means by an operator."""
        if self.paused:
            return math.inf
        at = self.stopped_until if self.stopped_until > now else now
        return max(at, self.breaker.probe_at) if self.breaker.is_open else at

    @property
    def single_file(self) -> bool:
        """Whether only one request may be under way: a probe, or the first after a stop."""
        return self.resuming or self.breaker.is_open

    def accepted(self, now: float) -> None:
        """An item got through: stops and failures are over."""
        self.level, self.resuming, self.last_accepted_at = 0, False, now
        self.breaker.accepted()

    def answered(self) -> None:
        """The platform answered without accepting or refusing to be talked to: a stop is over, failures are not."""
        self.resuming = False

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
            until = max(until, now + backoff_s(self.level + 1, base_s=self.base_s, cap_s=self.cap_s, rng=rng))
        self._stop(now, until, started_at=started_at, reason=reason, throttled=True)

    def failed(self, now: float, *, started_at: float, reason: str, rng: random.Random, back_off: bool) -> None:
        """Count a platform-level failure; with ``back_off`` the platform is also left alone for a growing time."""
        self.breaker.failed(now, reason)
        if back_off and started_at >= self._stopped_at:
            until = now + backoff_s(self.level + 1, base_s=self.base_s, cap_s=self.cap_s, rng=rng)
            if self.breaker.is_open:
                until = min(until, self.breaker.probe_at)  # the breaker's pace of probes holds, not a longer backoff
            self._stop(now, until, started_at=started_at, reason=reason, throttled=False)

    def _stop(self, now: float, until: float, *, started_at: float, reason: str, throttled: bool) -> None:
        if started_at >= self._stopped_at:
            self.level += 1
            self._stopped_at = now
        if until >= self.stopped_until:
            self.stopped_until, self.stop_reason, self.throttled = until, reason, throttled
        self.resuming = True

    def dump(self) -> dict[str, Any]:
        """Return what a restart must know; ``last_accepted_at`` may lag behind, which only delays a dead letter."""
        return {
            "paused": self.paused,
            "pause_reason": self.pause_reason,
            "stopped_until": self.stopped_until,
            "stop_reason": self.stop_reason,
            "throttled": self.throttled,
            "level": self.level,
            "resuming": self.resuming,
            "last_accepted_at": self.last_accepted_at,
            "plain": self.plain,
            "breaker": self.breaker.dump(),
        }

    def load(self, kept: Mapping[str, Any]) -> None:
        """Continue from ``dump``; keys of another version that are missing keep their start values."""
        self.paused = bool(kept.get("paused", False))
        self.pause_reason = str(kept.get("pause_reason", ""))
        self.stopped_until = float(kept.get("stopped_until", 0.0))
        self.stop_reason = str(kept.get("stop_reason", ""))
        self.throttled = bool(kept.get("throttled", False))
        self.level = int(kept.get("level", 0))
        self.resuming = bool(kept.get("resuming", False))
        self.last_accepted_at = float(kept.get("last_accepted_at", 0.0))
        self.plain = bool(kept.get("plain", False))
        self.breaker.load(kept.get("breaker", {}))
