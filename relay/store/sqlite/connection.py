"""Opens the store's file: permissions, pragmas (asserted, not hoped for), schema version.

The writing connection is the only one that writes and checkpoints; readers are read-only. SQLite gives the ``-wal``
and ``-shm`` files the mode of the database file, so creating that one as 0600 settles all three.
"""

import fcntl
import os
from importlib import resources
from pathlib import Path

import apsw

from relay.core.errors import StoreLocked, StoreUnusable

SCHEMA_VERSION = 2
PAGE_BYTES = 4096
_APPLICATION_ID = 0x52_4C_59_31  # "RLY1": tells the file from any other program's database
_WRITER_CACHE_KIB = 32 * 1024  # keeps the upper pages of all indexes at 1,000,000 pending and memory flat
_READER_CACHE_KIB = 4 * 1024
_WAL_KEPT_BYTES = 64 * 1024 * 1024  # a longer WAL is cut to this after a checkpoint
_BUSY_MS = 5000  # a reader may meet recovery or a checkpoint for a moment; writers meet nobody

# What is set on the writing connection, and must read back exactly so.
_WRITER_PRAGMAS: tuple[tuple[str, int | str], ...] = (
    ("journal_mode", "wal"),
    ("synchronous", 2),  # FULL: a commit is on disk when it returns
    ("foreign_keys", 0),
    ("cache_size", -_WRITER_CACHE_KIB),
    ("auto_vacuum", 2),  # incremental: pruning gives space back in small steps
    ("journal_size_limit", _WAL_KEPT_BYTES),
    ("wal_autocheckpoint", 0),  # the writer thread checkpoints when nobody waits (store.sqlite.writer)
    ("temp_store", 2),  # small sorts of the writer stay in memory
)


class FileLock:
    """One daemon per store file: an advisory lock on a file beside it, which holds the owner's process id."""

    def __init__(self, path: Path) -> None:
        """Take the lock of the store at ``path``; raises ``StoreLocked`` naming the owner, or ``StoreUnusable``."""
        self._path = path.with_name(path.name + ".lock")
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(
                f"cannot create {self._path}: {error.strerror}; the relay needs a directory it may write to"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreLocked(
                f"{path} is in use by another relay, process {owner}; stop it first or give this one its own store.url"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Give the lock up. The file stays: removing it would let two daemons lock two different files."""
        os.close(self._fd)


def open_writer(path: Path) -> apsw.Connection:
    """Open (or create) the database for writing, checked and migrated; raises ``StoreUnusable``."""
    _create_private(path)
    connection = _connect(path, apsw.SQLITE_OPEN_READWRITE)
    try:
        _refuse_foreign(connection, path)
        connection.set_busy_timeout(_BUSY_MS)
        if connection.pragma("page_count") == 0:
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("auto_vacuum", 2)
        for name, wanted in _WRITER_PRAGMAS:
            connection.pragma(name, wanted)
            found = connection.pragma(name)
            if found != wanted:
                raise StoreUnusable(f"{path}: PRAGMA {name} is {found!r} where the relay needs {wanted!r}")
        _migrate(connection)
    except apsw.NotADBError as error:
        connection.close()
        raise _not_a_database(path) from error
    except BaseException:  # whatever it was, also a cancellation: undone, then raised on
        connection.close()
        raise
    return connection


def open_reader_connection(path: Path) -> apsw.Connection:
    """Open the database read-only, with or without a daemon on it; raises ``StoreUnusable``."""
    if not path.exists():
        raise StoreUnusable(f"{path} does not exist")
    connection = _connect(path, apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("cache_size", -_READER_CACHE_KIB)
        _refuse_foreign(connection, path)
        version = connection.pragma("user_version")
    except apsw.NotADBError as error:
        connection.close()
        raise _not_a_database(path) from error
    except apsw.Error as error:
        connection.close()
        raise StoreUnusable(f"cannot read {path}: {error}") from error
    except StoreUnusable:
        connection.close()
        raise
    if version != SCHEMA_VERSION:
        connection.close()
        raise StoreUnusable(f"{path} has schema version {version}; start the relay once on it, it migrates the file")
    return connection


def _connect(path: Path, flags: int) -> apsw.Connection:
    try:
        return apsw.Connection(str(path), flags=flags)
    except apsw.Error as error:
        raise StoreUnusable(f"cannot open {path}: {error}") from error


def _create_private(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(
            f"cannot create or write {path}: {error.strerror}; the relay needs write permission on it"
        ) from error
    try:
        os.fchmod(fd, 0o600)  # also a file that came with wider permissions, e.g. from a backup
    except OSError as error:
        raise StoreUnusable(f"cannot make {path} private (mode 0600): {error.strerror}") from error
    finally:
        os.close(fd)


def _not_a_database(path: Path) -> StoreUnusable:
    return StoreUnusable(f"{path} is not a database; point store.url to another file or move this one away")


def _refuse_foreign(connection: apsw.Connection, path: Path) -> None:
    version = connection.pragma("user_version")
    owner = connection.pragma("application_id")
    if owner != _APPLICATION_ID and connection.pragma("page_count") > 0:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if owner or version or tables:
            raise StoreUnusable(f"{path} is another program's database; point store.url to another file")
    if version > SCHEMA_VERSION:
        made_by = connection.execute("SELECT value FROM meta WHERE name = 'written_by'").get
        raise StoreUnusable(
            f"{path} has schema version {version}, written by relay {made_by}; this relay knows versions up to "
            f"{SCHEMA_VERSION}. Run relay {made_by} or newer on it, or point store.url to another file"
        )


def _migrate(connection: apsw.Connection) -> None:
    """Bring the schema to ``SCHEMA_VERSION``, one committed step per version."""
    version = connection.pragma("user_version")
    steps = ("schema.sql", "version2.sql")  # step i leads from version i to i + 1
    for number in range(version, SCHEMA_VERSION):
        script = resources.files(__package__).joinpath(steps[number]).read_text(encoding="utf-8")
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(script)
            connection.pragma("application_id", _APPLICATION_ID)
            connection.pragma("user_version", number + 1)
            connection.execute("COMMIT")
        except BaseException:  # whatever it was, also a cancellation: undone, then raised on
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
