"""What the store shows: totals, status, callbacks. Plain reads on a read-only connection, each bounded.

Used by the daemon in its reader thread, and by the command line on the file of a daemon that is down (``open_reader``).
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import UNSET, structs

from relay.core.clock import Clock
from relay.core.model import Filter, Lane, State
from relay.core.plural import count
from relay.sealing.codec import NOBODY, Column
from relay.sealing.master_keys import KeySource
from relay.store.sent import SentCallback
from relay.store.sqlite.file import checksums
from relay.store.sqlite.file.boot import clock_of
from relay.store.sqlite.file.connection import cannot_open, open_reader_connection
from relay.store.sqlite.file.foreign.public_ids import ids_of
from relay.store.sqlite.file.sealed_values import UNREADABLE, Seals
from relay.store.sqlite.file.space import room
from relay.store.sqlite.file.transaction import numbers
from relay.store.sqlite.file.unlocking import kept_key, keys_view, seals_for_reading
from relay.store.sqlite.file.write_ahead import lost_commits
from relay.store.sqlite.read.filters import NOTHING, Where, named_rows, where
from relay.store.sqlite.read.history import OLDEST_DUE, HistoryReader
from relay.store.sqlite.read.journal import JournalReader
from relay.store.sqlite.read.operations import progress
from relay.store.sqlite.read.sent_pages import sent_callbacks
from relay.store.sqlite.read.survey import SurveyReader
from relay.views.callback_view import AttemptView, CallbackFacts, CallbackView, ListedCallback
from relay.views.ledger import QueueTotals
from relay.views.moments import Instant, moment, read
from relay.views.operation_view import OperationView
from relay.views.queue import ErrorView, QueueFacts, StoreSize
from relay.views.sealing_view import KeysView

# A page reads at most so many rows; when they hold too few matches it comes short, with a cursor to go on from. A long
# read would keep the WAL from being copied back.
_SCAN_ROWS = 200_000
_PRIORITIES = {Lane.HIGH: "high", Lane.LOW: "low"}
_WORDS = {int(state): state.word for state in State}
# Where an ordering key is: what has ended is looked through in an index that holds the keys, 0.05 s for a million.
_LIVE_OF_KEY = "SELECT seq FROM callback INDEXED BY callback_key WHERE live = 1 AND key IS NOT NULL AND key IN ({keys})"
_ENDED_OF_KEY = "SELECT seq FROM callback INDEXED BY callback_ended WHERE state > 0 AND key IN ({keys})"
MOVED_KEY = "callback_moved_key"
"""The index by ordering key that a history file has, which may be many times as large."""
_MOVED_OF_KEY = f"SELECT seq FROM callback INDEXED BY {MOVED_KEY} WHERE key IS NOT NULL AND key IN ({{keys}})"  # noqa: S608
_IS_MOVED = f"SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '{MOVED_KEY}')"  # noqa: S608

_TOTALS = """
SELECT p.name, l.accepted, l.delivered, l.dead, l.expired, l.superseded,
  (SELECT count(*) FROM callback INDEXED BY callback_expiry WHERE platform = p.id AND state = 0)
FROM platform AS p JOIN ledger AS l ON l.platform = p.id WHERE l.accepted > 0
"""
_FINALS = """
SELECT coalesce(sum(delivered + dead + expired + superseded
  - pruned_delivered - pruned_dead - pruned_expired - pruned_superseded), 0) FROM ledger
"""
_STATUS = """
SELECT p.id, p.name, l.accepted, l.dead - l.pruned_dead, l.last_error,
  (SELECT count(*) FROM callback INDEXED BY callback_expiry WHERE platform = p.id AND state = 0),
  (SELECT count(*) FROM callback INDEXED BY callback_held WHERE platform = p.id AND held = 1),
  (SELECT coalesce(sum(items), 0) FROM batch INDEXED BY batch_sent WHERE platform = p.id AND state = 1),
  (SELECT count(*) FROM callback INDEXED BY callback_dropped WHERE platform = p.id AND dropped = 1),
  (SELECT count(*) FROM key_hold AS h WHERE h.platform = p.id)
FROM platform AS p JOIN ledger AS l ON l.platform = p.id
"""
_COLUMNS = """seq, platform, state, key_text, event, priority, grp, accepted_at, due_at, expires_at, ended_at, attempts,
  spent, held, batch, maybe_applied, reason, code, message, bytes, trail, superseded_by, key IS NOT NULL"""
_BODY = "SELECT body, sealed FROM payload WHERE seq = ?"
_REST = f"""
SELECT CASE WHEN held = 1 AND reason = '{checksums.HELD_REASON}' THEN 1
  ELSE EXISTS (SELECT 1 FROM payload WHERE seq = ?1) END, traceparent, (SELECT reference FROM origin WHERE seq = ?1),
  (SELECT h.reason FROM key_hold AS h WHERE h.key = callback.key)
