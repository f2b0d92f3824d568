"""Brings a store of an earlier version to this version's schema, after a copy of the file was put aside."""

import os
import shutil
from importlib import resources
from pathlib import Path

import apsw

from relay.core.errors import StoreUnusable
from relay.store.sqlite.file.lock import APPLICATION_ID

SCHEMA_VERSION = 16
_ROOM_TO_WORK_BYTES = 64 * 1024 * 1024  # what the steps themselves may write beside the copy
_PAGES_A_STEP = 4096


def upgrade(connection: apsw.Connection, path: Path) -> None:
    """Bring the schema to ``SCHEMA_VERSION`` in one transaction; an empty file gets it too.

    A store that holds something is copied first, to ``relay.db.schema4.bak`` where it has version 4: an older relay
    can go on with that copy. Copies that earlier upgrades left are removed once this one is through. Raises
    ``StoreUnusable`` where there is no room for the copy; nothing is changed then.
    """
    version = connection.pragma("user_version")
    if version == SCHEMA_VERSION:
        return
    copy = copy_of(path, version)
    if version:
        _put_aside(connection, path, copy)
    # Step i leads from version i to i + 1.
    steps = ("schema.sql", *(f"version{number}.sql" for number in range(2, SCHEMA_VERSION + 1)))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            connection.execute(resources.files(__package__).joinpath(step).read_text(encoding="utf-8"))
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("COMMIT")
    except BaseException:  # whatever it was, also a cancellation: undone, then raised on
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    for older in path.parent.glob(f"{path.name}.schema*.bak"):
        if older != copy:
            older.unlink()


def copy_of(path: Path, version: int) -> Path:
    """Return where the copy of a store lies that had schema ``version``: ``relay.db.schema4.bak``."""
    return path.with_name(f"{path.name}.schema{version}.bak")


def _put_aside(connection: apsw.Connection, path: Path, copy: Path) -> None:
    """Copy the store, with what its WAL holds, to ``copy``; only the whole copy gets that name."""
    needed = int(connection.pragma("page_count")) * int(connection.pragma("page_size")) + _ROOM_TO_WORK_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreUnusable(
            f"{path} has an earlier schema, and there is no room for a copy of it before it is changed: {needed:,} "
            f"bytes are needed in {path.parent}, {free:,} are free. Make room, or run the earlier relay on it"
        )
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    target = apsw.Connection(str(part))
    try:
        with target.backup("main", connection, "main") as running:
            while not running.done:
                running.step(_PAGES_A_STEP)
    finally:
        target.close()
    _sync(part)
    part.replace(copy)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
