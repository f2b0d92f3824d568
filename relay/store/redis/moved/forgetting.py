"""Destroys in the history file of this host what operations of any host have forgotten.

Each host looks at the operations of the store when it prunes, once a minute. How far it has looked lies in its file:
so a host that was down, and a file that came out of a backup, catch up.
"""

from typing import Final

from relay.core.clock import Clock
from relay.store.redis.read.operation_head import filter_kept
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.write.operations import RedisOperations
from relay.store.transfer.history_file import HistoryFile

_FORGET: Final = "forget"
# An operation has its number before it is kept; of two that start at once the later one may be kept first.
_SURELY_KEPT_S: Final = 600.0


class ForgettingOn:
    """Goes on with what ``operations`` forget."""

    def __init__(self, link: ServerLink, keys: KeyNames, clock: Clock, operations: RedisOperations) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._operations = operations
        self._done: set[int] = set()  # of those behind what the file says

    async def catch_up(self, file: HistoryFile) -> bool:
        """Forget what operations that are finished have forgotten; once more is no harm.

        Returns whether that is all: no operation forgets any more.
        """
        last = int(await self._link.do("HGET", self._keys.shared("m"), "operations") or 0)
        if last <= file.forgotten_to:
            return True
        heads = await self._operations.after(file.forgotten_to)
        for head in heads:
            # While one is not finished, what it means may still be on its way from the server into the file.
            if head.action == _FORGET and head.finished_at is not None and head.number not in self._done:
                wanted = {**head.wanted, "key": None} if head.hashes else head.wanted
                many = await file.forget(filter_kept(wanted), head.hashes)
                if many:
                    await self._operations.forgotten_beside(head.number, file.host, many)
                self._done.add(head.number)
        surely_before, over = self._clock.now() - _SURELY_KEPT_S, 0
        for head in heads:
            if head.started_at > surely_before or (head.action == _FORGET and head.number not in self._done):
                break
            over = head.number
        if over:
            await file.looked_at(over)
            self._done = {number for number in self._done if number > over}
        return all(head.finished_at is not None for head in heads if head.action == _FORGET)
