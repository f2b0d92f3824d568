"""Posts of the spool that cannot be brought in: damaged, changed, or in plain where all are sealed.

Each stays in the file and is left out from then on, so that those behind it drain. It was answered 202 and is not in
the store: a person is told, and the order center posts it again. So a repeat of it is accepted like a new post.
"""

from typing import Final

import apsw

_TABLE: Final = "CREATE TABLE IF NOT EXISTS aside (n INTEGER PRIMARY KEY, why TEXT) STRICT"


class Unbringable(Exception):
    """A post cannot be brought in; the message says why."""


class SetAside:
    """Those of one file, by their numbers; on the spool's thread, but for ``posts``."""

    def __init__(self, connection: apsw.Connection) -> None:
        connection.execute(_TABLE)
        self._connection = connection
        found: dict[int, str] = dict(connection.execute("SELECT n, why FROM aside ORDER BY n"))
        self.posts = {number: why for number, why in found.items() if why}
        self._brought_in = found.keys() - self.posts.keys()
        self._told = 0

    def add(self, number: int, why: str) -> None:
        """Leave a post out from now on; what it was known by is free again."""
        self._connection.execute("INSERT OR REPLACE INTO aside VALUES (?, ?)", (number, why))
        self._connection.execute("DELETE FROM known WHERE n = ?", (number,))
        self.posts = {**self.posts, number: why}

    def note_brought_in(self, number: int) -> None:
        """Leave out a post that lies in the store, and cannot be removed because the page beside it is damaged."""
        self._connection.execute("INSERT OR REPLACE INTO aside VALUES (?, '')", (number,))
        self._connection.execute("DELETE FROM known WHERE n = ?", (number,))
        self._brought_in.add(number)

    def __contains__(self, number: int) -> bool:
        """Tell whether a post is left out."""
        return number in self.posts or number in self._brought_in

    def untold(self) -> dict[int, str]:
        """Return those that this was not asked for before."""
        found = dict(list(self.posts.items())[self._told :])
        self._told = len(self.posts)
        return found
