"""How many callbacks came in and went out lately, per platform: counted in memory, second by second, for a minute.

A steady flow and a burst differ. A burst of 2,500 is 42 a second over its minute, but no more follows it. Only a steady
flow makes a backlog take longer to drain, or grow. So the steady rate is given apart.
"""

from statistics import median
from typing import Final, NamedTuple

_MINUTE_S: Final = 60
_PART_S: Final = 10  # seconds: the median of the six parts of a minute is the steady rate
_YOUNG_PART_S: Final = 1  # while there are fewer than three of them, in which one burst would look steady
_YOUNGEST_S: Final = 5.0  # after a start a rate over less time is too rough


class Flow(NamedTuple):
    """Callbacks a second of one platform, over the last minute or since the start."""

    in_per_s: float = 0.0
    out_per_s: float = 0.0
    steady_in_per_s: float = 0.0


class Flows:
    """Counts what comes in and goes out; times are seconds of one clock that never goes back."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._in: dict[str, _Minute] = {}
        self._out: dict[str, _Minute] = {}

    def came_in(self, platform: str, count: int, now: float) -> None:
        """Count accepted callbacks."""
        _of(self._in, platform).add(count, int(now))

    def went_out(self, platform: str, count: int, now: float) -> None:
        """Count delivered callbacks."""
        _of(self._out, platform).add(count, int(now))

    def of(self, platform: str, now: float) -> Flow:
        """Return a platform's rates."""
        over_s = min(max(now - self._began, _YOUNGEST_S), float(_MINUTE_S))
        came, went = self._in.get(platform), self._out.get(platform)
        age_s = now - self._began
        part_s = _PART_S if age_s >= 3 * _PART_S else _YOUNG_PART_S
        parts = [] if came is None or age_s < _PART_S else came.parts(int(now), part_s)[: int(age_s // part_s)]
        return Flow(
            in_per_s=0.0 if came is None else round(came.total(int(now)) / over_s, 2),
            out_per_s=0.0 if went is None else round(went.total(int(now)) / over_s, 2),
            steady_in_per_s=median(parts) / part_s if parts else 0.0,
        )


class _Minute:
    """Counts of the last 60 whole seconds and of the current one."""

    __slots__ = ("_counts", "_last")

    def __init__(self) -> None:
        self._counts = [0] * _MINUTE_S
        self._last = 0

    def add(self, count: int, second: int) -> None:
        if second > self._last:
            self._clear(second)
        self._counts[second % _MINUTE_S] += count

    def total(self, second: int) -> int:
        self._clear(second)
        return sum(self._counts)

    def parts(self, second: int, part_s: int) -> list[int]:
        """Return the counts of each ``part_s`` seconds of the minute, the latest first."""
        self._clear(second)
        back = [self._counts[(second - ago) % _MINUTE_S] for ago in range(_MINUTE_S)]
        return [sum(back[at : at + part_s]) for at in range(0, _MINUTE_S, part_s)]

    def _clear(self, second: int) -> None:
        """Set to zero all seconds since the last count."""
        for past in range(max(self._last + 1, second - _MINUTE_S + 1), second + 1):
            self._counts[past % _MINUTE_S] = 0
        self._last = max(self._last, second)


def _of(minutes: dict[str, _Minute], platform: str) -> _Minute:
    found = minutes.get(platform)
    if found is None:
        found = minutes[platform] = _Minute()
    return found
