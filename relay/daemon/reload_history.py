"""What became of the last reloads, for operators who ask what was changed when, and by whom."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from relay.core.clock import Clock
from relay.views.configuration import PastReloadView, RefusedReloadView
from relay.views.moments import Instant

_KEPT: Final = 20
_MOST_LINES: Final = 50  # of one reload: more is a new file, and its first lines say so


class ReloadHistory:
    """Keeps the last 20 reloads since the start. Those before it are records of the audit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reloads: deque[PastReloadView] = deque(maxlen=_KEPT)

    def applied(self, *, by: str, changes: Sequence[str]) -> None:
        """Keep that a reload was put in force."""
        self._keep("applied", by, changes, 0, "")

    def refused(self, *, by: str, changes: Sequence[str], problems: int, todo: str) -> None:
        """Keep that a reload was refused: what it would have changed, and the command that names its problems."""
        self._keep("refused", by, changes, problems, todo)

    def newest_first(self) -> list[PastReloadView]:
        """Return what is kept."""
        return list(self._reloads)

    @property
    def last_refused(self) -> RefusedReloadView | None:
        """The last reload, if it was refused."""
        last = self._reloads[0] if self._reloads else None
        return (
            None if last is None or last.result == "applied" else RefusedReloadView(last.at, last.problems, last.todo)
        )

    def _keep(self, result: str, by: str, changes: Sequence[str], problems: int, todo: str) -> None:
        more = len(changes) - _MOST_LINES
        lines = [*changes[:_MOST_LINES], f"... and {more} more"] if more > 0 else list(changes)
        now = Instant(self._clock.now())
        self._reloads.appendleft(
            PastReloadView(at=now, by=by, result=result, changes=lines, problems=problems, todo=todo)
        )