FROM callback WHERE seq = ?1
"""  # noqa: S608 - built from constants
_ATTEMPTS = """
SELECT n, batch, started_at, duration_s, outcome, status, reason, excerpt, ambiguous, platform, id FROM attempt
WHERE batch IN (SELECT value FROM json_each(?)) ORDER BY id
"""


def _among(condition: Where, seqs: Sequence[int]) -> Where:
    if not seqs:
        return NOTHING
    sql = f"{condition.sql} AND seq IN (SELECT value FROM carray(?))"  # noqa: S608 - fixed text
    return Where(sql, (*condition.values, numbers(seqs)))


class SqliteReader:
    """Reads one store file. Not for several threads at once."""

    def __init__(self, connection: apsw.Connection, seals: Seals) -> None:
        self._connection = connection
        self._seals = seals
        self.history = HistoryReader(connection)
        self.journal = JournalReader(connection, seals)
        self._ids = ids_of(connection)
        self.surveys = SurveyReader(connection, self._ids, seals)

    @property
    def clock(self) -> Clock:
        """The clock that the file's times are on, as it goes on now."""
        return clock_of(dict(self._connection.execute("SELECT name, value FROM meta")))

    def keys(self) -> KeysView:
        """Return which keys the file needs, and how far sealing has come."""
        codec = self._seals.codec
        return keys_view(self._connection, None if codec is None else codec.masters)

    def kept_key(self) -> str | None:
        """Return what the source of the keys gave the file to keep."""
        return kept_key(self._connection)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def totals(self) -> dict[str, QueueTotals]:
        """Return the durable totals per platform and the pending counted from rows, of one instant."""
        return {name: QueueTotals(*counts) for name, *counts in self._connection.execute(_TOTALS)}

    def ledger_and_recount(self) -> tuple[dict[str, QueueTotals], dict[str, QueueTotals]]:
        """Return ``totals`` and ``recount`` of one instant, so that a running daemon makes no difference."""
        with self._connection:
            totals, recount = self.totals(), self.recount()
        return totals, recount

    def finals(self) -> int:
        """Return how many final callbacks are kept, from the durable totals."""
        return int(self._connection.execute(_FINALS).get)

    def expect_more(self) -> None:
        """Look for ids from elsewhere that come while this is open."""
        self._ids.expect_more()

    def room(self, max_bytes: int | None, *, refused_bytes: int = 0) -> StoreSize:
        """Return how much of the room is used, as ``store.sqlite.space.room`` says."""
        return room(self._connection.execute, max_bytes, refused_bytes=refused_bytes)

    def operation(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        return progress(self._connection.execute, number, self._seals)

    def open_operations(self) -> list[int]:
        """Return the numbers of the operations that are not done."""
        found = self._connection.execute(
            "SELECT number FROM operation INDEXED BY operation_open WHERE finished_at IS NULL ORDER BY number"
        )
        return [number for (number,) in found]

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with pages and indexes, at most 20 lines. Reads all of the file in use."""
        try:
            found = [str(line) for (line,) in self._connection.execute("PRAGMA integrity_check(20)")]
        except apsw.Error as error:
            found = [checksums.damage(error)]  # the check does not come to its end
            if not found[0]:
                raise
        lost = lost_commits(self._connection)
        told = [f"the write-ahead log: {count(lost, 'commit')} in it can no longer be read"] if lost else []
        return told if found == ["ok"] else [*told, *found]

    def has_checksums(self) -> bool:
        """Return whether pages are compared with their checksums when they are read."""
        return checksums.are_in(self._connection) and checksums.kept_by(self._connection)

    def unreadable(self, rows: Sequence[int]) -> list[int]:
        """Return those of ``rows`` whose payload lies on a damaged page; by number."""
        return [seq for seq in rows if self.meets_damage("SELECT body FROM payload WHERE seq = ?", (seq,))]

    def meets_damage(self, sql: str, values: tuple[Any, ...]) -> bool:
        """Tell whether a statement needs a damaged page."""
        try:
            self._connection.execute(sql, values).fetchall()
        except apsw.Error as error:
            if not checksums.damage(error):
                raise
            return True
        return False

    def recount(self) -> dict[str, QueueTotals]:
        """Count every state from rows plus what was pruned: what ``relay doctor`` compares with ``totals``.

        Reads the whole table.
        """
        found: dict[str, dict[str, int]] = {}
        with self._connection:
            for name, *pruned in self._connection.execute(
                "SELECT name, pruned_delivered, pruned_dead, pruned_expired, pruned_superseded "
                "FROM platform JOIN ledger ON platform = id"
            ):
                words = ("delivered", "dead", "expired", "superseded")
                found[name] = {"pending": 0, **dict(zip(words, pruned, strict=True))}
            for name, state, count in self._connection.execute(
                "SELECT p.name, c.state, count(*) FROM callback AS c JOIN platform AS p ON p.id = c.platform "
                "GROUP BY 1, 2"
            ):
                found[name][_WORDS[state]] += count
        return {name: QueueTotals(accepted=sum(counts.values()), **counts) for name, counts in found.items()}

    def platform_status(self) -> dict[str, QueueFacts]:
        """Return the queue of each platform the file knows, without its quotas: only the writing thread has those."""
        found: dict[str, QueueFacts] = {}
        with self._connection:
            for row in list(self._connection.execute(_STATUS)):
                number, name, accepted, dead, last_error, pending, held, in_flight, dropped, keys_held = row
                found[name] = QueueFacts(
                    accepted=accepted,
                    pending=pending,
                    in_flight=in_flight,
                    held=held,
                    keys_held=keys_held,
                    oldest_due_at=moment(self._connection.execute(OLDEST_DUE, (number,)).get),
                    dead=dead - dropped,
                    last_error=self._last_error(number, last_error),
                )
        return found

    def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback with its attempts, newest last, or None."""
        seq = self._ids.callback_number(self._connection.execute, callback_id)
        if seq is None:
            return None
        with self._connection:
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM callback WHERE seq = ?", (seq,)).get  # noqa: S608
            if row is None:
                return None
            facts = self._facts(row)
            *_, trail, superseded_by, _ = row
            batches = [int(number) for number in (trail or "").split()]
            if facts.state != State.SUPERSEDED.word and row[14] is not None:
                batches.append(row[14])
            attempts = self._connection.execute(_ATTEMPTS, (str(batches),))
            kept, traceparent, reference, held_back = self._connection.execute(_REST, (seq,)).get
            found = CallbackView(
                **structs.asdict(facts),
                attempt_count=row[11],
                attempts=[self._attempt(attempt) for attempt in attempts],
                superseded_by=UNSET
                if superseded_by is None
                else self._ids.callback(self._connection.execute, superseded_by),
                payload_deleted=not kept,
                traceparent=UNSET if traceparent is None else traceparent,
                key_held=UNSET if held_back is None else held_back,
                reference=UNSET if reference is None else self._seals.shown(Column.REFERENCE, row[1], seq, reference),
            )
            if payload:
                damaged = found.reason == checksums.HELD_REASON
                body = None if damaged else self._connection.execute(_BODY, (seq,)).get
                found.payload = None if body is None else self._seals.body(row[1], seq, *body)[0]
        return found

    def batch_members(self, batch_id: str, limit: int) -> list[str]:
        """Return the ids of up to ``limit`` callbacks that a batch carried; some may be pruned."""
        number = self._ids.batch_number(self._connection.execute, batch_id)
        members = self._connection.execute("SELECT members FROM batch WHERE number = ?", (number,)).get
        return self._ids.callbacks(self._connection.execute, array("q", members or b"")[:limit])

    def callbacks(self, wanted: Filter, *, cursor: str | None, limit: int) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first, and the cursor of the next page or None.

        A page may come short, even empty, with a cursor: then matches are rare and the next page goes on looking.
        """
        below = int(cursor) if cursor is not None else 1 << 62
        with self._connection:
            platforms = dict(self._connection.execute("SELECT name, id FROM platform"))
            condition = where(
                wanted, named_rows(wanted, self._ids, self._connection.execute), platforms=platforms, seals=self._seals
            )
            source, floor = "callback", 0
            if condition is not NOTHING and wanted.key is not None and not wanted.ids:
                source = "callback NOT INDEXED"  # but by their numbers
                condition = _among(condition, self._of_key(wanted, platforms))
            elif wanted.dropped and condition is not NOTHING:
                source = "callback INDEXED BY callback_dropped"
            elif wanted.state in (State.DEAD.word, State.EXPIRED.word) and condition is not NOTHING and not wanted.ids:
                source = "callback INDEXED BY callback_shelf"
            elif not wanted.ids:
                # Only the newest rows below the cursor, so that a rare match does not read the whole table.
                floor = self._connection.execute(
                    "SELECT seq FROM callback WHERE seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?", (below, _SCAN_ROWS - 1)
                ).get
            rows = list(
                self._connection.execute(
                    f"SELECT {_COLUMNS} FROM {source} WHERE ({condition.sql}) AND seq < ? AND seq >= ? "  # noqa: S608
                    "ORDER BY seq DESC LIMIT ?",
                    (*condition.values, below, floor or 0, limit + 1),
                )
            )
            items = [ListedCallback(**structs.asdict(self._facts(row)), attempts=row[11]) for row in rows[:limit]]
        if len(rows) > limit:
            return items, str(rows[limit - 1][0])
        return items, str(floor) if floor else None

    def _of_key(self, wanted: Filter, platforms: Mapping[str, int]) -> list[int]:
        """Return the callbacks of the ordering key in ``wanted``, of all states unless it is about pending ones."""
        assert wanted.key is not None
        names = platforms if wanted.platform is None else (wanted.platform,)
        keys = ", ".join(map(str, self._seals.key_numbers(wanted.key, names)))
        found = {seq for (seq,) in self._connection.execute(_LIVE_OF_KEY.format(keys=keys))}
        if wanted.state != State.PENDING.word:
            ended = _MOVED_OF_KEY if self._connection.execute(_IS_MOVED).get else _ENDED_OF_KEY
            found.update(seq for (seq,) in self._connection.execute(ended.format(keys=keys)))
        return list(found)

    def sent(self, platform: str) -> Iterator[SentCallback]:
        """Yield every callback of a platform, oldest first, in pages: no read is long enough to keep the WAL."""
        return sent_callbacks(self._connection, platform, ids=self._ids, seals=self._seals)

    def _facts(self, row: Any) -> CallbackFacts:
        """Return a row as what every view of it tells."""
        seq, platform, state, key, event, priority, group, accepted_at, due_at, expires_at, ended_at, *rest = row
        _, spent, held, batch, maybe_applied, reason, code, message, size, trail, _, keyed = rest
        last = batch if batch is not None else int(trail.split()[-1]) if trail else None
        in_flight = False
        if state == State.PENDING and batch is not None:
            in_flight = self._connection.execute("SELECT state = 1 FROM batch WHERE number = ?", (batch,)).get == 1
        return CallbackFacts(
            id=self._ids.callback(self._connection.execute, seq),
            platform=self._connection.execute("SELECT name FROM platform WHERE id = ?", (platform,)).get,
            state=_WORDS[state],
            key=self._key(platform, seq, key) if keyed else None,
            event=event,
            priority=_PRIORITIES.get(Lane(priority), "normal"),
            group=group,
            accepted_at=Instant(accepted_at),
            due_at=Instant(due_at),
            expires_at=Instant(expires_at),
            ended_at=moment(ended_at),
            spent=spent,
            held=bool(held),
            in_flight=in_flight,
            maybe_applied=bool(maybe_applied),
            reason=reason or "",
            code=code,
            message=self._seals.shown(Column.MESSAGE, platform, seq, message) or "",
            bytes=size,
            batch=None if last is None else self._ids.batch(self._connection.execute, last),
        )

    def _key(self, platform: int, seq: int, kept: Any) -> str | None:
        """Return an ordering key: as it is kept, or out of the payload that it was sealed with."""
        if kept is not None:
            return str(self._seals.shown(Column.KEY, platform, seq, kept))
        body = self._connection.execute(_BODY, (seq,)).get
        if body is None:
            return None  # it was forgotten
        payload, key = self._seals.body(platform, seq, *body)
        return UNREADABLE if payload is None else key

    def _last_error(self, platform: int, kept: Any) -> ErrorView | None:
        text = self._seals.shown(Column.LAST_ERROR, NOBODY, platform, kept)
        return None if text in (None, UNREADABLE) else read(ErrorView, msgspec.json.decode(text))

    def _attempt(self, row: tuple[Any, ...]) -> AttemptView:
        n, batch, started_at, duration_s, outcome, status, reason, excerpt, ambiguous, platform, number = row
        return AttemptView(
            attempt=n,
            batch=self._ids.batch(self._connection.execute, batch),
            started_at=Instant(started_at),
            duration_s=duration_s,
            outcome=outcome,
            status=status,
            reason=reason or "",
            excerpt=self._seals.shown(Column.EXCERPT, platform, number, excerpt) or "",
            ambiguous=bool(ambiguous),
        )


def open_reader(
    path: Path, *, passing: bool = False, seals: Seals | None = None, keys: KeySource | None = None
) -> SqliteReader:
    """Open a store file for reading, with or without a daemon on it; raises ``StoreUnusable``.

    ``seals`` are those of the daemon's own; else ``keys`` open what is sealed, and without them it stays unread.
    """
    connection = open_reader_connection(path, passing=passing)
    try:
        return SqliteReader(connection, seals or seals_for_reading(connection, path, keys))
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    except BaseException:  # whatever it was: undone, then raised on
        connection.close()
        raise
