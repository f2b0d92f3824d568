"""The posts that wait in a spool, in their order; one that cannot be brought in is set aside when it is met."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from relay.core.errors import StoreUnusable
from relay.store.redis.server.fields import unpack
from relay.store.redis.spool.set_aside import SetAside, Unbringable
from relay.store.redis.spool.spool_seal import CHANGED, SpoolSeal, sum_of

_ONE: Final = "SELECT at, packed, sealed, sum FROM entry WHERE n = ?"
_NUMBERS: Final = "SELECT n FROM entry WHERE n >= ? AND n NOT IN (SELECT n FROM aside) ORDER BY n LIMIT ?"
_SOME: Final = 500  # numbers that are looked up at once
NEXT: Final = "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'entry'"


class SpoolRow(NamedTuple):
    """One callback as it waits: its id, its platform, what the scripts are given, and its payload."""

    id: str
    platform: str
    packed: list[Any]
    body: bytes


class SpoolEntry(NamedTuple):
    """One post as it waits. ``key`` and ``digest``: of a routed post that has a key."""

    n: int
    at: float
    key: str
    digest: str
    rows: list[SpoolRow]
    size: int  # bytes in the file


class WaitingPosts:
    """Those of one file; on the spool's thread."""

    def __init__(self, connection: apsw.Connection, seal: SpoolSeal, aside: SetAside) -> None:
        self._connection = connection
        self._seal = seal
        self._aside = aside
        self._low = 0  # nothing waits before this number

    def in_order(self) -> Iterator[SpoolEntry]:
        """Yield all, the oldest first."""
        low = self._low
        first = True
        while numbers := self._numbers(low):
            for number in numbers:
                if (entry := self.get(number)) is not None:
                    if first:
                        self._low = number
                        first = False
                    yield entry
            low = numbers[-1] + 1

    def get(self, number: int) -> SpoolEntry | None:
        """Return the post with a number. None: there is none, or it is set aside."""
        if number in self._aside:
            return None
        try:
            return self._read(number)
        except Unbringable as found:
            self._aside.add(number, str(found))
            return None

    def _numbers(self, low: int) -> list[int]:
        """Return some numbers from ``low`` on; where the file is damaged there, one that may be of no post."""
        try:
            return [number for (number,) in self._connection.execute(_NUMBERS, (low, _SOME))]
        except apsw.CorruptError:
            return [low] if low < self._connection.execute(NEXT).get else []

    def _read(self, number: int) -> SpoolEntry | None:
        try:
            row = self._connection.execute(_ONE, (number,)).fetchone()
        except apsw.CorruptError as error:
            raise Unbringable(f"it cannot be read: {error}") from error
        if row is None:
            return None
        at, packed, sealed, kept_sum = row
        if not sealed and kept_sum not in (None, sum_of(number, packed)):
            raise Unbringable(CHANGED)
        try:
            key, digest, rows = unpack(self._seal.open(number, packed, sealed))
            return SpoolEntry(number, at, key, digest, [SpoolRow(*each) for each in rows], len(packed))
        except (StoreUnusable, msgspec.DecodeError, TypeError, ValueError) as error:
            raise Unbringable(str(error)) from error
