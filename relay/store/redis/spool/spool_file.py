"""The spool's file: posts in the order they came, each synced to disk before it is answered.

A thread writes what is queued in one transaction, as the SQLite store's does.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import apsw
import msgspec

from relay.core.errors import IdempotencyConflict, StoreFailed, StoreFull, StoreUnusable
from relay.core.ids import TAG_BITS, decode_id, encode_id
from relay.sealing.master_keys import KeySource
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.spool.spool_seal import SpoolSeal
from relay.store.transfer.hashes import HashWay

_T = TypeVar("_T")
_read_way = msgspec.msgpack.Decoder(HashWay).decode
_APPLICATION_ID: Final = 0x52_4C_59_53  # "RLYS": no other program's database, and no store
_SCHEMA: Final = """
CREATE TABLE entry (n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, routed INTEGER, packed BLOB, bytes INTEGER) STRICT;
CREATE TABLE known (name TEXT PRIMARY KEY, digest TEXT, n INTEGER, place INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE about (one INTEGER PRIMARY KEY, host TEXT, tag INTEGER, last_seq INTEGER) STRICT;
"""


_KNOWN: Final = "SELECT digest, place, n, packed, sealed FROM known JOIN entry USING (n) WHERE name = ?"
_NEXT: Final = "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'entry'"
_INSERT: Final = "INSERT INTO entry (n, at, routed, packed, bytes, sealed) VALUES (?, ?, 0, ?, ?, ?)"


class SpoolRow(NamedTuple):
    """One callback as it waits: its id, its platform, what the scripts are given, and its payload."""

    id: str
    platform: str
    packed: list[Any]
    body: bytes


class SpoolEntry(NamedTuple):
    """One post as it waits. ``key`` and ``digest``: of a routed post that has a key."""

    n: int
    at: float
    key: str
    digest: str
    rows: list[SpoolRow]


class SpoolPost(NamedTuple):
    """One post to keep: its rows without ids; ``names`` are what a repeat is known by: name, digest, place."""

    rows: Sequence[tuple[str, list[Any], bytes]]
    names: Sequence[tuple[str, str, int]]
    key: str = ""
    digest: str = ""


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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"spool {path.name}")
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
                execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                execute("INSERT INTO about VALUES (1, ?, ?, 0)", (host, secrets.randbelow(1 << TAG_BITS)))
        if execute("PRAGMA application_id").get != _APPLICATION_ID:
            raise StoreUnusable(f"store.spool.path: {self.path} is no spool; name another file")
        owner, self.tag, self._last_seq = execute("SELECT host, tag, last_seq FROM about").get
        if owner != host:
            raise StoreUnusable(
                f"store.spool.path: {self.path} holds posts of the host {owner}, and this one is {host}; "
                f"set host: {owner}, or name another file"
            )
        if not execute("SELECT 1 FROM pragma_table_info('about') WHERE name = 'way'").get:
            execute("ALTER TABLE about ADD COLUMN way BLOB")
        self.seal = SpoolSeal(self._connection, keys)
        for number, packed, size, sealed in execute("SELECT n, packed, bytes, sealed FROM entry"):
            self.used_bytes += size
            self.waiting.update(row[1] for row in unpack(self.seal.open(number, packed, sealed))[2])

    async def use(self, source: KeySource) -> None:
        """Take over the keys of another configuration; see ``SpoolSeal``."""
        await self._run(lambda: self.seal.use(source))

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except apsw.FullError as error:
            raise StoreFull(f"there is no room for the spool {self.path}: {error}") from error
        except apsw.Error as error:
            raise StoreFailed(f"the spool {self.path} cannot be written: {error}") from error

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
        return await self._run(lambda: self._add(posts, now))

    def _add(self, posts: Sequence[SpoolPost], now: float) -> list[list[tuple[str, bool]]]:
        answers: list[list[tuple[str, bool]]] = []
        execute = self._connection.execute
        added: Counter[str] = Counter()
        size = 0
        with self._connection:
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
                number = int(execute(_NEXT).get)
                packed = self.seal.seal(number, pack([post.key, post.digest, rows]))
                size += len(packed)
                execute(_INSERT, (number, now, packed, len(packed), int(self.seal.on)))
                for name, digest, place in post.names:
                    if place not in known:
                        execute("INSERT INTO known VALUES (?, ?, ?, ?)", (name, digest, number, kept_at[place]))
                added.update(row[1] for row in rows)
            if self.used_bytes + size > self.max_bytes:
                raise StoreFull(
                    f"the spool holds {self.used_bytes} of {self.max_bytes} bytes while the store is away; bring the "
                    "store back, or raise store.spool.max_size"
                )
            execute("UPDATE about SET last_seq = ?", (self._last_seq,))
        self.used_bytes += size
        self.waiting.update(added)
        return answers

    def _known(self, post: SpoolPost, index: int) -> dict[int, list[str]]:
        """Return the ids of rows that wait already, by place; at -1 those of a whole routed post."""
        found: dict[int, list[str]] = {}
        for name, digest, place in post.names:
            row = self._connection.execute(
                _KNOWN,
                (name,),
            ).get
            if row is None:
                continue
            if row[0] != digest:
                raise IdempotencyConflict(index if place < 0 else place)
            ids = [each[0] for each in unpack(self.seal.open(*row[2:]))[2]]
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

    async def first(self) -> SpoolEntry | None:
        """Return the oldest post."""

        def read() -> SpoolEntry | None:
            row = self._connection.execute("SELECT n, at, packed, sealed FROM entry ORDER BY n LIMIT 1").get
            if row is None:
                return None
            key, digest, rows = unpack(self.seal.open(row[0], *row[2:]))
            return SpoolEntry(row[0], row[1], key, digest, [SpoolRow(*each) for each in rows])

        return await self._run(read)

    async def find(self, callback_id: str) -> tuple[SpoolRow, float] | None:
        """Return a callback that waits, and since when."""

        def read() -> tuple[SpoolRow, float] | None:
            for number, at, packed, sealed in self._connection.execute("SELECT n, at, packed, sealed FROM entry"):
                for row in unpack(self.seal.open(number, packed, sealed))[2]:
                    if row[0] == callback_id:
                        return SpoolRow(*row), at
            return None

        return await self._run(read)

    async def remove(self, entry: SpoolEntry) -> None:
        """Forget a post that lies in the store now."""

        def delete() -> None:
            with self._connection:
                size = self._connection.execute("SELECT bytes FROM entry WHERE n = ?", (entry.n,)).get
                self._connection.execute("DELETE FROM known WHERE n = ?", (entry.n,))
                self._connection.execute("DELETE FROM entry WHERE n = ?", (entry.n,))
            # Counted in the thread, as what is added is: between two steps of the loop much may come.
            self.used_bytes -= int(size or 0)
            self.waiting.subtract(row.platform for row in entry.rows)
            self.waiting += Counter()  # drops platforms without any

        await self._run(delete)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._connection.close)
        self._thread.shutdown(wait=False)


def left_in(path: Path) -> int:
    """Return how many posts wait in a spool that no host has open; 0 where there is none. Raises ``StoreUnusable``."""
    if not path.exists():
        return 0
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            ours = connection.execute("PRAGMA application_id").get == _APPLICATION_ID
            return int(connection.execute("SELECT count(*) FROM entry").get) if ours else 0
        finally:
            connection.close()
    except apsw.Error as error:
        raise StoreUnusable(f"store.spool.path: {path} cannot be read: {error}") from error
