"""Callbacks in: small posts share a pipeline, one script for each platform; larger ones go as bulks."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from relay.core.clock import Clock, elapsed_s
from relay.core.errors import IdempotencyConflict, NoTarget, RelayError, StoreAway
from relay.core.model import Accepted, AcceptedPosts, NewCallback, RoutedPost
from relay.store.redis.last_accepted import LastAccepted
from relay.store.redis.read.history import RedisHistory
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import pack, read_row, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.write.bulk import BulkPart, Bulks, PostKnown, Remembered
from relay.store.redis.write.packing import (
    DIGEST,
    SCRIPT_BYTES,
    SCRIPT_ROWS,
    PackedRow,
    digest_of,
    fits_one_script,
    packed_row,
)
from relay.store.redis.write.receipts import RedisReceipts

_T = TypeVar("_T")
_BUSY_TRIES: Final = 15
_GROUPS: Final = 8  # scripts in one pipeline


@dataclass(slots=True)
class _SmallPost:
    platform: str
    rows: list[PackedRow]
    bodies: list[bytes]
    bytes: int
    done: "asyncio.Future[Accepted]"
    tries: int = 0


class RedisInbox:
    """Accepts rows and routed posts, all or none."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        *,
        script: Callable[[str], Script],
        coalescing: Callable[[str], str],
        accepted: Callable[[str, int], None],
        committed: Callable[[float, int], None],
        receipts: RedisReceipts,
        seals: RedisSeals,
        minute: RedisHistory,
        last: LastAccepted,
    ) -> None:
        """``accepted(platform, count)`` is told what became claimable, ``committed(seconds, rows)`` each pipeline."""
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._script = script
        self._coalescing = coalescing
        self._accepted = accepted
        self._committed = committed
        self._receipts = receipts
        self._seals = seals
        self._minute = minute
        self.last = last
        self.bulks = Bulks(
            link, keys, clock, script=script, coalescing=coalescing, placed=accepted, noted=receipts.tell, seals=seals
        )
        self._queue: deque[_SmallPost] = deque()
        self._work: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        """Queue ``rows`` durably, all or none."""
        loop = asyncio.get_running_loop()
        if not rows:
            done: asyncio.Future[Accepted] = loop.create_future()
            done.set_result(Accepted([], frozenset()))
            return done
        if not fits_one_script(rows):
            return self._start(self._accept_bulk(rows))
        return self._post(rows)

    def accept_posts(self, posts: Sequence[RoutedPost]) -> "asyncio.Future[AcceptedPosts]":
        """Queue the rows of routed posts durably, all or none."""
        return self._start(self._accept_posts(posts))

    def _start(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Small posts

    def _post(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        done: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        bodies = [row.payload for row in rows]
        packed = [
            packed_row(self._keys, row, idempotency_key=self._receipts.kept_key(row.idempotency_key)) for row in rows
        ]
        self._queue.append(_SmallPost(rows[0].platform, packed, bodies, sum(map(len, bodies)), done))
        if self._work is None or self._work.done():
            self._work = self._start(self._drain())
        return done

    async def _drain(self) -> None:
        while self._queue:
            groups = self._take()
            try:
                await self._write(groups)
            except RelayError as error:
                for group in groups:
                    for post in group:
                        if not post.done.done():
                            post.done.set_exception(error)

    def _take(self) -> list[list[_SmallPost]]:
        """Take what waits, in order, as groups of one platform that one script accepts."""
        groups: list[list[_SmallPost]] = []
        open_groups: dict[str, tuple[list[_SmallPost], int, int]] = {}
        while self._queue and len(groups) < _GROUPS:
            post = self._queue.popleft()
            group, rows, size = open_groups.get(post.platform, ([], SCRIPT_ROWS, SCRIPT_BYTES))
            if not group or rows + len(post.rows) > SCRIPT_ROWS or size + post.bytes > SCRIPT_BYTES:
                group, rows, size = [], 0, 0
                groups.append(group)
            group.append(post)
            open_groups[post.platform] = (group, rows + len(post.rows), size + post.bytes)
        return groups

    async def _write(self, groups: Sequence[list[_SmallPost]]) -> None:
        started = elapsed_s()
        calls: list[ServerCall] = []
        for group in groups:
            platform = group[0].platform
            await self._tags.name(platform)
            bodies = [body for post in group for body in post.bodies]
            posts = [post.rows for post in group]
            if self._seals.on:  # copies: what was numbered wrongly, or must wait for a bulk, is sealed anew
                posts = [[list(row) for row in rows] for rows in posts]
                await self._seals.seal(platform, [row for rows in posts for row in rows], bodies, guess=True)
            args = (repr(self._clock.now()), self._coalescing(platform), pack(posts))
            calls.append(ServerCall(self._script("accept"), self._keys.pair(platform), (*args, *bodies)))
        minute = self._minute.due()
        if minute is not None:
            calls.append(ServerCall(None, (), minute))
        answers = await self._link.run(calls, durable=True)
        if minute is not None:
            answers.pop()
            self._minute.kept()
        rows = 0
        again: list[_SmallPost] = []
        noted: list[tuple[str, int]] = []
        for group, answer in zip(groups, answers, strict=True):  # without a pause: another server may answer after one
            platform = group[0].platform
            if isinstance(answer, Exception):
                for post in group:
                    _fail(post.done, answer)
                continue
            if answer[0] == b"N":
                self._seals.guessed_wrong(platform)
                again += group
                continue
            freed, found, receipts = answer
            self.last.note(platform, found)
            noted.append((platform, receipts))
            for post, numbers in zip(group, found, strict=True):
                rows += len(post.rows)
                self._answer(post, numbers)
            if freed:
                self._accepted(platform, freed)
        self._queue.extendleft(reversed(again))
        self._committed(elapsed_s() - started, rows)
        for platform, receipts in noted:
            await self._receipts.tell(platform, receipts)

    def _answer(self, post: _SmallPost, numbers: Sequence[Any]) -> None:
        if numbers[0] == b"C":
            _fail(post.done, IdempotencyConflict(numbers[1]))
        elif numbers[0] == b"B":
            self._start(self._again(post))
        elif not post.done.done():
            ids = [self._tags.told(post.platform, seq) for seq in numbers]
            again = frozenset(place for place, seq in enumerate(numbers) if isinstance(seq, bytes) or seq < 0)
            post.done.set_result(Accepted(ids, again))

    async def _again(self, post: _SmallPost) -> None:
        """Wait for the bulk that holds the post's key; it is decided within milliseconds, or swept."""
        post.tries += 1
        try:
            await self.bulks.wait_for_key((post.platform,))
        except RelayError as error:
            _fail(post.done, error)
        if post.tries > _BUSY_TRIES:
            _fail(post.done, StoreAway("another host has been accepting the same idempotency key; post again"))
        if not post.done.done():
            self._queue.append(post)
            if self._work is None or self._work.done():
                self._work = self._start(self._drain())

    # Bulks

    async def _accept_bulk(self, rows: Sequence[NewCallback]) -> Accepted:
        await self._minute.keep_now()
        parts: dict[str, BulkPart] = {}
        firsts: dict[tuple[str, str], tuple[str, int]] = {}
        repeats: dict[int, int] = {}
        for index, row in enumerate(rows):
            digest = ""
            if row.idempotency_key is not None:
                digest = digest_of(self._keys, row)
                known = firsts.setdefault((row.platform, row.idempotency_key), (digest, index))
                if known[0] != digest:
                    raise IdempotencyConflict(index)
                if known[1] != index:
                    repeats[index] = known[1]
                    continue
            part = parts.get(row.platform)
            if part is None:
                part = parts[row.platform] = BulkPart(row.platform)
            told = self._receipts.kept_key(row.idempotency_key)
            part.add(packed_row(self._keys, row, digest=digest, idempotency_key=told), row.payload, index)
        for platform in parts:
            await self._tags.name(platform)
        numbers = await self._accept_parts(parts)
        ids: list[str] = [""] * len(rows)
        duplicates = set(repeats)
        for part in parts.values():
            fresh = iter(self._tags.ids_of(part.platform, numbers.get(part.platform, ())))
            for place in part.places:
                first = part.known.get(place)
                ids[place] = next(fresh) if first is None else self._tags.told(part.platform, first)
            duplicates.update(part.known)
        for place, first in repeats.items():
            ids[place] = ids[first]
        return Accepted(ids, frozenset(duplicates))

    async def _accept_parts(self, parts: dict[str, BulkPart], posts: Remembered | None = None) -> dict[str, list[int]]:
        servers = {platform: self.last.server(platform) for platform in parts}
        numbers = await self.bulks.accept(list(parts.values()), posts)
        if any(self.last.lacks(platform, servers[platform]) for platform in numbers):
            raise StoreAway("the server that took the post was replaced meanwhile")
        for platform, given in numbers.items():
            self.last.note(platform, (given,), servers[platform])
        return numbers

    # Routed posts

    async def _accept_posts(self, posts: Sequence[RoutedPost]) -> AcceptedPosts:
        while True:
            try:
                return await self._posts_once(posts)
            except PostKnown:
                continue  # another host was quicker: now it is a repeat

    async def _posts_once(self, posts: Sequence[RoutedPost]) -> AcceptedPosts:
        keys = [_post_hash(self._keys, post) for post in posts]
        kept = await self._kept_posts([key for key in keys if key is not None])
        digests: dict[str, str] = {}
        fresh: list[int] = []
        for index, (post, key) in enumerate(zip(posts, keys, strict=True)):
            if key is not None:
                digest = digest_of(self._keys, post)
                first = kept[key][0] if key in kept else digests.get(key)
                if first is not None and first != digest:
                    raise IdempotencyConflict(index)
                if first is not None:
                    continue
                digests[key] = digest
            if not post.rows:
                raise NoTarget(index)
            fresh.append(index)
        parts, placed = self._parts(posts, keys, fresh)
        for platform in parts:
            await self._tags.name(platform)

        def remembered(firsts: Any) -> list[tuple[str, bytes, int]]:
            told: list[tuple[str, bytes, int]] = []
            for index in fresh:
                key = keys[index]
                if key is not None:
                    seqs = {name: firsts[name] + place for name, place in placed[index].items()}
                    told.append((key, digests[key].encode() + pack(seqs), len(seqs)))
            return told

        numbers: dict[str, list[int]] = {}
        if parts:
            await self._minute.keep_now()
            numbers = await self._accept_parts(parts, remembered)
        ids: list[dict[str, str]] = []
        made: dict[str, dict[str, str]] = {}
        for index, key in enumerate(keys):
            if index in placed:
                own = {name: self._tags.id_of(name, numbers[name][place]) for name, place in placed[index].items()}
                if key is not None:
                    made[key] = own
            else:
                assert key is not None
                own = made.get(key) or await self._told(kept[key][1])
            ids.append(own)
        return AcceptedPosts(ids, frozenset(range(len(posts))) - frozenset(fresh))

    def _parts(
        self, posts: Sequence[RoutedPost], keys: Sequence[str | None], fresh: Sequence[int]
    ) -> tuple[dict[str, BulkPart], dict[int, dict[str, int]]]:
        """Return what goes to each platform, and of each new post the places of its rows there."""
        parts: dict[str, BulkPart] = {}
        placed: dict[int, dict[str, int]] = {}
        for index in fresh:
            post = posts[index]
            placed[index] = {}
            for row in post.rows:
                part = parts.setdefault(row.platform, BulkPart(row.platform))
                placed[index][row.platform] = len(part.rows)
                whole = row._replace(dead_reason=post.dead_reason or row.dead_reason)
                told = self._receipts.kept_key(post.idempotency_key)
                part.add(
                    packed_row(self._keys, whole, post=keys[index] or "", idempotency_key=told), row.payload, index
                )
        return parts, placed

    async def _kept_posts(self, keys: Sequence[str]) -> dict[str, tuple[str, dict[str, int]]]:
        if not keys:
            return {}
        found = await self._link.do("HMGET", self._keys.shared("posts"), *keys)
        values = zip(keys, found, strict=True)
        return {key: (value[:DIGEST].decode(), unpack(value[DIGEST:])) for key, value in values if value is not None}

    async def _told(self, numbers: Mapping[str, int]) -> dict[str, str]:
        """Return the ids that were given out for the rows of a routed post, by platform."""
        asked = [ServerCall(None, (), ("HGET", self._keys.of(name, "r"), seq)) for name, seq in numbers.items()]
        told: dict[str, str] = {}
        for (name, seq), packed in zip(numbers.items(), await self._link.run(asked), strict=True):
            alias = read_row(seq, packed).alias if packed else ""
            told[name] = alias or self._tags.id_of(name, seq)
        return told

    async def close(self) -> None:
        """Finish what is queued."""
        await self.bulks.close()
        while self._tasks:
            await asyncio.wait(self._tasks)


def _post_hash(keys: KeyNames, post: RoutedPost) -> str | None:
    return None if post.idempotency_key is None else keys.idempotency_hash("", post.idempotency_key)


def _fail(done: "asyncio.Future[Accepted]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
