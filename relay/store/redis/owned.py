"""The platforms this host owns: their fences, their slots, and the attempts that slots are rebuilt from."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.core.clock import Clock
from relay.core.errors import Fenced
from relay.core.model import UNROUTED, Purpose, Quota, StoreRules
from relay.core.receipts import RECEIPTS
from relay.store.quota_lines import EVERY_SLOT, Recorded, Sent
from relay.store.redis.last_writes import LastWrites
from relay.store.redis.server.fields import read_attempt, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.lineage import Lineage
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.write.receipts import occasions
from relay.store.slots import Slots

_RECOVER_STEP: Final = 20
_READ_STEP: Final = 1000
_PIPELINE: Final = 100
_NO_RULES: Final = StoreRules()


class OwnedPlatforms:
    """Fences and slots. Everything a host does as the owner of a platform goes through ``call``."""

    def __init__(
        self, link: ServerLink, keys: KeyNames, clock: Clock, *, script: Callable[[str], Script], alone: bool
    ) -> None:
        """``alone``: this host is the only one and owns every platform there is, without leases."""
        self._alone = alone
        self._fences: dict[str, str] = {}
        self.slots = Slots()
        self.rules = _NO_RULES
        self.last_number = 0
        self.resume: Callable[[str], Awaitable[None]] = _nothing_to_resume
        self.cut_off: Callable[[str, int, int], None] = _told_nobody
        self._link = link
        self._keys = keys
        self._clock = clock
        self._script = script
        self.changing = asyncio.Lock()  # held while slots are rebuilt from what is recorded, or lent ones change
        self._told: dict[str, str] = {}
        self._unbuilt: set[str] = set()  # taken over, and not in the slots yet
        self._late: list[Sent] | None = None  # what is settled while attempts are read
        self.last = LastWrites(link, keys, clock, fence=self._fences.get, script=script)

    def owned(self) -> frozenset[str]:
        """Return the platforms this host owns."""
        return frozenset(self._fences)

    def call(self, name: str, platform: str, *args: Any) -> ServerCall:
        """Return a call of a script as the owner of a platform. Raises ``Fenced`` when this host is not."""
        fence = self._fences.get(platform, "" if self._alone else None)
        if fence is None:
            raise Fenced(f"this host does not own {platform}; nothing was changed")
        words = (repr(self._clock.now()), fence, *args)
        return ServerCall(self._script(name), self._keys.pair(platform), words, self.last.server(platform))

    def owns(self, platform: str) -> bool:
        """Say whether this host owns a platform."""
        return self._alone or platform in self._fences

    def next_number(self) -> int:
        """Return a number for a batch or an attempt: microseconds, made unique and increasing."""
        self.last_number = max(self.last_number + 1, int(self._clock.now() * 1e6))
        return self.last_number

    async def own(self, fences: Mapping[str, str], *, silent_s: Mapping[str, float]) -> bool:
        """Take platforms over: end the attempts that a former owner left open, and rebuild slots.

        Returns whether operations may go on that waited for such an attempt.
        """
        self._fences.update(fences)
        for platform in fences:
            self._told.pop(platform, None)  # another owner may have said otherwise
            self.last.forget(platform)
        released = False
        met: dict[str, Lineage] = {}
        for platform in fences:
            number, kept = await self._link.do("HMGET", self._keys.of(platform, "m"), "number", "server")
            self.last_number = max(self.last_number, int(number or 0))
            met[platform] = await self.last.take_over(platform, "" if kept is None else kept.decode())
            await self.resume(platform)
            more = bool(await self._link.do("ZCOUNT", self._keys.of(platform, "au"), "+inf", "+inf"))
            silent = repr(silent_s.get(platform, 0.0))
            requests = callbacks = 0
            while more:
                call = self.call("recover", platform, silent, _RECOVER_STEP, self.last_number)
                ((more, freed, ended, members),) = await self.last.write(platform, [call])
                released = released or bool(freed)
                requests, callbacks = requests + ended, callbacks + members
            if requests:
                self.cut_off(platform, requests, callbacks)
        self._unbuilt |= fences.keys()
        async with self.changing:
            if self._unbuilt & fences.keys():  # else built with others that waited: slots are rebuilt once for many
                await self._rebuild(self.rules)
        self.last.begin(met)
        return released

    def disown(self, platforms: Iterable[str]) -> None:
        """Forget fences and slots at once."""
        gone = frozenset(platforms)
        for platform in gone:
            self._fences.pop(platform, None)
            self._told.pop(platform, None)
            self.last.forget(platform)
        self.slots.leave(gone)
        self.slots.configure(self._only(self.rules, self._fences), lambda _platforms, _since: (), self._clock.now())

    async def configure(self, rules: StoreRules) -> None:
        """Put rules in force for the platforms this host owns; slots are rebuilt from recorded attempts."""
        async with self.changing:
            await self._rebuild(rules)

    async def _rebuild(self, rules: StoreRules) -> None:
        names = frozenset(self._fences)
        building = self._unbuilt & names
        self._unbuilt -= building
        try:
            recorded = await self._attempts(names, rules.quotas.values())
            self.rules = rules
            await self._say_what_is_told(names)
        except BaseException:  # whatever it was, also a cancellation: their attempts are read with the next
            self._unbuilt |= building
            raise
        # One that was taken over meanwhile has its attempts read by ``own``.
        self.slots.configure(self._only(rules, names & self._fences.keys()), recorded, self._clock.now())

    async def _say_what_is_told(self, owned: Collection[str]) -> None:
        """Tell the scripts what receipts are wanted of; where no host has been the owner yet, whoever comes first."""
        wanted = occasions(self.rules.receipts)
        names = dict.fromkeys((*self.rules.platforms, UNROUTED, *owned))
        new = [
            name for name in names if self._told.get(name) != wanted and name != RECEIPTS and (wanted or name in owned)
        ]
        calls = [("HSET" if name in owned else "HSETNX", self._keys.of(name, "m"), "tell", wanted) for name in new]
        if calls:
            # That none are wanted needs not outlive a failover: a note too many is all that would come of it.
            await self._link.run([ServerCall(None, (), call) for call in calls], durable=bool(wanted))
            self._told.update(dict.fromkeys(new, wanted))

    def _only(self, rules: StoreRules, names: Container[str]) -> StoreRules:
        """Return the rules of the platforms in ``names``, with the quotas that this host answers for.

        A quota without platforms goes with ``_unrouted``. Others are left out, so that they are rebuilt when their
        platforms come.
        """
        members = {quota for rule in rules.platforms.values() for quota in rule.quotas}
        platforms = {name: rule for name, rule in rules.platforms.items() if name in names}
        mine = {quota for rule in platforms.values() for quota in rule.quotas}
        if self._alone or UNROUTED in names:
            mine |= rules.quotas.keys() - members
        quotas = {name: quota for name, quota in rules.quotas.items() if name in mine}
        return replace(rules, platforms=platforms, quotas=quotas)

    async def set_quotas(self, platform: str, quotas: Sequence[Quota]) -> None:
        """Hold ``quotas`` on one platform beside the configured ones."""
        if platform not in self._fences:
            return
        async with self.changing:
            recorded = await self._attempts((platform,), quotas)
            self.slots.set_quotas(platform, quotas, recorded, self._clock.now())

    def settled(self, sent: Sent, wire_bytes: int) -> None:
        """Start the way back of an attempt's slots; ``wire_bytes``: its body as it was sent, 0 where not known."""
        assert sent.ended_at is not None
        self.slots.release(sent.attempt_id, sent.ended_at, sent.answer_s, wire_bytes)
        if self._late is not None:
            self._late.append(sent)

    async def _attempts(self, platforms: Iterable[str], quotas: Iterable[Quota]) -> Recorded:
        """Read the recorded attempts that quotas still count, with those that are settled while they are read."""
        longest_s = max((rate.window_s for quota in quotas for rate in quota.rates), default=0.0)
        self._late = late = list[Sent]()
        try:
            since = self._clock.now() - longest_s
            names = list(platforms)
            sent = await self._sent(names, since)
            return _recorded([*sent, *await self._lent(since), *await self._full(names)], late)
        finally:
            self._late = None

    async def _lent(self, since: float) -> list[Sent]:
        """Return the slots that others took and that count from after ``since``, wherever they are recorded."""
        names = dict.fromkeys((UNROUTED, *self.rules.platforms, *self._fences))
        return [_lent_of(number, blob) for _, number, blob in await self._read(names, "lc", "ln", since)]

    async def _full(self, names: Sequence[str]) -> list[Sent]:
        """Return since when every slot of a platform's limits counts as used, because a failover lost attempts."""
        found = await self._all([(name, ("HGET", self._keys.of(name, "m"), "full")) for name in names])
        times = ((name, float(at)) for name, at in zip(names, found, strict=True) if at)
        return [Sent(EVERY_SLOT, name, "", at, at, 0.0) for name, at in times]

    async def _sent(self, platforms: Iterable[str], since: float) -> list[Sent]:
        """Return recorded attempts that have no end or ended after ``since``."""
        return [_sent_of(*found) for found in await self._read(platforms, "au", "at", since)]

    async def _read(
        self, platforms: Iterable[str], times: str, kept: str, since: float
    ) -> list[tuple[str, int, bytes]]:
        """Return what the hash ``kept`` of each platform holds of the numbers that ``times`` has after ``since``."""
        names = list(platforms)
        found = await self._all(
            [(name, ("ZRANGEBYSCORE", self._keys.of(name, times), f"({since!r}", "+inf")) for name in names]
        )
        parts = [
            (name, ids[first : first + _READ_STEP])
            for name, ids in zip(names, found, strict=True)
            for first in range(0, len(ids), _READ_STEP)
        ]
        blobs = await self._all([(name, ("HMGET", self._keys.of(name, kept), *ids)) for name, ids in parts])
        return [
            (name, int(number), blob)
            for (name, ids), part in zip(parts, blobs, strict=True)
            for number, blob in zip(ids, part, strict=True)
            if blob
        ]

    async def _all(self, commands: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Run plain commands, each of a platform, a hundred in one pipeline."""
        answers: list[Any] = []
        for first in range(0, len(commands), _PIPELINE):
            some = commands[first : first + _PIPELINE]
            part = [ServerCall(None, (), command, self.last.server(name)) for name, command in some]
            answers += await self._link.run(part)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def _told_nobody(platform: str, requests: int, callbacks: int) -> None:
    """Stand in until somebody listens."""


async def _nothing_to_resume(_platform: str) -> None:
    """Resume nothing."""


def _recorded(sent: Sequence[Sent], late: Sequence[Sent]) -> Recorded:
    newest = {(each.attempt_id, each.platform): each for each in (*sent, *late)}

    def recorded(platforms: frozenset[str], since: float) -> Iterable[Sent]:
        for each in newest.values():
            mine = each.platform in platforms or each.purpose == Purpose.EXTERNAL
            if mine and (each.ended_at is None or each.ended_at > since):
                yield each

    return recorded


def _lent_of(number: int, packed: bytes) -> Sent:
    platform, quota, group, taken_at, counts_from, _ = unpack(packed)
    return Sent(number, platform, group, float(taken_at), float(counts_from), 0.0, Purpose.EXTERNAL, quota)


def _sent_of(platform: str, attempt_id: int, packed: bytes) -> Sent:
    attempt = read_attempt(attempt_id, packed)
    ended_at = attempt.ended_at if attempt.ended_at is None or attempt.ended_at < math.inf else None
    facts = (attempt_id, platform, attempt.group, attempt.started_at, ended_at, attempt.duration_s, attempt.purpose)
    return Sent(*facts, weight=attempt.weight)
