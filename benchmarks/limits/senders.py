"""Who sends: the relay as it combines estimator, strict windows and gate, and the ways of others.

A sender says when it would send next and learns of every answer; ``run.py`` drives it in virtual time. All have an
endless backlog and at most ``CONCURRENCY`` requests under way.
"""

import math
import random
from collections import deque
from typing import Protocol

from relay.core.model import Purpose, Rate
from relay.limits.estimator import Estimator
from relay.limits.evidence.history import Signal
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.gate.stop import StopCause
from relay.policy.strict_window import StrictWindow

from benchmarks.limits.platforms import Reply

CONCURRENCY = 4


class Sender(Protocol):
    """One way of sending."""

    def next_at(self, now: float, under_way: int) -> float:
        """Return when the next request goes: ``now`` for at once, infinity for not before an answer."""
        ...

    def sent(self, token: int, now: float) -> None:
        """Learn that a request went out."""
        ...

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Learn of its answer."""
        ...


class Relay:
    """What the relay does: gate, then slots of the limits in force, then the estimator learns from the answer.

    With ``told`` that limit is in force, as if it was configured, and nothing that is learned.
    """

    def __init__(self, rng: random.Random, *, estimator: Estimator | None = None, told: Rate | None = None) -> None:
        self.estimator = estimator or Estimator()
        self.estimator.observing = told is not None
        self._told = told
        self.gate = Gate(breaker=Breaker(BreakerTerms(open_after=5, probe_every_s=30.0)), base_s=2.0, cap_s=600.0)
        self._rng = rng
        self._windows: list[StrictWindow] = []
        self._log: deque[tuple[int, float]] = deque(maxlen=20_000)  # token, when its answer was seen
        self._open: set[int] = set()
        self.enforced_log: list[tuple[float, tuple[Rate, ...]]] = []
        self._apply(0.0)

    def next_at(self, now: float, under_way: int) -> float:
        """Gate first, as the pipeline asks it, then the slots."""
        if under_way and (under_way >= CONCURRENCY or self.gate.single_file or self.estimator.careful(now)):
            return math.inf
        at = self.gate.opens_at(now)
        if at > now:
            return at
        for window in self._windows:
            at = max(at, window.free_at(now))
        return at

    def sent(self, token: int, now: float) -> None:
        """Take a slot in every window."""
        for window in self._windows:
            window.take(token)
        self._open.add(token)
        self.estimator.sent(token, now)

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Release, learn, and move the gate as ``settling.decide`` does."""
        for window in self._windows:
            window.release(token, now)
        self._open.discard(token)
        self._log.append((token, now))
        self.estimator.answered(token, now, reply.kind, reply.wait_s)
        self.gate.expect_wait(self.estimator.patience_s)
        if reply.kind is Signal.ACCEPTED:
            self.gate.accepted(now)
        else:
            self._refused(StopCause(now, started_at, reply.kind.value, reply.wait_s), reply.kind)
        if self.estimator.changed:
            self._apply(now)

    def _refused(self, cause: StopCause, kind: Signal) -> None:
        gate, rng = self.gate, self._rng
        match kind:
            case Signal.THROTTLED | Signal.BUSY:
                gate.throttle(cause, rng)
            case Signal.DOWN:
                gate.failed(cause, rng, back_off=True)
            case Signal.FAILED:
                gate.failed(cause, rng, back_off=False)

    def _apply(self, now: float) -> None:
        """Put other rates in force, strict over what was sent (``store/slots.py`` rebuilds in the same way)."""
        rates = self.estimator.enforced()
        if self._told is not None:
            rates = (self._told,)
        self.enforced_log.append((now, rates))
        if [rate.window_s for rate in rates] == [window.window_s for window in self._windows]:
            for window, rate in zip(self._windows, rates, strict=True):
                window.resize(rate.limit)
            return
        self._windows = [StrictWindow(rate) for rate in rates]
        for window in self._windows:
            rows: list[tuple[int, float | None, int]] = [(token, None, Purpose.FIRST) for token in self._open]
            for token, at in reversed(self._log):
                if at + window.window_s <= now:
                    break
                rows.append((token, at, Purpose.FIRST))
            window.restore(rows, now)


