"""Modelled platforms: a limit, the signal it answers with above it, and what makes the evidence dirty.

Virtual time throughout; no request ever leaves the process.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.core.model import Rate
from relay.limits.evidence.history import Signal
from relay.standin.throttle import Limit, build_limit

SIGNALS = ("429", "429+retry-after", "408-5s", "refused", "200+errcode")
FAMILIES = ("fixed", "first-request", "sliding", "bucket", "sliding+refused")
ANSWER_S = 0.05
NOISES = ("clean", "failures", "jitter", "shared", "outage")


class Reply(NamedTuple):
    """How the platform answered one request: when (seconds after the send), as what, and whether the limit did it."""

    after_s: float
    kind: Signal
    wait_s: float | None = None
    limited: bool = False


class FirstRequest:
    """At most N in a window that the first request after the last window's end begins."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._until = -math.inf
        self._used = 0

    def wait_s(self, now: float) -> float:
        """Return the seconds until the window ends when it is full."""
        if now >= self._until or self._used < self.rate.limit:
            return 0.0
        return self._until - now

    def take(self, now: float) -> None:
        """Count an arrival, beginning a window where none is open."""
        if now >= self._until:
            self._until, self._used = now + self.rate.window_s, 0
        self._used += 1

    def refuse(self, now: float) -> None:
        """Change nothing."""


class Banning:
    """A limit that, once exceeded, shuts the sender out for ``ban_s``."""

    def __init__(self, limit: Limit, ban_s: float) -> None:
        self.rate = limit.rate
        self._limit = limit
        self._ban_s = ban_s
        self._until = -math.inf

    def wait_s(self, now: float) -> float:
        """Return the rest of the ban, else what the limit says."""
        return max(self._until - now, self._limit.wait_s(now), 0.0)

    def take(self, now: float) -> None:
        """Count an arrival."""
        self._limit.take(now)

    def refuse(self, now: float) -> None:
        """Begin a ban unless one runs."""
        if now >= self._until:
            self._until = now + self._ban_s


def limit_of(family: str, rate: Rate) -> Limit:
    """Build one limit of a family of the table."""
    return FirstRequest(rate) if family == "first-request" else build_limit(family, rate)


@dataclass(slots=True)
class Shared:
    """A sender we do not see: ``share`` of the quota, one request every so often, give or take a third."""

    rate: Rate
    share: float
    rng: random.Random
    _next_at: float = 0.0

    def spend(self, limits: Sequence[Limit], now: float) -> None:
        """Let it send what it would have sent until ``now``."""
        gap_s = self.rate.window_s / (self.rate.limit * self.share)
        if not self._next_at:
            self._next_at = now
        while self._next_at <= now:
            if all(limit.wait_s(self._next_at) <= 0.0 for limit in limits):
                for limit in limits:
                    limit.take(self._next_at)
            self._next_at += gap_s * self.rng.uniform(2 / 3, 4 / 3)


class Down(NamedTuple):
    """A stretch in which the platform fails whatever it gets; ``odds`` is the part of requests that fail."""

    begin: float
    end: float
    kind: Signal
    after_s: float
    odds: float = 1.0


@dataclass(slots=True)
class Platform:
    """One platform. ``changes`` puts other limits in force from a time on."""

    limits: list[Limit]
    signal: str
    rng: random.Random
    answer_s: float = ANSWER_S
    failures: float = 0.0
    jitter: bool = False
    shared: Shared | None = None
    downs: Sequence[Down] = ()
    changes: list[tuple[float, list[Limit]]] = field(default_factory=list)
    _last_at: float = -math.inf

    def request(self, now: float) -> Reply:
        """Answer one request sent at ``now``."""
        answer_s = self.answer_s
        if self.jitter:
            answer_s = min(1.0, self.answer_s * self.rng.lognormvariate(0.0, 0.8))
        at = now + answer_s * (self.rng.random() if self.jitter else 0.5)
        at = self._last_at = max(at, self._last_at)  # what the limits see is in order
        answer_s = max(answer_s, at - now)
        while self.changes and self.changes[0][0] <= at:
            self.limits = self.changes.pop(0)[1]
        for down in self.downs:
            if at < down.begin:
                break  # they are in order
            if down.begin <= at < down.end and (down.odds >= 1.0 or self.rng.random() < down.odds):
                return Reply(down.after_s, down.kind)
        if self.shared is not None:
            self.shared.spend(self.limits, at)
        lookalike = False
        if self.failures and self.rng.random() < self.failures:
            if self.rng.random() < 2 / 3:
                return Reply(answer_s, Signal.FAILED)
            lookalike = True
        wait_s = max([limit.wait_s(at) for limit in self.limits], default=0.0)
        if wait_s > 0.0:
            for limit in self.limits:
                limit.refuse(at)
            return self._refusal(answer_s, wait_s, limited=True)
        if lookalike:
            return self._refusal(answer_s, None, limited=False)
        for limit in self.limits:
            limit.take(at)
        return Reply(answer_s, Signal.ACCEPTED)

    def _refusal(self, answer_s: float, wait_s: float | None, *, limited: bool) -> Reply:
        match self.signal:
            case "429+retry-after":
                return Reply(answer_s, Signal.THROTTLED, math.ceil(wait_s) if wait_s else None, limited)
            case "408-5s":
                return Reply(5.0 + answer_s, Signal.BUSY, None, limited)
            case "refused":
                return Reply(answer_s / 2, Signal.DOWN, None, limited)
        return Reply(answer_s, Signal.THROTTLED, None, limited)
