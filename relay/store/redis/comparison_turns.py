"""Whose turn a comparison is: that of the platform's owner, once for each time.

An owner that began and is gone is followed by the next one, which begins again.
"""

from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.server.link import ServerLink


class SharedTurns:
    """Keeps, with the platform, which comparison was begun last, by which owner, and whether it is done."""

    def __init__(self, link: ServerLink, owned: OwnedPlatforms) -> None:
        self._link = link
        self._owned = owned

    def mine(self, platform: str) -> bool:
        """Say whether this host compares a platform: it owns it."""
        return self._owned.owns(platform)

    async def begin(self, platform: str, at: float) -> bool:
        """Take the turn of the time ``at``; False where it was taken. Raises ``Fenced`` and ``StoreFailed``."""
        call = self._owned.call("compare", platform, repr(at), 0)
        return bool(await self._link.one(call, durable=True))

    async def done(self, platform: str, at: float) -> None:
        """Say that the comparison of that time has ended. Raises ``Fenced`` and ``StoreFailed``."""
        await self._link.one(self._owned.call("compare", platform, repr(at), 1), durable=True)
