"""Opens all that a daemon needs of a store file, or nothing."""

from pathlib import Path

import apsw

from relay.core.clock import Clock
from relay.sealing.master_keys import KeySource
from relay.store.base import StoreEvents
from relay.store.sqlite.file.boot import StoreIdentity, boot
from relay.store.sqlite.file.connection import cannot_open, open_writer
from relay.store.sqlite.file.foreign.copied import refuse_half
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.file.unlocking import Unlocked, check_keys
from relay.store.sqlite.read.ledger import SqliteReader, open_reader


def open_all(
    path: Path, clock: Clock | None, keys: KeySource | None
) -> tuple[FileLock, apsw.Connection, StoreIdentity, SqliteReader]:
    """Lock the file, open it for writing and for reading, and read its identity; undone where any of it fails.

    ``keys`` are the master keys that it is sealed with. Raises ``StoreLocked``, ``StoreUnusable`` and
    ``KeysUnavailable``.
    """
    lock = FileLock(path)
    try:
        unlocked: list[Unlocked | None] = []

        def look(looked_at: apsw.Connection) -> None:
            refuse_half(looked_at)
            unlocked.append(check_keys(looked_at, lock.path, keys))

        connection = open_writer(lock.path, look=look)
        try:
            identity = boot(connection, clock, unlocked[0])
            reader = open_reader(lock.path, seals=identity.seals)
            lock.watch_wal()
        except apsw.Error as error:
            connection.close()
            raise cannot_open(lock.path, error) from error
        except BaseException:  # whatever it was, also a cancellation: undone, then raised on
            connection.close()
            raise
    except BaseException:  # whatever it was, also a cancellation: undone, then raised on
        lock.release()
        raise
    return lock, connection, identity, reader


def tell_opened(lock: FileLock, identity: StoreIdentity, events: StoreEvents) -> None:
    """Tell what was found in the place of the store, what the last process left undone, and of a clock in doubt."""
    if lock.exchanged:
        events.store_exchanged(path=str(lock.path))
    if lock.begun:
        events.store_begun(path=str(lock.path))
    for found in identity.cut_off:
        events.requests_cut_off(platform=found.platform, requests=found.requests, callbacks=found.callbacks)
    if identity.leap is not None:
        events.clock_ahead(seconds=identity.leap.ahead_s)
