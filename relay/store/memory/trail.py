"""The memory store's audit records, each chained to the one before it."""

from collections import deque

from relay.core.raw import Record
from relay.privacy.chain import ORIGIN, PRUNED, Link, following, record_text, start_record
from relay.views.moments import instant_text


class Trail:
    """The chain, oldest record first."""

    def __init__(self) -> None:
        self.links: deque[tuple[Link, float]] = deque()  # each with its time
        self.count = 0
        self.hash = ORIGIN
        self.at: float | None = None

    def append(self, deed: Record | None, now: float) -> None:
        """Keep a record behind the newest one; None: nobody asked for what is done."""
        if deed is None:
            return
        text = record_text(deed)
        self.count, self.hash, self.at = self.count + 1, following(self.hash, text), now
        self.links.append((Link(self.count, self.hash, text), now))

    def prune(self, before: float, now: float) -> None:
        """Delete the records older than ``before`` and record where the chain starts now; see the SQLite store's."""
        aged = []
        for link, at in self.links:
            if at >= before or link.n == self.count:
                break
            aged.append(link)
        if all(f'"action":"{PRUNED}"' in link.text for link in aged):
            return
        for _ in aged:
            self.links.popleft()
        last = aged[-1]
        self.append(start_record(last.n + 1, last.hash, at=instant_text(now)), now)
