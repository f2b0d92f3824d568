"""Times as answers carry them: ISO 8601 in UTC with milliseconds, by the wall clock as it is now.

The relay decides on a clock of its own, which a step of the wall clock does not move (``core.clock``). Where a machine
boots with a wrong clock and sets it later, stored times are hours off: they are shifted on their way out, and a time
that a person names is shifted on its way in.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from relay.core.clock import Clock, wall_shift_s
from relay.views.moments import instant_text, plain, read
from relay.web.response import Response, json_answer

_V = TypeVar("_V")


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

    def answer(self, view: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Return a view as an answer, its times as people know them."""
        return json_answer(view, status=status, headers=headers, shift_s=self.shift_s)

    def on_wall(self, kind: type[_V], view: _V) -> _V:
        """Return a view as whoever reads its answer has it: its times are those of the wall clock."""
        return read(kind, plain(view, shift_s=self.shift_s))

    def told(self, value: Any) -> Any:
        """Return a view, or anything that holds views, as JSON knows it, with its times as people know them."""
        if isinstance(value, msgspec.Struct):
            return plain(value, shift_s=self.shift_s)
        return _told(value, self.shift_s)


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
        return instant_text(value, shift_s)
    return _told(value, shift_s)
