"""The order center takes callbacks back; on any host."""

from collections.abc import Awaitable, Callable

from relay.core.clock import Clock
from relay.core.model import Cancelled
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags


class RedisCancelling:
    """Ends what is in no frozen batch, all that is asked for or nothing."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        *,
        script: Callable[[str], Script],
        find: Callable[[str], Awaitable[tuple[str, int] | None]],
        changed: Callable[[str, int], None],
        noted: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """``find(id)`` returns platform and sequence number of a callback.

        ``changed(platform, count)`` is told what became claimable, ``noted`` how many receipts are due.
        """
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._script = script
        self._find = find
        self._changed = changed
        self._noted = noted

    async def cancel(self, callback_id: str) -> Cancelled:
        """End one callback."""
        found = await self._find(callback_id)
        return Cancelled(why="unknown") if found is None else await self._cancel(found[0], found[1], "")

    async def cancel_key(self, platform: str, key: str) -> Cancelled:
        """End all that is pending of an ordering key."""
        if platform not in self._tags.names():
            return Cancelled()
        return await self._cancel(platform, "", self._keys.key_hash(platform, key))

    async def _cancel(self, platform: str, seq: int | str, key_hash: str) -> Cancelled:
        call = ServerCall(self._script("cancel"), self._keys.pair(platform), (repr(self._clock.now()), seq, key_hash))
        why, freed, seqs, noted = await self._link.one(call, durable=True)
        if freed:
            self._changed(platform, freed)
        await self._noted(platform, noted)
        return Cancelled([self._tags.told(platform, each) for each in seqs], why.decode())
