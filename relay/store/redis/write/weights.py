"""What callbacks weigh, read only where a platform counts more than requests."""

from collections.abc import Sequence
from typing import Any

from relay.store.redis.server.fields import BATCH, ROW, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.weighing import ItemWeight

_SEQS, _CONFIRM = BATCH.index("SEQS"), BATCH.index("CONFIRM")
_BYTES, _POINTS = ROW.index("BYTES"), ROW.index("POINTS")


def weight_of_head(member: bytes) -> ItemWeight:
    """Return what a callback in the queue weighs, by its entry there: ``seq:bytes:hash[:points]``."""
    _, size, _, *points = member.split(b":")
    return ItemWeight(int(size), int(points[0]) if points else 1)


async def frozen_weights(link: ServerLink, keys: KeyNames, platform: str, number: int) -> list[ItemWeight]:
    """Return what each callback of a frozen batch weighs; none of a read-back, which sends none."""
    packed = await link.do("HGET", keys.of(platform, "bt"), number)
    batch: Sequence[Any] = unpack(packed) if packed else ()
    if not batch or batch[_CONFIRM] or not batch[_SEQS]:
        return []
    rows = [unpack(row) for row in await link.do("HMGET", keys.of(platform, "r"), *batch[_SEQS]) if row]
    return [ItemWeight(row[_BYTES], _points(row)) for row in rows]


def _points(row: Sequence[Any]) -> int:
    found = row[_POINTS] if len(row) > _POINTS else False
    return 1 if found is False else int(found)
