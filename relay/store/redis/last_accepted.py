"""What this host accepted last, to count what a failover lost of it.

It looks when another server answers than the one that took them. Callbacks of the last minute are looked for: a replica
that is promoted is not further behind. Of each its number is kept, in 8 bytes, and the id where a spool gave it; of a
post without new callbacks nothing.
"""

from array import array
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.core.clock import elapsed_s
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.lineage import Lineage, goes_on
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.tags import PlatformTags

_KEPT_S: Final = 60.0
_SLICE_S: Final = 5.0  # what a platform accepted within it is kept, and forgotten, together
_MOST: Final = 600_000  # callbacks in all: 10,000 a second for a minute, which are 5 MB
_TOGETHER: Final = 1000  # numbers in one question: the server answers it in a millisecond
_REFUSED: Final = (b"B", b"C")
_ID_CHARS: Final = 15


class DrainedRows(NamedTuple):
    """Callbacks that came out of a spool: the numbers that a server gave them, and the ids that were told."""

    platform: str
    numbers: Sequence[int]
    ids: Sequence[str]
    server: Lineage


@dataclass(slots=True)
class _Slice:
    """The numbers that a platform gave out on one server within 5 s; ``ids`` where a spool had given others."""

    since_s: float
    platform: str
    server: Lineage
    spooled: bool
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    ids: bytearray = field(default_factory=bytearray)  # 15 characters for each number

    def named(self, gone: Collection[int], tags: PlatformTags) -> list[str]:
        """Return the ids of those that are gone, as they were told."""
        places = [place for place, number in enumerate(self.numbers) if number in gone]
        if self.spooled:
            return [self.ids[_ID_CHARS * place : _ID_CHARS * (place + 1)].decode() for place in places]
        return [tags.id_of(self.platform, self.numbers[place]) for place in places]

    def drop(self, gone: Collection[int]) -> None:
        """Forget those that are gone."""
        left = [place for place, number in enumerate(self.numbers) if number not in gone]
        ids = b"".join(self.ids[_ID_CHARS * place : _ID_CHARS * (place + 1)] for place in left)
        self.numbers, self.ids = array("q", [self.numbers[place] for place in left]), bytearray(ids)


class LastAccepted:
    """The callbacks of the last minute that this host was told are in the store, at most the last 600,000."""

    def __init__(
        self, link: ServerLink, keys: KeyNames, tags: PlatformTags, *, lost: Callable[[str, list[str]], None]
    ) -> None:
        """``lost(platform, ids)`` is told what the server does not have, by the ids that were given out."""
        self._link = link
        self._keys = keys
        self._tags = tags
        self._lost = lost
        self._slices: deque[_Slice] = deque()  # oldest first
        self._open: dict[tuple[str, bool], _Slice] = {}  # by platform, and whether a spool gave the ids: the newest
        self.kept = 0  # callbacks

    def note(self, platform: str, answers: Sequence[Sequence[int | bytes]], server: Lineage | None = None) -> None:
        """Note what a platform's scripts have just answered of each post.

        That is numbers; negative, or an id, for what was known before. Of a post that was refused it is a letter, and
        which row of it is why. ``server``: the one that answered, if it is not the one that was met last.
        """
        taken = (number for some in answers if some and some[0] not in _REFUSED for number in some)
        fresh = [number for number in taken if isinstance(number, int) and number > 0]
        if fresh:
            self._slice(platform, server or self.server(platform), spooled=False).numbers.extend(fresh)
            self._count(len(fresh))

    def note_drained(self, drained: DrainedRows) -> None:
        """Note callbacks that a spool has forgotten, by the ids that it had given them."""
        kept = self._slice(drained.platform, drained.server, spooled=True)
        kept.numbers.extend(drained.numbers)
        kept.ids += "".join(drained.ids).encode()
        self._count(len(drained.numbers))

    def _slice(self, platform: str, server: Lineage, *, spooled: bool) -> _Slice:
        now_s = elapsed_s()
        kept = self._open.get((platform, spooled))
        if kept is None or kept.since_s < now_s - _SLICE_S or kept.server != server:
            kept = self._open[platform, spooled] = _Slice(now_s, platform, server, spooled)
            self._slices.append(kept)
        return kept

    def _count(self, many: int) -> None:
        """Count callbacks that were noted, and forget the oldest where they are too old or too many."""
        self.kept += many
        over_s = elapsed_s() - _KEPT_S
        while len(self._slices) > 1 and (self._slices[0].since_s < over_s or self.kept > _MOST):
            first = self._slices.popleft()
            self.kept -= len(first.numbers)
            if self._open.get((first.platform, first.spooled)) is first:
                del self._open[first.platform, first.spooled]

    def lacks(self, platform: str, server: Lineage) -> bool:
        """Say whether another server answers for a platform now that may lack what ``server`` was the last to take."""
        now = self.server(platform)
        return bool(server.run_id and now.run_id) and not goes_on(server.text, now, aof=self._link.durable.aof)

    async def look(self) -> None:
        """Look for what was accepted at a server that another one replaced. Raises ``StoreAway``."""
        while True:
            moved = [each for each in self._slices if each.server.run_id != self.server(each.platform).run_id]
            if not moved:
                return
            platform, server = moved[0].platform, self.server(moved[0].platform)
            mine = [each for each in moved if each.platform == platform]
            asked = [each for each in mine if not goes_on(each.server.text, server, aof=self._link.durable.aof)]
            gone = frozenset(await self._missing(platform, [number for each in asked for number in each.numbers]))
            lost = [name for each in asked for name in each.named(gone, self._tags)] if gone else []
            for each in mine:
                each.server = server
                if gone:
                    each.drop(gone)
            if lost:
                self.kept = sum(len(each.numbers) for each in self._slices)
                self._lost(platform, lost)

    async def _missing(self, platform: str, numbers: list[int]) -> list[int]:
        missing: list[int] = []
        for first in range(0, len(numbers), _TOGETHER):
            some = numbers[first : first + _TOGETHER]
            found = await self._link.one(ServerCall(None, (), ("ZMSCORE", self._keys.of(platform, "all"), *some)))
            missing += [number for number, place in zip(some, found, strict=True) if place is None]
        return missing

    def server(self, platform: str) -> Lineage:
        """Return the server that was last met for a platform."""
        return self._link.lineage_at(self._keys.of(platform, ""))
