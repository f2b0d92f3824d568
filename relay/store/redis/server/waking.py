"""Wakes the owner of a platform: another host accepted something for it, or freed something there.

The message says how many callbacks came. It is sent until the server has taken it. What the owner misses while it does
not listen is made good when it listens again, for then it looks at all its platforms (see ``hearing.py``). A host that
ends between its commit and the message tells nobody: so an owner looks at what is due whenever its figures are read.
"""

import asyncio
from collections import Counter
from typing import Final

from relay.core.errors import StoreFailed
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink

_AGAIN_S: Final = 0.5


class OwnersCall:
    """Tells the owners of platforms what came for them."""

    def __init__(self, link: ServerLink, keys: KeyNames) -> None:
        self._link = link
        self._keys = keys
        self._came: Counter[str] = Counter()
        self._telling: asyncio.Task[None] | None = None

    def tell(self, platform: str, count: int) -> None:
        """Tell the owner of a platform of ``count`` callbacks more; many at once are one message."""
        self._came[platform] += count
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="wake owners")

    async def _tell(self) -> None:
        while self._came:
            platform, count = next(iter(self._came.items()))
            del self._came[platform]
            try:
                await self._link.publish(self._keys.wake, f"{count} {platform}")
            except StoreFailed:
                self._came[platform] += count
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Say what is still to be said, if the server takes it soon."""
        if self._telling is not None and not self._telling.done():
            await asyncio.wait((self._telling,), timeout=_AGAIN_S)
            self._telling.cancel()


def told(text: str) -> tuple[str, int]:
    """Return the platform and the count of a message; no platform: something may have been missed at any."""
    count, _, platform = text.partition(" ")
    return platform, int(count) if platform else 0
