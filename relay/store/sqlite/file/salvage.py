"""Takes what can be read out of a damaged store into a new one, and makes fit what lost its other half.

SQLite finds rows by pages. A page that cannot be read takes its rows with it, and the pages beside it are as good as
ever. So each table is read up to the damage, and then up and down from places behind it.
"""

import shutil
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from relay.core.errors import StoreUnusable
from relay.core.model import State
from relay.store.sqlite.file.checksums import PAGE_BYTES, make_room
from relay.store.sqlite.file.connection import cannot_open, open_reader_connection
from relay.store.sqlite.file.exchange import plan_of, put_in_place
from relay.store.sqlite.file.lock import FileLock, unusable
from relay.store.sqlite.file.mend import Mended, mended_copy
from relay.store.sqlite.file.transaction import numbers
from relay.store.sqlite.file.upgrade import upgrade
from relay.store.sqlite.file.write_ahead import lost_commits

DAMAGED = "damaged: its payload could not be read"
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_PROBES = 2000  # places that are tried between two ends of a table that cannot be read on
_DAMAGE = (apsw.Error, UnicodeDecodeError)  # the latter is a text that is none any more
_UNFIT = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)  # a row that no table takes: as one of damage
_NEEDED = ("meta", "platform")  # without them ids, keys and names mean nothing
_BACKUP = "put a backup in its place (relay restore)"

_TABLES = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
_ABOUT = "PRAGMA table_info({})"
_INSERT = "INSERT OR IGNORE INTO {} ({}) VALUES ({})"
_BETWEEN = "SELECT rowid, {} FROM {} WHERE rowid > ? AND rowid < ? ORDER BY rowid {}"
_ORDERED = "SELECT {} FROM {} ORDER BY {}"

_LAST = "SELECT value FROM meta WHERE name = 'last_at'"
# Nothing can be sent without its payload.
_UNSENDABLE = """
UPDATE callback SET state = 2, live = 0, batch = NULL, held = 0, reason = ?1, ended_at = ?2
WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM payload WHERE payload.seq = callback.seq)
"""
# Of idempotency: a repeat of a callback that is lost must be accepted, not answered with its id.
_WITHOUT_CALLBACK = "DELETE FROM {0} WHERE NOT EXISTS (SELECT 1 FROM callback WHERE callback.seq = {0}.seq)"
_OF_CALLBACKS = ("payload", "idempotency", "origin", "operation_item", "operation_wait")

_FROZEN = "SELECT number, state, members FROM batch WHERE state < 2"
_WHOLE = "SELECT count(*) FROM callback WHERE state = 0 AND batch = ?1 AND seq IN (SELECT value FROM carray(?2))"
# What was in a frozen batch that is not whole any more is sent in others. The platform may have applied it.
_DISSOLVED = (
    "UPDATE callback SET batch = NULL, maybe_applied = max(maybe_applied, :sent) WHERE batch = :number AND state = 0",
    "UPDATE attempt SET ended_at = :last, outcome = 'retry', reason = 'crash', ambiguous = 1 "
    "WHERE batch = :number AND ended_at IS NULL",
    "UPDATE batch SET state = 2 WHERE number = :number",
)
_WITHOUT_BATCH = """
UPDATE callback SET batch = NULL, maybe_applied = 1 WHERE state = 0 AND batch IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.number = callback.batch AND batch.state < 2)
"""
_QUEUES = (
    "UPDATE callback SET live = 1 WHERE state = 0",
    """UPDATE callback SET
      prio = min(lane, coalesce((SELECT min(n.lane) FROM callback AS n
        WHERE n.key = callback.key AND n.live = 1 AND n.seq > callback.seq), lane)),
      head = batch IS NULL AND held = 0 AND (key IS NULL OR NOT EXISTS (SELECT 1 FROM callback AS e
        WHERE e.key = callback.key AND e.live = 1 AND e.seq < callback.seq))
    WHERE state = 0""",
    "UPDATE callback SET head = 0 WHERE state > 0",
)
_COUNTED = "(SELECT count(*) FROM callback AS c WHERE c.platform = ledger.platform AND c.state = {})"
_TOTAL = "UPDATE ledger SET {0} = pruned_{0} + {1}"
_ACCEPTED = "UPDATE ledger SET accepted = delivered + dead + expired + superseded + {}"
_LEDGER = (
    "INSERT OR IGNORE INTO ledger (platform) SELECT DISTINCT platform FROM callback",
    *(
        _TOTAL.format(state.word, _COUNTED.format(state.value))
        for state in (State.DELIVERED, State.DEAD, State.EXPIRED, State.SUPERSEDED)
    ),
    _ACCEPTED.format(_COUNTED.format(State.PENDING.value)),
)


