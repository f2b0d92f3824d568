"""Do refusals depend on how much is sent? Under a limit they end at a third of the rate; a sick platform refuses on.

One bad node of many, load shed at random, a wrong answer rule: each limit that is fitted to these is stricter than the
one before, without end. So at a third of the rate there must be clearly fewer refusals.
"""

_LOW = 1.0 / 3.0  # of what got through without a limit
_ENOUGH, _ENOUGH_REFUSED = 40, 6  # requests at the low rate, and refusals among them
_LEAST = 0.08  # of the requests: fewer refusals cost little, and others who use the quota may cause them
_AS_OFTEN = 0.7  # of the share that was refused before anything was enforced
_REMEMBERED = 400  # requests; then the counts are halved
_LONGEST_GAP_S = 60.0  # after an accepted request: longer means there was nothing to send
_LONGEST_STOP_S = 3600.0  # after a refusal
_HOLD_S, _HOLD_MOST_S = 3600.0, 86400.0


class Correlation:
    """Counts requests and refusals without a limit, and under a limit of at most a third of what got through then.

    ``until`` is the time until which no limit is learned.
    """

    __slots__ = ("_free", "_free_at", "_free_s", "_hold_s", "_low", "_stopped", "_top_s", "until")

    def __init__(self) -> None:
        self.until = float("-inf")
        self._hold_s = _HOLD_S
        self.clear()

    def clear(self) -> None:
        """Begin anew, as with a platform nobody knows."""
        self._free = [0, 0]  # requests, refused
        self._low = [0, 0]
        self._free_at, self._free_s = float("-inf"), 0.0  # when the latest of these was answered; how long they took
        self._stopped = False  # by a refusal
        self._top_s = 0.0  # the highest rate that was in force: after a restart nothing else is known

    def answered(self, now: float, *, refused: bool, in_force_s: float | None) -> None:
        """Note an answer; ``in_force_s`` is how many requests a second are allowed, None without a limit."""
        if in_force_s is None:
            counts = self._free
            if not refused and not counts[1]:
                return  # what came before the first refusal was perhaps under other terms
            if counts[0]:
                self._free_s += min(now - self._free_at, _LONGEST_STOP_S if self._stopped else _LONGEST_GAP_S)
            self._free_at, self._stopped = now, refused
        else:
            self._top_s = max(self._top_s, in_force_s)
            free_s = (self._free[0] - self._free[1]) / self._free_s if self._free_s else self._top_s
            if in_force_s > _LOW * free_s:
                return
            counts = self._low
        counts[0] += 1
        counts[1] += refused
        if counts[0] > _REMEMBERED:
            counts[0], counts[1] = counts[0] // 2, counts[1] // 2
            if counts is self._free:
                self._free_s /= 2.0

    def is_absent(self, now: float) -> bool:
        """Say whether refusals do not depend on the rate; then no limit is learned for an hour, next time for two."""
        low, refused = self._low
        if low < _ENOUGH or refused < _ENOUGH_REFUSED:
            return False
        before = self._free[1] / self._free[0] if self._free[0] else 0.0
        if refused / low < max(_LEAST, _AS_OFTEN * before):
            self._low = [0, 0]
            return False
        self.until = now + self._hold_s
        self._hold_s = min(2.0 * self._hold_s, _HOLD_MOST_S)
        self.clear()
        return True
