"""Pages of callbacks of the shared store, newest first over all platforms; however many there are, a few calls a page.

Each platform has its numbers in sets of its own. A page is merged from them as one merges sorted lines:

1. Ask all platforms at once for their next few numbers.
2. What is not below the lowest number of any platform that may have more is complete: take the newest of it.
3. Read those rows at once, keep what matches, and begin again until the page is full.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import structs

from relay.core.ids import written_id
from relay.core.model import Filter
from relay.store.redis.read.ledger import RedisReader, facts_of, matches, smallest_set
from relay.store.redis.server.fields import StoredRow, read_row
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import platform_script
from relay.store.redis.server.tags import PlatformTags
from relay.views.callback_view import ListedCallback

_FEW: Final = 32  # numbers asked of a platform at least
_TOGETHER: Final = 500  # rows read by one call: the loop is held up for some ten milliseconds
# A page looks at so many rows; where they hold too few matches it comes short, with a cursor to go on from.
_MOST_LOOKED_AT: Final = 10_000


class _Found(NamedTuple):
    """A row of a page."""

    seq: int
    platform: str
    row: StoredRow


class _Line:
    """What is known of the numbers of one platform."""

    def __init__(self, platform: str, below: float) -> None:
        self.platform = platform
        self.below = below  # what lies below is not known yet
        self.seqs: list[int] = []  # known and not looked at, newest first
        self.ended = False
        self.rows: dict[int, bytes] = {}  # those that came with the numbers


class Pages:
    """Lists callbacks; ``reader`` reads what belongs to them."""

    def __init__(self, link: ServerLink, keys: KeyNames, tags: PlatformTags, reader: RedisReader) -> None:
        self._link = link
        self._keys = keys
        self._tags = tags
        self._reader = reader

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first; the cursor is the last sequence number looked at.

        A page may come short, even empty, with a cursor: then matches are rare and the next page goes on looking.
        """
        below = math.inf if cursor is None else float(cursor)
        lines = [_Line(name, below) for name in await self._reader.meant(wanted)]
        ids = await self._named(lines, wanted.ids, below) if wanted.ids else None
        found: list[_Found] = []
        looked, last = 0, math.inf
        while len(found) <= limit and looked < _MOST_LOOKED_AT:
            rare = len(found) * 2 < looked
            taken = await self._next(lines, wanted, max(limit + 1 - len(found), _TOGETHER if rare else 0))
            if not taken:
                break
            looked += len(taken)
            last = taken[-1][0]
            found += await self._matching(taken, lines, wanted, ids)
        return await self._page(found, limit, None if all(line.ended and not line.seqs for line in lines) else last)

    async def there(self, ids: Iterable[tuple[str, str]]) -> set[str]:
        """Return those of the callbacks, each a platform and an id, that lie on the server."""
        asked: dict[str, list[str]] = {}
        for platform, each in ids:
            asked.setdefault(platform, []).append(each)
        seqs = await self._seqs(list(asked), list(dict.fromkeys(each for those in asked.values() for each in those)))
        asking = [name for name in asked if seqs[name]]
        scores = await self._reader.many(
            [("ZMSCORE", self._keys.of(name, "all"), *seqs[name].values()) for name in asking]
        )
        return {
            each
            for name, kept in zip(asking, scores, strict=True)
            for each, score in zip(seqs[name], kept, strict=True)
            if score is not None and each in asked[name]
        }

    async def _named(self, lines: Sequence[_Line], ids: Sequence[str], below: float) -> frozenset[int]:
        """Let lines hold what a filter names by ids, and return the numbers of it."""
        seqs = await self._seqs([line.platform for line in lines], ids)
        for line in lines:
            line.seqs = sorted({seq for seq in seqs[line.platform].values() if seq < below}, reverse=True)
            line.ended = True
        return frozenset(seq for found in seqs.values() for seq in found.values())

    async def _seqs(self, names: Sequence[str], ids: Sequence[str]) -> Mapping[str, dict[str, int]]:
        """Return by platform the numbers of those ids that are of it; a host's spool may have given an id out too."""
        seqs: dict[str, dict[str, int]] = {name: {} for name in names}
        others: list[str] = []
        for each in ids:
            place = self._tags.find(each)
            if place is None:
                others.append(each)
            elif place[0] in seqs:
                seqs[place[0]][each] = place[1]
        if others and names:
            written = [written_id(each) for each in others]
            told = await self._reader.many([("HMGET", self._keys.of(name, "al"), *written) for name in names])
            for name, kept in zip(names, told, strict=True):
                seqs[name].update((each, int(seq)) for each, seq in zip(others, kept, strict=True) if seq is not None)
        return seqs

    async def _next(self, lines: Sequence[_Line], wanted: Filter, many: int) -> list[tuple[int, str]]:
        """Take about so many of the next numbers, and all that are the same as the last; none: there are no more."""
        while True:
            lacking = [line for line in lines if not line.ended and not line.seqs]
            if lacking:
                await self._ask(lacking, wanted, min(max(_FEW, 2 * many // len(lacking)), _TOGETHER))
            floor = max((line.below for line in lines if not line.ended), default=-math.inf)
            known = sorted(((seq, line.platform) for line in lines for seq in line.seqs if seq >= floor), reverse=True)
            if known or all(line.ended for line in lines):
                break
        last = known[min(many, len(known)) - 1][0] if known else 0
        for line in lines:
            line.seqs = [seq for seq in line.seqs if seq < last]
        return [each for each in known if each[0] >= last]

    async def _ask(self, lines: Sequence[_Line], wanted: Filter, most: int) -> None:
        """Ask for the next numbers of these platforms."""
        if wanted.key is not None:
            await self._ask_of_key(lines, wanted.key)
            return
        name = smallest_set(wanted)
        found = await self._reader.many(
            [
                (
                    "ZREVRANGEBYSCORE",
                    self._keys.of(line.platform, name),
                    _bound(line.below, "("),
                    "-inf",
                    "LIMIT",
                    0,
                    most,
                )
                for line in lines
            ]
        )
        for line, seqs in zip(lines, found, strict=True):
            line.seqs = [int(seq) for seq in seqs]
            line.ended = len(seqs) < most
            line.below = line.seqs[-1] if seqs else line.below

    async def _ask_of_key(self, lines: Sequence[_Line], key: str) -> None:
        keyed = platform_script("keyed", flags=False)
        calls = [
            ServerCall(
                keyed,
                self._keys.pair(line.platform),
                ("0", self._keys.key_hash(line.platform, key), _bound(line.below), self._reader.step),
            )
            for line in lines
        ]
        for line, answer in zip(lines, await self._link.run(calls), strict=True):
            if isinstance(answer, Exception):
                raise answer
            floor, *found = answer
            pairs = zip(map(int, found[::2]), found[1::2], strict=True)
            line.rows = {seq: blob for seq, blob in pairs if int(floor) <= seq < line.below and blob}
            line.seqs = sorted(line.rows, reverse=True)
            line.below, line.ended = int(floor), int(floor) <= 0

    async def _matching(
        self, taken: Sequence[tuple[int, str]], lines: Sequence[_Line], wanted: Filter, ids: frozenset[int] | None
    ) -> list[_Found]:
        """Read rows; return those that match."""
        rows = {line.platform: line.rows for line in lines}
        seqs: dict[str, list[int]] = {}
        for seq, platform in taken:
            seqs.setdefault(platform, []).append(seq)
        asked = {name: [seq for seq in those if seq not in rows[name]] for name, those in seqs.items()}
        asking = [name for name, those in asked.items() if those]
        read = await self._reader.many([("HMGET", self._keys.of(name, "r"), *asked[name]) for name in asking])
        blobs = {name: dict(zip(asked[name], found, strict=True)) for name, found in zip(asking, read, strict=True)}
        found: list[_Found] = []
        for name, those in seqs.items():
            here = {**rows[name], **blobs.get(name, {})}
            parsed = [read_row(seq, here[seq]) for seq in those if here[seq] is not None]
            # What is sealed is opened only where it is needed.
            if wanted.key is None:
                parsed = [row for row in parsed if matches(row, wanted, ids)]
            await self._reader.open_rows(name, parsed)
            found += [_Found(row.seq, name, row) for row in parsed if matches(row, wanted, ids)]
        return sorted(found, key=lambda each: (-each.seq, each.platform))

    async def _page(
        self, found: Sequence[_Found], limit: int, looked_to: float | None
    ) -> tuple[list[ListedCallback], str | None]:
        """Return a page of what was found; ``looked_to``: the last number looked at, if there may be more."""
        more = len(found) > limit
        last = found[limit - 1].seq if more else 0
        shown = [each for each in found if each.seq >= last]  # platforms may have given out the same number
        rows: dict[str, list[StoredRow]] = {}
        for each in shown:
            rows.setdefault(each.platform, []).append(each.row)
        await self._reader.overlay(rows)
        numbers = await asyncio.gather(
            *(self._reader.batch_ids.of(name, [row.batch for row in those]) for name, those in rows.items())
        )
        ids = dict(zip(rows, numbers, strict=True))
        items = [
            ListedCallback(
                **structs.asdict(
                    facts_of(each.platform, self._tags.known(each.platform), each.row, ids[each.platform])
                ),
                attempts=each.row.attempts,
            )
            for each in shown
        ]
        if len(shown) < len(found):
            return items, str(last)
        return items, None if looked_to is None else str(int(looked_to))


def _bound(below: float, excluded: str = "") -> Any:
    return "+inf" if below == math.inf else f"{excluded}{int(below)}"
