"""Reads all callbacks of a platform, for comparing them with what the platform shows."""

from collections.abc import AsyncIterator
from typing import Final

from relay.core.model import State
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import read_row
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.server.tags import PlatformTags
from relay.store.sent import SentCallback

_PAGE: Final = 500


async def sent_pages(
    link: ServerLink, keys: KeyNames, tags: PlatformTags, seals: RedisSeals, platform: str
) -> AsyncIterator[list[SentCallback]]:
    """Yield pages of the callbacks of ``platform``, oldest first."""
    tag, after = await tags.name(platform), 0
    while True:
        found = await link.do("ZRANGEBYSCORE", keys.of(platform, "all"), f"({after}", "+inf", "LIMIT", 0, _PAGE)
        if not found:
            return
        seqs = [int(seq) for seq in found]
        packed = await link.do("HMGET", keys.of(platform, "r"), *seqs)
        bodies = await link.do("HMGET", keys.of(platform, "b"), *seqs)
        after = seqs[-1]
        kept = [place for place, blob in enumerate(packed) if blob is not None]  # some may be pruned meanwhile
        if not kept:
            continue
        rows = [read_row(seqs[place], packed[place]) for place in kept]
        await seals.open_rows(platform, rows)
        opened = await seals.open_bodies(platform, rows, [bodies[place] for place in kept])
        yield [
            SentCallback(
                row.seq,
                row.public_id(tag),
                row.key,
                row.event,
                State(row.state).word,
                row.held,
                row.ended_at or row.due_at,
                row.reason,
                body,
            )
            for row, body in zip(rows, opened, strict=True)
        ]
