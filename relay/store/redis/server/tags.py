"""The tag of each platform, which stands in the ids of its callbacks."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from relay.core.ids import TAG_BITS, decode_id, encode_id, encode_ids
from relay.store.redis.server.fields import pairs_of
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import script_of

# Names a platform once: answers its tag. No two platforms of a store have the same, so an id leads to its platform.
_NAME: Final = script_of(
    """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then return known end
for _, used in ipairs(redis.call('HVALS', KEYS[1])) do
  if used == ARGV[2] then return false end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
"""
)


class PlatformTags:
    """The platforms of a store, by name and by tag; new ones are named as they come."""

    def __init__(self, link: ServerLink, keys: KeyNames) -> None:
        self._link = link
        self._keys = keys
        self._tags: dict[str, int] = {}

    async def load(self) -> None:
        """Read the platforms that any host has named."""
        found = await self._link.do("HGETALL", self._keys.shared("platforms"))
        self._tags.update({name.decode(): int(tag) for name, tag in pairs_of(found)})

    async def name(self, platform: str) -> int:
        """Return a platform's tag."""
        while platform not in self._tags:
            tag = secrets.randbelow(1 << TAG_BITS)
            given = await self._link.one(ServerCall(_NAME, (self._keys.shared("platforms"),), (platform, tag)))
            if given is not None:
                self._tags[platform] = int(given)
        return self._tags[platform]

    def known(self, platform: str) -> int:
        """Return the tag of a platform that has been named."""
        return self._tags[platform]

    def names(self) -> Mapping[str, int]:
        """Return all platforms with their tags."""
        return self._tags

    def id_of(self, platform: str, seq: int) -> str:
        """Return a callback's public id."""
        return encode_id(seq, self._tags[platform])

    def ids_of(self, platform: str, seqs: Iterable[int]) -> list[str]:
        """Return the public ids of several callbacks."""
        return encode_ids(seqs, self._tags[platform])

    def told(self, platform: str, first: int | bytes) -> str:
        """Return the id of what is known: scripts answer its number, or the id that a spool gave out."""
        return first.decode() if isinstance(first, bytes) else self.id_of(platform, abs(first))

    def find(self, callback_id: str) -> tuple[str, int] | None:
        """Return the platform and sequence number in an id, or None."""
        for name, tag in self._tags.items():
            seq = decode_id(callback_id, tag)
            if seq is not None:
                return name, seq
        return None
