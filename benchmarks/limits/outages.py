"""Outages of many kinds, seeded: none of them may end in a limit. And limits that begin, or change, in mid-run."""

import random
from typing import NamedTuple

from relay.core.model import Rate
from relay.limits.evidence.history import Signal

from benchmarks.limits.platforms import Down, Platform, limit_of
from benchmarks.limits.run import drive
from benchmarks.limits.senders import Relay

BEGIN_S = 1e6


class Paced(Relay):
    """The relay with a trickle of work instead of a backlog: one request every so often."""

    def __init__(self, rng: random.Random, gap_s: float) -> None:
        super().__init__(rng)
        self._gap_s = gap_s
        self._due_at = 0.0
        self._pace_rng = random.Random(rng.random())

    def next_at(self, now: float, under_way: int) -> float:
        """Wait for work, then as ever."""
        return max(super().next_at(now, under_way), self._due_at)

    def sent(self, token: int, now: float) -> None:
        """Work comes at random times of the given mean distance; what piled up goes at once."""
        super().sent(token, now)
        self._due_at = max(self._due_at, now - 20 * self._gap_s) + self._pace_rng.expovariate(1.0 / self._gap_s)


def outage(seed: int) -> tuple[Platform, Relay]:
    """Return an unlimited platform that is down, flaps, hangs or is overloaded for a while, and who sends to it."""
    rng = random.Random(f"outage/{seed}")
    kind, after_s = rng.choice(((Signal.DOWN, 0.02), (Signal.BUSY, 5.0), (Signal.BUSY, 0.05), (Signal.DOWN, 3.0)))
    downs: list[Down] = []
    at = BEGIN_S + rng.uniform(60.0, 900.0)
    shape = seed % 5
    if shape == 0:  # one, of any length
        downs.append(
            Down(at, at + rng.choice((5.0, 45.0, 300.0, 1800.0, 7200.0)) * rng.uniform(0.7, 1.5), kind, after_s)
        )
    elif shape == 1:  # flapping
        for _ in range(rng.randint(3, 15)):
            end = at + rng.uniform(3.0, 120.0)
            downs.append(Down(at, end, kind, after_s))
            at = end + rng.uniform(3.0, 180.0)
    elif shape == 2:  # a share of the requests fails
        downs.append(Down(at, at + rng.uniform(300.0, 3600.0), kind, after_s, rng.choice((0.02, 0.1, 0.3, 0.6, 0.9))))
    elif shape == 3:  # a crash loop: up for about as long each time
        up_s, down_s = rng.uniform(5.0, 60.0), rng.uniform(10.0, 60.0)
        for _ in range(rng.randint(4, 20)):
            end = at + down_s * rng.uniform(0.8, 1.2)
            downs.append(Down(at, end, kind, after_s))
            at = end + up_s * rng.uniform(0.8, 1.2)
    else:  # down, back half alive, down again, well
        downs.append(Down(at, at + 200.0, kind, after_s))
        downs.append(Down(at + 200.0, at + 500.0, Signal.BUSY, 5.0, 0.5))
        downs.append(Down(at + 620.0, at + 800.0, kind, after_s))
    platform = Platform(
        limits=[], signal="429", rng=random.Random(rng.random()), failures=rng.choice((0.0, 0.003)), downs=downs
    )
    gap_s = rng.choice((0.0, 0.2, 1.0, 5.0))
    sender_rng = random.Random(rng.random())
    return platform, Paced(sender_rng, gap_s) if gap_s else Relay(sender_rng)


def false_limit(seed: int) -> str:
    """Run one scenario; return what was enforced at any time, or an empty string."""
    platform, sender = outage(seed)
    end = max(down.end for down in platform.downs) + 1800.0
    drive(sender, platform, begin=BEGIN_S, end=end)
    for at, rates in sender.enforced_log:
        if rates:
            return f"seed {seed}: {', '.join(str(rate) for rate in rates)} from {at - BEGIN_S:.0f} s on"
    return ""


class Change(NamedTuple):
    """A limit that is put in force, or changed, an hour into the run."""

    name: str
    before: tuple[Rate, ...]
    after: tuple[Rate, ...]


CHANGES = (
    Change("100/min introduced", (), (Rate(100, 60.0),)),
    Change("100/min down to 50/min", (Rate(100, 60.0),), (Rate(50, 60.0),)),
    Change("100/min up to 300/min", (Rate(100, 60.0),), (Rate(300, 60.0),)),
    Change("10/s and 100/min introduced", (), (Rate(10, 1.0), Rate(100, 60.0))),
)


class Followed(NamedTuple):
    """How a change was followed: what is in force at the end, the goodput of the last hour and its rejects."""

    learned: str
    goodput: float
    rejects_per_hour: float

    def passes(self) -> bool:
        """Say whether it is within the bars of a disturbed row."""
        return self.goodput >= 0.9 and self.rejects_per_hour <= 20


def follow(
    change: Change,
    *,
    family: str = "sliding",
    signal: str = "429",
    seed: int = 1,
    before_h: float = 1.0,
    after_h: float = 4.0,
) -> Followed:
    """Run so long before the change and after it; the last hour is judged."""
    rng = random.Random(f"{seed}/{change.name}/{family}/{signal}")
    platform = Platform(
        limits=[limit_of(family, rate) for rate in change.before],
        signal=signal,
        rng=random.Random(rng.random()),
        changes=[(BEGIN_S + before_h * 3600.0, [limit_of(family, rate) for rate in change.after])],
    )
    sender = Paced(random.Random(rng.random()), 0.15)
    end = BEGIN_S + (before_h + after_h) * 3600.0
    trace = drive(sender, platform, begin=BEGIN_S, end=end)
    possible = min(rate.limit / (rate.window_s + platform.answer_s) for rate in change.after)
    learned = ", ".join(str(rate) for rate in sender.estimator.estimate(end).rates)
    goodput = trace.accepted_in(end - 3600.0, end) / (3600.0 * possible)
    return Followed(learned, goodput, trace.refused_in(end - 3600.0, end))
