"""Posts while the server is away: they go to the spool, and drain in order when it is back.

Until the spool holds nothing for a platform, its new posts go through the spool too: so the order of a key holds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from msgspec import UNSET

from relay.core.clock import Clock
from relay.core.errors import IdempotencyConflict, NoTarget, StoreAway, StoreError, StoreFailed
from relay.core.model import Accepted, AcceptedPosts, Lane, NewCallback, RoutedPost, State
from relay.store.redis.last_accepted import DrainedRows
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.spool.spool_file import SpoolFile, SpoolPost
from relay.store.redis.spool.waiting_posts import SpoolEntry, SpoolRow
from relay.store.redis.write.inbox import RedisInbox
from relay.store.redis.write.packing import DIGEST, SCRIPT_ROWS, PackedRow, digest_of, packed_row
from relay.store.redis.write.receipts import RedisReceipts
from relay.views.callback_view import CallbackView
from relay.views.moments import Instant
from relay.views.queue import StoreSize

_LOOK_S: Final = 0.5
_ALIAS, _WAITED, _REPEATS, _CONFLICT = 15, 16, 17, 18  # places in a packed row
_MAYBE: Final = "maybe"
_KEEP: Final = 1000  # posts of one pass before new ones get a turn


class Spooling:
    """Accepts through the server, or through the spool while it is away."""

    def __init__(
        self,
        inbox: RedisInbox,
        file: SpoolFile,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        *,
        script: Callable[[str], Script],
        coalescing: Callable[[str], str],
        accepted: Callable[[str, int], None],
        receipts: RedisReceipts,
        seals: RedisSeals,
        reach: Callable[[], Awaitable[None]],
        told: Callable[[bool], None],
        told_bug: Callable[[BaseException | None], None],
    ) -> None:
        """``reach()`` makes the store usable once the server answers; ``told(away)`` hears of each change.

        ``told_bug(error)`` hears of a bug for which nothing drains, and ``told_bug(None)`` that it is past.
        """
        self._inbox = inbox
        self.file = file
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._script = script
        self._coalescing = coalescing
        self._accepted = accepted
        self._receipts = receipts
        self._seals = seals
        self.blind = False  # the store is sealed, and this host has never reached it: nothing can be kept for it
        self._reach = reach
        self._told = told
        self._told_bug = told_bug
        self.away = False
        self._failing = False
        self._work: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether posts wait here, or would."""
        return self.away or bool(self.file.waiting)

    def begin(self, *, away: bool) -> None:
        """Begin to look for the server and to drain."""
        if away:
            self.went_away()
        elif self.file.waiting:
            self._start()

    def went_away(self) -> None:
        """Keep what comes from now on, until the server is back."""
        if not self.away:
            self.away = True
            self._told(True)
        self._start()

    def _start(self) -> None:
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain_all(), name="spool")

    def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        """Accept ``rows`` durably, all or none, there or here."""
        if not self.busy:
            direct = self._inbox.accept(rows)
            return asyncio.ensure_future(self._or_here(direct, rows))
        return asyncio.ensure_future(self._accept(rows))

    async def _or_here(self, direct: "asyncio.Future[Accepted]", rows: Sequence[NewCallback]) -> Accepted:
        try:
            return await direct
        except StoreAway as away:
            self.went_away()
            if away.sent and any(row.idempotency_key is None for row in rows):
                raise  # it may lie there already: only a key tells when it comes again
            return await self._here(rows, maybe=away.sent)

    async def _accept(self, rows: Sequence[NewCallback]) -> Accepted:
        if not self.away and not any(self.file.waiting[row.platform] for row in rows):
            return await self._or_here(self._inbox.accept(rows), rows)
        return await self._here(rows)

    async def _here(self, rows: Sequence[NewCallback], *, maybe: bool = False) -> Accepted:
        """Keep rows; ``maybe``: they were sent to the store before, and no answer came."""
        self._see_that_it_can_be_kept()
        digests = ["" if row.idempotency_key is None else digest_of(self._keys, row) for row in rows]
        names: list[tuple[str, str, int]] = []
        firsts: dict[str, int] = {}
        repeats: dict[int, int] = {}
        for place, (row, digest) in enumerate(zip(rows, digests, strict=True)):
            if row.idempotency_key is None:
                continue
            name = f"{row.platform}/{self._keys.idempotency_hash(row.platform, row.idempotency_key)}"
            first = firsts.setdefault(name, place)
            if digests[first] != digest:
                raise IdempotencyConflict(place)
            if first != place:
                repeats[place] = first
            else:
                names.append((name, digest, place))
        kept = [
            (row.platform, self._packed(row, row.idempotency_key, digest=digest), row.payload)
            for row, digest in zip(rows, digests, strict=True)
        ]
        if repeats:
            return await self._without_repeats(rows, repeats, maybe=maybe)
        _note(kept, maybe=maybe)
        ((answer),) = await self.file.add([SpoolPost(kept, names)], self._clock.now())
        self._start()
        ids = [callback_id for callback_id, _ in answer]
        return Accepted(ids, frozenset(place for place, (_, known) in enumerate(answer) if known))

    def _see_that_it_can_be_kept(self) -> None:
        if self.blind:
            raise StoreAway("the store is sealed and away, and this host has not reached it yet", sent=False)

    def _packed(self, row: NewCallback, idempotency_key: str | None, **more: Any) -> PackedRow:
        return packed_row(self._keys, row, idempotency_key=self._receipts.kept_key(idempotency_key), **more)

    async def _without_repeats(self, rows: Sequence[NewCallback], repeats: dict[int, int], *, maybe: bool) -> Accepted:
        once = [place for place in range(len(rows)) if place not in repeats]
        found = await self._here([rows[place] for place in once], maybe=maybe)
        ids = dict(zip(once, found.ids, strict=True))
        again = {once[place] for place in found.duplicates}
        return Accepted([ids[repeats.get(place, place)] for place in range(len(rows))], frozenset(again | set(repeats)))

    def accept_posts(self, posts: Sequence[RoutedPost]) -> "asyncio.Future[AcceptedPosts]":
        """Accept routed posts durably, all or none, there or here."""
        return asyncio.ensure_future(self._accept_posts(posts))

    async def _accept_posts(self, posts: Sequence[RoutedPost]) -> AcceptedPosts:
        waits = self.away or any(self.file.waiting[row.platform] for post in posts for row in post.rows)
        maybe = False
        if not waits:
            try:
                return await self._inbox.accept_posts(posts)
            except StoreAway as away:
                self.went_away()
                maybe = away.sent
                if maybe and any(post.idempotency_key is None for post in posts):
                    raise
        self._see_that_it_can_be_kept()
        kept: list[SpoolPost] = []
        for index, post in enumerate(posts):
            if not post.rows:
                raise NoTarget(index)
            key = "" if post.idempotency_key is None else self._keys.idempotency_hash("", post.idempotency_key)
            digest = digest_of(self._keys, post) if key else ""
            rows = [row._replace(dead_reason=post.dead_reason or row.dead_reason) for row in post.rows]
            packed = [(row.platform, self._packed(row, post.idempotency_key, post=key), row.payload) for row in rows]
            _note(packed, maybe=maybe)
            kept.append(SpoolPost(packed, [(f"/{key}", digest, -1)] if key else [], key, digest))
        answers = await self.file.add(kept, self._clock.now())
        self._start()
        ids = [
            {row.platform: callback_id for row, (callback_id, _) in zip(post.rows, answer, strict=False)}
            for post, answer in zip(posts, answers, strict=True)
        ]
        return AcceptedPosts(ids, frozenset(place for place, answer in enumerate(answers) if answer[0][1]))

    def size(self) -> StoreSize:
        """Return the room of the spool, while the server is away."""
        used, most = self.file.used_bytes, self.file.max_bytes
        aside = len(self.file.aside.posts)
        full = used >= most
        return StoreSize(
            used,
            max_bytes=most,
            usable_bytes=most,
            full=full,
            disk_bytes=used,
            spool=dict(self.file.waiting),
            set_aside=aside,
            spooling=True,
        )

    async def shown(self, callback_id: str) -> CallbackView | None:
        """Return a callback that waits here, as pending; or what became of one that did."""
        found = await self.file.find(callback_id) if self.file.holds(callback_id) else None
        if found is None:
            return None
        row, at = found
        key, _, event, lane, expires_s, _, _, _, trace, group, size, *_ = row.packed
        return CallbackView(
            id=row.id,
            platform=row.platform,
            state=State.PENDING.word,
            key=key or None,
            event=event or None,
            priority={int(Lane.HIGH): "high", int(Lane.LOW): "low"}.get(lane, "normal"),
            group=group,
            accepted_at=Instant(at),
            due_at=Instant(at),
            expires_at=Instant(at + expires_s),
            ended_at=None,
            spent=0,
            held=False,
            in_flight=False,
            maybe_applied=False,
            reason="spooled",
            code=None,
            message="",
            bytes=size,
            batch=None,
            attempt_count=0,
            attempts=[],
            payload_deleted=False,
            traceparent=trace or UNSET,
        )

    # Draining

    async def _drain_all(self) -> None:
        while self.busy:
            try:
                if self.away:
                    await self._reach()
                    self.away = False
                    self._told(False)
                for _ in range(_KEEP):
                    entries = await self.file.oldest()
                    if not entries:
                        break
                    drained = await self._drain(entries)
                    last = self._inbox.last
                    if any(last.lacks(each.platform, each.server) for each in drained):
                        raise StoreAway("the server that took posts of the spool was replaced meanwhile")
                    await self.file.remove(entries)
                    for each in drained:  # not before: what stays here comes in again
                        last.note_drained(each)
            except StoreAway:
                if not self.away:
                    self.away = True
                    self._told(True)
                await asyncio.sleep(_LOOK_S)
            except StoreError:  # full, or not usable: the posts stay here, and the store's other calls tell why
                await asyncio.sleep(_LOOK_S)
            except Exception as error:  # noqa: BLE001 - a bug: it is told of, posts are still kept, and it is tried again
                if not self._failing:
                    self._failing = True
                    self._told_bug(error)
                await asyncio.sleep(_LOOK_S)
            else:
                if self._failing:
                    self._failing = False
                    self._told_bug(None)

    async def _drain(self, entries: Sequence[SpoolEntry]) -> list[DrainedRows]:
        """Bring posts into the store; once, however often it is tried. A routed one with a key comes alone."""
        entry = entries[0]
        first, conflict = await self._kept_elsewhere(entry)
        by_platform: dict[str, list[SpoolRow]] = {}
        now = self._clock.now()
        for each in entries:
            for row in each.rows:
                maybe = row.packed[_CONFLICT] == _MAYBE and not conflict
                row.packed[_ALIAS], row.packed[_WAITED] = row.id, max(0.0, now - each.at)
                known = first[row.platform] if maybe and first else self._first_id(first, row.platform)
                row.packed[_REPEATS], row.packed[_CONFLICT] = known, _MAYBE if maybe else conflict
                by_platform.setdefault(row.platform, []).append(row)
        numbers: dict[str, int] = {}
        drained: list[DrainedRows] = []
        for platform, rows in by_platform.items():
            await self._tags.name(platform)
            for start in range(0, len(rows), SCRIPT_ROWS):
                drained.append(await self._send(platform, rows[start : start + SCRIPT_ROWS]))
                numbers.setdefault(platform, drained[-1].numbers[0])
        if entry.key and not first and not conflict:
            values = (("posts", entry.digest.encode() + pack(numbers)), ("postn", len(numbers)))
            await self._kept([("HSETNX", self._keys.shared(part), entry.key, value) for part, value in values])
        return drained

    async def _kept(self, commands: Sequence[Sequence[Any]]) -> None:
        """Run plain commands, durably: the spool forgets the post then, and nobody else could write it anew."""
        for answer in await self._link.run([ServerCall(None, (), command) for command in commands], durable=True):
            if isinstance(answer, Exception):
                raise answer

    async def _send(self, platform: str, rows: Sequence[SpoolRow]) -> DrainedRows:
        # Copies: they are numbered and sealed, and where they must wait for a bulk that is done anew.
        packed, bodies = [list(row.packed) for row in rows], [row.body for row in rows]
        await self._seals.seal(platform, packed, bodies)
        args = (repr(self._clock.now()), self._coalescing(platform), pack(packed))
        call = ServerCall(self._script("drain"), self._keys.pair(platform), (*args, *bodies))
        freed, *found = await self._link.one(call, durable=True)
        if freed == b"B":
            await self._inbox.bulks.wait_for_key((platform,))
            return await self._send(platform, rows)
        if freed:
            self._accepted(platform, freed)
        seqs, noted = found
        drained = DrainedRows(platform, seqs, [row.id for row in rows], self._inbox.last.server(platform))
        await self._receipts.tell(platform, noted)
        return drained

    async def _kept_elsewhere(self, entry: SpoolEntry) -> tuple[dict[str, int], bool]:
        """Return the numbers of a routed post that was accepted under this key meanwhile; whether its body differs."""
        if not entry.key:
            return {}, False
        found = await self._link.do("HGET", self._keys.shared("posts"), entry.key)
        if found is None:
            return {}, False
        if found[:DIGEST].decode() != entry.digest:
            return {}, True
        seqs: dict[str, int] = unpack(found[DIGEST:])
        mine = await self._link.do("HGET", self._keys.of(entry.rows[0].platform, "al"), entry.rows[0].id)
        if mine is not None and seqs.get(entry.rows[0].platform) == int(mine):
            return {}, False  # it is this very post: a crash came before the spool forgot it
        await self._tags.load()
        return seqs, False

    def _first_id(self, first: Mapping[str, int], platform: str) -> str | bool:
        """Return the id of what stands for a row on a platform; False where nothing does."""
        name = platform if platform in first else next(iter(first), None)
        return False if name is None else self._tags.id_of(name, first[name])

    async def close(self) -> None:
        """Stop draining; what is left waits for the next start."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError, StoreFailed):
                await self._work
        await self.file.close()


def _note(rows: Sequence[tuple[str, list[Any], bytes]], *, maybe: bool) -> None:
    """Note with packed rows that the store may have them already, from this host."""
    if maybe:
        for _, packed, _ in rows:
            packed[_CONFLICT] = _MAYBE
