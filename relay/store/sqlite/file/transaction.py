"""What one group commit carries: the connection, the time, the totals it changes, and what follows its end."""

from array import array
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

import apsw

T = TypeVar("T")

SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
"""Keeps a fact about the file under its name."""
# A total's change is bound as platform * 2^32 + change + 2^31, so that all platforms go in one bound array.
_CHANGE_BITS = 32
_CHANGE_BIAS = 1 << 31
# The pages that each post writes to: the last ones of callbacks, of payloads and of the totals.
_WRITTEN = "SELECT (SELECT max(seq) FROM callback), (SELECT max(seq) FROM payload), (SELECT max(platform) FROM ledger)"


def numbers(values: Iterable[int]) -> Any:
    """Bind integers as one table ``carray(?)`` with columns ``rowid`` (from 1) and ``value``; never empty."""
    return apsw.carray(array("q", values))


class Transaction:
    """One group commit while it runs. Used by the writer thread only."""

    __slots__ = ("_totals", "connection", "execute", "now", "on_commit", "on_rollback", "rows", "wakes")

    def __init__(self, connection: apsw.Connection, now: float) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.now = now
        self.rows = 0  # callbacks accepted, claimed or settled, for the commit metric
        self.wakes: dict[str, int] = {}  # platform -> callbacks accepted or freed for it
        self.on_commit: list[Callable[[], object]] = []
        self.on_rollback: list[Callable[[], object]] = []
        self._totals: dict[str, dict[int, int]] = {}

    def count(self, platform: int, total: str, change: int) -> None:
        """Change a durable total; all changes of a group are written by one statement per total."""
        if change:
            changes = self._totals.setdefault(total, {})
            changes[platform] = changes.get(platform, 0) + change

    def wake(self, platform: str, count: int) -> None:
        """Tell the watcher after the commit that the platform has ``count`` more to do."""
        self.wakes[platform] = self.wakes.get(platform, 0) + count

    def write_totals(self) -> None:
        """Write what ``count`` gathered."""
        for total, changes in self._totals.items():
            packed = [(platform << _CHANGE_BITS) + change + _CHANGE_BIAS for platform, change in changes.items()]
            self.execute(
                # The column's name comes from this package's code, never from outside.
                f"UPDATE ledger SET {total} = {total} + (delta.value & 4294967295) - 2147483648 "  # noqa: S608
                "FROM carray(?) AS delta WHERE ledger.platform = delta.value >> 32",
                (numbers(packed),),
            )
        self._totals = {}


class Writes(Protocol):
    """Runs a function inside the next transaction of the writing thread."""

    def __call__(self, run: Callable[[Transaction], T]) -> Awaitable[T]:
        """Return what ``run`` returns, once that is committed. Raises ``StoreFailed``."""


def try_out(transaction: Transaction) -> None:
    """Write something small, and read what each post writes to: where that is damaged, no post can be accepted."""
    transaction.execute("UPDATE meta SET value = ? WHERE name = 'last_at'", (transaction.now,))
    transaction.execute(_WRITTEN).fetchall()
