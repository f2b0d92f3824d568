"""Notices a database put in the place of another one whose ``-wal`` still lies there, as by restoring a backup.

SQLite would copy that WAL's pages into the database: what was restored is then a mixture of both, or damaged
(https://www.sqlite.org/howtocorrupt.html, 1.4 and 2.5).
"""

from pathlib import Path
from urllib.parse import quote

import apsw


def lies_on_old_wal(path: Path) -> bool:
    """Tell whether the WAL beside ``path`` would change a database that was written after it.

    A relay that was killed leaves a WAL that is newer than its database, or one that is in the database already; only
    a crash in the middle of copying it looks the same as a restored file. Ask while no daemon runs.
    """
    try:
        database, wal = path.stat(), path.with_name(path.name + "-wal").stat()
    except FileNotFoundError:
        return False
    if not wal.st_size or database.st_ctime_ns <= wal.st_ctime_ns:
        return False
    return _content(path, "mode=ro") != _content(path, "immutable=1")  # immutable: as if there were no WAL


def _content(path: Path, how: str) -> list[object] | None:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(f"file:{quote(str(path))}?{how}", flags=flags)
        try:
            return [*connection.execute("SELECT * FROM meta"), *connection.execute("SELECT * FROM ledger")]
        finally:
            connection.close()
    except apsw.Error:
        return None  # not a whole database, seen so
