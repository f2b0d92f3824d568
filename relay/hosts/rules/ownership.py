"""Which platforms this host sends for: what it says to the store, and what it makes of the answers.

The whole life of a lease, as one host decides it. Nothing here does I/O or reads a clock; ``now`` is the host's own
boot-time clock. ``runner.py`` carries the beats, the simulation in the tests carries thousands of them.

1. **Look.** A new process reads names, topology and leases, and says nothing (``joining.py``).
2. **Agree.** It owns nothing unless the digest of its file is the one in the store (``topology.py``).
3. **Take.** A free lease goes to the first in line (``balance.py``), the next waits a second longer. A lease that was
   seen unchanged for 16 s is taken the same way (``taking.py``). The leases of a component are taken in name order.
4. **Own.** With all leases of a component in hand it is opened: slots are rebuilt, batches are claimed. Each beat
   renews. Claims end 9 s after the sending of the last acknowledged beat, requests at 13 s.
5. **Close.** A hand-over stops the claims, waits for what is on the wire, and only then releases. A lease that went to
   somebody else aborts at once. After a silence our own leases are renewed, and if nobody took them, we go on.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf

import msgspec

from relay.hosts.rules.balance import in_line, next_move
from relay.hosts.rules.beat import Beat, Heard, Heart, HeartFacts, Wish
from relay.hosts.rules.book import LeaseBook
from relay.hosts.rules.component import Component
from relay.hosts.rules.flaps import Flaps
from relay.hosts.rules.joining import Joining
from relay.hosts.rules.neighbours import Neighbours
from relay.hosts.rules.process import Process
from relay.hosts.rules.spans import MOVE_EVERY_S, RENEW_EVERY_S, REST_S
from relay.hosts.rules.stance import Closing, Opened, Part, Phase
from relay.hosts.rules.taking import Taking
from relay.hosts.rules.topology import Topology, publishes

_AGAIN_S = 1.0  # after a beat without an answer
_APART_S = 0.1  # between two beats, whatever there is to take


class Ownership:
    """One host's side of it. Feed it beats' answers, ends of closings and time; it tells what opens and closes."""

    def __init__(
        self,
        heart: Heart,
        process: Process,
        *,
        new_identity: Callable[[], str],
        started: Callable[[int], int | None],
    ) -> None:
        self._heart = heart
        self._book = LeaseBook(new_identity)
        self._taking = Taking(heart.name, self._book, process, started)
        self._joining = Joining(process, started)
        self._neighbours = Neighbours(heart.name)
        self._flaps = Flaps()
        self._parts: dict[Component, Part] = {}
        self._components: Sequence[Component] = ()
        self._declined_until: dict[str, float] = {}
        self._taken_as: dict[str, str] = {}  # by platform: why we took its lease; emptied when its component opens
        self._moved_at = -inf  # when a lease was last seen to change its host
        self._due_at = -inf
        self._soon = True  # something happened since the last beat was made: the next one does not wait
        self._sent_at = -inf
        self._starting = True
        self._publish_asked = False
        self._events: list[Opened | Closing] = []
        self.topology = Topology()

    # what the surroundings ask

    @property
    def name(self) -> str:
        """This host's name."""
        return self._heart.name

    @property
    def digest(self) -> str:
        """The digest of this host's file."""
        return self._heart.digest

    @property
    def name_taken(self) -> bool:
        """Whether another process is alive under this host's name."""
        return self._joining.taken

    @property
    def agrees(self) -> bool:
        """Whether this host's file is the one in force; only then it owns anything."""
        return self.topology.digest == self._heart.digest

    @property
    def gone(self) -> bool:
        """Whether everything is closed and released."""
        return not self._book.holdings and all(part.phase is Phase.AWAY for part in self._parts.values())

    def owns(self, platform: str) -> bool:
        """Say whether the platform's component is open here."""
        part = self._part_of(platform)
        return part is not None and part.phase is Phase.OWNING

    def owned(self) -> list[Component]:
        """Return the components that are open here."""
        return [part.component for part in self._parts.values() if part.phase is Phase.OWNING]

    def component_of(self, platform: str) -> Component:
        """Return the component of a platform of the file in force here. Raises KeyError."""
        part = self._part_of(platform)
        if part is None:
            raise KeyError(platform)
        return part.component

    def lease_age_s(self, platform: str, now: float) -> float | None:
        """Return for how long the lease of a platform that is open here was not renewed; None for others."""
        return now - self._book.holdings[platform].sent_at if self.owns(platform) else None

    def claim_until(self, platform: str) -> float:
        """Until when a batch may be claimed and a first byte sent; -inf when the platform is not ours."""
        part = self._part_of(platform)
        if part is None or part.phase is not Phase.OWNING:
            return -inf
        return min(self._book.holdings[each].claim_until for each in part.component)

    def due_at(self, now: float) -> float:
        """Return when the next beat is due; it may be over."""
        takes = (self._due_takes(part, now)[1] for part in self._parts.values())
        soonest = min(takes, default=inf)
        return -inf if self._soon else min(self._due_at, max(soonest, self._sent_at + _APART_S))

    def ends_at(self) -> float:
        """Return when ``tick`` must be called to cut off what is on the wire."""
        owned = (part for part in self._parts.values() if part.phase is Phase.OWNING)
        return min((self._abort_at(part) for part in owned), default=inf)

    def events(self) -> list[Opened | Closing]:
        """Return, once, what has opened and what must close."""
        events, self._events = self._events, []
        return events

    # what happens

    def configure(self, components: Iterable[Component], digest: str, *, publish: bool) -> None:
        """Put a file in force here; ``publish``: a person asked for it, so the other hosts are to follow."""
        self._components = tuple(components)
        self._heart = msgspec.structs.replace(self._heart, digest=digest)
        self._publish_asked |= publish
        for part in self._parts.values():
            if part.component not in self._components:
                self._close(part, "reload", gives_up=False)
        self._parts = {key: part for key, part in self._parts.items() if part.phase is not Phase.AWAY} | {
            component: self._parts.get(component, Part(component)) for component in self._components
        }
        self._soon = True

    def describe(self, facts: HeartFacts) -> None:
        """Say what the next beats tell of this host, for people who ask another one."""
        self._heart = msgspec.structs.replace(self._heart, **facts._asdict())

    def beat(self, now: float) -> Beat:
        """Return what to say now. The next beat is due 3 s later, or 1 s later if this one goes unanswered."""
        self.tick(now)
        self._sent_at, self._due_at, self._soon = now, now + _AGAIN_S, False
        self._refresh_heart(now)
        topology, mine = self.topology, self._heart.digest
        publish = self._joining.joined and publishes(
            topology,
            mine=mine,
            asked=self._publish_asked,
            starting=self._starting,
            others=self._neighbours.others,
            everywhere=self._neighbours.all_have(mine, now),
        )
        return Beat(
            sent_at=now,
            heart=self._heart if self._joining.joined else None,
            replaces=self._joining.replaces,
            leaves=self._heart.leaving and self.gone,
            publish=topology._replace(digest=mine, published_by=self._heart.name) if publish else None,
            wishes=tuple(self._wishes(now)),
        )

    def heard(self, beat: Beat, heard: Heard, now: float) -> None:
        """Take in the answer to ``beat``."""
        self.tick(now)
        self._due_at = beat.sent_at + RENEW_EVERY_S
        self._taking.meet_primary(heard.primary, now)
        entry = heard.hosts.get(self._heart.name)
        was_joined = self._joining.joined
        self._joining.heard(None if entry is None else entry.heart, now)
        self._neighbours.heard(heard.hosts, self._heart, now)
        if self.agrees and heard.topology.generation < self.topology.generation:
            self._publish_asked = True  # a failover lost what was in force
        self.topology = heard.topology
        if beat.heart is not None:
            self._starting = False
        if self.agrees or (beat.publish and heard.topology.generation > beat.publish.generation):
            self._publish_asked = False  # ours is in force, or somebody else's came first
        if self._joining.joined and (not was_joined or self._publish_asked):
            self._soon = True
        self._note_moves(heard, now)
        lost = self._book.heard(beat, heard, now)
        self._lose(lost, now)
        self._settle_parts(now)
        self._balance(now)

    def closed(self, component: Component) -> None:
        """Take note that nothing of a closing component is on the wire any more."""
        part = self._parts[component]
        part.phase = Phase.AWAY
        if component not in self._components:
            del self._parts[component]
        self._soon = True

    def tick(self, now: float) -> None:
        """Close what may no longer be on the wire because no renewal was acknowledged for too long."""
        for part in self._parts.values():
            if part.phase is Phase.OWNING and self._abort_at(part) <= now:
                self._close(part, "expired", gives_up=False, abort=True)

    def nudged(self) -> None:
        """Look at once: somebody says that a lease was released."""
        self._soon = True

    def hand_over(self, component: Component, now: float) -> str | None:
        """Give a component to the next in line, at an operator's word; return who that is, or None without another."""
        others = [name for name in self._willing(component) if name != self._heart.name]
        if not others or self._parts[component].phase is not Phase.OWNING:
            return None
        self._declined_until.update((platform, now + REST_S) for platform in component)
        self._refresh_heart(now)
        self._close(self._parts[component], "operator", gives_up=True)
        return self._parts[component].successor

    def leave(self) -> None:
        """Hand over everything: the host stops."""
        self._heart = msgspec.structs.replace(self._heart, leaving=True)
        self._neighbours.update(self._heart)
        for part in self._parts.values():
            self._close(part, "stop", gives_up=True)

    # inside

    def _part_of(self, platform: str) -> Part | None:
        """Return the part of the platform that is not away, else the one of the file in force."""
        found = [part for part in self._parts.values() if platform in part.component]
        return next((part for part in found if part.phase is not Phase.AWAY), found[0] if found else None)

    def _abort_at(self, part: Part) -> float:
        return min(self._book.holdings[each].abort_at for each in part.component)

    def _willing(self, component: Component) -> list[str]:
        return in_line(component, self._neighbours.willing(component, self.topology.digest))

    def _refresh_heart(self, now: float) -> None:
        self._declined_until = {name: until for name, until in self._declined_until.items() if until > now}
        self._heart = msgspec.structs.replace(
            self._heart,
            number=self._heart.number + 1,
            resting=self._flaps.resting(now),
            declines=tuple(sorted(self._declined_until)),
        )
        self._neighbours.update(self._heart)

    def _note_moves(self, heard: Heard, now: float) -> None:
        for platform, lease in heard.leases.items():
            before = self._book.sightings.get(platform)
            if before is None or before.lease.host != lease.host:
                self._moved_at = now

    def _wishes(self, now: float) -> Iterable[Wish]:
        book = self._book
        takes = {platform for part in self._parts.values() for platform in self._due_takes(part, now)[0]}
        configured = {platform for component in self._components for platform in component}
        for platform in sorted(configured | book.holdings.keys()):
            part = self._part_of(platform)
            if platform in takes:
                self._taken_as[platform] = self._taking.why(platform)
                yield book.take(platform)
            elif platform not in book.holdings:
                yield book.look(platform)
            elif part is None or (part.phase is Phase.AWAY and not self._keeps(part, platform, now)):
                yield book.release(platform, part.successor if part is not None else "")
            else:
                yield book.renew(platform)

    def _keeps(self, part: Part, platform: str, now: float) -> bool:
        """Say whether a component that is away keeps one of its leases.

        1. Not if another host is to have the component.
        2. Not if an earlier lease in name order is somebody else's: two hosts that wait for each other would do so for
           ever.
        """
        if part.gives_up or self._heart.leaving or not self.agrees:
            return False
        if self._heart.name not in self._willing(part.component):
            return False
        return not self._taking.blocked_before(part.component, platform, now)

    def _due_takes(self, part: Part, now: float) -> tuple[list[str], float]:
        """Return the leases of a component to take now, and when the next one can be taken."""
        blocked = not self._joining.joined or self._joining.taken or self._heart.leaving or not self.agrees
        if blocked or part.phase is not Phase.AWAY or part.gives_up or part.component not in self._components:
            return [], inf
        line = self._willing(part.component)
        return self._taking.due(part.component, line, now) if self._heart.name in line else ([], inf)

    def _lose(self, lost: set[str], now: float) -> None:
        """Close at once what was taken from us; a host to which this happens again and again rests."""
        by_expiry = False
        for part in self._parts.values():
            if part.phase is Phase.OWNING and not lost.isdisjoint(part.component):
                self._close(part, "lost", gives_up=False, abort=True)
            by_expiry |= not lost.isdisjoint(part.component)
        if by_expiry:
            self._flaps.lost(now)

    def _settle_parts(self, now: float) -> None:
        """Open what is wholly ours, close what may not be."""
        for part in self._parts.values():
            held = [platform for platform in part.component if platform in self._book.holdings]
            if part.phase is Phase.OWNING and not self.agrees and not self._publish_asked:
                self._close(part, "mismatch", gives_up=True)
            elif part.phase is Phase.AWAY and part.gives_up and not held:
                part.gives_up = False
            elif part.phase is Phase.AWAY and len(held) == len(part.component) and self._may_open(part, now):
                self._open(part)

    def _may_open(self, part: Part, now: float) -> bool:
        busy = any(
            other.phase is not Phase.AWAY and not set(other.component).isdisjoint(part.component)
            for other in self._parts.values()
        )
        fresh = all(self._book.holdings[platform].claim_until > now for platform in part.component)
        # A take may have been asked for before it was known that another server answers, and was granted by that one.
        waits = now < self._taking.take_from and not self._taken_as.keys().isdisjoint(part.component)
        return fresh and not busy and not waits and self._keeps(part, part.component[0], now)

    def _open(self, part: Part) -> None:
        part.phase, part.successor = Phase.OWNING, ""
        whys = {self._taken_as.pop(platform, "resumed") for platform in part.component}
        reason = next(why for why in ("expired", "restart", "handover", "free", "resumed") if why in whys)
        fences = {platform: self._book.holdings[platform].token for platform in part.component}
        self._events.append(Opened(part.component, fences, reason))

    def _close(self, part: Part, reason: str, *, gives_up: bool, abort: bool = False) -> None:
        if part.phase is not Phase.OWNING:
            part.gives_up |= gives_up
            return
        part.phase, part.gives_up = Phase.CLOSING, gives_up
        others = [name for name in self._willing(part.component) if name != self._heart.name]
        part.successor = others[0] if gives_up and others else ""
        self._events.append(Closing(part.component, abort, reason))

    def _balance(self, now: float) -> None:
        """Hand over one component of ours that belongs to another host, if it is our turn."""
        if now - self._moved_at < MOVE_EVERY_S or not self.agrees:
            return
        owners: dict[Component, str] = {}
        for component in self._components:
            hosts = {self._book.sightings[each].lease.host for each in component if each in self._book.sightings}
            if len(hosts) == 1:
                owners[component] = hosts.pop()
        willing = {component: self._willing(component) for component in owners}
        move = next_move(owners, self._neighbours.steady(now), willing)
        if move is not None and owners[move[0]] == self._heart.name:
            self._close(self._parts[move[0]], "balance", gives_up=True)
