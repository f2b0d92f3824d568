"""Times as answers carry them: ISO 8601 in UTC with milliseconds, by the wall clock as it is now.

The relay decides on a clock of its own, which a step of the wall clock does not move (``core.clock``). Where a machine
boots with a wrong clock and sets it later, stored times are hours off: they are shifted on their way out, and a time
that a person names is shifted on its way in.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from relay.core.clock import Clock, wall_shift_s


class WallTimes:
    """Tells relay times as people know them."""

    def __init__(self, clock: Clock, wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall

    def now(self) -> float:
        """Return the time on the relay clock."""
        return self._clock.now()

    @property
    def shift_s(self) -> float:
        """How far the wall clock is ahead of the relay's, in seconds."""
        return wall_shift_s(self._clock.now(), self._wall())

    def told(self, value: Any) -> Any:
        """Return ``value`` with each time in it (``at``, or ending in ``_at``, ``since``, ``until``) as an instant."""
        return _told(value, self.shift_s)


def instant(at: float | None, shift_s: float = 0.0) -> str | None:
    """Return ``at`` as ``2026-11-22T10:02:11.123Z``; None for no time (None, zero or infinite)."""
    if at is None or at <= 0 or not math.isfinite(at):
        return None
    moment = datetime.fromtimestamp(round((at + shift_s) * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _told(value: Any, shift_s: float) -> Any:
    if isinstance(value, Mapping):
        return {key: _under(key, inner, shift_s) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_told(inner, shift_s) for inner in value]
    return value


def _under(key: str, value: Any, shift_s: float) -> Any:
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (key == "at" or key.endswith(("_at", "since", "until")))
    ):
        return instant(value, shift_s)
    return _told(value, shift_s)
