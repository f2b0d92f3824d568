"""What the server tells its hosts: messages on channels, over one connection that is made again when it breaks.

A message may be lost, with the connection or before it stands. So a message only says that it is worth to look now;
whoever listens also looks now and then by itself. After each (re)connection every listener is told the empty text:
something may have been missed.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from relay.store.redis.server.link import BROKEN, ServerLink

_AGAIN_S: Final = 1.0


class Hearing:
    """Listens on the channels that were subscribed to before ``run``."""

    def __init__(self, link: ServerLink) -> None:
        self._link = link
        self._heard: dict[str, list[Callable[[str], None]]] = {}

    def subscribe(self, channel: str, heard: Callable[[str], None]) -> None:
        """Call ``heard(text)`` on the loop for each message on ``channel``."""
        self._heard.setdefault(channel, []).append(heard)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except BROKEN:  # the link's other calls tell of it
                await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        async with self._link.listening() as channels:
            await channels.subscribe(*self._heard)
            for heard in self._heard.values():
                for tell in heard:
                    tell("")
            async for message in channels.listen():
                if message["type"] == "message":
                    for tell in self._heard.get(message["channel"].decode(), ()):
                        tell(message["data"].decode())
