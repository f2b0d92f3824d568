"""Many hosts, one store and a bad network in virtual time, with a checker of what must never be.

Each host has a clock of its own: another offset and another speed. Messages are late, lost, or lose their answer. Hosts
freeze, are killed, stop and come back, and get another file at different times. The store is away, or another server
takes its place, which may have lost the last second. The checker looks at what is on the wire to the platforms.

Claims do not ask the store here. There every claim is fenced as well; the leases must be safe without that.
"""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf

from relay.hosts.rules.beat import Beat, Heard, Heart
from relay.hosts.rules.component import Component
from relay.hosts.rules.lease import Lease
from relay.hosts.rules.ownership import Ownership
from relay.hosts.rules.process import Process
from relay.hosts.rules.stance import Closing, Opened
from relay.policy.takeover import SEND_WITHIN_S
from tests.hosts.shelf import LeaseShelf

BEAT_TIMEOUT_S = 2.0
LONGEST_REQUEST_S = 40.0  # longer than any lease: only cutting it off ends it in time


class Violated(AssertionError):
    """Two hosts were on the wire for one limit at the same time."""


@dataclass(frozen=True)
class Fault:
    """How bad it gets."""

    loss: float = 0.0  # of messages, either way
    delay_s: float = 0.01  # of a message, at most; now and then a hundred times that
    skew: float = 0.0  # of a clock's speed, at most
    loses_changes: bool = False  # a failover loses what was answered in the last second
    one_by_one: bool = False  # a cluster: each lease travels by itself


@dataclass(eq=False)
class OnWire:
    """A request to a platform, and whether its host was frozen while it was on its way."""

    host: str
    platform: str
    component: Component
    frozen: bool = False


@dataclass(eq=False)
class Running:
    """A process of a host, and what it is doing."""

    name: str
    key: str  # two processes may have the same name
    ownership: Ownership
    process: Process
    speed: float
    offset: float
    alive: bool = True
    leaving: bool = False
    frozen_until: float = 0.0
    deaf_until: float = 0.0  # it hears no answers of the store
    mute_until: float = 0.0  # the store hears nothing of it
    beat: Beat | None = None
    opened: dict[Component, Opened] = field(default_factory=dict)
    closing: dict[Component, Closing] = field(default_factory=dict)
    wire: list[OnWire] = field(default_factory=list)
    wake_at: float = inf


