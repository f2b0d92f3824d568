"""The history of this host: what is copied into it before pruning, what leaves it, what is forgotten in it.

While its file cannot be opened or written, nothing that ended is deleted on the server; all else goes on. It is tried
again when the next round prunes, once a minute.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from relay.core.errors import StoreAway, StoreError, StoreFailed
from relay.core.model import Filter, StoreRules
from relay.sealing.master_keys import KeySource, KeysUnavailable
from relay.store.redis.moved.forgetting import ForgettingOn
from relay.store.redis.moved.moving import Copies, Moving
from relay.store.redis.moved.reading_on import ReadingOn
from relay.store.redis.moved.returning import MEANT, Returning
from relay.store.redis.server.keys import KeyNames
from relay.store.transfer.hashes import HashWay
from relay.store.transfer.history_file import HistoryFile

OpenHistory = Callable[[KeySource | None], Awaitable[HistoryFile]]
"""Opens the file, sealed where keys are given. Raises ``StoreError``, ``KeysUnavailable`` and ``OSError``."""

_FAILS: Final = (StoreError, KeysUnavailable, OSError)


class HistoryKeeping:
    """Keeps one file; ``told`` hears why it cannot be used, and None when it can be again."""

    def __init__(
        self,
        opens: OpenHistory,
        reading: ReadingOn,
        moving: Moving,
        forgetting: ForgettingOn,
        returning: Returning,
        keys: KeyNames,
        *,
        source: KeySource | None,
        rules: Callable[[], StoreRules],
        told: Callable[[Exception | None], None],
    ) -> None:
        self._opens = opens
        self._source = source
        self._reading = reading
        self._moving = moving
        self._forgetting = forgetting
        self._returning = returning
        self._keys = keys
        self._rules = rules
        self._told = told
        self._keep_s = math.inf  # until it is known: nothing leaves the file
        self._reached = False  # the server was, so the hashes of the store are known
        self._belongs = False  # the file finds ordering keys by them
        self._opening = asyncio.Lock()  # whoever comes second uses what the first one opened
        self.failed: Exception | None = None
        self._failed_now: Exception | None = None  # why this round could not copy
        self._not_there: frozenset[str] = frozenset()  # of what the file is not sure of: looked for in vain

    @property
    def file(self) -> HistoryFile | None:
        """The file; None: it cannot be opened."""
        return self._reading.file

    async def open(self) -> None:
        """Open the file and use the hashes of the store, once they are known; what fails is told, and tried again."""
        try:
            await self._ready()
        except StoreAway:
            raise
        except _FAILS as error:
            self._tell(error)

    async def begin(self) -> None:
        """Use the hashes of the store, which is reached now."""
        self._reached, self._belongs = True, False
        await self.open()

    async def _ready(self) -> HistoryFile | None:
        """Return the file where it can be used; None before the server was reached."""
        async with self._opening:
            if self._reading.file is None:
                self._reading.file = await self._opens(self._source)
                self._belongs = False
            if not self._reached:
                return None
            if not self._belongs:
                await self._join(self._reading.file)
                self._belongs = True
            return self._reading.file

    async def _join(self, file: HistoryFile) -> None:
        """Let the file find ordering keys by the hashes of the store, or close it."""
        way = self._keys.own_way
        secret = self._keys.secret if way.secret is None else way.secret
        try:
            await file.belong_to(HashWay(way.way, secret, way.digest_bytes), numbered=self._keys.way is not None)
        except StoreError:  # of another store: nothing of it is shown as if it were of this one
            self._reading.file = None
            await file.close()
            raise

    async def use(self, source: KeySource) -> None:
        """Take over the keys of another configuration."""
        self._source = source
        if self.file is not None:
            await self.file.use(source)

    async def rotate(self) -> None:
        """Wrap the data keys of the file anew."""
        if self.file is not None:
            await self.file.rotate()

    async def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            await self.file.close()

    @property
    def keep_s(self) -> float:
        """How long after its end a callback stays; switched off, the last value holds until the next start."""
        keep_s = self._rules().keep_history_s
        if keep_s is not None:
            self._keep_s = keep_s
        return self._keep_s

    async def copy(self, platforms: Sequence[str], before: Sequence[float]) -> Copies:
        """Copy one step of what ended before the two times; return what may be deleted on the server."""
        try:
            file = await self._ready()
            if file is None:
                return Copies({}, {}, more=False)
            found = await self._moving.copy(file, platforms, before, keep_s=self.keep_s)
        except StoreAway:
            raise
        except _FAILS as error:
            self._failed_now = error
            self._tell(error)
            return Copies({}, {}, more=False)  # the next round tries again
        return found

    async def copied(self, copies: Copies, gone: Mapping[str, Sequence[int]], *, whole: bool) -> None:
        """Note which of the copied rows were deleted on the server; where ``whole``, the others stay there alone."""
        file = self.file
        if file is None or not copies.ids:
            return
        went = {copies.ids[name, seq] for name, seqs in gone.items() for seq in seqs if (name, seq) in copies.ids}
        try:
            await file.confirm(went, set(copies.ids.values()) - went if whole else ())
        except _FAILS as error:
            self._failed_now = error

    async def _look_for_unsure(self, file: HistoryFile) -> None:
        """After a crash, or where the server was lost in mid-move: what lies there is deleted here."""
        unknown = file.unsure - self._not_there
        if unknown:
            there = await self._reading.on_server(unknown)
            await file.confirm((), there)
            self._not_there |= unknown - there  # deleted by this host or by another one: nobody can tell

    async def catch_up(self) -> None:
        """Forget here what operations have forgotten; what cannot be written now is tried again by ``step``."""
        try:
            file = await self._ready()
            if file is not None:
                await self._forgetting.catch_up(file)
        except StoreAway:
            raise
        except _FAILS as error:
            self._tell(error)

    async def bring_back(self, action: str, wanted: Filter, *, reorder: bool) -> None:
        """Bring what an operation names from the file back to the server. Raises ``InHistory`` for what must not."""
        file = self.file
        if action not in MEANT or not wanted.ids or file is None:
            return
        if moved := await self._reading.in_file(wanted.ids):
            if not await self._forgetting.catch_up(file):
                raise StoreFailed("what is being forgotten may not come back meanwhile: ask again when that is done")
            await self._returning.bring(file, action, moved, reorder=reorder)

    async def step(self) -> bool:
        """End a round: do one step of what the file needs; return whether there may be more."""
        failed, self._failed_now = self._failed_now, None
        more = False
        try:
            file = await self._ready()
            if file is not None:
                await self._look_for_unsure(file)
                await self._forgetting.catch_up(file)
                more = await file.step(self.keep_s)
        except StoreAway:
            raise
        except _FAILS as error:
            failed = error
        self._tell(failed)
        return more

    def _tell(self, failed: Exception | None) -> None:
        """Tell why the file cannot be used, or that it can be again: once each."""
        if (failed is None) != (self.failed is None):
            self._told(failed)
        self.failed = failed
