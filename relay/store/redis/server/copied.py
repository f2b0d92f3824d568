"""What a store tells that was copied from another one: whether that came to an end, and how hashes are made."""

from typing import Any, Final

import msgspec

from relay.core.errors import StoreUnusable
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.transfer.hashes import HashWay

COPYING: Final = "copying"
"""Holds where an unfinished copy into the store stands."""
COPIED: Final = "copied"
"""Says from what a copy came to its end."""
WAY: Final = "hashes"

_read_way = msgspec.msgpack.Decoder(HashWay).decode


async def refuse_half(link: ServerLink, keys: KeyNames) -> None:
    """Raise ``StoreUnusable`` for a store into which a copy did not come to its end."""
    if await link.do("EXISTS", keys.shared(COPYING)):
        raise StoreUnusable(
            f"the store under {keys.prefix}: is half a copy: run `relay store copy` again with --resume"
        )


async def refuse_nothing(link: ServerLink, keys: KeyNames) -> None:
    """Raise ``StoreUnusable`` where no store is, so that a wrong database is not copied as an empty one."""
    if not await link.do("EXISTS", keys.shared("schema")):
        raise StoreUnusable(
            f"under {keys.prefix}: is no relay's store: see which database the URL names, and give the "
            "configuration that has its store.prefix, with -c"
        )


async def copied_way(link: ServerLink, keys: KeyNames) -> HashWay | None:
    """Return how hashes are made in a store that was copied; None for every other one."""
    found: Any = await link.do("GET", keys.shared(WAY))
    return None if found is None else _read_way(found)
