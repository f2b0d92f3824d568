"""Bulks: what is too much for one script, or goes to several platforms, accepted all or none.

1. Chunks are staged at each platform, where nobody sees them.
2. Each platform gives the bulk its sequence numbers.
3. One write decides. At one platform that is the flip itself; over several it is a record in the slot of no platform.
4. Each platform flips: from here on the bulk counts. Then its chunks take their places in the queue.

A crash before 3 leaves nothing but staged chunks, which ``sweep`` takes back; after it ``sweep`` finishes the bulk.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from relay.core.clock import Clock
from relay.core.errors import IdempotencyConflict, StoreAway, StoreFailed, StoreFull
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import pack, pairs_of, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink, ServerRefused
from relay.store.redis.server.scripts import Script, script_of
from relay.store.redis.write.packing import NUMBER, PackedRow, chunks, idempotency_keys, packed_chunk

_BUSY_TRIES: Final = 15
_BUSY_S: Final = 0.05
_STAGED: Final = 20  # chunks that one script puts aside: it only looks for their idempotency keys
_TOGETHER: Final = 8  # chunks that take their places in one pipeline, which the server writes to its file at once
_STALE_S: Final = 5.0  # a bulk that is not decided so long after its last chunk was cut off
_LOOK_S: Final = 0.2
_SWEEP_S: Final = 1.0
# Decides a bulk once. KEYS: commits, posts, post counts. ARGV: bulk, record, then key and value of each routed post.
# Answers -1, or the place of a post that is known meanwhile; -2: the bulk was given up.
_COMMIT: Final = script_of(
    """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known == 'aborted' then return -2 end
if known then return -1 end
for place = 3, #ARGV, 3 do
  if redis.call('HEXISTS', KEYS[2], ARGV[place]) == 1 then return (place - 3) / 3 end
end
for place = 3, #ARGV, 3 do
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
  redis.call('HSET', KEYS[3], ARGV[place], ARGV[place + 2])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return -1
"""
)
_ABORT: Final = script_of(
    """
redis.call('HSETNX', KEYS[1], ARGV[1], 'aborted')
return redis.call('HGET', KEYS[1], ARGV[1])
"""
)


Remembered = Callable[[Mapping[str, int]], Iterable[tuple[str, bytes, int]]]


class PostKnown(Exception):
    """Another host accepted a routed post with this key meanwhile."""


class _KeyBusy(Exception):
    """Another bulk that holds one of the keys is not decided yet."""


@dataclass(slots=True)
class BulkPart:
    """What a bulk brings to one platform: packed rows with their payloads, and their places in the request."""

    platform: str
    rows: list[PackedRow] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    known: dict[int, int | bytes] = field(default_factory=dict)  # place in the request: number or id of the first

    def add(self, row: PackedRow, body: bytes, place: int) -> None:
        """Add one row."""
        self.rows.append(row)
        self.bodies.append(body)
        self.places.append(place)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the rows that were not known, where they were sealed for them; else none."""
        rows = (row for row, place in zip(self.rows, self.places, strict=True) if place not in self.known)
        return [number for row in rows if isinstance(number := row[NUMBER], int) and number]


