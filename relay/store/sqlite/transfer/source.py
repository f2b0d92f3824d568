"""Reads a store file for a copy: page by page over primary keys, on a read-only connection, under the file's lock."""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from relay.core.errors import StoreUnusable
from relay.core.raw import Kept
from relay.sealing.codec import NOBODY, Column
from relay.sealing.master_keys import KeySource
from relay.store.sqlite.file.boot import clock_of
from relay.store.sqlite.file.connection import open_reader_connection
from relay.store.sqlite.file.foreign.copied import way_in
from relay.store.sqlite.file.foreign.public_ids import ids_of
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.file.sealed_values import UNREADABLE
from relay.store.sqlite.file.unlocking import seals_for_reading
from relay.store.sqlite.file.write_ahead import refuse_lost_commits
from relay.store.sqlite.read.operations import COLUMNS, shown
from relay.store.sqlite.transfer.records_out import RecordsOut
from relay.store.sqlite.transfer.tallying import tally_of
from relay.store.transfer.hashes import HashWay, text_of
from relay.store.transfer.records import (
    AttemptRecord,
    AuditEntry,
    BatchRecord,
    CallbackRecord,
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
from relay.views.moments import read
from relay.views.queue import ErrorView

_BATCHES: Final = """
SELECT number, root, grp, state, created_at, due_at, expires_at, attempts, confirm, members, waiting_since,
  (SELECT id FROM attempt AS a WHERE a.batch = number AND a.ended_at IS NULL)
FROM batch WHERE number > ?2 AND platform = ?1 ORDER BY number LIMIT ?3
"""
_POSTS: Final = """
SELECT hash, seq, digest, targets FROM idempotency WHERE hash > ? AND targets IS NOT NULL ORDER BY hash LIMIT ?
"""
_MINUTES: Final = """
SELECT minute, accepted, delivered, dead, expired, superseded, requests, refused, failed, raw_bytes, wire_bytes, late,
  oldest_due_s FROM sample WHERE platform = ?1 AND minute > ?2 ORDER BY minute LIMIT ?3
"""
_IDENTITY: Final = """
SELECT (SELECT hex(value) FROM meta WHERE name = 'tag'), (SELECT max(seq) FROM callback),
  (SELECT max(id) FROM attempt), (SELECT count FROM audit_head), (SELECT total(accepted + delivered * 3 + dead * 5 +
  expired * 7 + superseded * 11) FROM ledger), (SELECT value FROM meta WHERE name = 'last_at')
"""


class SqliteSource:
    """A file whose daemon is down; the lock is held until ``close``."""

    def __init__(self, path: Path, keys: KeySource | None) -> None:
        """Raises ``StoreLocked``, ``StoreUnusable`` and ``KeysUnavailable``."""
        if not path.exists():
            raise StoreUnusable(f"{path} does not exist")
        self._lock = FileLock(path)
        try:
            self._connection = open_reader_connection(self._lock.path, passing=False)
            refuse_lost_commits(self._connection, self._lock.path)
            self._seals = seals_for_reading(self._connection, self._lock.path, keys)
        except BaseException:  # whatever it was: undone, then raised on
            self._lock.release()
            raise
        self._execute = self._connection.execute
        self._ids = ids_of(self._connection)
        self._out = RecordsOut(self._execute, self._ids, self._seals)
        self._numbers = dict(self._execute("SELECT name, id FROM platform"))
        self._names = {number: name for name, number in self._numbers.items()}
        self._keyed = keys is not None

    @classmethod
    async def open(cls, path: Path, keys: KeySource | None) -> Self:
        """Open a file."""
        return cls(path, keys)

    async def origin(self) -> CopyOrigin:
        """Return what the file is."""
        sealed = bool(self._execute("SELECT EXISTS (SELECT 1 FROM data_key)").get)
        span = self._execute("SELECT EXISTS (SELECT 1 FROM meta WHERE name LIKE 'sealing_%')").get
        if sealed and self._seals.codec is None:
            raise StoreUnusable(f"{self._lock.path} is sealed: give the configuration that has its key, with -c")
        if span or (self._keyed and not sealed):
            raise StoreUnusable(
                f"{self._lock.path} is not sealed, or not all of it yet: start the relay once with privacy.encrypt, "
                "and see with `relay keys status` that it is sealed"
            )
        running = self._execute("SELECT min(number) FROM operation WHERE finished_at IS NULL").get
        if running is not None:
            raise StoreUnusable(
                f"operation {running} is not finished: start the relay, let it end (relay operations), and stop it"
            )
        way = way_in(self._connection)
        secret = way.secret if way.secret is not None else self._seals.secret
        meta = dict(self._execute("SELECT name, value FROM meta"))
        stands = self._execute(_IDENTITY).get
        return CopyOrigin(
            identity=hashlib.sha256(repr(stands).encode()).hexdigest(),
            now=clock_of(meta).now(),
            way=HashWay(way.way, secret, way.digest_bytes),
            numbered=True,
            sealed=sealed,
            platforms=tuple(sorted(self._numbers)),
        )

    async def read(self, section: str, platform: str, after: int, limit: int) -> Sequence[NumberedRecord]:
        """Return the next records of a section."""
        read_own: dict[str, Callable[[int, int, int], Sequence[NumberedRecord]]] = {
            "callbacks": self._callbacks,
            "batches": self._batches,
            "attempts": self._attempts,
            "minutes": self._minutes,
            "standing": self._standing,
        }
        read_shared: dict[str, Callable[[int, int], Sequence[NumberedRecord]]] = {
            "posts": self._posts,
            "lent": self._lent,
            "operations": self._operations,
            "audit": self._audit,
        }
        if section in read_shared:
            return read_shared[section](after, limit)
        return read_own[section](self._numbers.get(platform, 0), after, limit)

    def _callbacks(self, platform: int, after: int, limit: int) -> list[CallbackRecord]:
        return self._out.callbacks(platform, "c.seq > ?2 AND c.platform = ?1 ORDER BY c.seq LIMIT ?3", after, limit)

    def _batches(self, platform: int, after: int, limit: int) -> list[BatchRecord]:
        found: list[Any] = list(self._execute(_BATCHES, (platform, after, limit)))
        return [
            BatchRecord(
                at=number,
                id=self._out.batch(number),
                root=self._out.batch(root),
                group=group,
                state=state,
                created_at=created_at,
                due_at=due_at,
                expires_at=expires_at,
                attempts=attempts,
                attempt_id=attempt or 0,
                confirm=bool(confirm),
                members=self._ids.callbacks(self._execute, array("q", members)),
                waiting_since=since,
            )
            for number, root, group, state, created_at, due_at, expires_at, attempts, confirm, members, *last in found
            for since, attempt in [last]
        ]

    def _attempts(self, platform: int, after: int, limit: int) -> list[AttemptRecord]:
        # The plus keeps SQLite from an index over the platforms, which would read and sort every attempt for each page.
        return self._out.attempts(platform, "a.id > ?2 AND +a.platform = ?1 ORDER BY a.id LIMIT ?3", after, limit)

    def _minutes(self, platform: int, after: int, limit: int) -> list[MinuteRecord]:
        found: list[Any] = list(self._execute(_MINUTES, (platform, after, limit)))
        return [
            MinuteRecord(at=row[0], totals=list(row[1:6]), counts=list(row[6:12]), oldest_due_s=row[12])
            for row in found
        ]

    def _standing(self, platform: int, after: int, _limit: int) -> list[StandingRecord]:
        if after:
            return []
        *totals, error = self._execute(
            "SELECT accepted, delivered, dead, expired, superseded, last_error FROM ledger WHERE platform = ?",
            (platform,),
        ).get
        text = self._seals.shown(Column.LAST_ERROR, NOBODY, platform, error)
        held = self._execute("SELECT key, reason, since FROM key_hold WHERE platform = ?", (platform,))
        return [
            StandingRecord(
                at=1,
                totals=totals,
                gate=self._gate(platform),
                last_error=None if text in (None, UNREADABLE) else read(ErrorView, msgspec.json.decode(text)),
                held_keys=[HeldKeyRecord(text_of(key), reason, since) for key, reason, since in held],
            )
        ]

    def _gate(self, platform: int) -> Kept | None:
        kept = self._execute("SELECT gate FROM gate WHERE platform = ?", (platform,)).get
        if kept is None:
            return None
        gate: Kept = msgspec.json.decode(kept)
        stops = self._execute("SELECT grp, stop FROM stop WHERE platform = ?", (platform,))
        groups = {group: msgspec.json.decode(stop) for group, stop in stops}
        return {**gate, "groups": groups} if groups else gate

    def _posts(self, after: int, limit: int) -> list[PostRecord]:
        records: list[PostRecord] = []
        for number, first, digest, targets in list(self._execute(_POSTS, (after, limit))):
            pairs = [
                (target, first + place) if isinstance(target, int) else target
                for place, target in enumerate(msgspec.json.decode(targets))
            ]
            rows = {self._names[platform]: self._ids.callback(self._execute, seq) for platform, seq in pairs}
            left = self._execute(
                "SELECT count(*) FROM callback WHERE seq IN (SELECT value FROM json_each(?))",
                (str([seq for _, seq in pairs]),),
            ).get
            records.append(PostRecord(at=number, hash=text_of(number), digest=digest, rows=rows, left=left))
        return records

    def _lent(self, after: int, limit: int) -> list[LentRecord]:
        found = self._execute(
            "SELECT number, platform, quota, grp, taken_at, counts_from, done FROM lent WHERE number > ? "
            "ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [
            LentRecord(
                at=number,
                platform=platform,
                quota=quota,
                group=group,
                taken_at=taken,
                counts_from=counts,
                done=bool(done),
            )
            for number, platform, quota, group, taken, counts, done in found
        ]

    def _operations(self, after: int, limit: int) -> list[OperationRecord]:
        found = self._execute(
            f"SELECT {COLUMNS} FROM operation WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608 - a constant
            (after, limit),
        )
        return [OperationRecord(at=row[0], view=shown(row, self._seals)) for row in list(found)]

    def _audit(self, after: int, limit: int) -> list[AuditEntry]:
        found = self._execute("SELECT id, at, hash, record FROM audit WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [AuditEntry(at=number, when=when, hash=made, text=text) for number, when, made, text in found]

    async def tally(self) -> dict[str, Tally]:
        """Count what each platform has."""
        return tally_of(self._execute)

    async def close(self) -> None:
        """Give the file back."""
        self._connection.close()
        self._lock.release()
