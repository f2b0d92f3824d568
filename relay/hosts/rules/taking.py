"""When this host may take a lease: at once, in its place in the line, or once the lease has been seen unchanged."""

from collections.abc import Callable, Sequence
from math import inf

from relay.hosts.rules.book import LeaseBook
from relay.hosts.rules.component import Component
from relay.hosts.rules.process import Process, has_ended
from relay.hosts.rules.spans import RANK_S, TAKE_AFTER_S


class Taking:
    """Decides it from what the book has seen. Times are on the boot-time clock."""

    def __init__(self, me: str, book: LeaseBook, process: Process, started: Callable[[int], int | None]) -> None:
        self._me = me
        self._book = book
        self._process = process
        self._started = started
        self._primary = ""
        self.take_from = -inf  # nothing is taken before: another server answers now, which may know less

    def meet_primary(self, primary: str, now: float) -> None:
        """After a failover: take nothing until whoever owned by a change that was lost is silent.

        What lapsed here meanwhile may have been somebody else's in between, so it is not ours any more.
        """
        if self._primary and primary != self._primary:
            self.take_from = now + TAKE_AFTER_S
            for platform, holding in list(self._book.holdings.items()):
                if holding.abort_at <= now:
                    self._book.drop(platform)
        self._primary = primary

    def due(self, component: Component, line: Sequence[str], now: float) -> tuple[list[str], float]:
        """Return the leases of a component to take now, and when the next one can be taken."""
        takes: list[str] = []
        for platform in component:
            if platform in self._book.holdings:
                continue
            if platform not in self._book.sightings:
                return takes, inf
            at = self._take_at(platform, line)
            if at > now:
                return takes, at
            takes.append(platform)
        return takes, now if takes else inf

    def why(self, platform: str) -> str:
        """Return why a lease is taken: ``free``, ``handover``, ``restart`` or ``expired``."""
        lease = self._book.sightings[platform].lease
        if lease.free:
            return "handover" if lease.successor else "free"
        return "restart" if self._is_of_our_past(platform) else "expired"

    def blocked_before(self, component: Component, platform: str, now: float) -> bool:
        """Say whether a lease of the component that comes earlier in name order is somebody else's."""
        for earlier in component:
            if earlier == platform:
                return False
            seen = self._book.sightings.get(earlier)
            if earlier not in self._book.holdings and seen and not seen.lease.free and now < seen.ends_at:
                return True
        return False

    def _take_at(self, platform: str, line: Sequence[str]) -> float:
        lease, since = seen = self._book.sightings[platform]
        if self._is_of_our_past(platform):
            return max(since, self.take_from)
        if lease.free and lease.successor in line:
            line = [lease.successor, *(name for name in line if name != lease.successor)]
        return max((since if lease.free else seen.ends_at) + line.index(self._me) * RANK_S, self.take_from)

    def _is_of_our_past(self, platform: str) -> bool:
        lease = self._book.sightings[platform].lease
        former = Process.parse(lease.process)
        return lease.host == self._me and not lease.free and has_ended(former, self._process, self._started)
