"""The limits of platforms: which requests one lets through, and how long the others must wait.

These are the other side's rules, not the relay's. There are three kinds: a sliding log, a counter that starts anew with
the clock, a token bucket. They read no clock: ``now`` is seconds since the epoch, to which a fixed window is aligned.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from relay.core.model import Rate


class Limit(Protocol):
    """One limit. Ask ``wait_s`` whether a request may pass; then ``take`` or ``refuse`` it."""

    rate: Rate

    def wait_s(self, now: float) -> float:
        """Return 0.0 when a request would be let through, else the seconds until one would."""
        ...

    def take(self, now: float) -> None:
        """Count a request that was let through."""
        ...

    def refuse(self, now: float) -> None:
        """Count a request that was turned away."""
        ...


class Sliding:
    """At most N in any window: a log of arrivals. With ``count_refused`` the log counts those turned away too.

    The harsher kind exists in the field. A client that retries at once keeps its log full and is never let through.
    """

    def __init__(self, rate: Rate, *, count_refused: bool = False) -> None:
        self.rate = rate
        self.count_refused = count_refused
        self._taken: deque[float] = deque(maxlen=rate.limit)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the N-th last arrival is a whole window old."""
        taken = self._taken
        if len(taken) < self.rate.limit:
            return 0.0
        return max(0.0, taken[0] + self.rate.window_s - now)

    def take(self, now: float) -> None:
        """Count an arrival; the log keeps the last N."""
        self._taken.append(now)

    def refuse(self, now: float) -> None:
        """Count a refused arrival where the platform does so."""
        if self.count_refused:
            self._taken.append(now)


class Fixed:
    """At most N per fixed window: the counter starts anew at every multiple of it, or with the calendar's day."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._ends = 0.0
        self._used = 0

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next window begins."""
        return 0.0 if now >= self._ends or self._used < self.rate.limit else self._ends - now

    def take(self, now: float) -> None:
        """Count an arrival in the window that holds ``now``."""
        if now >= self._ends:
            window_s, calendar = self.rate.window_s, self.rate.calendar
            self._ends = (now // window_s + 1) * window_s if calendar is None else calendar.end(now)
            self._used = 0
        self._used += 1

    def refuse(self, now: float) -> None:
        """Change nothing: this kind forgets what it turned away."""


class Bucket:
    """A token bucket: up to N at once, one more every W/N. Nearly 2N pass in the first window."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._tokens = float(rate.limit)
        self._at = 0.0

    def _refilled(self, now: float) -> float:
        gained = max(0.0, now - self._at) * self.rate.limit / self.rate.window_s
        return min(float(self.rate.limit), self._tokens + gained)

    def wait_s(self, now: float) -> float:
        """Return the seconds until a whole token is there."""
        missing = 1.0 - self._refilled(now)
        if missing <= _ROUNDING:
            return 0.0
        return missing * self.rate.window_s / self.rate.limit

    def take(self, now: float) -> None:
        """Remove one token."""
        self._tokens = self._refilled(now) - 1.0
        self._at = max(now, self._at)

    def refuse(self, now: float) -> None:
        """Change nothing: a request turned away costs no token."""


_ROUNDING = 1e-6  # of a token: seconds since the epoch are exact to microseconds, so this much is missing by rounding


class Limiters:
    """Several limits that hold together; a request is let through by all of them or counted by none."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = tuple(limits)

    def admit(self, now: float) -> float:
        """Take a request and return 0.0, or turn it away and return the seconds until one would pass."""
        wait_s = self.wait_s(now)
        for limit in self.limits:
            if wait_s > 0.0:
                limit.refuse(now)
            else:
                limit.take(now)
        return wait_s

    def wait_s(self, now: float) -> float:
        """Return the longest wait any of the limits asks for."""
        return max((limit.wait_s(now) for limit in self.limits), default=0.0)


def build_limit(kind: str, rate: Rate) -> Limit:
    """Build the limit called ``kind``: ``sliding``, ``sliding+refused``, ``fixed`` or ``bucket``.

    A calendar window, as ``100000/day@+08:00``, is always fixed. Raises ``ValueError`` naming the kinds there are.
    """
    if rate.calendar is not None and kind in ("sliding", "fixed"):
        return Fixed(rate)
    if rate.calendar is not None:
        raise ValueError(f"{rate} begins at a fixed time: leave {kind!r} out")
    match kind:
        case "sliding":
            return Sliding(rate)
        case "sliding+refused":
            return Sliding(rate, count_refused=True)
        case "fixed":
            return Fixed(rate)
        case "bucket":
            return Bucket(rate)
    raise ValueError(
        f"no limit of kind {kind!r}: use sliding, sliding+refused (turned-away requests count), fixed or bucket"
    )
