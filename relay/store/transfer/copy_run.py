"""Copies one store into another, step by step, and compares the two at the end.

1. The source says what it is, and refuses while something of it cannot be carried.
2. The target says how far an earlier copy from the same source came; else it must be empty.
3. Sections are carried platform by platform, some hundred records at a time. With each chunk the target keeps where
   it stands, so a copy that was cut off goes on behind its last chunk.
4. The source is as it was, else nothing comes of it. The target becomes a store. Both sides count, and whatever
   differs is named.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct, structs

from relay.core.errors import StoreUnusable
from relay.store.transfer.records import MINUTES, SECTIONS, SHARED, TOGETHER, CopyOrigin, NumberedRecord, Tally

STEP: Final = 100  # records in a chunk: what a script of the server takes in a few milliseconds


class CopyMark(Struct, frozen=True, kw_only=True):
    """Where a copy stands: everything up to record ``after`` of that section and platform is in the target."""

    identity: str
    section: str = ""
    platform: str = ""
    after: int = 0
    done: bool = False  # it came to its end


class CopySource(Protocol):
    """The store that is copied. Nothing of it is changed."""

    async def origin(self) -> CopyOrigin:
        """Return what it is. Raises ``StoreUnusable`` naming what must be settled before it can be copied."""
        ...

    async def read(self, section: str, platform: str, after: int, limit: int) -> Sequence[NumberedRecord]:
        """Return the next records of a section, behind number ``after``."""
        ...

    async def tally(self) -> dict[str, Tally]:
        """Count what each platform has. Raises ``StoreUnusable`` where a daemon came up meanwhile."""
        ...

    async def close(self) -> None:
        """Let the store go."""
        ...


class CopyTarget(Protocol):
    """The store that is filled. Until ``finish`` no daemon uses it."""

    async def begin(self, origin: CopyOrigin, *, resume: bool) -> CopyMark | None:
        """Make ready; return where an earlier copy stands. Raises ``StoreUnusable`` where it is not empty."""
        ...

    async def take(self, section: str, platform: str, records: Sequence[NumberedRecord], mark: CopyMark) -> None:
        """Write records and where the copy stands then. What is there already is left as it is."""
        ...

    async def finish(self, origin: CopyOrigin) -> None:
        """Make a store of it."""
        ...

    async def tally(self) -> dict[str, Tally]:
        """Count what each platform has."""
        ...

    async def close(self) -> None:
        """Let the store go."""
        ...


class CountDifference(NamedTuple):
    """What the two sides count differently."""

    platform: str
    what: str
    source: int
    target: int


class Copied(NamedTuple):
    """What a copy came to: both sides by platform, and where they differ."""

    source: dict[str, Tally]
    target: dict[str, Tally]

    @property
    def differences(self) -> list[CountDifference]:
        """Whatever is not the same on both sides."""
        nothing = dict.fromkeys(Tally.__struct_fields__, 0)
        found: list[CountDifference] = []
        for platform in sorted(self.source.keys() | self.target.keys()):
            mine, theirs = (
                nothing if platform not in side else structs.asdict(side[platform])
                for side in (self.source, self.target)
            )
            unlike = [what for what in nothing if mine[what] != theirs[what]]
            found += [CountDifference(platform, what, mine[what], theirs[what]) for what in unlike]
        return found


def steps(platforms: Sequence[str]) -> list[tuple[str, str]]:
    """Return section and platform of each step of a copy, in order."""
    own = [(section, platform) for section in SECTIONS for platform in platforms]
    shared = [(section, TOGETHER) for section in SHARED]
    return [*own, *shared, *((MINUTES, platform) for platform in (TOGETHER, *platforms))]


async def copy_store(
    source: CopySource, target: CopyTarget, *, resume: bool, told: Callable[[str, str, int], None]
) -> Copied:
    """Copy ``source`` into ``target``; ``told(section, platform, count)`` hears of each chunk.

    Raises ``StoreError``.
    """
    origin = await source.origin()
    mark = await target.begin(origin, resume=resume)
    if mark is not None:
        _same(mark, origin)
    if mark is not None and mark.done:  # only the comparison was cut off
        return Copied(await source.tally(), await target.tally())
    plan = steps(origin.platforms)
    begun = 0 if mark is None or not mark.section else plan.index((mark.section, mark.platform))
    for place, (section, platform) in enumerate(plan[begun:]):
        after = mark.after if mark is not None and mark.section and place == 0 else 0
        while records := await source.read(section, platform, after, STEP):
            after = records[-1].at
            stands = CopyMark(identity=origin.identity, section=section, platform=platform, after=after)
            await target.take(section, platform, records, stands)
            told(section, platform, len(records))
    _same(CopyMark(identity=origin.identity), await source.origin())  # a host may have come and gone meanwhile
    await target.finish(origin)
    return Copied(await source.tally(), await target.tally())


def _same(begun: CopyMark, now: CopyOrigin) -> None:
    if begun.identity != now.identity:
        raise StoreUnusable(
            "the source has changed since the copy began, or is another store: empty the target and begin again"
        )
