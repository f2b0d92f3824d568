"""Looks at many platforms by one script, so that an idle host sends few commands, however many platforms there are."""

from collections.abc import Container, Iterable, Iterator
from typing import Any, Final

from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import platform_script

_TOGETHER: Final = 400  # idle platforms in one script, which takes some three milliseconds for them
_BUSY: Final = 4  # times as long for one that has something to do


class Looks:
    """Runs scripts that only look and take the keys of any number of platforms."""

    def __init__(self, link: ServerLink, keys: KeyNames) -> None:
        self._link = link
        self._keys = keys

    async def at(self, names: Iterable[str], script: str, *, busy: Container[str] = ()) -> dict[str, Any]:
        """Return what ``script`` answers for each platform; ``busy`` are those that take longer."""
        looking = platform_script(script, flags=False)
        if self._link.cluster:  # a script there has the keys of one slot; those of a node share a pipeline
            listed = list(names)
            calls = [ServerCall(looking, self._keys.pair(name), ("0",)) for name in listed]
            answers = await self._link.run(calls)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return {name: answer[0] for name, answer in zip(listed, answers, strict=True)}
        found: dict[str, Any] = {}
        for part in _parts(list(names), busy):  # it may grow while the server is asked
            keys = [key for name in part for key in self._keys.pair(name)]
            found |= zip(part, await self._link.one(ServerCall(looking, keys, ("0",))), strict=True)
        return found


def _parts(names: Iterable[str], busy: Container[str]) -> Iterator[list[str]]:
    """Split platforms into what one short script may look at."""
    part: list[str] = []
    room = _TOGETHER
    for name in names:
        cost = _BUSY if name in busy else 1
        if cost > room:
            yield part
            part, room = [], _TOGETHER
        part.append(name)
        room -= cost
    if part:
        yield part
