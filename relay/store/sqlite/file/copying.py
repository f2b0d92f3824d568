"""Copies of a store's file: made while a daemon runs, looked through before they are believed, put back in its place.

A copy is one state of the file, made by ``VACUUM INTO`` (https://www.sqlite.org/lang_vacuum.html): without free pages,
without a write-ahead log, and sealed as the file is. The daemon goes on accepting meanwhile.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw

from relay.core.errors import StoreUnusable
from relay.sealing.master_keys import DoesNotOpen, KeySource
from relay.store.sqlite.file import checksums
from relay.store.sqlite.file.connection import cannot_open, open_reader_connection
from relay.store.sqlite.file.exchange import SIDE_FILES, plan_of, put_in_place, synced
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.file.unlocking import SPAN, seals_for_reading
from relay.store.sqlite.file.write_ahead import refuse_lost_commits

_PENDING = "SELECT count(*) FROM callback WHERE state = 0"
_LAST = "SELECT value FROM meta WHERE name = 'last_at'"


class CopyFacts(NamedTuple):
    """What a copy holds."""

    pending: int  # callbacks that are sent, or sent again, when it is restored
    last_at: float  # it is what the store was then, on the relay clock
    size_bytes: int
    sealed: bool  # as a whole: False also while what was there before is still being sealed


def back_up(store: Path, target: Path, keys: KeySource | None) -> CopyFacts:
    """Copy ``store`` to the new file ``target``, mode 0600; return what it holds, once all of it was looked through.

    Raises ``StoreUnusable``: something lies there already, the copy cannot be made, or it is not sound. Then no file is
    left.
    """
    connection = open_reader_connection(store, passing=True)
    try:
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise StoreUnusable(f"{target} exists already; a backup takes the place of no file") from None
        except OSError as error:
            raise StoreUnusable(f"cannot make {target}: {error.strerror}") from error
        try:
            refuse_lost_commits(connection, store)
            checksums.make_room(connection)  # a copy has checksums, also of a store that has none
            connection.execute("VACUUM INTO ?", (str(target),))
            synced(target)
            synced(target.parent)
            return looked_through(target, keys)
        except BaseException as error:  # whatever it was: undone, then raised on
            target.unlink(missing_ok=True)
            if isinstance(error, apsw.Error):
                raise cannot_open(store if checksums.damage(error) else target, error) from error
            raise
    finally:
        connection.close()


def looked_through(copy: Path, keys: KeySource | None) -> CopyFacts:
    """Read all of a copy. Raises ``StoreUnusable`` where it is no store, damaged, or sealed with another key."""
    connection = open_reader_connection(copy, passing=True)
    try:
        damage = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(5)")]
        if damage != ["ok"]:
            raise StoreUnusable(f"{copy} is damaged: {'; '.join(damage)}")
        has_keys = bool(connection.execute("SELECT EXISTS (SELECT 1 FROM data_key)").get)
        if has_keys and keys is not None:
            seals_for_reading(connection, copy, keys)
        in_plain = connection.execute("SELECT EXISTS (SELECT 1 FROM meta WHERE name = ?)", (SPAN[0],)).get
        pending: int = connection.execute(_PENDING).get
        last_at: float = connection.execute(_LAST).get
        return CopyFacts(pending, last_at, copy.stat().st_size, has_keys and not in_plain)
    except DoesNotOpen as error:
        raise StoreUnusable(f"{copy}: {error}") from error
    except apsw.Error as error:
        raise cannot_open(copy, error) from error
    finally:
        connection.close()


def restore(
    copy: Path, store: Path, keys: KeySource | None, *, aside: str, change: Callable[[Path], object] | None = None
) -> tuple[CopyFacts, Path | None]:
    """Put ``copy`` in the place of ``store``, whose daemon must be down; what lay there is renamed with ``aside``.

    ``change`` is given the file that will be the store, and may open and change it: until it returns, the former store
    is in force. Returns what the store holds then, and where the former file is now. Raises ``StoreLocked``,
    ``StoreUnusable`` and what ``change`` raises; then nothing was changed.
    """
    facts = looked_through(copy, keys)
    lock = FileLock(store)
    coming = lock.path.with_name(lock.path.name + ".restoring")
    try:
        _remove(coming)  # what a restore that was killed left
        try:
            with open(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as made:
                with copy.open("rb") as source:
                    shutil.copyfileobj(source, made)
                made.flush()
                os.fsync(made.fileno())
        except OSError as error:
            raise StoreUnusable(f"cannot copy {copy}: {error.strerror}") from error
        if change is not None:
            change(coming)
            wal = coming.with_name(coming.name + "-wal")
            if wal.exists() and wal.stat().st_size:
                raise StoreUnusable(f"the write-ahead log of {coming} could not be emptied; is the disk full?")
            facts = looked_through(coming, keys)
        return facts, put_in_place(coming, lock.path, aside=aside)
    finally:
        if not plan_of(lock.path).exists():  # else it is needed still: a step failed, and the next start does it
            _remove(coming)
        lock.release()


def finish_exchange(store: Path) -> None:
    """Do what a restore or a salvage that was cut off has left. Raises ``StoreLocked`` and ``StoreUnusable``."""
    if plan_of(store).exists():
        FileLock(store).release()


def _remove(file: Path) -> None:
    """Remove a file, and what lies beside it when it was opened as a store."""
    for ending in ("", *SIDE_FILES, ".lock"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
