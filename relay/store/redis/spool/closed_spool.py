"""Looks into a spool that no host has open: what waits there, and what cannot be brought in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from relay.core.errors import StoreUnusable
from relay.store.redis.spool.spool_file import APPLICATION_ID


def left_in(path: Path) -> int:
    """Return how many posts wait in a spool; 0 where there is none. Raises ``StoreUnusable``."""
    with _opened(path) as connection:
        if connection is None:
            return 0
        left_out = "WHERE n NOT IN (SELECT n FROM aside)" if _has_aside(connection) else ""
        return int(connection.execute(f"SELECT count(*) FROM entry {left_out}").get)  # noqa: S608 - of the line above


def aside_in(path: Path) -> dict[int, str]:
    """Return the posts that are set aside in a spool, by their numbers, and why. Raises ``StoreUnusable``."""
    with _opened(path) as connection:
        if connection is None or not _has_aside(connection):
            return {}
        return dict(connection.execute("SELECT n, why FROM aside WHERE why <> '' ORDER BY n"))


def _has_aside(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'aside'").get)


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection | None]:
    if not path.exists():
        yield None
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            ours = connection.execute("PRAGMA application_id").get == APPLICATION_ID
            yield connection if ours else None
        finally:
            connection.close()
    except apsw.Error as error:
        raise StoreUnusable(f"store.spool.path: {path} cannot be read: {error}") from error
