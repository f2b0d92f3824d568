"""Seals and opens what the shared store keeps of callbacks. Without keys everything passes through as it is.

A sealed text is an array of one string, so it is never taken for a text that somebody posted. What binds a value is the
number of its row; so numbers are reserved, or guessed, before rows are sealed and accepted.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from relay.core.clock import Clock
from relay.sealing.codec import DAY_S, Codec, Column
from relay.store.redis.sealed.data_keys import SharedDataKeys
from relay.store.redis.server.fields import StoredRow
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.write.packing import IDEMPOTENCY_KEY, KEY, NUMBER, REFERENCE, PackedRow

SEAL_BROKEN: Final = "sealed: does not open"
"""Why a callback is held whose payload does not open."""
UNREADABLE: Final = "(sealed: does not open)"
"""Stands for a text that does not open."""

_DAY_US: Final = DAY_S * 1_000_000
_ASKS_S: Final = 1.0
_STEP: Final = 200  # rows that are sealed without letting others go on
_TEXTS: Final = ((KEY, Column.KEY), (REFERENCE, Column.REFERENCE), (IDEMPOTENCY_KEY, Column.IDEMPOTENCY_KEY))


class RedisSeals:
    """Seals rows on their way in, opens them on their way out."""

    def __init__(
        self,
        data_keys: SharedDataKeys,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        *,
        script: Callable[[str], Script],
    ) -> None:
        self.data_keys = data_keys
        self._link = link
        self._keys = keys
        self._clock = clock
        self._script = script
        self._last: dict[str, int] = {}  # the highest number that was given here, by platform
        self._asks_until: dict[str, float] = {}

    @property
    def on(self) -> bool:
        """Whether anything is sealed."""
        return self.data_keys.codec is not None

    async def seal(self, platform: str, rows: Sequence[PackedRow], bodies: list[bytes], *, guess: bool = False) -> None:
        """Number and seal packed rows and their payloads in place; those that are sealed already stay as they are.

        Numbers are reserved first. ``guess``: they are guessed, and written negative; the script that accepts the rows
        refuses them where others were quicker. That saves a round trip, and a sync of the server's disk, for each post.
        """
        codec = self.data_keys.codec
        if codec is None:
            return
        fresh = [place for place, row in enumerate(rows) if row[NUMBER] is False]
        if not fresh:
            return
        number = await self.data_keys.number_of(platform)
        guess = guess and self._clock.now() >= self._asks_until.get(platform, 0.0)
        first = await self._first(platform, len(fresh), guess=guess)
        for numbered in (first, first + len(fresh) - 1):  # they may reach over midnight
            await self.data_keys.ready(codec, number, numbered / 1e6, 4 * len(fresh))
        for seqs in _parts(range(first, first + len(fresh))):
            part = fresh[seqs.start - first : seqs.stop - first]
            self._seal(codec, number, seqs, [rows[place] for place in part], bodies, part)
            for seq, place in zip(seqs, part, strict=True):
                rows[place][NUMBER] = -seq if guess else seq
            if seqs.start > first:
                await asyncio.sleep(0)

    def _seal(
        self, codec: Codec, number: int, seqs: range, rows: Sequence[PackedRow], bodies: list[bytes],
        places: Sequence[int],
    ) -> None:  # fmt: skip
        at = seqs.start / 1e6
        sealed = codec.seal_rows(Column.BODY, number, at, seqs, [bodies[place] for place in places])
        for place, body in zip(places, sealed, strict=True):
            bodies[place] = body
        for place, column in _TEXTS:
            texts = [(seq, row) for seq, row in zip(seqs, rows, strict=True) if row[place]]
            plain = [str(row[place]).encode("utf-8", "surrogatepass") for _, row in texts]
            found = codec.seal_rows(column, number, at, [seq for seq, _ in texts], plain)
            for (_, row), value in zip(texts, found, strict=True):
                row[place] = _text(value)

    async def _first(self, platform: str, count: int, *, guess: bool) -> int:
        """Return the first of so many numbers of a platform, one after the other."""
        now = self._clock.now()
        first = max(self._last.get(platform, 0) + 1, int(now * 1e6))
        if not guess:
            args = (repr(now), count)
            first = await self._link.one(ServerCall(self._script("number"), self._keys.pair(platform), args))
        self._last[platform] = first + count - 1
        return first

    def guessed_wrong(self, platform: str) -> None:
        """Have numbers of a platform reserved for a while: other hosts accept for it too."""
        self._asks_until[platform] = self._clock.now() + _ASKS_S

    async def texts(self, column: Column, platform: str, numbers: Sequence[int], text: str) -> list[Any]:
        """Return a text sealed for each of the rows or attempts with these numbers; an empty one stays as it is."""
        codec = self.data_keys.codec
        if codec is None or not text:
            return [text] * len(numbers)
        number = await self.data_keys.number_of(platform)
        plain, sealed = text.encode("utf-8", "surrogatepass"), []
        for one in numbers:
            await self.data_keys.ready(codec, number, one / 1e6, 1)
            sealed.append(_text(codec.seal(column, number, one / 1e6, one, plain)))
        return sealed

    async def own_text(self, column: Column, platform_number: int, row: int, text: str) -> Any:
        """Return a text sealed with the store's own key, or that of a platform's number; an empty one as it is."""
        codec = self.data_keys.codec
        if codec is None or not text:
            return text
        await self.data_keys.ready(codec, platform_number, 0.0, 1)
        return _text(codec.seal(column, platform_number, 0.0, row, text.encode("utf-8", "surrogatepass")))

    async def shown(self, column: Column, platform_number: int, row: int, kept: Any) -> Any:
        """Return a kept text as it was; what was not sealed is returned as it is."""
        if not isinstance(kept, list):
            return kept
        codec = self.data_keys.codec
        if codec is None:
            return UNREADABLE
        value = b64decode(kept[0])
        await self.data_keys.known(codec, (value,))
        (text,) = codec.open_rows(column, platform_number, (row,), (value,))
        return UNREADABLE if text is None else text.decode("utf-8", "surrogatepass")

    async def open_rows(self, platform: str, rows: Sequence[StoredRow]) -> None:
        """Open the texts of rows in place."""
        if not self.on:
            return
        number = await self.data_keys.number_of(platform)
        for name, column in (("key", Column.KEY), ("reference", Column.REFERENCE), ("message", Column.MESSAGE)):
            sealed = [row for row in rows if isinstance(getattr(row, name), list)]
            values = [b64decode(getattr(row, name)[0]) for row in sealed]
            found = await self._opened(column, number, [row.seq for row in sealed], values)
            for row, text in zip(sealed, found, strict=True):
                setattr(row, name, UNREADABLE if text is None else text.decode("utf-8", "surrogatepass"))

    async def open_bodies(self, platform: str, rows: Sequence[StoredRow], bodies: Sequence[bytes | None]) -> list[Any]:
        """Return payloads; None is one that is not kept or does not open: a plain one in a sealed store is not ours."""
        if not self.on:
            return list(bodies)
        number = await self.data_keys.number_of(platform)
        places = [place for place, row in enumerate(rows) if row.sealed and bodies[place] is not None]
        values = [bodies[place] or b"" for place in places]
        found = await self._opened(Column.BODY, number, [rows[place].seq for place in places], values)
        opened: list[Any] = [None] * len(rows)
        for place, text in zip(places, found, strict=True):
            opened[place] = text
        return opened

    async def _opened(
        self, column: Column, number: int, seqs: Sequence[int], values: Sequence[bytes]
    ) -> Sequence[bytes | None]:
        codec = self.data_keys.codec
        if codec is None or not values:
            return []
        await self.data_keys.known(codec, values)
        return codec.open_rows(column, number, seqs, values)


def _parts(seqs: range) -> Iterator[range]:
    """Yield numbers in parts of at most ``_STEP``, each within one day: so the data key is that of each one's day."""
    start = seqs.start
    while start < seqs.stop:
        stop = min(seqs.stop, start + _STEP, (start // _DAY_US + 1) * _DAY_US)
        yield range(start, stop)
        start = stop


def _text(sealed: bytes) -> list[str]:
    return [b64encode(sealed).decode()]
