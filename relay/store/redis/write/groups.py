"""Which groups of a platform have something, read from the server as far as a claim needs to know."""

from collections.abc import Iterator, Sequence
from typing import Final

from relay.store.rotation import Waiting

_FIRST_GROUPS: Final = 8


class Unseen(Exception):
    """A group must be peeked at first; with None, more groups must be read."""

    def __init__(self, group: str | None) -> None:
        super().__init__(group)
        self.group = group


class WaitingGroups:
    """The groups of a platform that have something, read in growing parts: mostly one of the first goes."""

    def __init__(self, served: str) -> None:
        self.found: list[Waiting] = []
        self.complete = False
        self.after = served or "-"  # "-": from the group "" on
        self.step = _FIRST_GROUPS
        self._served = served
        self._wrapped = not served

    def take(self, part: Sequence[Waiting], last: str | None) -> None:
        """Take the next part; ``last`` is the last group looked at, None behind the end."""
        if self._wrapped and self._served:
            part = [waiting for waiting in part if waiting.group <= self._served]
            self.complete = last is not None and last >= self._served
        self.found += part
        self.step *= 8
        if last is not None:
            self.after = last or "-"
        if last is None or last == "":
            self.complete = self.complete or self._wrapped
            self._wrapped, self.after = True, "-"

    def draw(self) -> Iterator[Waiting]:
        """Yield what was read; raises ``Unseen`` where more must be read."""
        yield from self.found
        if not self.complete:
            raise Unseen(None)
