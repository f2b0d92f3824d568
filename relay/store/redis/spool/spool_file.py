"""The spool's file: posts in the order they came, each synced to disk before it is answered.

A thread writes what is queued in one transaction, as the SQLite store's does.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import apsw
import msgspec

from relay.core.errors import IdempotencyConflict, RelayError, StoreError, StoreFailed, StoreFull, StoreUnusable
from relay.core.ids import TAG_BITS, decode_id, encode_id, written_id
from relay.sealing.master_keys import KeySource
from relay.store.redis.server.fields import pack
from relay.store.redis.spool.set_aside import SetAside
from relay.store.redis.spool.spool_seal import SpoolSeal, sum_of
from relay.store.redis.spool.waiting_posts import NEXT, SpoolEntry, SpoolRow, WaitingPosts
from relay.store.redis.write.packing import SCRIPT_BYTES, SCRIPT_ROWS
from relay.store.transfer.hashes import HashWay

_T = TypeVar("_T")
_read_way = msgspec.msgpack.Decoder(HashWay).decode
APPLICATION_ID: Final = 0x52_4C_59_53  # "RLYS": no other program's database, and no store
_SCHEMA: Final = """
CREATE TABLE entry (n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, routed INTEGER, packed BLOB, bytes INTEGER) STRICT;
CREATE TABLE known (name TEXT PRIMARY KEY, digest TEXT, n INTEGER, place INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE about (one INTEGER PRIMARY KEY, host TEXT, tag INTEGER, last_seq INTEGER) STRICT;
"""


_KNOWN: Final = "SELECT digest, place, n FROM known WHERE name = ?"
_NOTE_NAME: Final = "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?)"
_INSERT: Final = "INSERT INTO entry (n, at, routed, packed, bytes, sealed, sum, first) VALUES (?, ?, 0, ?, ?, ?, ?, ?)"
# Ids are given out in rising order, so a callback lies in the last post that begins at its number or before.
_HOLDING: Final = "SELECT n FROM entry WHERE first <= ? ORDER BY first DESC LIMIT 1"


class SpoolPost(NamedTuple):
    """One post to keep: its rows without ids; ``names`` are what a repeat is known by: name, digest, place."""

    rows: Sequence[tuple[str, list[Any], bytes]]
    names: Sequence[tuple[str, str, int]]
    key: str = ""
    digest: str = ""


@dataclass(slots=True)
class _Queued:
    """A request to keep posts, all or none, until the thread has done it."""

    posts: Sequence[SpoolPost]
    now: float
    done: "asyncio.Future[list[list[tuple[str, bool]]]]"
    answers: list[list[tuple[str, bool]]] = field(default_factory=list)
    error: Exception | None = None


class SpoolFile:
    """The file of one host. Every method goes through its one thread."""

    def __init__(self, path: Path, *, host: str, max_bytes: int, keys: KeySource | None = None) -> None:
        """Open or create it; with ``keys`` it is sealed.

        Raises ``StoreUnusable`` for a file of another host or program, or a key that is missing, and
        ``KeysUnavailable``.
        """
        self.path = path
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.waiting: Counter[str] = Counter()
        self.tell: Callable[[Mapping[int, str]], None] = _nobody  # of posts that were set aside, on the loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"spool {path.name}")
        self._queued: deque[_Queued] = deque()
        self._asked = False  # whether the thread will look at what is queued
        try:
            self._connection = apsw.Connection(str(path))
            self._prepare(host, keys)
        except (apsw.Error, OSError) as error:
            raise StoreUnusable(f"store.spool.path: {path} cannot be used: {error}") from error

    def _prepare(self, host: str, keys: KeySource | None) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # one process
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        self.path.chmod(0o600)
        if execute("PRAGMA application_id").get == 0 and not execute("SELECT count(*) FROM sqlite_schema").get:
            with self._connection:
                execute(_SCHEMA)
                execute(f"PRAGMA application_id = {APPLICATION_ID}")
                execute("INSERT INTO about VALUES (1, ?, ?, 0)", (host, secrets.randbelow(1 << TAG_BITS)))
        if execute("PRAGMA application_id").get != APPLICATION_ID:
            raise StoreUnusable(f"store.spool.path: {self.path} is no spool; name another file")
        owner, self.tag, self._last_seq = execute("SELECT host, tag, last_seq FROM about").get
        if owner != host:
            raise StoreUnusable(
                f"store.spool.path: {self.path} holds posts of the host {owner}, and this one is {host}; "
                f"set host: {owner}, or name another file"
            )
        if not execute("SELECT 1 FROM pragma_table_info('about') WHERE name = 'way'").get:
            execute("ALTER TABLE about ADD COLUMN way BLOB")
        for column in ("sum", "first"):  # the checksum, and the number of its first callback
            if not execute("SELECT 1 FROM pragma_table_info('entry') WHERE name = ?", (column,)).get:
                execute(f"ALTER TABLE entry ADD COLUMN {column} INTEGER")
        execute("CREATE INDEX IF NOT EXISTS entry_first ON entry (first)")
        execute("CREATE INDEX IF NOT EXISTS known_n ON known (n)")  # else each removal reads all that is known
        self.aside = SetAside(self._connection)
        self.seal = SpoolSeal(self._connection, keys, self.aside)
        self._posts = WaitingPosts(self._connection, self.seal, self.aside)
        self._count()
        earlier = [number for (number,) in execute("SELECT n FROM entry WHERE first IS NULL")]  # by an earlier relay
        waits = [entry for number in earlier if (entry := self._posts.get(number)) is not None]
        firsts = [(decode_id(entry.rows[0].id, self.tag), entry.n) for entry in waits]
        with self._connection:
            self._connection.executemany("UPDATE entry SET first = ? WHERE n = ?", firsts)

    def _count(self) -> None:
        """Count what waits."""
        waiting: Counter[str] = Counter()
        used_bytes = 0
        for entry in self._posts.in_order():
            waiting.update(row.platform for row in entry.rows)
            used_bytes += entry.size
        self.waiting, self.used_bytes = waiting, used_bytes

    async def use(self, source: KeySource) -> None:
        """Take over the keys of another configuration; see ``SpoolSeal``."""
        await self._run(lambda: self.seal.use(source))

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._and_count, work)
        except apsw.Error as error:
            raise self._told(error) from error
        finally:
            self._tell_aside()

    def _tell_aside(self) -> None:
        if untold := self.aside.untold():
            self.tell(untold)

    def _and_count(self, work: Callable[[], _T]) -> _T:
        before = self.aside.posts
        try:
            return work()
        finally:
            if self.aside.posts is not before:
                self._count()  # as what they were counted is not known any more

    def _told(self, error: apsw.Error) -> StoreError:
        if isinstance(error, apsw.FullError):
            return StoreFull(f"there is no room for the spool {self.path}: {error}")
        return StoreFailed(f"the spool {self.path} cannot be written: {error}")

    async def keep_secret(self, secret: bytes) -> None:
        """Keep, sealed, what the store keys its hashes with."""
        await self._run(lambda: self.seal.keep_secret(secret))

    @property
    def way(self) -> HashWay | None:
        """How the store makes hashes, as last heard; None: as every store on a server."""
        kept = self._connection.execute("SELECT way FROM about").get
        return None if kept is None else _read_way(kept)

    async def keep_way(self, way: HashWay | None) -> None:
        """Keep how the store makes hashes: a host that starts while the store is away needs it."""
        kept = None if way is None else msgspec.msgpack.encode(way)
        await self._run(lambda: self._connection.execute("UPDATE about SET way = ?1 WHERE way IS NOT ?1", (kept,)))

    async def add(self, posts: Sequence[SpoolPost], now: float) -> list[list[tuple[str, bool]]]:
        """Keep posts, all or none; return for each row its id, and whether it was known.

        Raises ``StoreFull`` and ``IdempotencyConflict``, whose index is that of the row, or of the routed post.
        """
        loop = asyncio.get_running_loop()
        queued = _Queued(posts, now, loop.create_future())
        self._queued.append(queued)
        if not self._asked:
            self._asked = True
            self._thread.submit(self._add_queued, loop)
        return await queued.done

    def _add_queued(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep what is queued in one transaction, and answer it; in the thread."""
        self._asked = False  # before it is taken: what is queued from here on is asked for anew
        group: list[_Queued] = []
        while self._queued:
            group.append(self._queued.popleft())
        try:
            self._and_count(lambda: self._add_group(group))
        except apsw.Error as error:
            failed: Exception = self._told(error)
            failed.__cause__ = error
        except Exception as error:  # noqa: BLE001 - a bug: whoever waits is told of it
            failed = error
        else:
            loop.call_soon_threadsafe(self._tell_aside)
            loop.call_soon_threadsafe(_answer, group)
            return
        for queued in group:
            queued.error = failed
        loop.call_soon_threadsafe(_answer, group)

    def _add_group(self, group: Sequence[_Queued]) -> None:
        added: Counter[str] = Counter()
        size = 0
        with self._connection:
            for queued in group:
                try:
                    with self._connection:  # a savepoint: the others are kept without it
                        queued.answers, more, platforms = self._add(queued.posts, queued.now, self.used_bytes + size)
                except RelayError as refusal:
                    queued.error = refusal
                else:
                    size += more
                    added.update(platforms)
            self._connection.execute("UPDATE about SET last_seq = ?", (self._last_seq,))
        self.used_bytes += size
        self.waiting.update(added)

    def _add(
        self, posts: Sequence[SpoolPost], now: float, used_bytes: int
    ) -> tuple[list[list[tuple[str, bool]]], int, list[str]]:
        """Keep posts; return what is answered, how many bytes they take, and the platform of each new row."""
        answers: list[list[tuple[str, bool]]] = []
        execute = self._connection.execute
        added: list[str] = []
        size = 0
        for index, post in enumerate(posts):
            known = self._known(post, index)
            whole = known.get(-1)
            if whole is not None:
                answers.append([(callback_id, True) for callback_id in whole])
                continue
            ids = [known[place][0] if place in known else self._next_id(now) for place in range(len(post.rows))]
            answers.append([(each, place in known) for place, each in enumerate(ids)])
            fresh = [place for place in range(len(post.rows)) if place not in known]
            rows = [(ids[place], *post.rows[place]) for place in fresh]
            kept_at = {-1: -1} | {place: at for at, place in enumerate(fresh)}
            if not rows:
                continue
            number = int(execute(NEXT).get)
            packed = self.seal.seal(number, pack([post.key, post.digest, rows]))
            size += len(packed)
            first = decode_id(rows[0][0], self.tag)
            execute(_INSERT, (number, now, packed, len(packed), int(self.seal.on), sum_of(number, packed), first))
            for name, digest, place in post.names:
                if place not in known:
                    execute(_NOTE_NAME, (name, digest, number, kept_at[place]))
            added += [row[1] for row in rows]
        if used_bytes + size > self.max_bytes:
            raise StoreFull(
                f"the spool holds {used_bytes} of {self.max_bytes} bytes while the store is away; bring the "
                "store back, or raise store.spool.max_size"
            )
        return answers, size, added

    def _known(self, post: SpoolPost, index: int) -> dict[int, list[str]]:
        """Return the ids of rows that wait already, by place; at -1 those of a whole routed post."""
        found: dict[int, list[str]] = {}
        for name, digest, place in post.names:
            row = self._connection.execute(_KNOWN, (name,)).fetchone()
            if row is None or (kept := self._posts.get(row[2])) is None:
                continue
            if row[0] != digest:
                raise IdempotencyConflict(index if place < 0 else place)
            ids = [each.id for each in kept.rows]
            found[place] = ids if place < 0 else [ids[row[1]]]
        return found

    def _next_id(self, now: float) -> str:
        self._last_seq = max(self._last_seq + 1, int(now * 1e6))
        return encode_id(self._last_seq, self.tag)

    def holds(self, callback_id: str) -> bool:
        """Say whether an id was given out by this spool."""
        return decode_id(callback_id, self.tag) is not None

    async def check(self) -> None:
        """See that the file takes a write. Raises ``StoreFailed``."""

        def touch() -> None:
            with self._connection:
                self._connection.execute("UPDATE about SET last_seq = last_seq")

        await self._run(touch)

    async def oldest(self) -> list[SpoolEntry]:
        """Return the oldest post, with those behind it that may go together: as many as one script takes.

        A routed post with a key goes alone, as it may be known elsewhere.
        """

        def read() -> list[SpoolEntry]:
            found: list[SpoolEntry] = []
            rows = size = 0
            for entry in self._posts.in_order():
                rows, size = rows + len(entry.rows), size + entry.size
                if found and (entry.key or rows > SCRIPT_ROWS or size > SCRIPT_BYTES):
                    break
                found.append(entry)
                if entry.key:
                    break
            return found

        return await self._run(read)

    async def find(self, callback_id: str) -> tuple[SpoolRow, float] | None:
        """Return a callback that waits, and since when."""
        given_out = written_id(callback_id)

        def read() -> tuple[SpoolRow, float] | None:
            held = self._connection.execute(_HOLDING, (decode_id(callback_id, self.tag),)).get
            if held is None:
                return None
            entry = self._posts.get(held)
            rows = () if entry is None else entry.rows
            return next(((row, entry.at) for row in rows if entry and row.id == given_out), None)

        return await self._run(read)

    async def remove(self, entries: Sequence[SpoolEntry]) -> None:
        """Forget posts that lie in the store now."""

        def delete() -> None:
            try:
                with self._connection:
                    for entry in entries:
                        self._remove(entry.n)
            except apsw.CorruptError:  # what is deleted may have to be shared out with the damaged page beside it
                for entry in entries:
                    try:
                        with self._connection:
                            self._remove(entry.n)
                    except apsw.CorruptError:
                        self.aside.note_brought_in(entry.n)
            # Counted in the thread, as what is added is: between two steps of the loop much may come.
            self.used_bytes -= sum(entry.size for entry in entries)
            self.waiting.subtract(row.platform for entry in entries for row in entry.rows)
            self.waiting += Counter()  # drops platforms without any

        await self._run(delete)

    def _remove(self, number: int) -> None:
        self._connection.execute("DELETE FROM known WHERE n = ?", (number,))
        self._connection.execute("DELETE FROM entry WHERE n = ?", (number,))

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._connection.close)
        self._thread.shutdown(wait=False)


def _answer(group: Sequence[_Queued]) -> None:
    """Tell whoever waits what became of it, on the loop."""
    for queued in group:
        if queued.done.done():
            continue  # its caller went away
        if queued.error is None:
            queued.done.set_result(queued.answers)
        else:
            queued.done.set_exception(queued.error)


def _nobody(_posts: Mapping[int, str]) -> None:
    """Tell nobody."""
