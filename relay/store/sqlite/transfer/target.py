"""Fills a store file from a copy: each chunk in one transaction, together with where the copy stands."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import apsw
import msgspec

from relay.core.clock import RelayClock
from relay.core.errors import StoreFailed, StoreUnusable
from relay.sealing.codec import NOBODY, Column
from relay.sealing.master_keys import KeySource
from relay.store.sqlite.file.boot import boot
from relay.store.sqlite.file.connection import cannot_open, open_writer
from relay.store.sqlite.file.foreign.copied import COPIED, COPYING, half_copy, keep_way
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.transaction import SET_META, Transaction
from relay.store.sqlite.file.unlocking import Unlocked, check_keys
from relay.store.sqlite.transfer.finishing import heads_and_lanes, pruned, superseded
from relay.store.sqlite.transfer.numbering import Numbering
from relay.store.sqlite.transfer.rows import RowsIn
from relay.store.sqlite.transfer.tallying import tally_of
from relay.store.sqlite.write.settle import save_gate
from relay.store.transfer.copy_run import CopyMark
from relay.store.transfer.records import (
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

_USED: Final = """
SELECT EXISTS (SELECT 1 FROM callback) OR EXISTS (SELECT 1 FROM ledger WHERE accepted > 0)
  OR EXISTS (SELECT 1 FROM attempt) OR EXISTS (SELECT 1 FROM operation) OR EXISTS (SELECT 1 FROM audit)