class Gap(NamedTuple):
    """Rows of a table that could not be read: between two that could. A callback's number is its microsecond."""

    table: str
    after: int | None
    before: int | None


class Salvaged(NamedTuple):
    """What became of a damaged store."""

    rows: dict[str, int]  # by table
    gaps: list[Gap]
    lost: dict[str, int]  # callbacks that the ledger counts and no row shows, by platform
    unsendable: int  # dead now, because their payload is gone
    mended: list[Mended]  # bytes that were put right
    left_out: int  # commits of the write-ahead log that can no longer be read
    former: Path | None


def salvage(store: Path, *, aside: str) -> Salvaged:
    """Put what can be read of ``store`` in its place; the damaged file is renamed with ``aside`` and kept.

    The daemon must be down. Raises ``StoreLocked``, and ``StoreUnusable`` where too little can be read; then nothing
    was changed.
    """
    lock = FileLock(store)
    coming = lock.path.with_name(lock.path.name + ".salvaged")
    copy = lock.path.with_name(lock.path.name + ".mended")
    copies = (copy, copy.with_name(copy.name + "-wal"), copy.with_name(copy.name + "-shm"))
    try:
        for left in (coming, *copies):  # perhaps of a salvage that was killed
            left.unlink(missing_ok=True)
        for private in (coming, *copies[:2]):
            private.touch(mode=0o600)
        mended = mended_copy(lock.path, copy)
        if mended and (wal := lock.path.with_name(lock.path.name + "-wal")).exists():
            shutil.copyfile(wal, copies[1])
        source = open_reader_connection(copy if mended else store, passing=True)
        target = apsw.Connection(str(coming))
        try:
            told = _copied(source, target, store)
        finally:
            target.close()
            source.close()
        return told._replace(mended=mended, former=put_in_place(coming, lock.path, aside=aside))
    except apsw.Error as error:
        raise cannot_open(store, error) from error
    except OSError as error:  # a disk without room for the copies
        raise unusable(coming, error) from error
    finally:
        under_way = plan_of(lock.path).exists()  # a step failed: the next start does the rest
        for left in (*copies,) if under_way else (coming, *copies):
            left.unlink(missing_ok=True)
        lock.release()


def _copied(source: apsw.Connection, target: apsw.Connection, store: Path) -> Salvaged:
    source.pragma("cell_size_check", 1)
    target.pragma("page_size", PAGE_BYTES)
    make_room(target)
    target.pragma("auto_vacuum", 2)  # writes the first page, so it comes last
    target.pragma("journal_mode", "off")
    upgrade(target, store)
    rows: dict[str, int] = {}
    gaps: list[Gap] = []
    target.execute("BEGIN")
    target.execute("DELETE FROM meta")
    for table, sql in target.execute(_TABLES).fetchall():
        found = _Table(source, target, str(table))
        missing = found.by_key() if "WITHOUT ROWID" in str(sql).upper() else found.by_number()
        if table in _NEEDED and (missing or not found.count):
            raise StoreUnusable(f"{store}: its table {table} cannot be read, and all else needs it; {_BACKUP}")
        rows[found.name] = found.count
        gaps += missing
    lost, unsendable = _make_fit(target)
    target.execute("COMMIT")
    if (sound := target.execute("PRAGMA integrity_check(1)").get) != "ok":
        raise StoreUnusable(f"{store}: what could be read makes no sound store ({sound}); {_BACKUP}")
    return Salvaged(rows, gaps, lost, unsendable, [], lost_commits(source), None)


