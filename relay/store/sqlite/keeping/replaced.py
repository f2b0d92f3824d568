"""What a store that takes the place of another keeps of that: who put it there, and what was forgotten in the other."""

from collections.abc import Iterable
from pathlib import Path

import apsw

from relay.core.errors import StoreUnusable
from relay.core.raw import JsonObject, Record
from relay.store.sqlite.file.boot import clock_of
from relay.store.sqlite.file.connection import cannot_open, open_reader_connection, open_writer
from relay.store.sqlite.file.trail import append, begin_chain
from relay.store.sqlite.keeping.forgotten import Tombstone

_STONE = """
INSERT INTO operation (number, action, filter, options, matched, done, skipped, failed, started_at, finished_at)
SELECT coalesce(max(number), 0) + 1, 'forget', ?1, ?2, 0, 0, '{}', '[]', ?3, ?3 FROM operation
"""


def audit_head(store: Path) -> JsonObject:
    """Return number and hash of the newest audit record of a store, for the record of its replacement; else nothing."""
    if not store.exists():
        return {}
    try:
        connection = open_reader_connection(store, passing=True)
    except StoreUnusable:
        return {}
    try:
        count, found = connection.execute("SELECT count, hash FROM audit_head").get
    except (apsw.Error, TypeError):  # TypeError: there is none
        return {}
    finally:
        connection.close()
    return {"count": count, "hash": found}


def take_place(coming: Path, deed: Record, tombstones: Iterable[Tombstone]) -> None:
    """Keep in ``coming``, which nobody has open, that it replaces another store, and what was forgotten in that.

    Raises ``StoreUnusable``.
    """
    connection = open_writer(coming)
    try:
        with connection:
            connection.executemany(_STONE, tombstones)
            now = clock_of(dict(connection.execute("SELECT name, value FROM meta"))).now()
            begin_chain(connection, now)
            append(connection.execute, deed, now)
    except apsw.Error as error:
        raise cannot_open(coming, error) from error
    finally:
        connection.close()
