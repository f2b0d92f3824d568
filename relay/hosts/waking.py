"""Tells the owner of a platform that callbacks for it were accepted on another host.

One message tells all that came since the message before it, so a busy host sends few. A message that is lost is made
good by the next one, or by the look after a connection was made again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from relay.core.errors import StoreError
from relay.hosts.errands import Publishing

_AGAIN_S = 0.5  # after a message that could not be sent


class Waking:
    """One host's side. ``channel`` is that of all hosts; ``changed`` tells a pipeline of so many callbacks more."""

    def __init__(
        self,
        publishing: Publishing,
        *,
        channel: str,
        runs: Callable[[str], bool],
        running: Callable[[], Iterable[str]],
        changed: Callable[[str, int], None],
    ) -> None:
        self._publishing = publishing
        self.channel = channel
        self._runs = runs
        self._running = running
        self._changed = changed
        self._untold: Counter[str] = Counter()
        self._telling: asyncio.Task[None] | None = None

    def accepted(self, platform: str, count: int) -> None:
        """Take note of what this host accepted; the store calls it for every platform."""
        if not count or self._runs(platform):
            return
        self._untold[platform] += count
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell(), name="wake others")

    def heard(self, text: str) -> None:
        """Wake the pipelines that a message is about; after a (re)connection all of them."""
        if not text:
            for platform in list(self._running()):
                self._changed(platform, 0)
            return
        for platform, count in msgspec.json.decode(text, type=dict[str, int]).items():
            if self._runs(platform):
                self._changed(platform, count)

    async def _tell(self) -> None:
        try:
            while self._untold:
                told, self._untold = self._untold, Counter()
                try:
                    await self._publishing.publish(self.channel, msgspec.json.encode(dict(told)).decode())
                except StoreError:  # the store tells of it
                    self._untold.update(told)
                    await asyncio.sleep(_AGAIN_S)
        finally:
            self._telling = None

    async def close(self) -> None:
        """Tell nothing more."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
