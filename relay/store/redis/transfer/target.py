"""Fills a store on a server from a copy: a chunk, durably, then where the copy stands. A chunk may come twice."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from relay.core.clock import Clock
from relay.core.errors import StoreFailed, StoreUnusable
from relay.core.model import UNROUTED
from relay.sealing.codec import NOBODY, Column
from relay.store.redis.read.operation_head import OperationHead
from relay.store.redis.sealed.data_keys import SharedDataKeys
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.copied import COPIED, COPYING, WAY
from relay.store.redis.server.examine import SCHEMA, take_prefix
from relay.store.redis.server.fields import TOTALS, pack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import platform_script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.transfer.rows import RowsToServer
from relay.store.redis.transfer.stillness import refuse_hosts
from relay.store.redis.transfer.tallying import tally_of
from relay.store.redis.write.packing import chunks
from relay.store.redis.write.settlement import packed_gate
from relay.store.transfer.copy_run import CopyMark
from relay.store.transfer.hashes import HashWay, digest_text
from relay.store.transfer.records import (
    TOGETHER,
    AttemptRecord,
    AuditEntry,
    BatchRecord,
    CallbackRecord,
    CopyOrigin,
    LentRecord,
    MinuteRecord,
    NumberedRecord,
    OperationRecord,
    PostRecord,
    StandingRecord,
    Tally,
)
from relay.views.moments import plain

_PATIENT_S: Final = 30.0
_read_mark = msgspec.json.Decoder(CopyMark).decode
Command = tuple[Any, ...]


class RedisTarget:
    """A store on a server that no host uses."""

    def __init__(
        self, link: ServerLink, keys: KeyNames, data_keys: SharedDataKeys, tags: PlatformTags, clock: Clock
    ) -> None:
        self._link = link
        self._keys = keys
        self._data_keys = data_keys
        self._tags = tags
        self._clock = clock
        self._script = platform_script("carry")
        self._rows: RowsToServer

    async def begin(self, origin: CopyOrigin, *, resume: bool) -> CopyMark | None:
        """Make ready; return where an earlier copy stands."""
        shared = self._keys.shared
        await refuse_hosts(self._link, self._keys)
        await self._tags.load()
        kept = await self._link.do("GET", shared(COPYING))
        whole = await self._link.do("GET", shared(COPIED)) if resume and kept is None else None
        if whole is not None:
            return _read_mark(whole)
        if kept is not None and not resume:
            raise StoreUnusable(
                f"the store under {self._keys.prefix}: is half a copy: go on with --resume, or delete its keys"
            )
        if kept is None and await self._used():
            raise StoreUnusable(
                f"the store under {self._keys.prefix}: is not empty: set another store.prefix, or another database"
            )
        if origin.sealed != (self._data_keys.source is not None):
            raise StoreUnusable("one of the stores is sealed and the other is not: copy with the key of both, with -c")
        mark = CopyMark(identity=origin.identity)
        if kept is None:
            await take_prefix(self._link, self._keys)
            await self._write([("SET", shared(COPYING), msgspec.json.encode(mark)), ("SET", shared("schema"), SCHEMA)])
        for name in (*origin.platforms, UNROUTED):
            await self._tags.name(name)
        await self._data_keys.unlock()
        await self._hash_as(origin.way)
        seals = RedisSeals(self._data_keys, self._link, self._keys, self._clock, script=platform_script)
        self._rows = RowsToServer(seals, self._keys, self._tags)
        self._seals = seals
        return None if kept is None else _read_mark(kept)

    async def _used(self) -> bool:
        """Say whether anything was ever accepted, sent or recorded here."""
        commands: list[Command] = [("EXISTS", *(self._keys.shared(part) for part in ("audit", "ops", "posts")))]
        for name in self._tags.names():
            commands.append(("EXISTS", *(self._keys.of(name, part) for part in ("r", "at", "stg", "gt"))))
            commands.append(("HEXISTS", self._keys.of(name, "m"), "accepted"))
        return any(await self._ask(commands))

    async def _hash_as(self, way: HashWay) -> None:
        """Go on with the way of hashing, and with its secret."""
        kept, codec = way.secret, self._data_keys.codec
        if codec is not None:
            self._keys.secret = way.secret or b""
            sealed = codec.seal(Column.SECRET, NOBODY, 0.0, 0, self._keys.secret)
            await self._write([("HSET", self._keys.shared("sealing"), "secret", sealed)])
            kept = None
        made = HashWay(way.way, kept, way.digest_bytes)
        self._keys.hash_as(made)
        await self._write([("SET", self._keys.shared(WAY), msgspec.msgpack.encode(made))])

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        return await self._run([ServerCall(None, (), command) for command in commands], durable=False)

    async def _write(self, commands: Sequence[Command]) -> None:
        await self._run([ServerCall(None, (), command) for command in commands], durable=True)

    async def _run(self, calls: Sequence[ServerCall], *, durable: bool) -> list[Any]:
        answers = await self._link.run(calls, within_s=_PATIENT_S, durable=durable) if calls else []
        for answer in answers:
            if isinstance(answer, StoreFailed):
                raise answer
            if isinstance(answer, Exception):
                raise StoreFailed(f"the store refused a part of the copy: {answer}")
        return answers

    async def take(self, section: str, platform: str, records: Sequence[NumberedRecord], mark: CopyMark) -> None:
        """Write a chunk, then where the copy stands."""
        writers: dict[type[NumberedRecord], Callable[[str, Sequence[Any]], Awaitable[None]]] = {
            CallbackRecord: self._callbacks,
            BatchRecord: self._batches,
            AttemptRecord: self._attempts,
            PostRecord: self._posts,
            LentRecord: self._lent,
            OperationRecord: self._operations,
            AuditEntry: self._audit,
            MinuteRecord: self._minutes,
            StandingRecord: self._standing,
        }
        await writers[type(records[0])](platform, records)
        await self._write([("SET", self._keys.shared(COPYING), msgspec.json.encode(mark))])

    async def _callbacks(self, platform: str, records: Sequence[CallbackRecord]) -> None:
        packed, bodies = await self._rows.callbacks(platform, records)
        now = max(record.accepted_at for record in records)
        pair = self._keys.pair(platform)
        parts = [slice(span.start, span.stop) for span in chunks([len(body) for body in bodies])]
        await self._run(
            [ServerCall(self._script, pair, (repr(now), pack(packed[part]), *bodies[part])) for part in parts],
            durable=True,
        )  # synced once

    async def _seqs(self, platform: str, ids: Sequence[str]) -> dict[str, int]:
        """Return the numbers of those callbacks that were copied, by id."""
        found = (await self._ask([("HMGET", self._keys.of(platform, "al"), *ids)]))[0] if ids else []
        return {told: int(seq) for told, seq in zip(ids, found, strict=True) if seq is not None}

    async def _batches(self, platform: str, records: Sequence[BatchRecord]) -> None:
        seqs = await self._seqs(platform, list({each for record in records for each in record.members}))
        commands: list[Command] = []
        for record in records:
            members = [seqs[each] for each in record.members if each in seqs]
            commands += self._rows.batch(platform, record, members)
        await self._write(commands)

    async def _attempts(self, platform: str, records: Sequence[AttemptRecord]) -> None:
        shows = (await self._ask([("HMGET", self._keys.of(platform, "shows"), *(record.at for record in records))]))[0]
        commands: list[Command] = []
        for record, rows in zip(records, shows, strict=True):
            commands += await self._rows.attempt(platform, record, int(rows or 0))
        await self._write(commands)

    async def _posts(self, _platform: str, records: Sequence[PostRecord]) -> None:
        commands: list[Command] = []
        for record in records:
            numbers = {name: (await self._seqs(name, [told])).get(told, 0) for name, told in record.rows.items()}
            value = digest_text(record.digest).encode() + pack(numbers)
            commands.append(("HSET", self._keys.shared("posts"), record.hash, value))
            commands.append(("HSET", self._keys.shared("postn"), record.hash, record.left))
        await self._write(commands)

    async def _lent(self, _platform: str, records: Sequence[LentRecord]) -> None:
        commands: list[Command] = []
        for record in records:
            home = record.platform or UNROUTED
            facts = [record.platform, record.quota, record.group, record.taken_at, record.counts_from, int(record.done)]
            await self._tags.name(home)
            commands.append(("HSET", self._keys.of(home, "ln"), record.at, pack(facts)))
            commands.append(("ZADD", self._keys.of(home, "lc"), repr(record.counts_from), record.at))
        await self._write(commands)

    async def _operations(self, _platform: str, records: Sequence[OperationRecord]) -> None:
        commands: list[Command] = []
        for record in records:
            view = record.view
            wanted: dict[str, Any] = dict(plain(view.filter))
            if "key" in wanted:
                wanted["key"] = await self._seals.own_text(Column.FILTER, NOBODY, view.id, wanted["key"])
            skipped_at: defaultdict[str, list[int]] = defaultdict(list)
            for name in self._tags.names():
                skipped_at[name] += (await self._seqs(name, view.failed)).values()
            home = str(wanted.get("platform") or UNROUTED)
            names = [name for name, seqs in skipped_at.items() if seqs or name == home]
            head = OperationHead(
                number=view.id,
                action=view.action,
                wanted=wanted,
                options=view.options,
                matched=view.matched,
                platforms=names,
                started_at=float(view.started_at),
                finished_at=float(view.finished_at or view.started_at),
            )
            progress = self._keys.of(home, f"opp:{view.id}")
            skips = [each for reason, many in view.skipped.items() for each in (f"skip:{reason}", many)]
            commands += [("DEL", progress), ("HSET", progress, "done", view.done, *skips)]
            for name in names:
                failed = self._keys.of(name, f"opf:{view.id}")
                commands += [("DEL", failed), *([("RPUSH", failed, *skipped_at[name])] if skipped_at[name] else [])]
            commands.append(("HSET", self._keys.shared("ops"), view.id, msgspec.json.encode(head)))
            commands.append(("HSET", self._keys.shared("m"), "operations", view.id))
        await self._write(commands)

    async def _audit(self, _platform: str, records: Sequence[AuditEntry]) -> None:
        trail, entries = self._keys.shared("trail"), self._keys.shared("audit")
        count, gone = (await self._ask([("HMGET", trail, "count", "gone")]))[0]
        last = records[-1]
        commands: list[Command] = [] if count is not None else [("HSET", trail, "gone", records[0].at - 1)]
        fresh = [entry for entry in records if entry.at > int(count or 0)]
        if not fresh:
            return
        # What is behind the count was pushed by a chunk whose end was cut off.
        kept = None if count is None else int(count) - int(gone or 0)
        commands.append(("LTRIM", entries, 0, kept - 1) if kept else ("DEL", entries))
        commands += [("RPUSH", entries, pack([entry.when, entry.hash, entry.text])) for entry in fresh]
        commands.append(("HSET", trail, "count", last.at, "hash", last.hash, "at", repr(last.when)))
        await self._write(commands)

    async def _minutes(self, platform: str, records: Sequence[MinuteRecord]) -> None:
        if platform == TOGETHER:
            pairs = [each for record in records for each in (record.at, record.at)]
            await self._write([("ZADD", self._keys.shared("minutes"), *pairs)])
            return
        commands: list[Command] = []
        for record in records:
            commands.append(("HSET", self._keys.of(platform, "min"), record.at, pack(record.totals)))
            if any(record.counts) or record.oldest_due_s:
                counted = pack([*record.counts, record.oldest_due_s or 0.0])
                commands.append(("HSET", self._keys.of(platform, "mc"), record.at, counted))
        first = records[0].at
        commands.append(("HSETNX", self._keys.of(platform, "m"), "first_minute", first))
        commands.append(("HSET", self._keys.of(platform, "m"), "minute", records[-1].at))
        await self._write(commands)

    async def _standing(self, platform: str, records: Sequence[StandingRecord]) -> None:
        of = self._keys.of
        for record in records:
            totals = [each for pair in zip(TOTALS, record.totals, strict=True) for each in pair]
            commands: list[Command] = [("HSET", of(platform, "m"), *totals)]
            if record.gate is not None:
                main, stops = packed_gate(record.gate)
                commands.append(("HSET", of(platform, "gt"), "", main))
                commands += [("HSET", of(platform, "gt"), f"g{group}", stop) for group, stop in stops if stop]
            if record.last_error is not None:
                error = await self._rows.error(platform, record.last_error)
                commands.append(("HSET", of(platform, "m"), "error", error))
            for held in record.held_keys:
                commands.append(("HSET", of(platform, "kp"), held.key_hash, f"+{held.reason}"))
            await self._write(commands)

    async def finish(self, origin: CopyOrigin) -> None:
        """Make a store of it: what numbers come next, what is under way, which attempts no callback shows."""
        for name in origin.platforms:
            await self._finish(name)
        done = msgspec.json.encode(CopyMark(identity=origin.identity, done=True))
        await self._write([("SET", self._keys.shared(COPIED), done), ("DEL", self._keys.shared(COPYING))])

    async def _finish(self, platform: str) -> None:
        of = self._keys.of
        newest, open_batches, *numbers = await self._ask(
            [
                ("ZRANGE", of(platform, "all"), -1, -1),
                ("HVALS", of(platform, "bt")),
                *(("HKEYS", of(platform, name)) for name in ("at", "bt", "bm", "ln")),
            ]
        )
        highest = max((int(each) for found in numbers for each in found), default=0)
        in_flight = sum(self._rows.in_flight(batch) for batch in open_batches)
        seq = int(newest[0]) if newest else 0
        facts: list[Any] = ["seq", seq, "number", highest, "in_flight", in_flight]
        if self._seals.on:
            facts += ["sealed", 1]
        await self._write([("HSET", of(platform, "m"), *facts), ("DEL", of(platform, "shows"))])

    async def tally(self) -> dict[str, Tally]:
        """Count what each platform has."""
        return await tally_of(self._link, self._keys, list(self._tags.names()))

    async def close(self) -> None:
        """Let the server go."""
        await self._link.close()
