"""Ordering keys that an operator holds back, in the shared store; done by the owner of the platform."""

from collections.abc import Callable

from relay.core.raw import Record
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.write.trail import RedisTrail


class RedisHeldKeys:
    """Implements ``relay.store.held_keys.HeldKeys``; the audit record is written before, in another slot."""

    def __init__(
        self,
        keys: KeyNames,
        owned: OwnedPlatforms,
        trail: RedisTrail,
        *,
        changed: Callable[[str, int], None],
    ) -> None:
        self._keys = keys
        self._owned = owned
        self._trail = trail
        self._changed = changed

    async def hold(self, platform: str, key: str, reason: str, *, deed: Record | None = None) -> int:
        """Claim nothing more of a key; return how many callbacks of it are pending."""
        await self._trail.append(deed)
        pending, _, _ = await self._call(platform, key, f"+{reason}")
        return pending

    async def release(self, platform: str, key: str, *, deed: Record | None = None) -> bool:
        """Let a key go on; return whether it was held."""
        await self._trail.append(deed)
        _, held, freed = await self._call(platform, key, "")
        if freed:
            self._changed(platform, freed)
        return bool(held)

    async def _call(self, platform: str, key: str, marked: str) -> list[int]:
        call = self._owned.call("hold", platform, self._keys.key_hash(platform, key), marked)
        found: list[int]
        (found,) = await self._owned.last.write(platform, [call])
        return found
