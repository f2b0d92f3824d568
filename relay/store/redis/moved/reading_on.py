"""Shows what lies on the server, and behind it what lies in the history file of this host.

A list has the callbacks on the server first, newest first, and then those of the file, newest first. A cursor that
begins with ``h`` goes on in the file.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from relay.core.errors import StoreAway, StoreFailed
from relay.core.model import Filter, State
from relay.store.redis.read.ledger import RedisReader
from relay.store.redis.read.pages import Pages
from relay.store.transfer.history_file import HistoryFile
from relay.views.callback_view import CallbackFacts, CallbackView, ListedCallback

_IN_FILE: Final = "h"
_NEWEST: Final = str(10**18 - 1)  # as a number of a callback: later than all


class ReadingOn:
    """Reads with ``reader`` and ``pages`` and, where ``file`` is set, in that."""

    def __init__(self, reader: RedisReader, pages: Pages) -> None:
        self.file: HistoryFile | None = None
        self._reader = reader
        self._pages = pages

    async def callback(self, callback_id: str, *, payload: bool) -> CallbackView | None:
        """Return one callback with its attempts, or None; one in the file also while the server is away."""
        away: StoreAway | None = None
        try:
            found = await self._reader.callback(callback_id, payload=payload)
        except StoreAway as error:
            found, away = None, error
        if found is None and self.file is not None:
            found = await self.file.callback(callback_id, payload=payload)
            if found is not None:
                found.history = self.file.host
        if found is None and away is not None:
            raise away
        return found

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page and the cursor of the next page or None."""
        items: list[ListedCallback] = []
        begun = cursor is not None and cursor.startswith(_IN_FILE)
        if not begun:
            items, after = await self._pages.callbacks(wanted, cursor=cursor, limit=limit)
            if after is not None:
                return items, after
        file = self.file
        if file is None or wanted.state == State.PENDING.word:
            return items, None
        below = cursor.removeprefix(_IN_FILE) if begun and cursor is not None else _NEWEST
        room = limit - len(items)
        try:
            moved, after = await file.callbacks(wanted, cursor=below, limit=max(room, 1))
        except StoreFailed:
            if not items:
                raise
            return items, _IN_FILE + below  # what lies on the server is shown; the next page tells what is wrong
        if room <= 0:  # only a look whether there is anything
            return items, None if not moved and after is None else _IN_FILE + _NEWEST
        there = await self._on_server(moved)
        shown = [each for each in moved if each.id not in there]
        for each in shown:
            each.history = file.host
        return [*items, *shown], None if after is None else _IN_FILE + after

    async def batch_members(self, batch_id: str, limit: int) -> list[str]:
        """Return the ids of callbacks that a batch carried."""
        found = await self._reader.batch_members(batch_id, limit)
        if found or self.file is None:
            return found
        return await self.file.batch_members(batch_id, limit=limit)

    async def in_file(self, ids: Sequence[str]) -> list[str]:
        """Return those of the ids whose callbacks lie in the file, and not on the server."""
        assert self.file is not None, "there is one"
        moved, _ = await self.file.callbacks(Filter(ids=tuple(ids)), cursor=None, limit=len(ids))
        there = await self._on_server(moved)
        return [each.id for each in moved if each.id not in there]

    async def on_server(self, ids: Collection[str]) -> frozenset[str]:
        """Return those of the callbacks in the file that lie on the server too."""
        assert self.file is not None, "there is one"
        moved, _ = await self.file.callbacks(Filter(ids=tuple(ids)), cursor=None, limit=len(ids))
        return frozenset(await self._on_server(moved))

    async def _on_server(self, moved: Iterable[CallbackFacts]) -> set[str]:
        """Return the ids of those that lie on the server too: a crash came before they were deleted there."""
        return await self._pages.there((each.platform, each.id) for each in moved)
