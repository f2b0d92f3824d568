"""What this host accepted last, to count what a failover lost of it.

It looks when another server answers than the one that took them. Callbacks of the last minute are looked for: a replica
that is promoted is not further behind.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.core.clock import elapsed_s
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.lineage import Lineage, goes_on
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.tags import PlatformTags

_KEPT_S: Final = 60.0
_TOGETHER: Final = 1000  # numbers in one question: the server answers it in a millisecond
_REFUSED: Final = (b"B", b"C")
_NO_OTHERS: Final[Mapping[int, str]] = {}


@dataclass(slots=True)
class _Taken:
    """What a platform's scripts answered of each post: numbers; negative, or an id, for what was known before.

    Of a post that was refused: a letter, and which row of it is why.
    """

    at_s: float
    platform: str
    server: Lineage
    numbers: Sequence[Sequence[int | bytes]]
    told: Mapping[int, str]  # other ids than those that follow from the numbers


class LastAccepted:
    """The callbacks of the last minute that this host was told are in the store."""

    def __init__(
        self, link: ServerLink, keys: KeyNames, tags: PlatformTags, *, lost: Callable[[str, list[str]], None]
    ) -> None:
        """``lost(platform, ids)`` is told what the server does not have, by the ids that were given out."""
        self._link = link
        self._keys = keys
        self._tags = tags
        self._lost = lost
        self._taken: deque[_Taken] = deque()

    def note(
        self,
        platform: str,
        numbers: Sequence[Sequence[int | bytes]],
        server: Lineage | None = None,
        told: Mapping[int, str] = _NO_OTHERS,
    ) -> None:
        """Note numbers that were just given out; ``server``: by that one, else by the one that was met last.

        ``told``: the ids of those that a spool had given an id before.
        """
        now_s = elapsed_s()
        while self._taken and self._taken[0].at_s < now_s - _KEPT_S:
            self._taken.popleft()
        self._taken.append(_Taken(now_s, platform, server or self.server(platform), numbers, told))

    def lacks(self, platform: str, server: Lineage) -> bool:
        """Say whether another server answers for a platform now that may lack what ``server`` was the last to take."""
        now = self.server(platform)
        return bool(server.run_id and now.run_id) and not goes_on(server.text, now, aof=self._link.durable.aof)

    async def look(self) -> None:
        """Look for what was accepted at a server that another one replaced. Raises ``StoreAway``."""
        while True:
            moved = [each for each in self._taken if each.server.run_id != self.server(each.platform).run_id]
            if not moved:
                return
            platform, server = moved[0].platform, self.server(moved[0].platform)
            mine = [each for each in moved if each.platform == platform]
            numbers = [
                number
                for each in mine
                if not goes_on(each.server.text, server, aof=self._link.durable.aof)
                for some in each.numbers
                for number in (() if some and some[0] in _REFUSED else some)
                if isinstance(number, int) and number > 0
            ]
            missing = await self._missing(platform, numbers) if numbers else []
            gone = frozenset(missing)
            for each in mine:
                each.server = server
                each.numbers = [[n for n in some if n not in gone] for some in each.numbers] if gone else each.numbers
            if missing:
                told = {number: name for each in mine for number, name in each.told.items()}
                self._lost(platform, [told.get(number) or self._tags.id_of(platform, number) for number in missing])

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