class FixedRetry:
    """Retry after five seconds, each worker by itself (OpenTelemetry-like), nothing learned."""

    def __init__(self, rng: random.Random) -> None:
        self._ready = [0.0] * CONCURRENCY
        self._by_token: dict[int, int] = {}

    def next_at(self, now: float, under_way: int) -> float:
        """A worker goes when its own wait is over."""
        return max(now, min(self._ready))

    def sent(self, token: int, now: float) -> None:
        """Occupy the first ready worker."""
        worker = self._ready.index(min(self._ready))
        self._ready[worker] = math.inf
        self._by_token[token] = worker

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Wait after anything that was not accepted."""
        self._ready[self._by_token.pop(token)] = now if reply.kind is Signal.ACCEPTED else now + (reply.wait_s or 5.0)


class _Paced:
    """Common part of the rate controllers: one send every 1/rate seconds."""

    rate = 20.0

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._next = 0.0
        self._stop = 0.0

    def next_at(self, now: float, under_way: int) -> float:
        """Keep the pace, and obey what the platform asked for."""
        return math.inf if under_way >= CONCURRENCY else max(now, self._next, self._stop)

    def sent(self, token: int, now: float) -> None:
        """Put the next send off by one gap."""
        self._next = now + 1.0 / self.rate

    def _hint(self, now: float, reply: Reply) -> None:
        if reply.wait_s:
            self._stop = now + reply.wait_s


class Aimd(_Paced):
    """Additive increase per accepted request, halving at most once a second."""

    _cut_at = -math.inf

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Move the rate."""
        if reply.kind is Signal.ACCEPTED:
            self.rate = min(80.0, self.rate + 0.1 / max(self.rate, 0.1))
        elif started_at > self._cut_at:
            self.rate, self._cut_at = max(0.05, self.rate / 2), now
        self._hint(now, reply)


class Cubic(_Paced):
    """botocore's adaptive mode: cubic growth after a cut to 0.7, at most twice the measured rate."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._w_max = self.rate
        self._at = 0.0
        self._measured = self.rate
        self._bucket = (0, 0)

    def sent(self, token: int, now: float) -> None:
        """Measure in half-second buckets, as botocore does."""
        super().sent(token, now)
        half = int(now * 2)
        if half != self._bucket[0]:
            self._measured = 0.8 * self._bucket[1] * 2 / max(1, half - self._bucket[0]) + 0.2 * self._measured
            self._bucket = (half, 0)
        self._bucket = (half, self._bucket[1] + 1)

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Move the rate."""
        if reply.kind is Signal.ACCEPTED:
            k = (0.3 * self._w_max / 0.4) ** (1 / 3)
            wanted = 0.4 * (now - self._at - k) ** 3 + self._w_max
            self.rate = max(0.5, min(80.0, wanted, max(2 * self._measured, 0.5)))
        else:
            self._w_max, self._at = self.rate, now
            self.rate = max(0.5, 0.7 * self.rate)
        self._hint(now, reply)


class Sre(_Paced):
    """Client-side throttling of the SRE book: over two minutes, drop (requests - 2 accepts) / (requests + 1)."""

    rate = 80.0

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._seen: deque[tuple[float, bool]] = deque()
        self._accepts = 0
        self._counted_until = 0.0

    def next_at(self, now: float, under_way: int) -> float:
        """Draw per opportunity; a drawn drop is asked again one gap later."""
        at = super().next_at(now, under_way)
        if at > now:
            return at
        while self._seen and self._seen[0][0] < now - 120.0:
            self._accepts -= self._seen.popleft()[1]
        requests = len(self._seen)
        if self.rng.random() < max(0.0, (requests - 2 * self._accepts) / (requests + 1)):
            self._seen.append((now, False))  # the book counts what it dropped among the requests
            self._next = now + 1.0 / self.rate
            return self._next
        return now

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Count the answer."""
        good = reply.kind is Signal.ACCEPTED
        self._seen.append((now, good))
        self._accepts += good
        self._hint(now, reply)
