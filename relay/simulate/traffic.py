"""What comes in: callbacks at random, in bursts, or at the times of an earlier run (``--replay``).

Times are seconds from the start of the run. The same seed gives the same times and keys.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import repeat
from math import inf, isfinite
from operator import itemgetter
from typing import NamedTuple

from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration
from relay.core.model import Rate
from relay.standin.settings import BadSetting

# A multiple of every window's length up to a day, so that a platform's fixed windows begin with the run.
EPOCH_AT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_LONGEST_S = 366 * 86400.0  # nobody replays more than a year: a longer span is a mistake, and would take for ever
_TOO_LATE_AT = 1e11  # in the year 5138 as seconds, in 1973 as milliseconds


class Incoming(NamedTuple):
    """One callback that comes in ``at_s`` after the start."""

    at_s: float
    key: str | None


class Surge(NamedTuple):
    """``size`` callbacks posted at once."""

    size: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Everything that comes in, until ``for_s``.

    A made-up callback draws its key evenly from ``keys`` (0: no ordering key); a replayed one keeps its own.
    """

    for_s: float
    rate: Rate | None = None
    bursts: tuple[Surge, ...] = ()
    replayed: Sequence[Incoming] = ()
    keys: int = 0
    start_at: float = EPOCH_AT

    @property
    def expected(self) -> int:
        """About how many callbacks will come."""
        steady = 0.0 if self.rate is None else self.for_s * self.rate.limit / self.rate.window_s
        return round(steady) + sum(burst.size for burst in self.bursts) + len(self.replayed)

    def incoming(self, *, seed: int) -> Iterator[Incoming]:
        """Yield all callbacks in the order of their times."""
        times = random.Random(f"{seed} times")
        keys = random.Random(f"{seed} keys")
        made = merge(self._steady(times), *(repeat(burst.at_s, burst.size) for burst in self.bursts))
        named = (Incoming(at_s, f"order-{keys.randrange(self.keys)}" if self.keys else None) for at_s in made)
        again = (each for each in self.replayed if each.at_s <= self.for_s)
        return merge(named, again, key=itemgetter(0))

    def _steady(self, rng: random.Random) -> Iterator[float]:
        """Yield the times of a Poisson process, as many independent senders make it."""
        if self.rate is None:
            return
        per_s = self.rate.limit / self.rate.window_s
        at_s = rng.expovariate(per_s)
        while at_s < self.for_s:
            yield at_s
            at_s += rng.expovariate(per_s)


def parse_burst(text: str) -> Surge:
    """Read ``3000@10m``. Raises ``BadSetting``."""
    count, at, when = text.partition("@")
    if not at or not count.isdigit() or not int(count):
        raise BadSetting(f"burst {text!r}: write how many and when, as in 3000@10m")
    try:
        return Surge(int(count), parse_duration(when))
    except BadValue as bad:
        raise BadSetting(f"burst {text!r}: {bad.message}") from bad


def read_times(lines: Iterable[str], *, file: str) -> list[tuple[float, str | None]]:
    """Read accept times from CSV lines: a time (ISO 8601, or seconds since the epoch) and, optionally, a key.

    Blank lines, lines that begin with ``#``, and a first line of column names are left out. An ISO time without a zone
    is UTC. Raises ``BadSetting`` that names file and line, also if the times are more than 366 days apart.
    """
    found: list[tuple[float, str | None]] = []
    first = True
    earliest, latest = inf, -inf
    for number, line in enumerate(lines, 1):
        time, _, key = line.strip().partition(",")
        if not time or time.startswith("#"):
            continue
        at = _epoch_s(time.strip())
        is_header, first = first and time[0].isalpha(), False
        if at is None:
            if is_header:
                continue
            raise BadSetting(f"{file}:{number}: {time[:40]!r} is no time: write ISO 8601 or seconds since the epoch")
        if at >= _TOO_LATE_AT:
            raise BadSetting(f"{file}:{number}: {time[:40]} cannot be seconds; are these milliseconds? write seconds")
        earliest, latest = min(earliest, at), max(latest, at)
        if latest - earliest > _LONGEST_S:
            raise BadSetting(f"{file}:{number}: {time[:40]!r} is more than 366 days away from another time of the file")
        found.append((at, key.partition(",")[0].strip() or None))
    return found


def replay(times: Iterable[tuple[float, str | None]]) -> tuple[float, list[Incoming]]:
    """Return when the first of ``times`` was, and all of them in order, counted from it. Raises ``BadSetting``."""
    ordered = sorted(times, key=itemgetter(0))
    if not ordered:
        raise BadSetting("nothing to replay: there is not one accept time")
    start_at = ordered[0][0]
    return start_at, [Incoming(at - start_at, key) for at, key in ordered]


def _epoch_s(text: str) -> float | None:
    try:
        at = float(text)
    except ValueError:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            return None
        at = (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    return at if isfinite(at) and at >= 0 else None