class World:
    """Hosts, server and network. All times are true seconds; a host sees its own clock only."""

    def __init__(self, seed: int, fault: Fault) -> None:
        self.rng = random.Random(seed)
        self.fault = fault
        self.now = 0.0
        self.server = LeaseShelf()
        self.away_until = 0.0
        self.hosts: dict[str, Running] = {}
        self.wire: list[OnWire] = []
        self.sent: dict[str, int] = {}
        self.opened: list[tuple[float, str, Opened]] = []
        self.numbers = count(100)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    # time

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._queue, (when, next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, do = heapq.heappop(self._queue)
            do()
        self.now = max(self.now, until)

    # what happens to hosts

    def start(
        self, name: str, components: Iterable[Component], digest: str, *, kernel: str = "", twin: bool = False
    ) -> Running:
        """Start a process of a host; with the same ``kernel`` it can prove that its former process has ended.

        A ``twin`` is another process under a name that is in use.
        """
        process = Process(kernel or f"kernel-{self.rng.random()}", "ns", next(self.numbers), round(self.now * 100))
        identities = (f"{name}-{process.number}-{number}" for number in count())
        ownership = Ownership(
            Heart(name=name, process=str(process)),
            process,
            new_identity=lambda: next(identities),
            started=lambda number: self._started(number),
        )
        speed = 1.0 + self.rng.uniform(-self.fault.skew, self.fault.skew)
        key = f"{name}*" if twin else name
        host = Running(name, key, ownership, process, speed, self.rng.uniform(0, 1e6))
        self.hosts[key] = host
        ownership.configure(components, digest, publish=False)
        self._wake(host, self.now)
        return host

    def kill(self, name: str) -> None:
        """End a process at once: its sockets are closed by the kernel."""
        host = self.hosts.pop(name)
        host.alive = False
        self.cut(host, host.wire)

    def freeze(self, name: str, seconds: float) -> None:
        """Let a host do nothing for a while; what it has on the wire stays there."""
        host = self.hosts[name]
        host.frozen_until = max(host.frozen_until, self.now + seconds)
        for request in host.wire:
            request.frozen = True

    def stop(self, name: str) -> None:
        """Stop a host cleanly."""
        host = self.hosts[name]
        host.leaving = True
        host.ownership.leave()
        self._wake(host, self.now)

    def reload(self, name: str, components: Iterable[Component], digest: str, *, publish: bool) -> None:
        """Give a host another file."""
        host = self.hosts[name]
        host.ownership.configure(components, digest, publish=publish)
        self._wake(host, self.now)

    def isolate(self, name: str, seconds: float, *, mute: bool) -> None:
        """Let a host hear nothing of the store, and with ``mute`` the store nothing of the host either."""
        host = self.hosts[name]
        host.deaf_until = self.now + seconds
        host.mute_until = self.now + (seconds if mute else 0)

    def hand_over(self, name: str) -> None:
        """Let an operator release everything that a host owns."""
        host = self.hosts[name]
        if self.now >= host.frozen_until:
            for component in list(host.opened):
                host.ownership.hand_over(component, self.clock(host))
            self._wake(host, self.now)

    def reach_all(self) -> None:
        """Let every host reach the store, and let the frozen ones wake."""
        self.away_until = self.now
        for host in self.hosts.values():
            host.deaf_until = host.mute_until = self.now
        self.run(max((host.frozen_until for host in self.hosts.values()), default=self.now))

    def fail_over(self) -> None:
        """Put another server in the place of the first; what it knows is up to a second old."""
        before = self.server.copy()
        self.at(self.now + self.rng.uniform(0, 1), lambda: self._promote(before))

    def _promote(self, replica: LeaseShelf) -> None:
        if not self.fault.loses_changes:  # takes, releases and files wait for the replica; renewals do not
            for platform, lease in self.server.leases.items():
                known = replica.leases.get(platform, Lease())
                if known._replace(renewed=0) != lease._replace(renewed=0):
                    replica.leases[platform] = lease
            replica.topology = self.server.topology
        replica.primary = f"server-{self.rng.random()}"
        self.server = replica
        self.away_until = self.now + self.rng.uniform(0.5, 8)

    def _started(self, number: int) -> int | None:
        running = (host.process for host in self.hosts.values() if host.process.number == number)
        return next((process.started for process in running), None)

    # a host's loop

    def clock(self, host: Running) -> float:
        """Return what the host's clock shows."""
        return host.offset + self.now * host.speed

    def _wake(self, host: Running, at: float) -> None:
        at = max(at, self.now)
        if at < host.wake_at:
            host.wake_at = at
            self.at(at, lambda: self._step(host, at))

    def _step(self, host: Running, at: float) -> None:
        if not host.alive or host.wake_at != at:
            return
        host.wake_at = inf
        if self.now < host.frozen_until:
            self._wake(host, host.frozen_until)
            return
        ownership, clock = host.ownership, self.clock(host)
        ownership.tick(clock)
        self._act(host)
        if ownership.name_taken or (host.leaving and host.beat is None and self._left(host)):
            self.kill(host.key)
            return
        if host.beat is None and ownership.due_at(clock) <= clock + 1e-9:
            self._say(host)
        soonest = ownership.ends_at() if host.beat else min(ownership.due_at(clock), ownership.ends_at())
        if soonest < inf:
            self._wake(host, max(self.now, (soonest - host.offset) / host.speed) + 1e-6)

    def _left(self, host: Running) -> bool:
        return host.ownership.gone and not host.wire and host.name not in self.server.hosts

    def _act(self, host: Running) -> None:
        for event in host.ownership.events():
            if isinstance(event, Opened):
                host.opened[event.component] = event
                self.opened.append((self.now, host.name, event))
                for platform in event.component:
                    self._claim_later(host, event, platform)
            else:
                self._close(host, event)

    def _close(self, host: Running, event: Closing) -> None:
        opened = host.opened.pop(event.component, None)
        mine = [request for request in host.wire if opened is not None and request.component == event.component]
        if event.abort:
            self.cut(host, mine)
        host.closing[event.component] = event
        self._close_when_silent(host, event, patience=6)

    def _close_when_silent(self, host: Running, event: Closing, patience: int) -> None:
        """Say that a component is closed once nothing of it is on the wire, or when the patience is over."""
        if not host.alive or host.closing.get(event.component) is not event:
            return
        left = [request for request in host.wire if request.component == event.component]
        if self.now >= host.frozen_until and (not left or not patience):
            self.cut(host, left)
            del host.closing[event.component]
            host.ownership.closed(event.component)
            self._wake(host, self.now)
            return
        again = max(self.now + 0.5, host.frozen_until)
        self.at(again, lambda: self._close_when_silent(host, event, max(0, patience - 1)))

    # beats

    def _hop(self) -> float | None:
        """Return how long a message takes, or None when it is lost."""
        if self.rng.random() < self.fault.loss:
            return None
        long = self.rng.random() < 0.02
        return self.rng.uniform(0, self.fault.delay_s * (100 if long else 1))

    def _say(self, host: Running) -> None:
        host.beat = beat = host.ownership.beat(self.clock(host))
        self._act(host)
        answer: dict[str, Lease] = {}
        shared: list[Heard] = []

        def hear() -> None:
            if host.alive and host.beat is beat:
                if self.now < host.frozen_until:
                    self.at(host.frozen_until, hear)
                    return
                host.beat = None
                if shared and self.clock(host) - beat.sent_at <= BEAT_TIMEOUT_S:
                    host.ownership.heard(beat, shared[0]._replace(leases=answer), self.clock(host))
                    self._act(host)
                self._wake(host, self.now)

        def carry(apply: Callable[[], None], back: Callable[[], None]) -> None:
            there, home = self._hop(), self._hop()
            if there is not None:

                def arrive() -> None:
                    if self.now >= max(self.away_until, host.mute_until):
                        held = self._held()
                        apply()
                        if self._held() < held:
                            self._tell_all()
                        if home is not None and self.now >= host.deaf_until:
                            self.at(self.now + home, back)

                self.at(self.now + there, arrive)

        process = str(host.process)
        if not self.fault.one_by_one:
            found: list[Heard] = []

            def all_back() -> None:
                shared.append(found[0])
                answer.update(found[0].leases)
                hear()

            carry(lambda: found.append(self.server.heard(beat, host.name, process, self.now)), all_back)
        else:
            whole = [0]

            def one_back() -> None:
                whole[0] += 1
                if whole[0] == len(beat.wishes) + 1:
                    hear()

            control: list[Heard] = []

            def apply_shared() -> None:
                server = self.server
                control.append(Heard(server.primary, *server.shared(beat, process, host.name, self.now), {}))

            def shared_back() -> None:
                shared.append(control[0])
                one_back()

            carry(apply_shared, shared_back)
            for wish in beat.wishes:
                read: list[Lease] = []

                def lease_back(platform: str = wish.platform, read: list[Lease] = read) -> None:
                    answer[platform] = read[0]
                    one_back()

                carry(
                    lambda wish=wish, read=read: read.append(self.server.lease(wish, host.name, process)),  # type: ignore[misc]
                    lease_back,
                )
        self.at(self.now + BEAT_TIMEOUT_S / host.speed, hear)

    def _held(self) -> int:
        return sum(not lease.free for lease in self.server.leases.values())

    def _tell_all(self) -> None:
        """Tell every host that a lease was released; such a message may be lost as well."""
        for host in self.hosts.values():
            delay_s = self._hop()
            if delay_s is not None:
                self.at(self.now + delay_s, lambda host=host: self._nudge(host))  # type: ignore[misc]

    def _nudge(self, host: Running) -> None:
        if host.alive and self.now >= max(host.frozen_until, host.deaf_until):
            host.ownership.nudged()
            self._wake(host, self.now)

    # sending

    def _claim_later(self, host: Running, opened: Opened, platform: str) -> None:
        self.at(self.now + self.rng.uniform(0.05, 2), lambda: self._claim(host, opened, platform))

    def _claim(self, host: Running, opened: Opened, platform: str) -> None:
        if not host.alive or host.opened.get(opened.component) is not opened:
            return
        if self.now < host.frozen_until:
            self.at(host.frozen_until, lambda: self._claim(host, opened, platform))
            return
        self._claim_later(host, opened, platform)
        asked_at, delay_s = self.clock(host), self._hop()
        if delay_s is not None and asked_at < host.ownership.claim_until(platform):
            self.at(self.now + delay_s, lambda: self._send(host, opened, platform, asked_at))

    def _send(self, host: Running, opened: Opened, platform: str, asked_at: float) -> None:
        if self.now < host.frozen_until:
            self.at(host.frozen_until, lambda: self._send(host, opened, platform, asked_at))
            return
        if not host.alive or host.opened.get(opened.component) is not opened:
            return
        if self.clock(host) >= min(asked_at + SEND_WITHIN_S, host.ownership.claim_until(platform)):
            return
        request = OnWire(host.key, platform, opened.component)
        self._check(request)
        host.wire.append(request)
        self.wire.append(request)
        self.sent[platform] = self.sent.get(platform, 0) + 1
        lasts_s = min(LONGEST_REQUEST_S, 0.3 / self.rng.random())
        self.at(self.now + lasts_s, lambda: self._answered(host, request))

    def _answered(self, host: Running, request: OnWire) -> None:
        if self.now < host.frozen_until:
            self.at(host.frozen_until, lambda: self._answered(host, request))
            return
        self.cut(host, [request])

    def cut(self, host: Running, requests: list[OnWire]) -> None:
        """End requests: answered, or reset."""
        for request in list(requests):
            if request in self.wire:
                self.wire.remove(request)
                host.wire.remove(request)

    def _check(self, new: OnWire) -> None:
        """No two hosts are on the wire for platforms that share a limit, by the file of either.

        What a frozen host had on the wire when it froze is outside the promise: it can no longer be cut off.
        """
        for other in self.wire:
            shares = new.platform in other.component or other.platform in new.component
            if other.host != new.host and shares and not other.frozen:
                raise Violated(f"{self.now:.2f} s: {other.host} and {new.host} both send to {new.component}")

    def owners(self, component: Component) -> list[str]:
        """Return the hosts that have the component open."""
        return [host.key for host in self.hosts.values() if component in host.opened]
