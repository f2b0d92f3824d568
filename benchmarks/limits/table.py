"""The cases of the score table, and what is asked of them."""

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from relay.core.model import Rate
from relay.limits.evidence.history import Signal

from benchmarks.limits.platforms import ANSWER_S, FAMILIES, NOISES, SIGNALS, Down, Platform, Shared, limit_of
from benchmarks.limits.run import Trace, converged_after_s, drive, worst_stretch
from benchmarks.limits.senders import Aimd, Cubic, FixedRetry, Relay, Sender, Sre

LIMITS = {1: 10, 10: 50, 45: 100, 60: 100, 300: 300, 3600: 1000}  # window in seconds -> N
SENDERS: dict[str, Callable[[random.Random], Sender]] = {
    "relay": Relay,
    "aimd": Aimd,
    "cubic": Cubic,
    "sre": Sre,
    "fixed-retry": FixedRetry,
}
SHARE = 0.2  # of the quota that the unseen sender takes
BARS = {True: (0.95, 5.0), False: (0.90, 20.0)}  # clean or not -> goodput, rejects per hour


class Case(NamedTuple):
    """One row: a platform and what disturbs it."""

    family: str
    window_s: int
    signal: str
    noise: str

    @property
    def name(self) -> str:
        """The row's name, as ``--only`` matches it."""
        return f"{self.family}/{self.window_s}s/{self.signal}/{self.noise}"


@dataclass(frozen=True, slots=True)
class Score:
    """What came of a case; goodput as a part of what is possible (``score``)."""

    case: Case
    sender: str
    goodput: float
    rejects_per_hour: float  # after the time allowed to converge
    early_rejects: int  # between the first two windows and that time
    converged_s: float
    learned: str

    def passes(self) -> bool:
        """Say whether the bars are met; windows over 300 s have none."""
        goodput, rejects = BARS[self.case.noise == "clean"]
        if self.case.window_s > 300:
            return True
        in_time = self.converged_s <= max(300.0, 3.0 * self.case.window_s)
        return self.goodput >= goodput and self.rejects_per_hour <= rejects and in_time


def cases(*, quick: bool = False) -> Iterator[Case]:
    """Yield the rows; ``quick`` leaves the long windows out and takes every signal once per family."""
    for noise in NOISES:
        for window_s in LIMITS:
            if quick and window_s not in (10, 45, 60):
                continue
            for number, family in enumerate(FAMILIES):
                for place, signal in enumerate(SIGNALS):
                    if quick and (place + number) % len(SIGNALS) != window_s % len(SIGNALS) // 5 * 2:
                        continue
                    yield Case(family, window_s, signal, noise)


def score(case: Case, sender_name: str = "relay", *, seed: int = 1) -> Score:
    """Run one case and judge it from the outside: what the platform accepted and refused, and when."""
    rng = random.Random(f"{seed}/{case.name}")
    rate = Rate(LIMITS[case.window_s], float(case.window_s))
    begin = 1e6 + rng.random() * 3600.0
    warm_s = max(300.0, 3.0 * rate.window_s)
    end = begin + warm_s + max(3600.0, 20.0 * rate.window_s)
    downs = []
    if case.noise == "outage":
        at = begin + warm_s + rng.uniform(0.2, 0.5) * (end - begin - warm_s)
        downs = [Down(at, at + 600.0, Signal.DOWN, 0.01), Down(at + 700.0, at + 800.0, Signal.BUSY, 5.0)]
    platform_seed, shared_seed = rng.random(), rng.random() if case.noise == "shared" else 0.0
    sender = SENDERS[sender_name](random.Random(rng.random()))

    def platform() -> Platform:
        return Platform(
            limits=[limit_of(case.family, rate)],
            signal=case.signal,
            rng=random.Random(platform_seed),
            failures=0.01 if case.noise == "failures" else 0.0,
            jitter=case.noise == "jitter",
            shared=Shared(rate, SHARE, random.Random(shared_seed)) if case.noise == "shared" else None,
            downs=downs,
        )

    trace = drive(sender, platform(), begin=begin, end=end)
    cycle_s = rate.window_s + ANSWER_S
    possible = rate.limit / cycle_s
    if case.noise == "shared":
        possible *= 1.0 - SHARE
        possible = min(possible, _side_by_side(rate, platform, begin + warm_s, end, rng=rng))
    steady = possible
    if case.noise == "failures":  # each may cost a stop, whatever is known of the limit
        told = drive(_told(rate, random.Random(rng.random())), platform(), begin=begin, end=end)
        possible = _carried(told, begin + warm_s, end, cycle_s)
        steady = min(possible, worst_stretch(told, begin=begin + warm_s, end=end, window_s=rate.window_s))
    wanted = BARS[case.noise == "clean"][0]
    goodput = _carried(trace, begin + warm_s, end, cycle_s) / possible
    if downs:  # what is possible ends with the outage and begins with the first accepted request after it
        again = trace.accepted[bisect_left(trace.accepted, downs[-1].end)]
        parts = [part for part in ((begin + warm_s, downs[0].begin), (again, end)) if part[1] - part[0] > 2 * cycle_s]
        spans = [upto - since for since, upto in parts]
        carried = [_carried(trace, since, upto, cycle_s) * (upto - since) for since, upto in parts]
        goodput = sum(carried) / sum(spans) / possible
    converged = converged_after_s(
        trace,
        begin=begin,
        end=downs[0].begin if downs else end,
        window_s=rate.window_s,
        wanted=wanted - 0.02,
        possible=steady,
    )
    learned = ""
    if isinstance(sender, Relay):
        estimate = sender.estimator.estimate(end)
        learned = f"{', '.join(str(item) for item in estimate.rates) or '-'} {estimate.family.value}"
    return Score(
        case=case,
        sender=sender_name,
        goodput=goodput,
        rejects_per_hour=trace.refused_in(begin + warm_s, end) / (end - begin - warm_s) * 3600.0,
        early_rejects=trace.refused_in(begin + 2 * rate.window_s, begin + warm_s),
        converged_s=converged,
        learned=learned,
    )


def _told(rate: Rate, rng: random.Random) -> Relay:
    """Return the relay as it sends when an operator wrote the limit down: nothing is estimated, the stops remain."""
    return Relay(rng, told=rate)


def _side_by_side(
    rate: Rate, platform: Callable[[], Platform], begin: float, end: float, *, rng: random.Random
) -> float:
    """Return requests per second under the largest count for that window that is refused within the bar.

    What the others send comes in whole requests too: of ten a second they take two or three, and who takes eight of
    what is left is refused every other second.
    """
    most = int(rate.limit * (1.0 - SHARE))
    for count in range(most, 0, -max(1, most // 80)):
        told = drive(_told(Rate(count, rate.window_s), random.Random(rng.random())), platform(), begin=begin, end=end)
        if told.refused_in(begin, end) * 3600.0 <= BARS[False][1] * (end - begin):
            return _carried(told, begin, end, rate.window_s + ANSWER_S)
    return 0.0


def _carried(trace: Trace, begin: float, end: float, cycle_s: float) -> float:
    """Return accepted requests per second over whole cycles, whatever the phase of the bursts."""
    cycles = max(1, int((end - begin) / cycle_s) - 1)
    starts = [begin + cycle_s * place / 20 for place in range(20)]
    return sum(trace.accepted_in(at, at + cycles * cycle_s) for at in starts) / (20 * cycles * cycle_s)
