"""Steps of upkeep for the platforms this host owns: what is over its time ends, what need not be kept goes."""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from relay.core.clock import Clock
from relay.core.errors import Fenced
from relay.core.model import Ended, Expired, State
from relay.store.history import MINUTE_S
from relay.store.redis.moved.moving import Copied, Copies
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.server.fields import pack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.looks import Looks
from relay.store.redis.server.scripts import script_of
from relay.store.redis.write.bulk import Bulks
from relay.store.redis.write.cancelling import RedisCancelling

Copy = Callable[[Sequence[str], Sequence[float]], Awaitable[Copies]]
"""Copies one step of what ended on platforms before two times; returns what may be deleted on the server."""


class HearsDeleted(Protocol):
    """Hears which of the copied rows were deleted."""

    async def __call__(self, copies: Copies, gone: Mapping[str, Sequence[int]], *, whole: bool) -> None:
        """``gone`` are they, by platform; ``whole``: all others are still there."""
        ...


_STEP: Final = 200  # rows in one script
_TOGETHER: Final = 4  # scripts in one pipeline, for which all other calls wait
# A day's window may be configured later and must find the attempts it has to count.
_KEEP_ATTEMPTS_S: Final = 86400.0
_SWEEP_S: Final = 30.0
# Of routed posts the rows that are left; a post without any is forgotten. KEYS: posts, post counts.
_FORGET_POSTS: Final = script_of(
    """
for _, post in ipairs(ARGV) do
  if redis.call('HINCRBY', KEYS[2], post, -1) <= 0 then
    redis.call('HDEL', KEYS[1], post)
    redis.call('HDEL', KEYS[2], post)
  end
end
return 1
"""
)


