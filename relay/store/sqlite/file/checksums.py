"""Checksums of pages: SQLite's own ``cksumvfs`` writes one at the end of each page, and compares it at each reading.

It is a layer between SQLite and the file (https://www.sqlite.org/cksumvfs.html), and comes with apsw. A page that was
changed behind SQLite's back is then an error wherever it is read: at a claim, by ``relay doctor``, by a backup.
A file has room for checksums from its first page on, or gets it by ``VACUUM INTO``: one that an earlier relay made has
none until it is backed up and restored. The write-ahead log has checksums of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import apsw
from apsw import sqlite_extra

from relay.core.errors import StoreDamaged, StoreUnusable

PAGE_BYTES = 4096
ROOM_BYTES = 8  # at the end of each page; with any other number the layer does nothing
HELD_REASON = "damaged: its page does not match its checksum"
"""Why a callback is held whose payload cannot be read."""

ROOM_AT = 20  # the byte of the first page that says how many are kept free at the end of each
_LAYER = "cksmvfs"
_STATE = "checksum_verification"


def _register() -> None:
    """Put the layer under all connections of this process.

    It stands on what is the default then. So it is done at the import, before a test puts a failing disk there.
    """
    try:
        with closing(apsw.Connection(":memory:")) as connection:
            sqlite_extra.load(connection, "cksumvfs")
    except (sqlite_extra.NotAvailable, apsw.ExtensionLoadingError):
        return  # an apsw that was built without it: ``kept_by`` says so of each connection


def damage(error: apsw.Error) -> str:
    """Say what is wrong with the file's content where ``error`` comes of that; else return an empty text."""
    if isinstance(error, apsw.CorruptError):
        return str(error)
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return "a page does not match its checksum"
    return ""


def as_damaged(error: Exception, rows: Sequence[int] = ()) -> StoreDamaged | None:
    """Return what tells of damaged content where ``error`` does; ``rows`` are the callbacks that were to be read."""
    if isinstance(error, StoreDamaged):
        return error
    # A read in a transaction that is to be rolled back once more has its error behind that one's.
    for one in (error, error.__context__):
        if isinstance(one, apsw.Error) and (found := damage(one)):
            told = "with the daemon down: relay restore BACKUP, or relay doctor --salvage"
            damaged = StoreDamaged(f"the store is damaged ({found}); {told}", rows)
            damaged.__cause__ = one
            return damaged
    return None


def make_room(connection: apsw.Connection) -> None:
    """Give the pages that ``connection`` will write into a new file their checksums, where it can."""
    if kept_by(connection):
        connection.reserve_bytes("main", ROOM_BYTES)


def kept_by(connection: apsw.Connection) -> bool:
    """Tell whether the layer lies under ``connection``: it keeps the checksums of a file that has them."""
    return connection.pragma(_STATE) is not None


def are_in(connection: apsw.Connection) -> bool:
    """Tell whether the file of ``connection`` has checksums."""
    return connection.reserve_bytes("main") == ROOM_BYTES


def switched_off(first: bytes) -> bool:
    """Tell whether the byte that says that there are checksums was changed: put right, it fits the page's own."""
    if len(first) < PAGE_BYTES or first[ROOM_AT] == ROOM_BYTES or _LAYER not in apsw.vfs_names():
        return False
    right = first[:ROOM_AT] + bytes((ROOM_BYTES,)) + first[ROOM_AT + 1 :]
    with closing(apsw.Connection(":memory:")) as connection:
        return bool(connection.execute("SELECT verify_checksum(?)", (right,)).get)


def refuse_switched_off(connection: apsw.Connection, path: Path) -> None:
    """Raise ``StoreUnusable`` where that byte was changed in the file of ``connection``: no damage would be noticed."""
    try:
        _, first = connection.read("main", 0, 0, PAGE_BYTES)
    except apsw.Error:
        return  # it has checksums, and this page is damaged: whoever reads it from the file is told
    if switched_off(first):
        raise StoreUnusable(
            f"{path} is damaged: byte {ROOM_AT} of it was changed, which switches the checksums of its pages off; "
            "relay doctor --salvage puts it right, or relay restore BACKUP"
        )


def mismatches(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the pages of a file whose checksum is not theirs, each with its number from 1. Nobody may write to it.

    Without the layer none can be compared, so none is yielded.
    """
    with closing(apsw.Connection(":memory:")) as connection, file.open("rb") as opened:
        if _LAYER not in apsw.vfs_names():
            return
        for number in count(1):
            page = opened.read(PAGE_BYTES)
            if len(page) < PAGE_BYTES:
                return
            if not connection.execute("SELECT verify_checksum(?)", (page,)).get:
                yield number, page


_register()
