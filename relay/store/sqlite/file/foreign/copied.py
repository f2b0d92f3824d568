"""What a file tells that was copied from another store: whether that came to an end, and how hashes are made."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import apsw
import msgspec

from relay.core.errors import StoreUnusable
from relay.sealing.codec import NOBODY, Codec, Column
from relay.store.sqlite.file.names import OWN_WAY, SECRET_BYTES
from relay.store.sqlite.file.transaction import SET_META
from relay.store.transfer.hashes import HashWay

COPYING: Final = "copying"
"""Name in ``meta`` of where an unfinished copy into the file stands."""
COPIED: Final = "copied"
"""Name in ``meta`` of what says from what a copy came to its end."""
WAY: Final = "hashes"

_read_way = msgspec.msgpack.Decoder(HashWay).decode


def refuse_half(connection: apsw.Connection) -> None:
    """Raise ``StoreUnusable`` for a file into which a copy did not come to its end."""
    if half_copy(connection) is not None:
        raise StoreUnusable(f"{connection.filename} is half a copy: run `relay store copy` again with --resume")


def half_copy(connection: apsw.Connection, name: str = COPYING) -> bytes | None:
    """Return where an unfinished copy into the file stands, as it is kept under ``name``; None where there is none."""
    made = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'meta')").get
    found: bytes | None = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get if made else None
    return found


def keep_way(execute: Callable[..., Any], way: HashWay, codec: Codec | None) -> HashWay:
    """Have a file make hashes as the store that it goes on from; return how that is kept.

    A secret as long as a file's takes the place of its own.
    """
    kept = way.secret
    if kept is not None and len(kept) == SECRET_BYTES:
        execute(SET_META, ("secret", kept if codec is None else codec.seal(Column.SECRET, NOBODY, 0.0, 0, kept)))
        kept = None
    made = HashWay(way.way, kept, way.digest_bytes)
    execute(SET_META, (WAY, msgspec.msgpack.encode(made)))
    return made


def way_of(meta: Mapping[str, Any]) -> HashWay:
    """Return how hashes are made in a file."""
    return _read_way(meta[WAY]) if WAY in meta else OWN_WAY


def way_in(connection: apsw.Connection) -> HashWay:
    """Return how hashes are made in the file of a connection."""
    return way_of(dict(connection.execute("SELECT name, value FROM meta WHERE name = ?", (WAY,))))
