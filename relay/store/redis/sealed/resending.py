"""Resends what lies sealed: a value is bound to its row, so the new callback is sealed anew before it is accepted."""

from typing import Final

from relay.core.model import Lane, NewCallback, State
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.read.ledger import RedisReader
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.write.bulk import BulkPart, Bulks
from relay.store.redis.write.packing import packed_row
from relay.views.operation_view import OperationOptions

_FINAL: Final = (int(State.DELIVERED), int(State.DEAD), int(State.EXPIRED))


class SealedResends:
    """Does what ``operate.lua`` does in a store that is not sealed."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        owned: OwnedPlatforms,
        reader: RedisReader,
        bulks: Bulks,
        seals: RedisSeals,
    ) -> None:
        self._link = link
        self._keys = keys
        self._owned = owned
        self._reader = reader
        self._bulks = bulks
        self._seals = seals

    async def resend(self, number: int, platform: str, seq: int, options: OperationOptions) -> tuple[str | None, int]:
        """Queue a callback again for an operation; return why not, or None, and how many receipts are due."""
        rows = await self._reader.by_seq(platform, [seq])
        if not rows:
            return "gone", 0
        (row,) = rows
        if row.state not in _FINAL:
            return "state", 0
        kept = await self._link.do("HGET", self._keys.of(platform, "b"), seq)
        (body,) = await self._seals.open_bodies(platform, rows, [kept])
        if body is None:
            return "no_payload", 0
        if options.reorder is not True and await self._overtaken(platform, row.key, seq):
            return "overtaken", 0
        name = f"op{number}.{seq}"
        once = f"reconcile/{options.run or '-'}/{seq}"
        if await self._known(platform, name, once):
            return "resent", 0
        new = NewCallback(
            platform, body, row.key, row.event, Lane.REPLAY, options.expires_s or row.expires_s, once, row.content_type,
            row.traceparent, row.group, body_bytes=row.bytes, reference=row.reference,
        )  # fmt: skip
        part = BulkPart(platform)
        part.add(packed_row(self._keys, new), new.payload, 0)
        firsts = await self._bulks.accept_named(name, [part])
        noted = 0
        if row.state != State.DELIVERED:
            call = self._owned.call("supersede", platform, seq, "", "resent", firsts[platform])
            noted = await self._link.one(call, durable=True)
        await self._bulks.forget(name)
        return None, noted

    async def _known(self, platform: str, name: str, once: str) -> bool:
        """Say whether an earlier operation of the run did it; this one, cut off, goes on."""
        if await self._link.do("HEXISTS", self._keys.shared("commits"), name):
            return False
        return bool(
            await self._link.do("HEXISTS", self._keys.of(platform, "dd"), self._keys.idempotency_hash(platform, once))
        )

    async def _overtaken(self, platform: str, key: str | None, seq: int) -> bool:
        """Say whether a newer callback of the key was delivered."""
        if key is None:
            return False
        begin = self._keys.key_hash(platform, key).encode()
        after = b"(" + begin + b"D" + seq.to_bytes(8, "big")
        found = await self._link.do(
            "ZRANGEBYLEX", self._keys.of(platform, "f"), after, b"(" + begin + b"E", "LIMIT", 0, 1
        )
        return bool(found)
