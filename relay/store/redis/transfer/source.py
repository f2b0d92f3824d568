"""Reads a store on a server for a copy. No host runs meanwhile; nothing is changed."""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

from relay.core.errors import StoreUnusable
from relay.core.ids import encode_id
from relay.store.redis.backend import RedisStore
from relay.store.redis.read.ledger import gate_in
from relay.store.redis.sealed.data_keys import SharedDataKeys
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.batch_ids import BatchIds
from relay.store.redis.server.fields import BATCH, TOTALS, pairs_of, read_row, unpack
from relay.store.redis.server.link import ServerCall
from relay.store.redis.server.scripts import platform_script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.transfer.attempts_out import AttemptsOut
from relay.store.redis.transfer.callbacks_out import CallbacksOut
from relay.store.redis.transfer.stillness import refuse_hosts, refuse_unsettled
from relay.store.redis.transfer.tallying import tally_of
from relay.store.redis.write.packing import DIGEST
from relay.store.transfer.hashes import HashWay, digest_bytes
from relay.store.transfer.records import (
    TOGETHER,
    AttemptRecord,
    AuditEntry,
    BatchRecord,
    CopyOrigin,
    HeldKeyRecord,
    LentRecord,
    MinuteRecord,
    NumberedRecord,
    OperationRecord,
    PostRecord,
    StandingRecord,
    Tally,
)
from relay.views.past.journal import JournalFilter

_OF_BATCH: Final = {name: place for place, name in enumerate(BATCH)}
_COUNTS: Final = 6
_EVERYTHING: Final = JournalFilter()
_PAGE: Final = 500
_LONG_S: Final = 30.0  # a copy may wait longer than a daemon does
_Record = TypeVar("_Record", bound=NumberedRecord)


