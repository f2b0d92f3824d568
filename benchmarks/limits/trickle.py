"""Callbacks that come one by one, at about the rate of the limit: the usual case, and harder to learn from.

With an endless backlog every window is used up in one go and each stretch of refusals begins after just N requests.
Here a refusal comes when chance has it, and between two of them anything may be accepted.

    python -m benchmarks.limits.trickle [PATTERN]...

A pattern is matched against FAMILY/WINDOW/SIGNAL/LOAD, as in ``sliding/60s/*/1.2``.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from typing import NamedTuple

from relay.core.model import Rate
from relay.limits.evidence.history import Signal

from benchmarks.limits.platforms import ANSWER_S, FAMILIES, SIGNALS, Platform, Reply, limit_of
from benchmarks.limits.run import drive
from benchmarks.limits.senders import Relay, Sender

LIMITS = {10: 50, 60: 100, 300: 300}
LOADS = (0.9, 1.05, 1.2, 3.0)
_BEGIN = 1_000_017.0
_HOURS = 3.0


class Trickle(NamedTuple):
    """A limit, how it refuses, and how much comes, as a part of the limit."""

    family: str
    window_s: int
    signal: str
    load: float

    @property
    def name(self) -> str:
        """The case as patterns match it."""
        return f"{self.family}/{self.window_s}s/{self.signal}/{self.load:g}"


class Trickled(NamedTuple):
    """What came of it after half an hour: the part of what was possible, refusals an hour, what is believed."""

    case: Trickle
    goodput: float
    rejects_per_hour: float
    learned: str

    def passes(self) -> bool:
        """Say whether it is within the bars of a disturbed case."""
        return self.goodput >= 0.9 and self.rejects_per_hour <= 20


def trickles() -> list[Trickle]:
    """Return every case."""
    return [
        Trickle(family, window_s, signal, load)
        for family in FAMILIES
        for window_s in LIMITS
        for signal in SIGNALS
        for load in LOADS
    ]


class Fed:
    """A sender that has only what came until now to send."""

    def __init__(self, sender: Sender, comes_at: Iterator[float]) -> None:
        self._sender = sender
        self._comes_at = comes_at
        self._next_at = next(comes_at)
        self._waiting = 0

    def next_at(self, now: float, under_way: int) -> float:
        """Wait for something to send first."""
        while self._next_at <= now:
            self._waiting += 1
            self._next_at = next(self._comes_at)
        return self._sender.next_at(now, under_way) if self._waiting else self._next_at

    def sent(self, token: int, now: float) -> None:
        """Take one of those waiting."""
        self._waiting -= 1
        self._sender.sent(token, now)

    def answered(self, token: int, now: float, started_at: float, reply: Reply) -> None:
        """Let what was not accepted wait again."""
        self._waiting += reply.kind is not Signal.ACCEPTED
        self._sender.answered(token, now, started_at, reply)


def _poisson(rng: random.Random, per_s: float, begin: float) -> Iterator[float]:
    at = begin
    while True:
        at += rng.expovariate(per_s)
        yield at


def trickle(case: Trickle, *, seed: int = 1) -> Trickled:
    """Run one case."""
    rng = random.Random(f"{case.name} {seed}")
    rate = Rate(LIMITS[case.window_s], float(case.window_s))
    sender = Relay(random.Random(rng.random()))
    platform = Platform(limits=[limit_of(case.family, rate)], signal=case.signal, rng=random.Random(rng.random()))
    per_s = case.load * rate.limit / rate.window_s
    end = _BEGIN + _HOURS * 3600.0
    trace = drive(Fed(sender, _poisson(rng, per_s, _BEGIN)), platform, begin=_BEGIN, end=end)
    warm = _BEGIN + max(1800.0, 6 * case.window_s)
    possible = min(per_s, rate.limit / (rate.window_s + ANSWER_S)) * (end - warm)
    estimate = sender.estimator.estimate(end)
    learned = ", ".join(map(str, estimate.rates)) + (f" {estimate.family.value}" if estimate.rates else "")
    return Trickled(
        case,
        min(1.0, trace.accepted_in(warm, end) / possible),
        trace.refused_in(warm, end) / (end - warm) * 3600.0,
        learned,
    )


def main(patterns: Sequence[str]) -> int:
    """Run what the patterns match, print what misses the bars and a line per load; return how many missed."""
    chosen = [case for case in trickles() if any(fnmatch(case.name, pattern) for pattern in patterns or ["*"])]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(trickle, chosen, chunksize=4))
    missed = [row for row in rows if not row.passes()]
    print(f"{'family/window/signal/load':42}{'goodput':>8}{'rej/h':>8}  learned")
    for row in missed:
        print(f"{row.case.name:42}{row.goodput:8.3f}{row.rejects_per_hour:8.1f}  {row.learned or '-'}")
    for load in LOADS:
        mine = [row for row in rows if row.case.load == load]
        if mine:
            passed, worst = sum(row.passes() for row in mine), min(row.goodput for row in mine)
            print(f"load {load:g} of the limit: {passed}/{len(mine)} within the bars, worst goodput {worst:.3f}")
    return len(missed)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
