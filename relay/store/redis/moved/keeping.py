"""The history of this host: what is copied into it before pruning, what leaves it, what is forgotten in it.

While its file cannot be written, nothing that ended is deleted on the server; all else goes on.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from relay.core.errors import InHistory, StoreAway, StoreFailed, StoreFull
from relay.core.model import Filter, StoreRules
from relay.store.redis.moved.forgetting import ForgettingOn
from relay.store.redis.moved.moving import Copies, Moving
from relay.store.redis.moved.reading_on import ReadingOn
from relay.store.redis.server.keys import KeyNames
from relay.store.transfer.hashes import HashWay
from relay.store.transfer.history_file import HistoryFile

_FORGET: Final = "forget"


class HistoryKeeping:
    """Keeps one file; ``told`` hears why it cannot be written, and None when it can be again."""

    def __init__(
        self,
        file: HistoryFile,
        reading: ReadingOn,
        moving: Moving,
        forgetting: ForgettingOn,
        keys: KeyNames,
        *,
        rules: Callable[[], StoreRules],
        told: Callable[[Exception | None], None],
    ) -> None:
        self.file = file
        self._reading = reading
        self._moving = moving
        self._forgetting = forgetting
        self._keys = keys
        self._rules = rules
        self._told = told
        self._keep_s = math.inf  # until it is known: nothing leaves the file
        self.failed: Exception | None = None
        self._failed_now: Exception | None = None  # why this round could not copy

    async def begin(self) -> None:
        """Use the hashes of the store, which is reached now. Raises ``StoreUnusable`` for a file of another one."""
        way = self._keys.own_way
        secret = self._keys.secret if way.secret is None else way.secret
        await self.file.belong_to(HashWay(way.way, secret, way.digest_bytes), numbered=self._keys.way is not None)

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
            found = await self._moving.copy(self.file, platforms, before, keep_s=self.keep_s)
        except StoreAway:
            raise
        except (StoreFailed, StoreFull) as error:
            self._failed_now = error
            self._tell(error)
            return Copies({}, more=False)  # the next round tries again
        return found

    async def catch_up(self) -> None:
        """Forget here what operations have forgotten; what cannot be written now is tried again by ``step``."""
        try:
            await self._forgetting.catch_up(self.file)
        except StoreAway:
            raise
        except (StoreFailed, StoreFull) as error:
            self._tell(error)

    async def refuse(self, action: str, wanted: Filter) -> None:
        """Raise ``InHistory`` where an operation names a callback that lies in the file, and not on the server."""
        if action == _FORGET or not wanted.ids:
            return
        for each in await self._reading.in_file(wanted.ids):
            raise InHistory(each, self.file.host)

    async def step(self) -> bool:
        """End a round: do one step of what the file needs; return whether there may be more."""
        failed, self._failed_now = self._failed_now, None
        more = False
        try:
            await self._forgetting.catch_up(self.file)
            more = await self.file.step(self.keep_s)
        except StoreAway:
            raise
        except (StoreFailed, StoreFull) as error:
            failed = error
        self._tell(failed)
        return more

    def _tell(self, failed: Exception | None) -> None:
        """Tell why the file cannot be written, or that it can be again: once each."""
        if (failed is None) != (self.failed is None):
            self._told(failed)
        self.failed = failed