class RedisSource:
    """A store that ``opening.reach`` has made usable, and that no host uses."""

    def __init__(self, store: RedisStore, seals: RedisSeals, tags: PlatformTags) -> None:
        self._store = store
        self._link, self._keys, self._clock = store.link, store.keys, store.clock
        self._seals = seals
        self._tags = tags
        self._batch_ids = BatchIds(store.link, store.keys, tags)
        self._callbacks = CallbacksOut(self._many, store.keys, tags, seals, self._batch_ids)
        self._attempts_out = AttemptsOut(self._do, store.keys, seals, self._batch_ids)
        self._listed: dict[tuple[str, str], list[int]] = {}
        self._whole: tuple[tuple[str, str], Sequence[NumberedRecord]] = (("", ""), ())  # what was read last as a whole
        self._post_hashes: list[str] | None = None

    @classmethod
    async def open(cls, store: RedisStore, data_keys: SharedDataKeys, tags: PlatformTags) -> "RedisSource":
        """Read what platforms there are and what opens their values."""
        await tags.load()
        await data_keys.unlock()
        return cls(store, RedisSeals(data_keys, store.link, store.keys, store.clock, script=platform_script), tags)

    async def origin(self) -> CopyOrigin:
        """Return what the store is."""
        await refuse_hosts(self._link, self._keys)
        names = sorted(self._tags.names())
        await refuse_unsettled(self._link, self._keys, names)
        running = await self._store.open_operations()
        if running:
            raise StoreUnusable(
                f"operation {running[0]} is not finished: start a host, let it end (relay operations), and stop it"
            )
        way, stands = self._keys.own_way, []
        for name in names:
            stands.append(await self._do("HMGET", self._keys.of(name, "m"), "seq", "number", *TOTALS))
        stands.append(await self._do("HMGET", self._keys.shared("trail"), "count", "hash"))
        return CopyOrigin(
            identity=hashlib.sha256(repr((self._tags.names(), stands)).encode()).hexdigest(),
            now=self._clock.now(),
            way=HashWay(way.way, self._keys.secret if way.secret is None else way.secret, way.digest_bytes),
            numbered=self._keys.way is not None,
            sealed=self._seals.on,
            platforms=tuple(names),
        )

    async def read(self, section: str, platform: str, after: int, limit: int) -> Sequence[NumberedRecord]:
        """Return the next records of a section."""
        readers: dict[str, Callable[[str, int, int], Awaitable[Sequence[NumberedRecord]]]] = {
            "callbacks": self._callbacks.read,
            "batches": self._batches,
            "attempts": self._attempts,
            "minutes": self._minutes,
            "standing": self._standing,
            "posts": self._posts,
            "lent": self._lent,
            "operations": self._operations,
            "audit": self._audit,
        }
        return await readers[section](platform, after, limit)

    async def _do(self, *command: Any) -> Any:
        return await self._link.one(ServerCall(None, (), command), within_s=_LONG_S)

    async def _many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        answers = await self._link.run([ServerCall(None, (), command) for command in commands], within_s=_LONG_S)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _pairs(self, key: str) -> dict[Any, Any]:
        return dict(pairs_of(await self._do("HGETALL", key)))

    async def _numbers(self, section: str, platform: str, after: int, limit: int, *names: str) -> list[int]:
        """Return the numbers behind ``after`` that these hashes of a platform have, in order; read once."""
        kept = self._listed.get((section, platform))
        if kept is None:
            found: set[int] = set()
            for name in names:
                found.update(int(field) for field in await self._do("HKEYS", self._keys.of(platform, name)))
            kept = self._listed[section, platform] = sorted(found)
        first = bisect_right(kept, after)
        return kept[first : first + limit]

    async def _of_all(
        self, section: str, platform: str, after: int, limit: int, read: Callable[[], Awaitable[Sequence[_Record]]]
    ) -> Sequence[_Record]:
        """Return the records behind ``after`` of a section that is read as a whole, once for all its parts."""
        if self._whole[0] != (section, platform):
            self._whole = (section, platform), await read()
        records = cast(Sequence[_Record], self._whole[1])
        first = bisect_right(records, after, key=attrgetter("at"))
        return records[first : first + limit]

    # Batches and attempts

    async def _batches(self, platform: str, after: int, limit: int) -> list[BatchRecord]:
        numbers = await self._numbers("batches", platform, after, limit, "bt", "bm")
        records: list[BatchRecord] = []
        for number in numbers:
            whole, members, since = [
                await self._do(command, self._keys.of(platform, name), number)
                for command, name in (("HGET", "bt"), ("HGET", "bm"), ("ZSCORE", "bs"))
            ]
            batch = unpack(whole) if whole else None
            seqs = list(batch[_OF_BATCH["SEQS"]] if batch else unpack(members))
            root = batch[_OF_BATCH["ROOT"]] if batch else number
            ids = await self._batch_ids.of(platform, (number, root))
            under_way = bool(batch and batch[_OF_BATCH["STATE"]])
            records.append(
                BatchRecord(
                    at=number,
                    id=ids[number],
                    root=ids[root],
                    group=batch[_OF_BATCH["GROUP"]] if batch else "",
                    state=2 if batch is None else int(under_way),
                    created_at=float(batch[_OF_BATCH["CREATED"]]) if batch else number / 1e6,
                    due_at=float(batch[_OF_BATCH["DUE"]]) if batch else 0.0,
                    expires_at=await self._end_of(platform, batch, seqs) if batch else 0.0,
                    attempts=batch[_OF_BATCH["ATTEMPTS"]] if batch else 1,
                    attempt_id=batch[_OF_BATCH["ATTEMPT"]] if batch and under_way else 0,
                    confirm=bool(batch and batch[_OF_BATCH["CONFIRM"]]),
                    members=await self._ids_of(platform, seqs),
                    waiting_since=float(since or math.inf),
                )
            )
        return records

    async def _end_of(self, platform: str, batch: Sequence[Any], seqs: Sequence[int]) -> float:
        """Return when a batch is over its time, which is written only once it waits: with its last item."""
        if not batch[_OF_BATCH["STATE"]]:
            return float(batch[_OF_BATCH["EXPAT"]])
        if batch[_OF_BATCH["CONFIRM"]] or not seqs:
            return math.inf
        found = await self._do("HMGET", self._keys.of(platform, "r"), *seqs)
        return max(read_row(seq, blob).expires_at for seq, blob in zip(seqs, found, strict=True))

    async def _ids_of(self, platform: str, seqs: Sequence[int]) -> list[str]:
        found = await self._do("HMGET", self._keys.of(platform, "r"), *seqs) if seqs else []
        tag = self._tags.known(platform)
        pairs = zip(seqs, found, strict=True)
        return [read_row(seq, blob).public_id(tag) if blob else encode_id(seq, tag) for seq, blob in pairs]

    async def _attempts(self, platform: str, after: int, limit: int) -> list[AttemptRecord]:
        numbers = await self._numbers("attempts", platform, after, limit, "at")
        if not numbers:
            return []
        return await self._attempts_out.of(platform, numbers)

    # What belongs to no platform

    async def _posts(self, _platform: str, after: int, limit: int) -> list[PostRecord]:
        if self._post_hashes is None:
            self._post_hashes = sorted(each.decode() for each in await self._do("HKEYS", self._keys.shared("posts")))
        records: list[PostRecord] = []
        for at, hashed in enumerate(self._post_hashes[after : after + limit], after + 1):
            kept = await self._do("HGET", self._keys.shared("posts"), hashed)
            left = int(await self._do("HGET", self._keys.shared("postn"), hashed) or 0)
            numbers: Mapping[str, int] = unpack(kept[DIGEST:])
            rows = {name: (await self._ids_of(name, [seq]))[0] for name, seq in numbers.items()}
            records.append(PostRecord(at=at, hash=hashed, digest=digest_bytes(kept[:DIGEST]), rows=rows, left=left))
        return records

    async def _lent(self, platform: str, after: int, limit: int) -> Sequence[LentRecord]:
        return await self._of_all("lent", platform, after, limit, self._all_lent)

    async def _all_lent(self) -> list[LentRecord]:
        found: dict[int, LentRecord] = {}
        for name in self._tags.names():
            for number, blob in (await self._pairs(self._keys.of(name, "ln"))).items():
                platform, quota, group, taken, counts, done = unpack(blob)
                found[int(number)] = LentRecord(
                    at=int(number), platform=platform, quota=quota, group=group, taken_at=float(taken),
                    counts_from=float(counts), done=bool(done),
                )  # fmt: skip
        return [found[number] for number in sorted(found)]

    async def _operations(self, platform: str, after: int, limit: int) -> Sequence[OperationRecord]:
        return await self._of_all("operations", platform, after, limit, self._all_operations)

    async def _all_operations(self) -> list[OperationRecord]:
        views, cursor = [], None
        while True:
            page = await self._store.journal.operations(_EVERYTHING, cursor=cursor, limit=_PAGE)
            views += page.items
            if page.next is None:
                break
            cursor = page.next
        return [OperationRecord(at=view.id, view=view) for view in sorted(views, key=attrgetter("id"))]

    async def _audit(self, _platform: str, after: int, limit: int) -> list[AuditEntry]:
        gone = int(await self._do("HGET", self._keys.shared("trail"), "gone") or 0)
        at = max(after, gone) - gone
        found = [unpack(each) for each in await self._do("LRANGE", self._keys.shared("audit"), at, at + limit - 1)]
        return [
            AuditEntry(at=gone + at + place, when=float(when), hash=made, text=text)
            for place, (when, made, text) in enumerate(found, 1)
        ]

    # What a platform stands at

    async def _minutes(self, platform: str, after: int, limit: int) -> Sequence[MinuteRecord]:
        return await self._of_all("minutes", platform, after, limit, partial(self._all_minutes, platform))

    async def _all_minutes(self, platform: str) -> list[MinuteRecord]:
        marks = [int(each) for each in await self._do("ZRANGE", self._keys.shared("minutes"), 0, -1)]
        kept = await self._minutes_at(platform, marks)
        return [kept[minute] for minute in marks if minute in kept]

    async def _minutes_at(self, platform: str, marks: Sequence[int]) -> dict[int, MinuteRecord]:
        """Return a platform's minutes: one in which nothing changed has the totals of the next that is kept."""
        if platform == TOGETHER:
            sums: dict[int, MinuteRecord] = {
                minute: MinuteRecord(at=minute, totals=[0] * 5, counts=[0] * _COUNTS, oldest_due_s=None)
                for minute in marks
            }
            for name in self._tags.names():
                for minute, record in (await self._minutes_at(name, marks)).items():
                    both = zip(sums[minute].totals, record.totals, strict=True)
                    sums[minute].totals = [mine + theirs for mine, theirs in both]
            return sums
        totals, counts = [
            {int(minute): unpack(blob) for minute, blob in (await self._pairs(self._keys.of(platform, name))).items()}
            for name in ("min", "mc")
        ]
        later = await self._totals(platform)
        found: dict[int, MinuteRecord] = {}
        for minute in reversed(marks):
            later = [int(each) for each in totals.get(minute, later)]
            if not later[0] and minute not in counts:
                continue
            *counted, oldest = counts.get(minute, [0] * _COUNTS + [None])
            found[minute] = MinuteRecord(
                at=minute,
                totals=later,
                counts=[*counted, *([0] * (_COUNTS - len(counted)))],
                oldest_due_s=None if oldest is None else float(oldest),
            )
        return found

    async def _totals(self, platform: str) -> list[int]:
        found = await self._do("HMGET", self._keys.of(platform, "m"), *TOTALS)
        return [int(each or 0) for each in found]

    async def _standing(self, platform: str, after: int, _limit: int) -> list[StandingRecord]:
        if after:
            return []
        held = await self._pairs(self._keys.of(platform, "kp"))
        facts = (await self._store.platform_status()).get(platform)
        return [
            StandingRecord(
                at=1,
                totals=await self._totals(platform),
                gate=gate_in(await self._do("HGETALL", self._keys.of(platform, "gt"))),
                last_error=None if facts is None or (facts.last_error is None) else facts.last_error,
                held_keys=[
                    HeldKeyRecord(key.decode(), reason[1:].decode(), self._clock.now()) for key, reason in held.items()
                ],
            )
        ]

    async def tally(self) -> dict[str, Tally]:
        """Count what each platform has."""
        await refuse_hosts(self._link, self._keys)
        return await tally_of(self._link, self._keys, list(self._tags.names()))

    async def close(self) -> None:
        """Let the server go."""
        await self._store.close()
