"""The rows of a store that hosts share, for the process that compares: read page by page while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from relay.config.reading.server_urls import parse_server_url
from relay.core.clock import Clock
from relay.sealing.master_keys import KeySource
from relay.store.redis.opening import make_store, reach
from relay.store.redis.server.link import Durable
from relay.store.sent import SentCallback

_READING = Durable(aof=False, replicas=0)


class SharedRows:
    """Reads one store; it changes nothing."""

    def __init__(self, url: str, *, prefix: str, keys: KeySource | None) -> None:
        """Reach the server. Raises ``StoreAway``, ``StoreUnusable`` and ``KeysUnavailable``."""
        self._runner = asyncio.Runner()
        self._store = make_store(parse_server_url(url), prefix=prefix, durable=_READING, alone=False, source=keys)
        try:
            self._runner.run(reach(self._store))
        except BaseException:  # whatever it was: undone, then raised on
            self.close()
            raise

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self._store.clock

    def sent(self, platform: str) -> Iterator[SentCallback]:
        """Yield every callback of a platform, oldest first."""
        pages = self._store.sent_pages(platform)
        while page := self._runner.run(_next(pages)):
            yield from page

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._store.close())
        self._runner.close()


async def _next(pages: AsyncIterator[list[SentCallback]]) -> list[SentCallback]:
    return await anext(pages, [])
