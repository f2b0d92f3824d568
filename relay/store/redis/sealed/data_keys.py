"""The data keys that all hosts of a store share, wrapped by the master key of the configuration.

``sealing`` (a hash in no platform's slot) holds the sealed secret that hashes are keyed with, and what a KMS gave us to
keep; ``datakeys`` each data key by its number. A host makes a data key when it needs one, for a platform and a day, and
writes it durably before it seals anything with it. One that another host made is read when a value names it.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from relay.core.errors import StoreUnusable
from relay.sealing.codec import DAY_S, NOBODY, Codec, Column, WrappedKey
from relay.sealing.master_keys import KeySource, MasterKeys
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.tags import PlatformTags

_SECRET_BYTES: Final = 16


class SharedDataKeys:
    """Holds the codec: None while nothing is sealed."""

    def __init__(self, link: ServerLink, keys: KeyNames, tags: PlatformTags, source: KeySource | None) -> None:
        """``source``: where the master keys come from; None where ``privacy.encrypt`` is not set."""
        self.codec: Codec | None = None
        self.source = source
        self._link = link
        self._keys = keys
        self._tags = tags
        self._making = asyncio.Lock()

    async def unlock(self) -> None:
        """Take over the keys of the store, or make them. Raises ``StoreUnusable`` and ``KeysUnavailable``.

        A store is sealed from its first callback on, by every host: sealing what lies there already is for files.
        """
        secret, kept = await self._link.do("HMGET", self._keys.shared("sealing"), "secret", "kept")
        wrapped = await self.kept()
        if self.source is None:
            if secret is not None:
                used = ", ".join(sorted({key.master for key in wrapped}))
                raise StoreUnusable(
                    f"the store is sealed with the key {used}; give that key as privacy.encrypt.key: sealing of a "
                    "shared store is not switched off"
                )
            return
        masters, keep = await asyncio.to_thread(self.source.keys, None if kept is None else kept.decode())
        missing = missing_keys((key.master for key in wrapped), masters)
        if missing:
            raise StoreUnusable(f"the store {missing}")
        codec = Codec(masters, wrapped)
        if secret is None:
            secret = await self._begin(codec, keep)
        await self._take_missing(codec)
        self._keys.secret = codec.open(Column.SECRET, NOBODY, 0, secret)
        self.codec = codec

    async def _begin(self, codec: Codec, keep: str | None) -> bytes:
        """Make the store's own key and secret, if no host was quicker; return the sealed secret."""
        if await self._any_callback():
            raise StoreUnusable(
                "the store holds callbacks that are not sealed, and a shared store is sealed from its first callback "
                "on: set another store.prefix"
            )
        await self._made(codec, NOBODY, 0)
        sealed = codec.seal(Column.SECRET, NOBODY, 0.0, 0, secrets.token_bytes(_SECRET_BYTES))
        place = self._keys.shared("sealing")
        calls = [("HSETNX", place, "secret", sealed), *([("HSETNX", place, "kept", keep)] if keep else [])]
        await self._link.run([ServerCall(None, (), call) for call in calls], durable=True)
        found: bytes = await self._link.do("HGET", place, "secret")
        return found

    async def _any_callback(self) -> bool:
        calls = [("EXISTS", self._keys.of(name, "r"), self._keys.of(name, "stg")) for name in self._tags.names()]
        answers = await self._link.run([ServerCall(None, (), call) for call in calls]) if calls else []
        return any(bool(answer) for answer in answers)

    async def kept(self) -> list[WrappedKey]:
        """Return the data keys that the store keeps."""
        found = await self._link.do("HGETALL", self._keys.shared("datakeys"))
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return [WrappedKey(int(number), *unpack(value)) for number, value in pairs]

    async def keep(self, wrapped: Iterable[WrappedKey]) -> None:
        """Write data keys as they are wrapped now."""
        place = self._keys.shared("datakeys")
        calls = [ServerCall(None, (), ("HSET", place, key.id, pack(list(key[1:])))) for key in wrapped]
        if calls:
            await self._link.run(calls, durable=True)

    async def keep_for_source(self, keep: str | None) -> None:
        """Keep what a KMS wants kept."""
        if keep is not None:
            await self._link.one(
                ServerCall(None, (), ("HSET", self._keys.shared("sealing"), "kept", keep)), durable=True
            )

    async def forget(self, numbers: Sequence[int]) -> None:
        """Destroy data keys: what they sealed opens no more."""
        if numbers and self.codec is not None:
            call = ServerCall(None, (), ("HDEL", self._keys.shared("datakeys"), *numbers))
            await self._link.one(call, durable=True)
            self.codec.drop(numbers)

    async def number_of(self, platform: str) -> int:
        """Return the number by which a platform's data keys are told apart."""
        return await self._tags.name(platform) + 1

    async def ready(self, codec: Codec, platform: int, at: float, count: int) -> None:
        """See that there is a data key for so many values of a platform and the day of ``at``."""
        if codec.lacks(platform, at, count):
            async with self._making:
                if codec.lacks(platform, at, count):
                    await self._made(codec, platform, 0 if platform == NOBODY else int(at // DAY_S))

    async def _made(self, codec: Codec, platform: int, day: int) -> None:
        number = int(await self._link.do("HINCRBY", self._keys.shared("m"), "datakeys", 1))
        made = codec.make(number, platform, day)
        await self.keep([made])
        codec.take(made)

    async def known(self, codec: Codec, sealed: Iterable[bytes]) -> None:
        """Read the data keys that values name and that are not here: other hosts made them."""
        if not codec.knows(sealed):
            await self._take_missing(codec)

    async def _take_missing(self, codec: Codec) -> None:
        here = {key.id for key in codec.kept}
        for wrapped in await self.kept():
            if wrapped.id not in here and codec.masters.get(wrapped.master) is not None:
                codec.take(wrapped)

    async def refresh(self, codec: Codec) -> None:
        """Take over data keys as they are kept now: other hosts make some, wrap them anew, and destroy some."""
        kept = {key.id: key for key in await self.kept()}
        here = {key.id for key in codec.kept}
        codec.drop(here - kept.keys())
        codec.rewrapped(kept[number] for number in here & kept.keys())
        await self._take_missing(codec)

    async def uses(self) -> Counter[str]:
        """Return how many data keys each master key wraps."""
        return Counter(key.master for key in await self.kept())


def missing_keys(used: Iterable[str], masters: MasterKeys) -> str:
    """Say which keys in use are not among ``masters``; empty if all are."""
    missing = sorted({key for key in used if masters.get(key) is None})
    if not missing:
        return ""
    return (
        f"is sealed with the key {', '.join(missing)}, and privacy.encrypt has {', '.join(masters.ids)}; "
        "give the missing key as privacy.encrypt.key, or under privacy.encrypt.previous"
    )
