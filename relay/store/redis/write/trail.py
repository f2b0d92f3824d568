"""Audit records of the shared store, each chained to the one before it, whichever host writes it."""

from collections.abc import Sequence
from typing import Any, Final

from relay.core.clock import Clock
from relay.core.errors import StoreFailed
from relay.core.raw import Record
from relay.privacy.chain import ORIGIN, PRUNED, Link, following, record_text, start_record
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import script_of
from relay.views.moments import instant_text

_TRIES: Final = 50
_PART: Final = 500
# Adds a record if the newest one is still the one it follows. KEYS: head, records, and of a deed in the same slot its
# hash. ARGV: count and hash of the newest, the new hash, its time, the record, how many go at the beginning, then field
# and value of the deed.
_APPEND: Final = script_of(
    """
local count = redis.call('HGET', KEYS[1], 'count') or '0'
if count ~= ARGV[1] or (redis.call('HGET', KEYS[1], 'hash') or ARGV[2]) ~= ARGV[2] then return 0 end
if tonumber(ARGV[6]) > 0 then
  redis.call('LTRIM', KEYS[2], ARGV[6], -1)
  redis.call('HINCRBY', KEYS[1], 'gone', ARGV[6])
end
redis.call('RPUSH', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[1], 'count', count + 1, 'hash', ARGV[3], 'at', ARGV[4])
if ARGV[7] then redis.call('HSET', KEYS[3], ARGV[7], ARGV[8]) end
return 1
"""
)


class RedisTrail:
    """The chain, oldest record first."""

    def __init__(self, link: ServerLink, keys: KeyNames, clock: Clock) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock

    async def append(self, deed: Record | None, *, field: str = "", value: bytes = b"", gone: int = 0) -> None:
        """Keep a record behind the newest one, together with a field of the operations; None: nobody asked."""
        keys = tuple(self._keys.shared(suffix) for suffix in ("trail", "audit", "ops"))
        more = (field, value) if field else ()
        if deed is None:
            if field:
                await self._link.do("HSET", keys[2], field, value)
            return
        text = record_text(deed)
        now = self._clock.now()
        for _ in range(_TRIES):
            count, before, _ = await self.head()
            made = following(before, text)
            record = pack([now, made, text])
            call = ServerCall(_APPEND, keys, (count, before, made, repr(now), record, gone, *more))
            if await self._link.one(call, durable=True):
                return
        raise StoreFailed("other hosts wrote audit records all the time; try again")

    async def head(self) -> tuple[int, str, float | None]:
        """Return number, hash and time of the newest record."""
        found = await self._link.do("HMGET", self._keys.shared("trail"), "count", "hash", "at")
        count, made, at = found
        return int(count or 0), ORIGIN if made is None else made.decode(), None if at is None else float(at)

    async def part(self, first: int, most: int) -> Sequence[tuple[Link, float]]:
        """Return up to ``most`` records from number ``first`` on, oldest first."""
        gone = int(await self._link.do("HGET", self._keys.shared("trail"), "gone") or 0)
        first = max(first, gone + 1)
        at = first - gone - 1
        found: list[Any] = await self._link.do("LRANGE", self._keys.shared("audit"), at, at + most - 1)
        records = (unpack(each) for each in found)
        return [(Link(first + place, made, text), float(when)) for place, (when, made, text) in enumerate(records)]

    async def prune(self, before: float) -> None:
        """Delete records older than ``before`` and record where the chain starts now; see the SQLite store's."""
        count, _, _ = await self.head()
        aged: list[Link] = []
        for link, at in await self.part(1, _PART):
            if at >= before or link.n == count:
                break
            aged.append(link)
        if all(f'"action":"{PRUNED}"' in link.text for link in aged):
            return
        last = aged[-1]
        start = start_record(last.n + 1, last.hash, at=instant_text(self._clock.now()))
        await self.append(start, gone=len(aged))
