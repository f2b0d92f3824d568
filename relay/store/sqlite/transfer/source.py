"""Reads a store file for a copy: page by page over primary keys, on a read-only connection, under the file's lock."""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from relay.core.errors import StoreUnusable
from relay.core.model import State
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

_PLAIN: Final = (
    *("event", "lane", "priority", "grp", "content_type", "traceparent", "bytes", "accepted_at", "expires_s"),
    *("expires_at", "due_at", "state", "attempts", "spent", "first_sent_at", "code"),
)
"""Columns of a callback that are carried as they are."""
_CALLBACKS: Final = f"""
SELECT {", ".join(f"c.{name}" for name in _PLAIN)}, k.points,
  c.seq, c.batch, c.trail, c.key, c.key_text, c.idem, i.digest, i.targets, c.ended_at, c.held, c.dropped,
  c.maybe_applied, c.live, c.overtaken, c.reason, c.message, c.superseded_by, c.gathered_since, p.body, p.sealed,
  o.idempotency_key, o.reference
FROM callback AS c LEFT JOIN payload AS p ON p.seq = c.seq LEFT JOIN origin AS o ON o.seq = c.seq
  LEFT JOIN cost AS k ON k.seq = c.seq LEFT JOIN idempotency AS i ON i.hash = c.idem
WHERE c.seq > ?2 AND c.platform = ?1 ORDER BY c.seq LIMIT ?3
"""  # noqa: S608 - constants of this file
_FIELDS: Final = tuple("group" if name == "grp" else name for name in (*_PLAIN, "points"))
_ATTEMPTS_OF: Final = """
SELECT batch, id, started_at, ended_at IS NULL FROM attempt WHERE batch IN (SELECT value FROM json_each(?)) ORDER BY id
"""
_BATCHES: Final = """
SELECT number, root, grp, state, created_at, due_at, expires_at, attempts, confirm, members, waiting_since,
  (SELECT id FROM attempt AS a WHERE a.batch = number AND a.ended_at IS NULL)
FROM batch WHERE number > ?2 AND platform = ?1 ORDER BY number LIMIT ?3
"""
_ATTEMPTS: Final = """
SELECT a.id, a.batch, a.n, a.grp, a.started_at, a.ended_at, coalesce(a.duration_s, 0.0), a.outcome, a.status, a.reason,
  a.excerpt, a.ambiguous, coalesce(a.purpose, a.n > 1), coalesce(w.items, b.items, 0),
  coalesce(nullif(a.wire_bytes, 0), w.bytes, 0), coalesce(w.points, b.items, 0)
FROM attempt AS a LEFT JOIN batch AS b ON b.number = a.batch LEFT JOIN weight AS w ON w.attempt = a.id
WHERE a.id > ?2 AND +a.platform = ?1 ORDER BY a.id LIMIT ?3
"""
"""The plus keeps SQLite from an index over the platforms, which would read and sort every attempt for each page."""
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

    def _batch(self, number: int) -> str:
        return self._ids.batch(self._execute, number)

    def _callbacks(self, platform: int, after: int, limit: int) -> list[CallbackRecord]:
        rows: list[Any] = list(self._execute(_CALLBACKS, (platform, after, limit)))
        many = len(_FIELDS)
        carried = [_batches_of(*row[many + 1 : many + 3]) for row in rows]
        named = sorted({number for numbers in carried for number in numbers})
        settled: dict[int, list[int]] = {}
        since: dict[int, float] = {}
        for batch, attempt, started_at, under_way in self._execute(_ATTEMPTS_OF, (str(named),)):
            if under_way:
                since[batch] = started_at
            else:
                settled.setdefault(batch, []).append(attempt)
        return [
            self._callback(platform, row, numbers, settled, since) for row, numbers in zip(rows, carried, strict=True)
        ]

    def _callback(
        self, platform: int, row: Any, carried: list[int], settled: dict[int, list[int]], since: dict[int, float]
    ) -> CallbackRecord:
        plain: dict[str, Any] = dict(zip(_FIELDS, row, strict=False))
        seq, batch, _, key, key_text, idem, digest, targets, ended_at, held, dropped, maybe, live, *rest = row[
            len(_FIELDS) :
        ]
        overtaken, reason, message, newer, gathered_since, body, sealed, told_key, reference = rest
        told, pending = self._ids.callback(self._execute, seq), plain["state"] == State.PENDING
        payload, text = body, self._text(Column.KEY, platform, seq, key_text)
        if sealed:
            payload, text = self._seals.body(platform, seq, body, sealed)
            if payload is None and pending:
                raise StoreUnusable(f"the payload of callback {told} does not open, and it is pending: drop it first")
        frozen = pending and batch is not None
        hashed = "" if idem is None or digest is None else text_of(idem)
        return CallbackRecord(
            **plain,
            at=seq,
            id=told,
            payload=payload,
            key=text,
            key_hash="" if key is None else text_of(key),
            idempotency_hash=hashed if targets is None else "",
            digest=digest or b"",
            post_hash=hashed if targets is not None else "",
            idempotency_key=self._text(Column.IDEMPOTENCY_KEY, platform, seq, told_key),
            reference=self._text(Column.REFERENCE, platform, seq, reference),
            place=seq,
            ended_at=ended_at or 0.0,
            under_way_since=since.get(batch, 0.0) if frozen else 0.0,
            batches=[self._batch(number) for number in carried],
            attempt_ids=sorted(attempt for number in carried for attempt in settled.get(number, ())),
            frozen=frozen,
            held=bool(held),
            dropped=bool(dropped),
            maybe_applied=bool(maybe),
            blocks=plain["state"] == State.DEAD and bool(live),
            overtaken=bool(overtaken),
            reason=reason or "",
            message=self._text(Column.MESSAGE, platform, seq, message) or "",
            superseded_by="" if newer is None else self._ids.callback(self._execute, newer),
            gathered_since=gathered_since or 0.0,
        )

    def _text(self, column: Column, platform: int, row: int, kept: Any) -> str | None:
        """Return a kept text; None also where it does not open any more."""
        text = self._seals.shown(column, platform, row, kept)
        return None if text is None or (text == UNREADABLE and isinstance(kept, bytes)) else str(text)

    def _batches(self, platform: int, after: int, limit: int) -> list[BatchRecord]:
        found: list[Any] = list(self._execute(_BATCHES, (platform, after, limit)))
        return [
            BatchRecord(
                at=number,
                id=self._batch(number),
                root=self._batch(root),
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
        found: list[Any] = list(self._execute(_ATTEMPTS, (platform, after, limit)))
        return [
            AttemptRecord(
                at=row[0],
                batch=self._batch(row[1]),
                n=row[2],
                group=row[3],
                started_at=row[4],
                ended_at=row[5],
                duration_s=row[6],
                outcome=row[7] or "",
                status=row[8],
                reason=row[9] or "",
                excerpt=self._text(Column.EXCERPT, platform, row[0], row[10]) or "",
                ambiguous=bool(row[11]),
                purpose=row[12],
                items=row[13],
                bytes=row[14],
                points=row[15],
            )
            for row in found
        ]

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


def _batches_of(own: int | None, trail: str | None) -> list[int]:
    """Return the batches that carried a callback, its own last."""
    return [*map(int, (trail or "").split()), *([] if own is None else [own])]
