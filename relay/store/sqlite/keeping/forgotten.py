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


class _Told(NamedTuple):
    tag: int
    tombstones: list[tuple[str, str, float]]


def forgotten_since(store: Path, copy: Path, keys: KeySource | None) -> list[Forgotten] | None:
    """Return what ``store`` tells was forgotten after ``copy``, an older state of it, was made.

    An order that the copy does not hold is left out; nothing is found where the one is no copy of the other. None:
    ``store`` cannot be read. Raises ``StoreUnusable`` where the copy cannot, or ``keys`` are missing.
    """
    then = _told(copy)
    try:
        now = _told(store) if store.exists() else then
    except StoreUnusable:
        return None
    if now.tag != then.tag:
        return []
    found: list[Forgotten] = []
    for text, options, _ in (one for one in now.tombstones if one not in then.tombstones):
        reason = msgspec.json.decode(options, type=OperationOptions).reason
        found.append(Forgotten(msgspec.json.decode(text, type=Filter), reason if isinstance(reason, str) else ""))
    marks = {one.meant.key for one in found if one.meant.key is not None}
    orders = _orders(copy, keys, marks) if marks else {}
    return [
        one if one.meant.key is None else one._replace(meant=replace(one.meant, key=orders[one.meant.key]))
        for one in found
        if one.meant.key is None or one.meant.key in orders
    ]


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