class _Table:
    """Reads a table around its damage."""

    def __init__(self, source: apsw.Connection, target: apsw.Connection, name: str) -> None:
        self.name = name
        self.count = 0
        self._source = source
        self._target = target
        about = [(str(column), bool(key)) for _, column, _, _, _, key in target.execute(_ABOUT.format(name))]
        columns = ", ".join(column for column, _ in about)
        self._insert = _INSERT.format(name, columns, ", ".join("?" * len(about)))
        self._between = _BETWEEN.format(columns, name, "{}")
        self._from_an_end = [
            _ORDERED.format(columns, name, ", ".join(f"{column} {direction}" for column, key in about if key))
            for direction in ("ASC", "DESC")
        ]

    def by_number(self) -> list[Gap]:
        """Read a table with row numbers; return the gaps."""
        low = self._read(_LEAST, _MOST, "ASC")
        if low is None:
            return []
        searched = deque([(low, _MOST)])
        gaps: list[tuple[int, int]] = []
        for _ in range(_PROBES):
            if not searched:
                break
            low, high = searched.popleft()
            middle = (low + high) // 2
            if not low < middle < high:
                gaps.append((low, high))
                continue
            if (last := self._read(middle, high, "ASC")) is not None:
                searched.append((last, high))
            if (first := self._read(low, middle + 1, "DESC")) is not None:
                searched.append((low, min(first, middle)))
        return [
            Gap(self.name, None if low == _LEAST else low, None if high == _MOST else high)
            for low, high in _joined([*gaps, *searched])
        ]

    def by_key(self) -> list[Gap]:
        """Read a table without row numbers from both ends."""
        for ordered in self._from_an_end:
            try:
                self._keep(self._source.execute(ordered))
            except _DAMAGE:
                continue  # the damage; the other end may be sound
            return []
        return [Gap(self.name, None, None)]

    def _read(self, low: int, high: int, direction: str) -> int | None:
        """Read the rows between two numbers. Return None at the end, else the last number before the damage."""
        last = low if direction == "ASC" else high
        try:
            for number, *row in self._source.execute(self._between.format(direction), (low, high)):
                last = number
                self._keep([row])
        except _DAMAGE:
            return last
        return None

    def _keep(self, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            try:
                self._target.execute(self._insert, tuple(row))
            except _UNFIT:
                raise
            except apsw.Error as error:  # what is wrong is with the new file: a full disk
                raise cannot_open(Path(self._target.filename), error) from error
            self.count += self._target.changes()


def _joined(gaps: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the gaps in their order, those that touch as one: between them lies a place that was tried in vain."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(gaps):
        if joined and low == joined[-1][1]:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def _make_fit(target: apsw.Connection) -> tuple[dict[str, int], int]:
    """Make the rows fit each other; return what is lost by platform, and how many can never be sent."""
    known: dict[int, int] = dict(target.execute("SELECT platform, accepted FROM ledger"))
    last = target.execute(_LAST).get
    target.execute(_UNSENDABLE, (DAMAGED, last))
    for table in _OF_CALLBACKS:
        target.execute(_WITHOUT_CALLBACK.format(table))
    frozen: list[Any] = target.execute(_FROZEN).fetchall()
    for number, state, members in frozen:
        wanted = array("q", members)
        if target.execute(_WHOLE, (number, numbers(wanted))).get != len(wanted):
            for sql in _DISSOLVED:
                target.execute(sql, {"number": number, "sent": state, "last": last})
    target.execute(_WITHOUT_BATCH)
    for sql in (*_QUEUES, *_LEDGER):
        target.execute(sql)
    names: dict[int, str] = dict(target.execute("SELECT id, name FROM platform"))
    left: dict[int, int] = dict(target.execute("SELECT platform, accepted FROM ledger"))
    lost = {names.get(number, str(number)): was - left.get(number, 0) for number, was in known.items()}
    unsendable = int(target.execute("SELECT count(*) FROM callback WHERE reason = ?", (DAMAGED,)).get)
    return {name: count for name, count in lost.items() if count > 0}, unsendable