class RedisUpkeep:
    """Expiry and pruning."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        owned: OwnedPlatforms,
        bulks: Bulks,
        cancelling: RedisCancelling,
        looks: Looks,
        *,
        names: Callable[[], Iterable[str]],
        all_names: Callable[[], Iterable[str]],
        changed: Callable[[str, int], None],
        released: Callable[[], None],
        noted: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """``names()`` are the platforms this host looks after, ``all_names()`` those of the store."""
        self._link = link
        self._keys = keys
        self._clock = clock
        self._owned = owned
        self._bulks = bulks
        self._cancelling = cancelling
        self._looks = looks
        self._names = names
        self._all_names = all_names
        self._changed = changed
        self._released = released
        self._noted = noted
        self.copy: Copy | None = None
        self.copied: HearsDeleted | None = None
        self._samples_at = -math.inf
        self._swept_at = -math.inf

    async def finish_what_is_due(self, names: Iterable[str]) -> dict[str, Any]:
        """Do what a crash left undone at these platforms: receipts, keys taken back. Return what the look found."""
        looked = await self._looks.at(names, "upkeep")
        for name, found in looked.items():
            if found[8]:
                await self._cancelling.finish(name)
            await self._noted(name, found[7])
        return looked

    async def expire(self) -> Expired:
        """End one step of the pending callbacks of each platform whose time is over."""
        now = self._clock.now()
        looked = await self.finish_what_is_due(self._names())
        first = {name: _time(found[0]) for name, found in looked.items()}
        names = [name for name, at in first.items() if at <= now]
        ended: list[Ended] = []
        more, next_at = False, min((at for at in first.values() if at > now), default=math.inf)
        answers = await self._all(names, "expire", _STEP)
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Fenced):
                continue
            if isinstance(answer, Exception):
                raise answer
            many, full, coming, freed, released, noted = answer
            if many:
                ended.append(Ended(name, State.EXPIRED, "expired", many))
            if freed:
                self._changed(name, freed)
            if released:
                self._released()
            await self._noted(name, noted)
            more = more or bool(full)
            next_at = min(next_at, float(coming))
        return Expired(ended, more, next_at)

    async def retry_now(self, platform: str) -> int:
        """Make everything that waits for its retry time due now; return how many callbacks that is."""
        brought, more = 0, self._owned.owns(platform)
        while more:
            many, more, freed = await self._link.one(self._owned.call("retry", platform, _STEP), durable=True)
            brought += many
            if freed:
                self._changed(platform, freed)
        return brought

    async def unblock(self, platform: str) -> None:
        """Let the keys of a platform go on past their dead callbacks."""
        more = self._owned.owns(platform)
        while more:
            more, freed = await self._link.one(self._owned.call("unblock", platform, _STEP))
            self._changed(platform, freed)

    async def prune(self) -> bool:
        """Delete one step of what need not be kept; return whether there may be more."""
        now, rules = self._clock.now(), self._owned.rules
        keep_attempts_s = max(self._owned.slots.longest_window_s, _KEEP_ATTEMPTS_S)
        samples = 0
        if now - self._samples_at >= MINUTE_S:
            samples = max(1, math.ceil((now - rules.keep_samples_s) // MINUTE_S))
            self._samples_at = now
        before = [now - kept for kept in (rules.keep_delivered_s, rules.keep_dead_s, keep_attempts_s)]
        overdue = (*before, before[-1], samples - 1)
        found = await self._looks.at(self._all_names(), "upkeep")
        names = [
            name
            for name in self._names()  # one that became this host's since the look has its turn at the next
            if name in found and any(_time(at) <= bound for at, bound in zip(found[name][1:6], overdue, strict=True))
        ]
        copied = Copies({}, {}, more=False) if self.copy is None else await self.copy(names, before[:2])
        args = (*(repr(each) for each in before), samples, _STEP)
        asked = [(name, (*args, part)) for name in names for part in self._parts(copied.of.get(name, ()))]
        more, gone = copied.more, dict[str, list[int]]()
        whole = False
        try:
            for first in range(0, len(asked), _TOGETHER):
                more = await self._pruned(asked[first : first + _TOGETHER], gone) or more
            whole = True
        finally:  # where the server was lost, of the others nobody knows
            if self.copied is not None:
                await self.copied(copied, gone, whole=whole)
        if samples:
            await self._forget_minutes(samples)
        if now - self._swept_at >= _SWEEP_S:
            self._swept_at = now
            await self._bulks.sweep([name for name, each in found.items() if each[6]])
        return more

    def _parts(self, copied: Sequence[Copied]) -> list[bytes]:
        """Return what each script is told that was copied; empty: nothing is, and all that ended may go."""
        if self.copy is None:
            return [b""]
        return [pack(copied[first : first + _STEP]) for first in range(0, max(len(copied), 1), _STEP)]

    async def _pruned(self, asked: Sequence[tuple[str, Sequence[Any]]], gone: dict[str, list[int]]) -> bool:
        """Prune platforms with these arguments; add what went to ``gone``, return whether there may be more."""
        asked = [each for each in asked if self._owned.owns(each[0])]  # it may have been taken from this host meanwhile
        more = False
        calls = [self._owned.call("prune", name, *args) for name, args in asked]
        for (name, _), answer in zip(asked, await self._link.run(calls) if calls else [], strict=True):
            if isinstance(answer, Fenced):
                continue
            if isinstance(answer, Exception):
                raise answer
            many, posts, freed, rows = answer
            gone.setdefault(name, []).extend(rows)
            if posts:
                keys = (self._keys.shared("posts"), self._keys.shared("postn"))
                await self._link.one(ServerCall(_FORGET_POSTS, keys, posts))
            if freed:
                self._changed(name, freed)
            more = more or many == _STEP
        return more

    async def _forget_minutes(self, first: int) -> None:
        key = self._keys.shared("minutes")
        await self._link.do("ZREMRANGEBYSCORE", key, "-inf", f"({first}")

    async def _all(self, names: Sequence[str], script: str, *args: object) -> list[Any]:
        calls = [self._owned.call(script, name, *args) for name in names]
        return await self._link.run(calls) if calls else []


def _time(found: bytes) -> float:
    return float(found) if found else math.inf
