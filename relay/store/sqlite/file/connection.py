"""Opens connections to the store's file: pragmas (asserted, not hoped for), schema version.

The writing connection is the only one that writes and checkpoints; readers are read-only. Whose the file is and who
may read it is settled before, in ``lock``.
"""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import apsw

from relay.core.errors import StoreUnusable
from relay.store.sqlite.file import checksums
from relay.store.sqlite.file.exchange import plan_of
from relay.store.sqlite.file.lock import APPLICATION_ID, foreign, not_a_database, unusable
from relay.store.sqlite.file.upgrade import SCHEMA_VERSION, copy_of, upgrade
from relay.store.sqlite.file.write_ahead import refuse_lost_commits

# Upper pages of all indexes at 1,000,000 pending, and what a group of 2,000 rows with random keys changes. Twice as
# much saves nothing that can be measured: the system has the file in its cache, and SQLite goes through its own at each
# commit (docs/performance.md).
_WRITER_CACHE_KIB = 16 * 1024
_READER_CACHE_KIB = 4 * 1024
_WAL_KEPT_BYTES = 64 * 1024 * 1024  # a longer WAL is cut to this after a checkpoint
_NO_ROOM_BYTES = 256 * 1024  # with less free than this a disk error is told as a full disk
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
    ("secure_delete", 1),  # what is deleted is overwritten: a payload leaves nothing behind in free pages
    ("temp_store", 2),  # small sorts of the writer stay in memory
)


def open_writer(path: Path, *, look: Callable[[apsw.Connection], object] | None = None) -> apsw.Connection:
    """Open the locked file for writing, checked and migrated; an empty one becomes a store.

    ``look`` may raise before anything of an older file is changed. Raises ``StoreUnusable``.
    """
    connection = _connect(path, apsw.SQLITE_OPEN_READWRITE)
    try:
        _refuse_foreign(connection, path)
        connection.set_busy_timeout(_BUSY_MS)
        if look is not None:
            # Closing would copy back the write-ahead log that a crash left; all stays where ``look`` raises.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            checksums.refuse_switched_off(connection, path)
            refuse_lost_commits(connection, path)
            look(connection)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        if connection.pragma("page_count") == 0:
            connection.pragma("page_size", checksums.PAGE_BYTES)
            checksums.make_room(connection)
            connection.pragma("auto_vacuum", 2)  # writes the first page, so it comes last
        elif checksums.are_in(connection) and not checksums.kept_by(connection):
            raise StoreUnusable(
                f"{path} has checksums of its pages, and this apsw came without cksumvfs, which keeps them; the "
                "wheel has it: pip install --force-reinstall apsw"
            )
        for name, wanted in _WRITER_PRAGMAS:
            connection.pragma(name, wanted)
            found = connection.pragma(name)
            if found != wanted:
                raise StoreUnusable(f"{path}: PRAGMA {name} is {found!r} where the relay needs {wanted!r}")
        upgrade(connection, path)
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    except BaseException:  # whatever it was, also a cancellation: undone, then raised on
        connection.close()
        raise
    return connection


def open_reader_connection(path: Path, *, passing: bool) -> apsw.Connection:
    """Open the database read-only, with or without a daemon on it; ``passing`` for a look that does not stay open.

    Raises ``StoreUnusable``, and ``PermissionError`` where it is not for this user to read.
    """
    if not path.exists():
        if plan_of(path).exists():
            raise StoreUnusable(
                f"{path} was being replaced when that was cut off; the next start of the relay finishes it"
            )
        raise StoreUnusable(f"{path} does not exist; the first `relay run` makes it")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    try:
        return _for_reading(path, str(path))
    except apsw.Error as error:
        wal = path.with_name(path.name + "-wal")
        if not passing or (wal.exists() and wal.stat().st_size):
            raise cannot_open(path, error) from error
    # SQLite needs room and permission for its side files even to read. The last daemon left nothing in them: without.
    try:
        return _for_reading(path, f"file:{quote(str(path))}?immutable=1")
    except apsw.Error as error:
        raise cannot_open(path, error) from error


def _for_reading(path: Path, name: str) -> apsw.Connection:
    connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("cache_size", -_READER_CACHE_KIB)
        _refuse_foreign(connection, path)
        checksums.refuse_switched_off(connection, path)
        version = connection.pragma("user_version")
        if version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{path} has schema version {version}; start the relay once on it, it migrates the file"
            )
    except BaseException:  # whatever it was: undone, then raised on
        connection.close()
        raise
    return connection


def _connect(path: Path, flags: int) -> apsw.Connection:
    try:
        return apsw.Connection(str(path), flags=flags)
    except apsw.Error as error:
        raise cannot_open(path, error) from error


def copy_back(connection: apsw.Connection) -> None:
    """Copy what is committed from the WAL into the database, as far as that is possible; end an open transaction."""
    with suppress(apsw.Error, OSError):  # what is not copied is still in the WAL, if that is still there
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def cannot_open(path: Path, error: apsw.Error) -> StoreUnusable:
    """Say why SQLite could not open or read ``path``, and what helps."""
    if isinstance(error, apsw.NotADBError):
        return not_a_database(path)
    if damage := checksums.damage(error):
        return StoreUnusable(
            f"{path} is damaged ({damage}); keep a copy of it and of its -wal, and put a backup in its place "
            "(docs/operations.md)"
        )
    if isinstance(error, apsw.FullError) or (
        isinstance(error, apsw.IOError | apsw.CantOpenError) and shutil.disk_usage(path.parent).free < _NO_ROOM_BYTES
    ):
        return unusable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if isinstance(error, apsw.ReadOnlyError):
        return StoreUnusable(f"{path} cannot be written; is it, its directory or its file system read-only?")
    return StoreUnusable(f"cannot open {path}: {error}")


def _refuse_foreign(connection: apsw.Connection, path: Path) -> None:
    version = connection.pragma("user_version")
    owner = connection.pragma("application_id")
    if owner != APPLICATION_ID and connection.pragma("page_count") > 0:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if owner or version or tables:
            raise foreign(path)
    if version > SCHEMA_VERSION:
        made_by = connection.execute("SELECT value FROM meta WHERE name = 'written_by'").get
        raise StoreUnusable(
            f"{path} has schema version {version}, written by relay {made_by}; this relay knows versions up to "
            f"{SCHEMA_VERSION}. Run relay {made_by} or newer on it, or point store.url to another file"
            f"{_or_a_copy(path)}"
        )


def _or_a_copy(path: Path) -> str:
    """Name the copy that the upgrade put aside, where this version can go on with it."""
    copy = copy_of(path, SCHEMA_VERSION)
    if not copy.exists():
        return ""
    return f", or to {copy}, a copy from before the upgrade: what was accepted or sent since is not in it"
