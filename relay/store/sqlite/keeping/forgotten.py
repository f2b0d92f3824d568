"""What was forgotten after a backup was made: told by the store that the backup replaces, found again in the backup.

A restored backup holds it once more, with the keys that open it. What stays of a forgotten order is a hash of its
ordering key, so the ordering keys in the backup are hashed and compared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from relay.core.errors import StoreUnusable
from relay.core.model import Filter
from relay.sealing.codec import Column
from relay.sealing.master_keys import DoesNotOpen, KeySource
from relay.store.sqlite.file.connection import cannot_open, open_reader_connection
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.unlocking import seals_for_reading
from relay.views.operation_view import OperationOptions

_TOMBSTONES: Final = "SELECT filter, options, started_at FROM operation WHERE action = 'forget' ORDER BY number"
_TAG: Final = "SELECT value FROM meta WHERE name = 'tag'"
_KEYED: Final = """
SELECT c.seq, c.platform, c.key_text, p.body, coalesce(p.sealed, 0)
FROM callback AS c LEFT JOIN payload AS p ON p.seq = c.seq WHERE c.key IS NOT NULL
"""


class Forgotten(NamedTuple):
    """What was forgotten: a filter, and why."""

    meant: Filter
    reason: str


Tombstone = tuple[str, str, float]
"""What stays of a wish to forget: its filter and its options, as JSON, and when it was made."""


class ForgottenSince(NamedTuple):
    """What was forgotten since a copy was made."""

    again: list[Forgotten]  # what the copy may hold: it is to be forgotten in it too
    elsewhere: list[Tombstone]  # of orders that this copy does not hold, and another one may


NOTHING_SINCE: Final = ForgottenSince([], [])


class _Told(NamedTuple):
    tag: int
    tombstones: list[Tombstone]


def forgotten_since(store: Path, copy: Path, keys: KeySource | None) -> ForgottenSince | None:
    """Return what ``store`` tells was forgotten after ``copy``, an older state of it, was made.

    Nothing is found where the one is no copy of the other. None: ``store`` cannot be read. Raises ``StoreUnusable``
    where the copy cannot, or ``keys`` are missing.
    """
    then = _told(copy)
    try:
        now = _told(store) if store.exists() else then
    except StoreUnusable:
        return None
    if now.tag != then.tag:
        return NOTHING_SINCE
    new = [one for one in now.tombstones if one not in then.tombstones]
    meant = [msgspec.json.decode(text, type=Filter) for text, _, _ in new]
    marks = {one.key for one in meant if one.key is not None}
    orders = _orders(copy, keys, marks) if marks else {}
    found = ForgottenSince([], [])
    for wanted, stone in zip(meant, new, strict=True):
        if wanted.key is not None and wanted.key not in orders:
            found.elsewhere.append(stone)
            continue
        reason = msgspec.json.decode(stone[1], type=OperationOptions).reason
        key = None if wanted.key is None else orders[wanted.key]
        found.again.append(Forgotten(replace(wanted, key=key), reason if isinstance(reason, str) else ""))
    return found


def _told(path: Path) -> _Told:
    connection = open_reader_connection(path, passing=True)
    try:
        return _Told(connection.execute(_TAG).get, [tuple(row) for row in connection.execute(_TOMBSTONES)])
    except apsw.Error as error:
        raise cannot_open(path, error) from error
    finally:
        connection.close()


def _orders(copy: Path, keys: KeySource | None, marks: Iterable[str]) -> Mapping[str, str]:
    """Return which ordering keys in a copy the marks stand for."""
    wanted = set(marks)
    connection = open_reader_connection(copy, passing=True)
    try:
        seals = seals_for_reading(connection, copy, keys)
        if not seals.marks:
            raise StoreUnusable(
                f"{copy} is sealed, and orders were forgotten after it was made; give privacy.encrypt.key, so that "
                "they are forgotten again"
            )
        found: dict[str, str] = {}
        for row in connection.execute(_KEYED):
            key = _key(seals, *row)
            if key is not None and (mark := seals.mark(key)) in wanted:
                found[mark] = key
        return found
    except DoesNotOpen as error:
        raise StoreUnusable(f"{copy}: {error}") from error
    except apsw.Error as error:
        raise cannot_open(copy, error) from error
    finally:
        connection.close()


def _key(seals: Seals, seq: int, platform: int, kept: Any, body: bytes | None, sealed: int) -> str | None:
    """Return a callback's ordering key: as it is kept, or out of the payload that it was sealed with."""
    if kept is not None:
        text: str = seals.shown(Column.KEY, platform, seq, kept)
        return text
    return None if body is None else seals.body(platform, seq, body, sealed)[1]
