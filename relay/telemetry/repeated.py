"""Keeps the log short: what is met again and again gets one line in a while, which tells how many were left out."""

from typing import Final

from relay.core.clock import elapsed_s

REFUSED_S: Final = 10.0  # in a flood every request is refused: by listener and code
FAILED_S: Final = 60.0  # every side duty tries again while the store fails: by what it said
DAMAGED_S: Final = 3600.0  # a platform asks for a damaged page every second, and at best a restart mends it
_MOST_KINDS: Final = 1000


class Repeated:
    """When each kind of line was written last, and how many were left out since."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], tuple[float, int]] = {}

    def left_out(self, *kind: str, every_s: float) -> int | None:
        """Return how many lines of a kind were left out since the last one; None: this one is to be left out too."""
        now = elapsed_s()
        written_at, count = self._kinds.get(kind, (-every_s, 0))
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        due = now - written_at >= every_s
        self._kinds[kind] = (now, 0) if due else (written_at, count + 1)
        return count if due else None

    def is_over(self, event: str) -> None:
        """Take the next line of an event for news."""
        self._kinds = {kind: told for kind, told in self._kinds.items() if kind[0] != event}
