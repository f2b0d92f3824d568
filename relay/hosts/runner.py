"""Carries out what ``ownership.py`` decides: beats to the store, pipelines opened and closed.

One loop decides, and never waits for a server: beats, openings and closings are tasks beside it. So what is on the
wire is cut off in time although a beat hangs.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from relay.core.clock import Clock
from relay.core.errors import RelayError, StoreError
from relay.hosts.rules.beat import Beat, Heard, HeartFacts
from relay.hosts.rules.component import Component
from relay.hosts.rules.ownership import Ownership
from relay.hosts.rules.stance import Closing, Opened
from relay.policy.takeover import silent_after_s

_GRACE_S: Final = 10.0  # for requests under way when a component is handed over
_AGAIN_S: Final = 0.5  # between two tries to rebuild slots while the store is away


class Sayer(Protocol):
    """Carries beats to the store."""

    async def say(self, beat: Beat) -> Heard:
        """Carry one. Raises ``StoreError``."""
        ...


class OwnedStore(Protocol):
    """The part of a shared store that must know which platforms are ours."""

    clock: Clock

    async def own(self, fences: Mapping[str, str], *, silent_s: Mapping[str, float]) -> None:
        """Rebuild the slots of platforms and change them under these fences from now on. Raises ``StoreError``.

        ``silent_s``: how long after its claim a former owner's request may still arrive; left out: not at all.
        """
        ...

    def disown(self, platforms: Iterable[str]) -> None:
        """Change nothing of these platforms any more."""
        ...


class Senders(Protocol):
    """The pipelines."""

    async def open(self, names: Iterable[str]) -> None:
        """Start those of platforms that are ours now. Raises ``StoreError``."""
        ...

    async def close(self, names: Iterable[str], within_s: float) -> int:
        """End them when nothing of theirs is on the wire, at the latest in ``within_s``; return what was cut off."""
        ...

    async def abort(self, names: Iterable[str]) -> int:
        """Cut off what is on the wire at once, and settle nothing."""
        ...


class HostEvents(Protocol):
    """What is told of ownership; ``telemetry.events.Events`` is one."""

    def platforms_owned(self, *, platforms: Component, reason: str, seconds: float) -> None:
        """This host sends for these platforms now; taking them over took so long since their leases were ours."""
        ...

    def platforms_closed(self, *, platforms: Component, reason: str, cut_off: int) -> None:
        """It no longer does."""
        ...

    def config_mismatch(self, *, digest: str, in_force: str, published_by: str) -> None:
        """Its file is not the one in force, or is again (``digest`` is then ``in_force``)."""
        ...


class Keeper:
    """Runs one host's side of ownership. ``boottime`` is the host's own clock, which counts while it is frozen."""

    def __init__(
        self,
        ownership: Ownership,
        *,
        sayer: Sayer,
        store: OwnedStore,
        senders: Senders,
        timeouts: Callable[[], Mapping[str, float]],
        describe: Callable[[], HeartFacts],
        events: HostEvents,
        boottime: Callable[[], float],
    ) -> None:
        """Wire it. ``timeouts``: of each platform's requests, in seconds. ``describe``: what the next beat tells."""
        self._ownership = ownership
        self._sayer = sayer
        self._store = store
        self._senders = senders
        self._timeouts = timeouts
        self._describe = describe
        self._events = events
        self._boottime = boottime
        self._awake = asyncio.Event()
        self._beat: asyncio.Task[None] | None = None
        self._opening: dict[Component, asyncio.Task[None]] = {}
        self._left = asyncio.Event()
        self._told = ""  # the digest in force when a mismatch was told; empty: there is none
        self.heard: Heard | None = None  # the last answer
        self.heard_at = -math.inf  # on the relay clock

    @property
    def ownership(self) -> Ownership:
        """The decisions."""
        return self._ownership

    def claim_until(self, platform: str) -> float:
        """Until when this host may send for a platform, on the relay clock; -inf where it may not."""
        until = self._ownership.claim_until(platform)
        return until + self._store.clock.now() - self._boottime() if math.isfinite(until) else until

    def wake(self) -> None:
        """Decide again now: something was changed from outside."""
        self._awake.set()

    def nudged(self, _text: str) -> None:
        """Look at the leases now: one changed its owner, or a message may have been missed."""
        self._ownership.nudged()
        self.wake()

    async def run(self) -> None:
        """Decide and carry out until cancelled. Raises ``RelayError`` when another process has this host's name."""
        try:
            async with asyncio.TaskGroup() as jobs:
                while not self._ownership.name_taken:
                    self._awake.clear()
                    self._step(jobs)
                    await self._sleep()
                for opening in self._opening.values():
                    opening.cancel()
        finally:
            self._left.set()
        raise RelayError(
            f"another relay is alive under the name {self._ownership.name}; give each host a name of its own (key host)"
        )

    async def leave(self, within_s: float) -> None:
        """Hand over everything and say goodbye; gives up after ``within_s``."""
        self._ownership.leave()
        self.wake()
        try:
            async with asyncio.timeout(within_s):
                await self._left.wait()
        except TimeoutError:
            return  # the others find out by themselves

    def _step(self, jobs: asyncio.TaskGroup) -> None:
        ownership, now = self._ownership, self._boottime()
        ownership.tick(now)
        if self._beat is None and ownership.due_at(now) <= now and not self._left.is_set():
            ownership.describe(self._describe())
            self._beat = jobs.create_task(self._say(ownership.beat(now)), name="beat")
        for event in ownership.events():
            if isinstance(event, Opened):
                self._opening[event.component] = jobs.create_task(self._open(event), name="take over")
            else:
                jobs.create_task(self._close(event, self._opening.pop(event.component, None)), name="hand over")

    async def _sleep(self) -> None:
        ownership, now = self._ownership, self._boottime()
        until = ownership.ends_at()
        if self._beat is None and not self._left.is_set():
            until = min(until, ownership.due_at(now))
        try:
            async with asyncio.timeout(None if until == math.inf else max(0.0, until - now)):
                await self._awake.wait()
        except TimeoutError:
            return

    async def _say(self, beat: Beat) -> None:
        try:
            heard = await self._sayer.say(beat)
        except StoreError:  # the store tells of it; the next beat comes in a second
            pass
        else:
            self._ownership.heard(beat, heard, self._boottime())
            self.heard, self.heard_at = heard, self._store.clock.now()
            self._tell_mismatch()
            if beat.leaves:
                self._left.set()
        finally:
            self._beat = None
            self.wake()

    def _tell_mismatch(self) -> None:
        ownership = self._ownership
        topology = ownership.topology
        now = "" if ownership.agrees else topology.digest
        if now != self._told:
            self._told = now
            self._events.config_mismatch(
                digest=ownership.digest, in_force=topology.digest, published_by=topology.published_by
            )

    async def _open(self, opened: Opened) -> None:
        """Rebuild the slots, then start the pipelines. A store that is away is asked again until the lease ends."""
        began_at = self._boottime()
        silent_s: dict[str, float] = {}
        if opened.reason != "restart":  # of a process that has certainly ended nothing can arrive any more
            timeouts = self._timeouts()
            silent_s = {platform: silent_after_s(timeouts.get(platform, 0.0)) for platform in opened.component}
        while True:
            try:
                await self._store.own(opened.fences, silent_s=silent_s)
                await self._senders.open(opened.component)
                break
            except StoreError:
                await asyncio.sleep(_AGAIN_S)
        seconds = self._boottime() - began_at
        self._events.platforms_owned(platforms=opened.component, reason=opened.reason, seconds=seconds)

    async def _close(self, closing: Closing, opening: asyncio.Task[None] | None) -> None:
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.wait((opening,))
        if closing.abort:
            self._store.disown(closing.component)  # first, so that nothing is settled under a lease that is not ours
            cut_off = await self._senders.abort(closing.component)
        else:
            cut_off = await self._senders.close(closing.component, _GRACE_S)
            self._store.disown(closing.component)
        self._events.platforms_closed(platforms=closing.component, reason=closing.reason, cut_off=cut_off)
        self._ownership.closed(closing.component)
        self.wake()
