"""Limits of a platform on what requests carry: callbacks, bytes of bodies as they come, points.

A request above one of them is turned away whole and counted by none. A platform knows what a request weighs when it has
the body, so limits on the number of requests have counted it by then.
"""

from collections import deque
from collections.abc import Sequence

from relay.core.model import Rate, Weight


class WeightLog:
    """What arrived in the window that ends now, or since the calendar period of now began. Times never go back."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._log: deque[tuple[float, int]] = deque()  # when it no longer counts, and its weight
        self._sum = 0

    def used(self, now: float) -> int:
        """Return how much counts now (seconds since the epoch)."""
        while self._log and self._log[0][0] <= now:
            self._sum -= self._log.popleft()[1]
        return self._sum

    def add(self, now: float, weight: Weight) -> int:
        """Count a request; return how much counts with it."""
        mine: int = getattr(weight, self.rate.unit)
        calendar = self.rate.calendar
        used = self.used(now) + mine
        self._log.append((now + self.rate.window_s if calendar is None else calendar.end(now), mine))
        self._sum = used
        return used

    def wait_s(self, now: float, weight: Weight) -> float:
        """Return 0.0 where a request fits, else the seconds until it would; for what never fits, the whole window."""
        mine: int = getattr(weight, self.rate.unit)
        lacking = self.used(now) + mine - self.rate.limit
        if lacking <= 0:
            return 0.0
        for free_at, freed in self._log:
            lacking -= freed
            if lacking <= 0:
                return free_at - now
        return self.rate.window_s


class Weighing:
    """Several such limits that hold together, and the most that each window has been asked for."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._taken = [WeightLog(rate) for rate in rates]
        self._asked = [WeightLog(rate) for rate in rates]
        self._most = dict.fromkeys(map(str, rates), 0)

    @property
    def most(self) -> dict[str, int]:
        """The most that arrived in any window, with what was turned away, by the rate as it is written."""
        return self._most

    def admit(self, now: float, weight: Weight) -> float:
        """Take a request and return 0.0, or turn it away and return the seconds until it would fit."""
        for log in self._asked:
            name = str(log.rate)
            self._most[name] = max(self._most[name], log.add(now, weight))
        wait_s = max((log.wait_s(now, weight) for log in self._taken), default=0.0)
        if wait_s == 0.0:
            for log in self._taken:
                log.add(now, weight)
        return wait_s
