"""The order center takes callbacks back; on any host."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from relay.core.clock import Clock
from relay.core.errors import StoreAway
from relay.core.model import Cancelled
from relay.store.redis.server.fields import pairs_of, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags

_STEP: Final = 100  # callbacks in one script: a few milliseconds
_TOGETHER: Final = 10  # scripts in one pipeline, which the server writes to its file at once
_STALE_S: Final = 5.0  # a key whose first step was so long ago was left by whoever began


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
        if found is None:
            return Cancelled(why="unknown")
        platform, seq = found
        (answer,) = await self._run([self._call("cancel", platform, seq)])
        return await self._told(platform, [answer])

    async def cancel_key(self, platform: str, key: str) -> Cancelled:
        """End all that is pending of an ordering key; many take several steps, within which nothing of it is claimed.

        Raises ``StoreAway`` where a failover lost what had been done; and another look ends what was left undone.
        """
        if platform not in self._tags.names():
            return Cancelled()
        key_hash = self._keys.key_hash(platform, key)
        answers = await self._run([self._call("cancel_key", platform, key_hash, _STEP, 1)])
        if answers[0][4]:
            answers += await self._go_on(platform, key_hash)
            if answers[-1][0] == b"gone":
                raise StoreAway("the store was replaced while the key was taken back")
        return await self._told(platform, answers)

    async def finish(self, platform: str) -> None:
        """Take back what is left of keys for which a host or the server ended midway."""
        found = await self._link.do("HGETALL", self._keys.of(platform, "ck"))
        for key_hash, packed in pairs_of(found):
            if unpack(packed)[1] + _STALE_S <= self._clock.now():
                await self._told(platform, await self._go_on(platform, key_hash))

    async def _go_on(self, platform: str, key_hash: str | bytes) -> list[Any]:
        """Run the steps after the first one, and return their answers; the last one is that of the last step."""
        answers: list[Any] = []
        while not answers or answers[-1][4]:
            step = self._call("cancel_key", platform, key_hash, _STEP, "")
            for answer in await self._run([step] * _TOGETHER):
                answers.append(answer)
                if not answer[4]:
                    break
        return answers

    def _call(self, name: str, platform: str, *words: Any) -> ServerCall:
        return ServerCall(self._script(name), self._keys.pair(platform), (repr(self._clock.now()), *words))

    async def _run(self, calls: Sequence[ServerCall]) -> list[Any]:
        answers = await self._link.run(calls, durable=True)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _told(self, platform: str, answers: Sequence[Any]) -> Cancelled:
        """Tell of what ended who waits for it, and return it."""
        if freed := sum(answer[1] for answer in answers):
            self._changed(platform, freed)
        await self._noted(platform, sum(answer[3] for answer in answers))
        ids = [self._tags.told(platform, each) for answer in answers for each in answer[2]]
        return Cancelled(ids, answers[0][0].decode())
