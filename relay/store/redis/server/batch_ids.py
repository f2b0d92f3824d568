"""Public ids of batches: they follow from number and platform, but for what was copied from another store."""

from collections.abc import Iterable, Mapping
from typing import Final

from relay.core.ids import encode_id, number_in
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.tags import PlatformTags

OTHERS: Final = "ba"
"""At each platform the ids that were given out elsewhere, by number."""


class BatchIds:
    """Tells ids of batches."""

    def __init__(self, link: ServerLink, keys: KeyNames, tags: PlatformTags) -> None:
        self._link = link
        self._keys = keys
        self._tags = tags

    async def of(self, platform: str, numbers: Iterable[int]) -> Mapping[int, str]:
        """Return the ids of a platform's batches."""
        asked = list(dict.fromkeys(numbers))
        tag = self._tags.known(platform)
        ids = {number: "b" + encode_id(number, tag) for number in asked}
        if self._keys.way is not None and asked:  # the store was copied
            kept = await self._link.do("HMGET", self._keys.of(platform, OTHERS), *asked)
            ids.update({number: text.decode() for number, text in zip(asked, kept, strict=True) if text is not None})
        return ids

    async def find(self, batch_id: str) -> tuple[str, int] | None:
        """Return platform and number of a batch."""
        if self._keys.way is not None:
            number, names = number_in(batch_id[1:]), list(self._tags.names())
            calls = [ServerCall(None, (), ("HGET", self._keys.of(name, OTHERS), number)) for name in names]
            kept = await self._link.run(calls) if calls else []
            for name, text in zip(names, kept, strict=True):
                if isinstance(text, bytes) and text.decode() == batch_id.upper().replace("B", "b", 1):
                    return name, number
        return self._tags.find(batch_id[1:])