"""
_LEDGER: Final = """
UPDATE ledger SET accepted = ?2, delivered = ?3, dead = ?4, expired = ?5, superseded = ?6, last_error = ?7
WHERE platform = ?1
"""
_read_mark = msgspec.json.Decoder(CopyMark).decode


class SqliteTarget:
    """A file that is filled; the lock is held until ``close``."""

    def __init__(self, path: Path, keys: KeySource | None) -> None:
        """Raises ``StoreLocked``, ``StoreUnusable`` and ``KeysUnavailable``."""
        self._lock = FileLock(path)
        try:
            unlocked: list[Unlocked | None] = []
            self._connection = open_writer(
                self._lock.path, look=lambda found: unlocked.append(check_keys(found, self._lock.path, keys))
            )
            self._unlocked = unlocked[0]
        except BaseException:  # whatever it was: undone, then raised on
            self._lock.release()
            raise
        self._execute = self._connection.execute
        self._numbering = Numbering(self._execute)

    @classmethod
    async def open(cls, path: Path, keys: KeySource | None) -> Self:
        """Open or make a file."""
        return cls(path, keys)

    async def begin(self, origin: CopyOrigin, *, resume: bool) -> CopyMark | None:
        """Make ready; return where an earlier copy stands."""
        if origin.sealed != (self._unlocked is not None):
            raise StoreUnusable("one of the stores is sealed and the other is not: copy with the key of both, with -c")
        kept = half_copy(self._connection)
        whole = half_copy(self._connection, COPIED) if resume and kept is None else None
        if whole is not None:
            return _read_mark(whole)
        if kept is not None and not resume:
            raise StoreUnusable(f"{self._lock.path} is half a copy: go on with --resume, or remove the file")
        if kept is None and self._execute(_USED).get:
            raise StoreUnusable(f"{self._lock.path} is not empty: name a file that does not exist yet")
        try:
            identity = boot(self._connection, None, self._unlocked, sends=False)
        except apsw.Error as error:
            raise cannot_open(self._lock.path, error) from error
        self._clock = identity.clock
        self._seals = identity.seals
        self._names = Names(identity.secret, identity.platforms)
        if kept is None:
            with self._changing() as transaction:
                for name in origin.platforms:
                    self._names.number(name)
                self._names.save(transaction)
                self._execute("CREATE TABLE copy_newer (seq INTEGER PRIMARY KEY, id TEXT NOT NULL)")
                keep_way(self._execute, origin.way, self._seals.codec)
                self._stand(CopyMark(identity=origin.identity))
        self._rows = RowsIn(self._execute, self._numbering, self._seals, numbered=origin.numbered)
        return None if kept is None else _read_mark(kept)

    @contextmanager
    def _changing(self) -> Iterator[Transaction]:
        """Run one transaction."""
        self._execute("BEGIN IMMEDIATE")
        transaction = Transaction(self._connection, self._clock.now())
        try:
            yield transaction
            self._seals.save(transaction)
            self._execute("COMMIT")
        except BaseException as error:  # whatever it was: undone, then raised on
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            if isinstance(error, apsw.Error):
                why = "the disk is full" if isinstance(error, apsw.FullError) else error
                raise StoreFailed(f"{self._lock.path} cannot be written: {why}") from error
            raise
        for act in transaction.on_commit:
            act()

    def _stand(self, mark: CopyMark) -> None:
        self._execute(SET_META, (COPYING, msgspec.json.encode(mark)))

    async def take(self, section: str, platform: str, records: Sequence[NumberedRecord], mark: CopyMark) -> None:
        """Write a chunk."""
        number = self._names.known(platform) or 0
        write: dict[type[NumberedRecord], Callable[[Transaction, int, Any], None]] = {
            CallbackRecord: lambda _, number, record: self._rows.callback(number, platform, record),
            BatchRecord: lambda _, number, record: self._rows.batch(number, record),
            AttemptRecord: lambda _, number, record: self._rows.attempt(number, record),
            PostRecord: lambda _, __, record: self._rows.post(record, self._names),
            LentRecord: self._lent,
            OperationRecord: self._operation,
            AuditEntry: self._audit,
            MinuteRecord: self._minute,
            StandingRecord: self._standing,
        }
        with self._changing() as transaction:
            for record in records:
                write[type(record)](transaction, number, record)
            self._stand(mark)

    def _lent(self, _transaction: Transaction, _platform: int, record: LentRecord) -> None:
        self._execute(
            "INSERT INTO lent (platform, quota, grp, taken_at, counts_from, done) VALUES (?, ?, ?, ?, ?, ?)",
            (record.platform, record.quota, record.group, record.taken_at, record.counts_from, record.done),
        )

    def _operation(self, _transaction: Transaction, _platform: int, record: OperationRecord) -> None:
        view = record.view
        wanted: dict[str, Any] = dict(plain(view.filter))
        sealed_key = None
        if "key" in wanted and self._seals.codec is not None:
            sealed_key = self._seals.text(Column.FILTER, NOBODY, 0, view.id, wanted.pop("key"))
        encode = msgspec.json.encode
        self._execute(
            "INSERT INTO operation (number, action, filter, options, matched, done, skipped, failed, started_at, "
            "finished_at, sealed_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(
                    view.id,
                    view.action,
                    encode(wanted).decode(),
                    encode(view.options).decode(),
                    view.matched,
                    view.done,
                ),
                *(encode(view.skipped).decode(), encode(view.failed).decode()),
                *(float(view.started_at), float(view.finished_at or view.started_at), sealed_key),
            ),
        )

    def _audit(self, _transaction: Transaction, _platform: int, entry: AuditEntry) -> None:
        self._execute(
            "INSERT INTO audit (id, at, record, hash) VALUES (?, ?, ?, ?)",
            (entry.at, entry.when, entry.text, entry.hash),
        )
        self._execute("UPDATE audit_head SET count = ?, hash = ?, at = ?", (entry.at, entry.hash, entry.when))

    def _minute(self, _transaction: Transaction, platform: int, record: MinuteRecord) -> None:
        values = (platform, record.at, *record.totals, *record.counts, record.oldest_due_s)
        self._execute(
            "INSERT INTO sample (platform, minute, accepted, delivered, dead, expired, superseded, requests, refused, "
            "failed, raw_bytes, wire_bytes, late, oldest_due_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    def _standing(self, transaction: Transaction, platform: int, record: StandingRecord) -> None:
        error = None
        if record.last_error is not None:
            text = msgspec.json.encode(plain(record.last_error)).decode()
            error = self._seals.text(Column.LAST_ERROR, NOBODY, 0, platform, text)
        self._execute(_LEDGER, (platform, *record.totals, error))
        if record.gate is not None:
            save_gate(transaction, platform, record.gate)
        for held in record.held_keys:
            key = self._rows.key_number(self._names.name(platform), held.key_hash)
            self._execute("INSERT INTO key_hold VALUES (?, ?, ?, ?)", (key, platform, held.reason, held.since))

    async def finish(self, origin: CopyOrigin) -> None:
        """Make a store of it: what a claim goes by follows from the rows."""
        with self._changing() as transaction:
            superseded(self._execute, self._numbering)
            heads_and_lanes(transaction)
            pruned(self._execute)
            self._execute("DROP TABLE copy_newer")
            clock = self._clock
            if isinstance(clock, RelayClock):
                ahead_s = max(0.0, origin.now - clock.now())
                self._execute(SET_META, ("offset_s", clock.offset_s + ahead_s))
            self._execute("UPDATE meta SET value = max(value, ?) WHERE name = 'last_at'", (origin.now,))
            self._execute("DELETE FROM meta WHERE name = ?", (COPYING,))
            self._execute(SET_META, (COPIED, msgspec.json.encode(CopyMark(identity=origin.identity, done=True))))

    async def tally(self) -> dict[str, Tally]:
        """Count what each platform has."""
        return tally_of(self._execute)

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._lock.release()
