"""Reads the callbacks of a platform for a copy: rows, what requests under way change in them, their hashes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from relay.core.errors import StoreUnusable
from relay.core.ids import encode_id
from relay.core.model import State
from relay.sealing.codec import Column
from relay.store.redis.sealed.row_seals import UNREADABLE, RedisSeals
from relay.store.redis.server.batch_ids import BatchIds
from relay.store.redis.server.fields import BATCH, ROW, StoredRow, read_attempt, read_row, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.write.packing import DIGEST
from relay.store.transfer.hashes import digest_bytes
from relay.store.transfer.records import CallbackRecord

_PLACE: Final = {name: place for place, name in enumerate(ROW)}
_OF_BATCH: Final = {name: place for place, name in enumerate(BATCH)}


class _Beside(NamedTuple):
    """What lies beside the row of a callback, under other keys of its platform."""

    payload: bytes | None
    opens: bool  # False: there is a payload, and it does not open
    batches: list[str]  # that carried it, oldest first
    frozen: bool
    under_way_since: float  # 0: no request is under way with it
    digest: bytes
    newer: bytes | None  # the id of what stands for it, where that is of another store


class CallbacksOut:
    """Reads with ``do``, which runs one plain command."""

    def __init__(
        self,
        do: Callable[..., Awaitable[Any]],
        keys: KeyNames,
        tags: PlatformTags,
        seals: RedisSeals,
        batch_ids: BatchIds,
    ) -> None:
        self._do = do
        self._keys = keys
        self._tags = tags
        self._seals = seals
        self._batch_ids = batch_ids

    async def read(self, platform: str, after: int, limit: int) -> list[CallbackRecord]:
        """Return the next callbacks behind number ``after``."""
        found = await self._do("ZRANGEBYSCORE", self._keys.of(platform, "all"), f"({after}", "+inf", "LIMIT", 0, limit)
        seqs = [int(seq) for seq in found]
        packed = await self._do("HMGET", self._keys.of(platform, "r"), *seqs) if seqs else []
        return await self.of(platform, seqs, packed)

    async def of(self, platform: str, seqs: Sequence[int], packed: Sequence[bytes]) -> list[CallbackRecord]:
        """Return the callbacks with these numbers, whose rows are ``packed``."""
        if not seqs:
            return []
        bodies, inside, newer = [
            await self._do("HMGET", self._keys.of(platform, name), *seqs) for name in ("b", "fz", "sup")
        ]
        rows = [read_row(seq, blob) for seq, blob in zip(seqs, packed, strict=True)]
        values = [unpack(blob) for blob in packed]
        await self._seals.open_rows(platform, rows)
        payloads = await self._seals.open_bodies(platform, rows, bodies)
        frozen = [int(number or 0) for number in inside]
        batches = await self._under_way(platform, [number for number in frozen if number])
        attempts = await self._attempts_of(platform, [each for row in rows for each in row.attempt_ids])
        carried = []
        for row, own in zip(rows, frozen, strict=True):
            known = [attempts[each] for each in row.attempt_ids if each in attempts]
            carried.append(list(dict.fromkeys(each for each in (*known, row.batch, own) if each)))
        ids = await self._batch_ids.of(platform, (number for numbers in carried for number in numbers))
        digests = await self._digests(platform, [_of(value, "IDEM") for value in values])
        beside = [
            _Beside(
                payload=payloads[place],
                opens=payloads[place] is not None or bodies[place] is None,
                batches=[ids[each] for each in carried[place]],
                frozen=bool(frozen[place]),
                under_way_since=batches.get(frozen[place], 0.0),
                digest=digests[place],
                newer=newer[place],
            )
            for place in range(len(rows))
        ]
        return [await self._record(platform, *each) for each in zip(rows, values, beside, strict=True)]

    async def _record(self, platform: str, row: StoredRow, value: Sequence[Any], beside: _Beside) -> CallbackRecord:
        """Return a callback as it is carried; ``value`` are the fields of its row as they are kept."""
        told = row.public_id(self._tags.known(platform))
        if not beside.opens and row.state == State.PENDING:
            raise StoreUnusable(f"the payload of callback {told} does not open, and it is pending: drop it first")
        number, since = await self._seals.data_keys.number_of(platform), beside.under_way_since
        told_key = await self._seals.shown(Column.IDEMPOTENCY_KEY, number, row.seq, _of(value, "IKEY") or None)
        return CallbackRecord(
            at=row.seq,
            id=told,
            payload=beside.payload,
            key=readable(row.key),
            key_hash=_of(value, "KH"),
            event=row.event,
            lane=row.lane,
            priority=row.priority,
            group=row.group,
            content_type=row.content_type,
            traceparent=row.traceparent,
            idempotency_hash=_of(value, "IDEM") if beside.digest else "",
            digest=beside.digest,
            post_hash=_of(value, "POST"),
            idempotency_key=readable(told_key),
            reference=readable(row.reference),
            points=_of(value, "POINTS") or None,
            bytes=row.bytes,
            accepted_at=row.accepted_at,
            expires_s=row.expires_s,
            expires_at=row.expires_at,
            due_at=row.due_at,
            place=_of(value, "PLACE"),
            state=row.state,
            ended_at=row.ended_at,
            attempts=row.attempts + bool(since),
            spent=row.spent,
            first_sent_at=row.first_sent_at or since,
            under_way_since=since,
            batches=beside.batches,
            attempt_ids=list(row.attempt_ids),
            frozen=beside.frozen,
            held=row.held,
            dropped=row.dropped,
            maybe_applied=row.maybe_applied,
            blocks=_of(value, "BLOCK") == 1,
            overtaken=await self._overtaken(platform, row.seq, row.state, _of(value, "KH")),
            reason=row.reason,
            message=readable(row.message) or "",
            code=row.code,
            superseded_by=await self._newer(platform, row.superseded_by, beside.newer),
            gathered_since=float(_of(value, "SINCE") or 0.0),
        )

    async def _under_way(self, platform: str, numbers: Sequence[int]) -> dict[int, float]:
        """Return since when the request of each batch is under way; of one that waits 0."""
        if not numbers:
            return {}
        named = list(dict.fromkeys(numbers))
        packed = [unpack(blob) for blob in await self._do("HMGET", self._keys.of(platform, "bt"), *named)]
        open_ids = [batch[_OF_BATCH["ATTEMPT"]] if batch[_OF_BATCH["STATE"]] else 0 for batch in packed]
        found = await self._do("HMGET", self._keys.of(platform, "at"), *open_ids)
        return {
            number: read_attempt(attempt, blob).started_at if blob else 0.0
            for number, attempt, blob in zip(named, open_ids, found, strict=True)
        }

    async def _attempts_of(self, platform: str, ids: Sequence[int]) -> dict[int, int]:
        """Return the batch of each attempt that is kept."""
        named = list(dict.fromkeys(ids))
        found = await self._do("HMGET", self._keys.of(platform, "at"), *named) if named else []
        return {each: read_attempt(each, blob).batch for each, blob in zip(named, found, strict=True) if blob}

    async def _digests(self, platform: str, hashes: Sequence[str]) -> list[bytes]:
        found = await self._do("HMGET", self._keys.of(platform, "dd"), *(each or " " for each in hashes))
        return [digest_bytes(text[:DIGEST]) if text else b"" for text in found]

    async def _overtaken(self, platform: str, seq: int, state: int, key_hash: str) -> bool:
        if state not in (State.DEAD, State.EXPIRED) or not key_hash:
            return False
        begin = key_hash.encode()
        bounds = (b"(" + begin + b"D" + seq.to_bytes(8, "big"), b"(" + begin + b"E")
        return bool(await self._do("ZRANGEBYLEX", self._keys.of(platform, "f"), *bounds, "LIMIT", 0, 1))

    async def _newer(self, platform: str, seq: int, elsewhere: bytes | None) -> str:
        if not seq:
            return ""
        if elsewhere is not None:
            return elsewhere.decode()
        packed = await self._do("HGET", self._keys.of(platform, "r"), seq)
        tag = self._tags.known(platform)
        return read_row(seq, packed).public_id(tag) if packed else encode_id(seq, tag)


def _of(values: Sequence[Any], name: str) -> Any:
    """Return a field of a row as it is kept; a row of an older version may have fewer."""
    place = _PLACE[name]
    return values[place] if place < len(values) else False


def readable(text: str | None) -> str | None:
    """Return a text; None stands for one that does not open any more."""
    return None if text == UNREADABLE else text
