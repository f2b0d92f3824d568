"""The store's side of a beat in plain Python: what the scripts on a server must do, and what the simulation uses."""

import msgspec
from relay.hosts.rules.beat import Beat, Heard, Heart, Listed, Wanted, Wish
from relay.hosts.rules.lease import Lease
from relay.hosts.rules.topology import Topology


class LeaseShelf:
    """Leases, hosts and topology. ``now`` is the server's clock."""

    def __init__(self) -> None:
        self.primary = "server-1"
        self.topology = Topology()
        self.hosts: dict[str, tuple[Heart, float]] = {}
        self.leases: dict[str, Lease] = {}

    def copy(self) -> "LeaseShelf":
        """Return a copy that changes by itself: what a replica has."""
        other = LeaseShelf()
        other.primary, other.topology = self.primary, self.topology
        other.hosts, other.leases = dict(self.hosts), dict(self.leases)
        return other

    def shared(self, beat: Beat, process: str, name: str, now: float) -> tuple[Topology, dict[str, Listed]]:
        """Apply what a beat says to all hosts."""
        held = self.hosts.get(name)
        ours = held is None or held[0].process in (process, beat.replaces)
        if beat.publish is not None and beat.publish.generation == self.topology.generation:
            self.topology = beat.publish._replace(generation=beat.publish.generation + 1)
        if beat.leaves and ours:
            self.hosts.pop(name, None)
        elif beat.heart is not None and ours:
            self.hosts[name] = (msgspec.structs.replace(beat.heart), now)
        return self.topology, {key: Listed(heart, now - at) for key, (heart, at) in self.hosts.items()}

    def lease(self, wish: Wish, name: str, process: str) -> Lease:
        """Apply one wish and return the lease as it is then."""
        lease = self.leases.get(wish.platform, Lease())
        ours = bool(lease.identity) and lease.identity == wish.identity
        if ours and wish.wanted in (Wanted.RENEW, Wanted.TAKE, Wanted.TAKE_FREE):
            lease = lease._replace(renewed=lease.renewed + 1)
        elif ours and wish.wanted is Wanted.RELEASE:
            lease = Lease(lease.epoch, host=lease.host, process=lease.process, successor=wish.successor)
        elif (wish.wanted is Wanted.TAKE_FREE and lease.free and lease.epoch == wish.expected.epoch) or (
            wish.wanted is Wanted.TAKE
            and (lease.epoch, lease.identity, lease.renewed)
            == (wish.expected.epoch, wish.expected.identity, wish.expected.renewed)
        ):
            lease = Lease(lease.epoch + 1, wish.identity, 0, name, process)
        if wish.wanted is not Wanted.LOOK and lease != Lease():
            self.leases[wish.platform] = lease
        return lease

    def heard(self, beat: Beat, name: str, process: str, now: float) -> Heard:
        """Apply a whole beat at once, as the script of a single server does."""
        topology, hosts = self.shared(beat, process, name, now)
        return Heard(
            self.primary, topology, hosts, {wish.platform: self.lease(wish, name, process) for wish in beat.wishes}
        )
