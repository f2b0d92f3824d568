"""The leases as one host knows them: those it holds, and what it has seen of all."""

from collections.abc import Callable

from relay.hosts.rules.beat import Beat, Heard, Wanted, Wish
from relay.hosts.rules.lease import Holding, Lease, Sighting

_RENEWING = frozenset((Wanted.RENEW, Wanted.TAKE, Wanted.TAKE_FREE))


class LeaseBook:
    """Makes the wishes of a beat and takes in what came of them. Times are on the boot-time clock."""

    def __init__(self, new_identity: Callable[[], str]) -> None:
        self._new_identity = new_identity
        self._identities: dict[str, str] = {}  # of leases that are ours, or that we asked for
        self.holdings: dict[str, Holding] = {}
        self.sightings: dict[str, Sighting] = {}

    def look(self, platform: str) -> Wish:
        """Only read the lease."""
        return Wish(platform, Wanted.LOOK)

    def renew(self, platform: str) -> Wish:
        """Keep a lease that is ours."""
        return Wish(platform, Wanted.RENEW, self._identities[platform])

    def release(self, platform: str, successor: str) -> Wish:
        """Give up a lease that is ours. From now on it is good for nothing, whether or not the answer arrives."""
        self.holdings[platform] = self.holdings[platform]._replace(sent_at=float("-inf"))
        return Wish(platform, Wanted.RELEASE, self._identities[platform], successor=successor)

    def take(self, platform: str) -> Wish:
        """Ask for a lease as it was last seen. The same identity is asked for until it was given out once."""
        expected = self.sightings[platform].lease
        identity = self._identities.setdefault(platform, self._new_identity())
        return Wish(platform, Wanted.TAKE_FREE if expected.free else Wanted.TAKE, identity, expected)

    def heard(self, beat: Beat, heard: Heard, now: float) -> set[str]:
        """Take in the answer to a beat; return the platforms whose lease was ours and went to somebody else."""
        lost: set[str] = set()
        for wish in beat.wishes:
            lease = heard.leases.get(wish.platform)
            if lease is None:
                continue
            if lease.identity and lease.identity == self._identities.get(wish.platform):
                self._hold(wish, lease, beat.sent_at)
            elif wish.platform in self.holdings:
                self.drop(wish.platform)
                if wish.wanted is not Wanted.RELEASE:
                    lost.add(wish.platform)
            before = self.sightings.get(wish.platform)
            self.sightings[wish.platform] = Sighting(lease, now) if before is None else before.now_seen(lease, now)
        return lost

    def drop(self, platform: str) -> None:
        """Forget that a lease is ours; its identity is not used again."""
        self.holdings.pop(platform, None)
        self._identities.pop(platform, None)

    def _hold(self, wish: Wish, lease: Lease, sent_at: float) -> None:
        """A lease is ours. Only what changed it in the store makes it last longer."""
        if wish.wanted in _RENEWING:
            self.holdings[wish.platform] = Holding(lease.token, sent_at)
        else:  # a take whose answer was lost: the next beat renews it
            self.holdings.setdefault(wish.platform, Holding(lease.token, float("-inf")))