class Bulks:
    """Accepts bulks and finishes those that a crash left."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        *,
        script: Callable[[str], Script],
        coalescing: Callable[[str], str],
        placed: Callable[[str, int], None],
        noted: Callable[[str, int], Awaitable[None]],
        seals: RedisSeals,
    ) -> None:
        """``placed(platform, count)`` is told what became claimable, ``noted`` how many receipts are due."""
        self._link = link
        self._keys = keys
        self._clock = clock
        self._script = script
        self._coalescing = coalescing
        self._placed = placed
        self._noted = noted
        self._seals = seals
        self._cut_off: dict[str, list[str]] = {}
        self._finishing: asyncio.Task[None] | None = None
        self._swept_at = 0.0

    def _call(self, name: str, platform: str, *args: Any) -> ServerCall:
        return ServerCall(self._script(name), self._keys.pair(platform), (repr(self._clock.now()), *args))

    async def accept(
        self,
        parts: Sequence[BulkPart],
        posts: Remembered | None = None,
    ) -> dict[str, list[int]]:
        """Accept all parts or none; return each platform's sequence numbers of the rows that were not known.

        ``posts`` returns for the first number of each platform the routed posts to remember: key, value, rows. Raises
        ``IdempotencyConflict``, ``PostKnown``, ``StoreFull`` and ``StoreFailed``.
        """
        for _ in range(_BUSY_TRIES):
            bulk = secrets.token_hex(8)
            try:
                return await self._once(bulk, parts, posts)
            except _KeyBusy:
                await self.wait_for_key([part.platform for part in parts])
            except StoreAway:
                self._finish_later(bulk, [part.platform for part in parts])
                raise
        raise StoreAway("another host has been accepting the same idempotency key for a second; post again")

    async def accept_named(self, bulk: str, parts: Sequence[BulkPart]) -> dict[str, int]:
        """Accept all parts once, however often it is called under this name until ``forget``; without known keys.

        Returns each platform's first sequence number.
        """
        commits = self._keys.shared("commits")
        record = await self._link.do("HGET", commits, bulk)
        if record is None:
            await self._unstage(bulk, [part.platform for part in parts])
            counts = {part.platform: await self._stage(bulk, part) for part in parts}
            firsts = await self._flip(bulk, list(counts), counts, visible=False, parts=parts)
            await self._decide(bulk, firsts, [])
        else:
            firsts = unpack(record)
        for platform in firsts:
            if await self._link.do("HEXISTS", self._keys.of(platform, "stg"), bulk):
                await self._flip(bulk, (platform,), {platform: 0}, visible=True)  # its numbers are given already
                await self._place(bulk, platform)
        return firsts

    async def forget(self, bulk: str) -> None:
        """Forget a bulk accepted by name."""
        await self._link.do("HDEL", self._keys.shared("commits"), bulk)

    async def wait_for_key(self, platforms: Iterable[str]) -> None:
        """Wait a moment for the bulk that holds a key, and take it back if the host that staged it is gone."""
        await asyncio.sleep(_BUSY_S)
        if self._clock.now() >= self._swept_at + _SWEEP_S:
            self._swept_at = self._clock.now()
            await self.sweep(platforms)

    def _finish_later(self, bulk: str, platforms: list[str]) -> None:
        self._cut_off[bulk] = platforms
        if self._finishing is None or self._finishing.done():
            self._finishing = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        """Finish the bulks of this host that an outage cut off, or take them back; their keys are free then."""
        while self._cut_off:
            await asyncio.sleep(_LOOK_S)
            with suppress(StoreFailed):
                for bulk, platforms in list(self._cut_off.items()):
                    for platform in platforms:
                        await self._close(platform, bulk)
                    del self._cut_off[bulk]

    async def close(self) -> None:
        """Stop looking after bulks that an outage cut off; the next start does."""
        if self._finishing is not None:
            self._finishing.cancel()

    async def _once(
        self,
        bulk: str,
        parts: Sequence[BulkPart],
        posts: Remembered | None,
    ) -> dict[str, list[int]]:
        counts: dict[str, int] = {}
        try:
            for part in parts:
                counts[part.platform] = await self._stage(bulk, part)
        except (IdempotencyConflict, _KeyBusy, StoreFull):  # what is staged must not keep others from what room is left
            await self._unstage(bulk, [part.platform for part in parts])
            raise
        platforms = [platform for platform, many in counts.items() if many]
        several = len(platforms) > 1 or posts is not None
        firsts = await self._flip(bulk, platforms, counts, visible=not several, parts=parts)
        if several:
            await self._decide(bulk, firsts, list(posts(firsts)) if posts else [])
        try:
            if several:
                await self._flip(bulk, platforms, counts, visible=True)
            await asyncio.gather(*(self._place(bulk, platform) for platform in counts))
            if several:
                await self.forget(bulk)
        except StoreFailed:  # it is decided: the bulk is accepted, and takes its place when the server is there
            self._finish_later(bulk, list(counts))
        numbered = {part.platform: part.numbers for part in parts}
        return {name: numbered[name] or list(range(first, first + counts[name])) for name, first in firsts.items()}

    async def _stage(self, bulk: str, part: BulkPart) -> int:
        """Put a part aside; return how many of its rows are new."""
        await self._seals.seal(part.platform, part.rows, part.bodies)
        fresh = len(part.rows)
        for spans in _loads(chunks([len(body) for body in part.bodies])):
            first, end = spans[0].start, spans[-1].stop
            sealed = part.rows[first][NUMBER] is not False
            keys = pack(idempotency_keys(part.rows[first:end]))
            packed = [packed_chunk(part.rows, part.bodies, span) for span in spans]
            call = self._call("stage", part.platform, bulk, int(first > 0), int(sealed), keys, *packed)
            (answer,) = await self._in_time([call])
            if answer[:1] == [b"B"]:
                raise _KeyBusy
            if answer[:1] == [b"C"]:
                raise IdempotencyConflict(part.places[first + answer[1]])
            for place, known in answer:
                part.known[part.places[first + place]] = known
            fresh -= len(answer)
        return fresh

    async def _unstage(self, bulk: str, platforms: Iterable[str]) -> bool:
        """Take back what is staged; return False where a flip that was sent before came after all."""
        for platform in platforms:
            left = 1
            while left == 1:
                left = await self._link.one(self._call("unstage", platform, bulk))
            if left < 0:
                return False
        return True

    async def _flip(
        self, bulk: str, platforms: Sequence[str], counts: Mapping[str, int], *, visible: bool,
        parts: Sequence[BulkPart] = (),
    ) -> dict[str, int]:  # fmt: skip
        """Number a bulk at each platform, unless its ``parts`` are; with ``visible`` it is accepted there."""
        firsts: dict[str, int] = {}
        numbered = {part.platform: part.numbers for part in parts}
        for platform in platforms:
            given = min(numbered.get(platform, ()), default="")
            call = self._call("flip", platform, bulk, counts[platform], int(visible), given)
            firsts[platform] = (await self._in_time([call], durable=True))[0]
        return firsts

    async def _in_time(self, calls: Sequence[ServerCall], *, durable: bool = False) -> list[Any]:
        """Run ``calls`` and return their answers; raise the first error of one."""
        return [_good(answer) for answer in await self._link.run(calls, durable=durable)]

    async def _decide(self, bulk: str, firsts: Mapping[str, int], posts: Sequence[tuple[str, bytes, int]]) -> None:
        """Write the one record that decides a bulk over several platforms."""
        keys = tuple(self._keys.shared(suffix) for suffix in ("commits", "posts", "postn"))
        record = pack(dict(firsts))
        given = [value for post in posts for value in post]
        decided = await self._link.one(ServerCall(_COMMIT, keys, (bulk, record, *given)), durable=True)
        if decided != -1:
            await self._unstage(bulk, firsts)
            raise PostKnown if decided >= 0 else StoreAway("the bulk took too long and was given up; post again")

    async def _place(self, bulk: str, platform: str) -> None:
        """Move the chunks of an accepted bulk into the queue."""
        left = True
        while left:
            call = self._call("place", platform, bulk, self._coalescing(platform))
            for freed, more, noted in await self._in_time([call] * _TOGETHER):
                left = bool(more)
                if freed:
                    self._placed(platform, freed)
                await self._noted(platform, noted)

    async def sweep(self, platforms: Iterable[str], *, stale_s: float = _STALE_S) -> None:
        """Finish the bulks that were decided and not placed, and take back those that were cut off before.

        A bulk that staged something within ``stale_s`` is under way and is left alone.
        """
        for platform in platforms:
            staged = await self._link.do("HGETALL", self._keys.of(platform, "stg"))
            for name, at in pairs_of(staged):
                if float(at) + stale_s <= self._clock.now():
                    await self._close(platform, name.decode())

    async def _close(self, platform: str, bulk: str) -> None:
        """Finish a bulk at one platform if it was decided, else take it back for good."""
        made = await self._link.do("HGET", self._keys.of(platform, "stc"), bulk)
        facts = unpack(made) if made else None
        if facts is None or facts[4] != 1:
            call = ServerCall(_ABORT, (self._keys.shared("commits"),), (bulk,))
            if await self._link.one(call, durable=True) == b"aborted":
                if await self._unstage(bulk, (platform,)):
                    return
            elif await self._link.do("HEXISTS", self._keys.of(platform, "stg"), bulk):
                await self._flip(bulk, (platform,), {platform: facts[1] if facts else 0}, visible=True)
        await self._place(bulk, platform)


def _good(answer: Any) -> Any:
    """Return what a script answered; raise the error that it answered with."""
    if isinstance(answer, ServerRefused) and str(answer).startswith("GONE"):
        raise StoreAway("the bulk took too long and was given up; post again") from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _loads(spans: Iterable[range]) -> Iterator[list[range]]:
    """Return the spans in lists of ``_STAGED``."""
    left = iter(spans)
    while some := list(islice(left, _STAGED)):
        yield some
