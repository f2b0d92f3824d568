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
from relay.store.redis.server.fields import pack, pairs_of, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import script_of
from relay.store.redis.server.tags import PlatformTags

_SECRET_BYTES: Final = 16
_GENERATIONS: Final = 4  # of master keys that are kept for their source
# KEYS: the data keys. ARGV: number and value of each. Writes those that are still there.
_KEEP_ANEW: Final = script_of(
    """
for place = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[place]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
  end
end
"""
)
# KEYS: what is kept for sealing. ARGV: what is kept for the newest master key, and for how many. Puts it first.
_KEEP_NEWEST: Final = script_of(
    """
local lines = { ARGV[1] }
for line in string.gmatch(redis.call('HGET', KEYS[1], 'kept') or '', '[^\\n]+') do
  if #lines < tonumber(ARGV[2]) then lines[#lines + 1] = line end
end
redis.call('HSET', KEYS[1], 'kept', table.concat(lines, '\\n'))
"""
)


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
        self._seen = ""  # what was kept for the master key in force

    async def unlock(self) -> None:
        """Take over the keys of the store, or make them. Raises ``StoreUnusable`` and ``KeysUnavailable``.

        A store is sealed from its first callback on, by every host: sealing what lies there already is for files.
        """
        secret = await self._link.do("HGET", self._keys.shared("sealing"), "secret")
        wrapped = await self.kept()
        if self.source is None:
            if secret is not None:
                used = ", ".join(sorted({key.master for key in wrapped}))
                raise StoreUnusable(
                    f"the store is sealed with the key {used}; give that key as privacy.encrypt.key: sealing of a "
                    "shared store is not switched off"
                )
            return
        if secret is None and await self._any_callback():
            raise StoreUnusable(
                "the store holds callbacks that are not sealed, and a shared store is sealed from its first callback "
                "on: set another store.prefix"
            )
        masters = await self.masters_of(self.source, used=[key.master for key in wrapped])
        codec = Codec(masters, wrapped)
        if secret is None:
            secret = await self._begin(codec)
        await self._take_missing(codec)
        self._keys.secret = codec.open(Column.SECRET, NOBODY, 0, secret)
        self.codec = codec

    async def masters_of(self, source: KeySource, *, used: Iterable[str]) -> MasterKeys:
        """Return the master keys of a source, with what it wants kept for them written before any is used.

        All hosts take the same: what the first one kept counts. Raises ``StoreUnusable`` where one of ``used`` is
        missing, and ``KeysUnavailable``.
        """
        kept = await self._kept_for_source()
        masters, keep = await asyncio.to_thread(source.keys, kept)
        missing = missing_keys(used, masters)
        if missing:
            raise StoreUnusable(f"the store {missing}")
        if keep is not None:
            await self._keep_first("kept", keep)
            kept = await self._kept_for_source()
            if kept != keep:  # another host was quicker
                masters, _ = await asyncio.to_thread(source.keys, kept)
        self._seen = (kept or "").partition("\n")[0]
        return masters

    async def _begin(self, codec: Codec) -> bytes:
        """Make the store's own key and secret, if no host was quicker; return the sealed secret."""
        await self._made(codec, NOBODY, 0)
        sealed = codec.seal(Column.SECRET, NOBODY, 0.0, 0, secrets.token_bytes(_SECRET_BYTES))
        await self._keep_first("secret", sealed)
        found: bytes = await self._link.do("HGET", self._keys.shared("sealing"), "secret")
        return found

    async def _keep_first(self, field: str, value: str | bytes) -> None:
        call = ("HSETNX", self._keys.shared("sealing"), field, value)
        await self._link.one(ServerCall(None, (), call), durable=True)

    async def _any_callback(self) -> bool:
        calls = [("EXISTS", self._keys.of(name, "r"), self._keys.of(name, "stg")) for name in self._tags.names()]
        answers = await self._link.run([ServerCall(None, (), call) for call in calls]) if calls else []
        return any(bool(answer) for answer in answers)

    async def kept(self) -> list[WrappedKey]:
        """Return the data keys that the store keeps."""
        found = await self._link.do("HGETALL", self._keys.shared("datakeys"))
        return [WrappedKey(int(number), *unpack(value)) for number, value in pairs_of(found)]

    async def keep(self, wrapped: Iterable[WrappedKey]) -> None:
        """Write data keys as they are wrapped now."""
        place = self._keys.shared("datakeys")
        calls = [ServerCall(None, (), ("HSET", place, key.id, pack(list(key[1:])))) for key in wrapped]
        if calls:
            await self._link.run(calls, durable=True)

    async def keep_anew(self, wrapped: Sequence[WrappedKey]) -> None:
        """Write data keys as they are wrapped now; one that another host destroyed meanwhile stays destroyed."""
        if wrapped:
            values = [text for key in wrapped for text in (key.id, pack(list(key[1:])))]
            await self._link.one(ServerCall(_KEEP_ANEW, (self._keys.shared("datakeys"),), values), durable=True)

    async def renew_master(self, codec: Codec) -> None:
        """Have the source make another master key, and seal with that from now on.

        What is kept for the former ones stays kept beside it: a crash may come before their data keys are wrapped
        anew, another host may still make some with them, and two hosts may be asked at once.
        """
        assert self.source is not None, "it is sealed"
        made, keep = await asyncio.to_thread(self.source.keys, None)
        args = (keep or "", _GENERATIONS)
        await self._link.one(ServerCall(_KEEP_NEWEST, (self._keys.shared("sealing"),), args), durable=True)
        codec.change(codec.masters.followed_by(made.current))
        self._seen = keep or ""

    async def _kept_for_source(self) -> str | None:
        kept = await self._link.do("HGET", self._keys.shared("sealing"), "kept")
        return None if kept is None else kept.decode()

    async def _follow_source(self, codec: Codec) -> None:
        """Take over the master keys that other hosts had made since."""
        if self.source is None or not self.source.renews:
            return
        kept = await self._kept_for_source()
        newest = (kept or "").partition("\n")[0]
        if newest and newest != self._seen:
            masters, _ = await asyncio.to_thread(self.source.keys, kept)
            codec.change(codec.masters.and_those_of(masters))
            self._seen = newest

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
        await self._follow_source(codec)
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
        missing = [wrapped for wrapped in await self.kept() if wrapped.id not in here]
        if any(codec.masters.get(wrapped.master) is None for wrapped in missing):
            await self._follow_source(codec)
        for wrapped in missing:
            if codec.masters.get(wrapped.master) is not None:
                codec.take(wrapped)

    async def refresh(self, codec: Codec) -> None:
        """Take over data keys as they are kept now: other hosts make some, wrap them anew, and destroy some."""
        kept = {key.id: key for key in await self.kept()}
        await self._follow_source(codec)  # after they were read: so the keys that wrap them are among those kept
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
