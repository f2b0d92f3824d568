"""May this process speak under its host's name? Two hosts with one name would undo each other's beats.

The name's entry in the store may be of a former process of this host, or of another host that was given the same name.
A new process therefore looks before it speaks:

1. No entry, or one of a process that has certainly ended: the name is ours at once.
2. The entry does not change for 16 s: its process is gone, wherever it ran, and the name is ours.
3. The entry changes while we look, or becomes another's later: the name is taken.
"""

from collections.abc import Callable

from relay.hosts.rules.beat import Heart
from relay.hosts.rules.process import Process, has_ended
from relay.hosts.rules.spans import TAKE_AFTER_S


class Joining:
    """Decides when the name is ours. Times are on the boot-time clock."""

    def __init__(self, process: Process, started: Callable[[int], int | None]) -> None:
        self._process = process
        self._started = started
        self._seen: tuple[Heart, float] | None = None
        self.joined = False
        self.taken = False  # somebody else is alive under this name
        self.replaces = ""  # the process whose entry we may write over

    def heard(self, entry: Heart | None, now: float) -> None:
        """Take in what stands under our name."""
        if entry is None or entry.process == str(self._process):
            self.joined = True
        elif self.joined:
            self.taken = entry.process != self.replaces
        elif has_ended(Process.parse(entry.process), self._process, self._started):
            self.joined, self.replaces = True, entry.process
        elif self._seen is None:
            self._seen = entry, now
        else:
            before, since = self._seen
            self.taken = (entry.process, entry.number) != (before.process, before.number)
            if not self.taken and now - since >= TAKE_AFTER_S:
                self.joined, self.replaces = True, entry.process
