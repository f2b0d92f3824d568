"""A lease as it lies in the store, what its owner knows of it, and what a watcher has seen of it."""

from typing import NamedTuple

from relay.hosts.rules.spans import ABORT_AFTER_S, CLAIM_FOR_S, TAKE_AFTER_S


class Lease(NamedTuple):
    """One platform's lease, as read from the store.

    ``identity`` is drawn at random for each ownership and empty while nobody owns the platform. ``epoch`` counts the
    ownerships. After a failover that lost the last change an epoch may be given out twice; the pair is still unique.
    """

    epoch: int = 0
    identity: str = ""
    renewed: int = 0  # how often this ownership was renewed: what watchers see change
    host: str = ""
    process: str = ""  # which process of the host (``process.py``)
    successor: str = ""  # of a lease that was handed over: the host it is meant for

    @property
    def free(self) -> bool:
        """Whether nobody owns the platform."""
        return not self.identity

    @property
    def token(self) -> str:
        """The fence: what every script that changes the platform compares for equality; empty when free."""
        return f"{self.epoch}.{self.identity}" if self.identity else ""


class Holding(NamedTuple):
    """A lease that is ours, and when the last acknowledged renewal was sent (our boot-time clock)."""

    token: str
    sent_at: float

    @property
    def claim_until(self) -> float:
        """Until when a batch may be claimed, and the first byte of a request be sent."""
        return self.sent_at + CLAIM_FOR_S

    @property
    def abort_at(self) -> float:
        """When what is on the wire is cut off."""
        return self.sent_at + ABORT_AFTER_S


class Sighting(NamedTuple):
    """What was seen of a lease, and since when it has not changed (our boot-time clock)."""

    lease: Lease
    since: float

    def now_seen(self, lease: Lease, now: float) -> "Sighting":
        """Return what is known after the lease was read again at ``now``; going back counts as a change too."""
        return self if lease == self.lease else Sighting(lease, now)

    @property
    def ends_at(self) -> float:
        """When the owner is silent for certain, unless the lease changes before."""
        return self.since + TAKE_AFTER_S
