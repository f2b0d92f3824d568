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
    overtaken: bool
    newer: str  # the id of what stands for it; empty: nothing does


class CallbacksOut:
    """Reads with ``many``, which runs plain commands in one pipeline."""

    def __init__(
        self,
        many: Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]],
        keys: KeyNames,
        tags: PlatformTags,
        seals: RedisSeals,
        batch_ids: BatchIds,
    ) -> None:
        self._many = many
        self._keys = keys
        self._tags = tags
        self._seals = seals
        self._batch_ids = batch_ids

    async def read(self, platform: str, after: int, limit: int) -> list[CallbackRecord]:
        """Return the next callbacks behind number ``after``."""
        where = self._keys.of(platform, "all")
        (found,) = await self._many([("ZRANGEBYSCORE", where, f"({after}", "+inf", "LIMIT", 0, limit)])
        seqs = [int(seq) for seq in found]
        packed = await self._fields(platform, "r", seqs)
        return await self.of(platform, seqs, packed)

    async def of(self, platform: str, seqs: Sequence[int], packed: Sequence[bytes]) -> list[CallbackRecord]:
        """Return the callbacks with these numbers, whose rows are ``packed``."""
        if not seqs:
            return []
        bodies, inside, newer = await self._many(
            [("HMGET", self._keys.of(platform, name), *seqs) for name in ("b", "fz", "sup")]
        )
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
        overtaken = await self._overtaken(platform, rows, values)
        stand_for = await self._newer(platform, rows, newer)
        beside = [
            _Beside(
                payload=payloads[place],
                opens=payloads[place] is not None or bodies[place] is None,
                batches=[ids[each] for each in carried[place]],
                frozen=bool(frozen[place]),
                under_way_since=batches.get(frozen[place], 0.0),
                digest=digests[place],
                overtaken=overtaken[place],
                newer=stand_for[place],
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
            overtaken=beside.overtaken,
            reason=row.reason,
            message=readable(row.message) or "",
            code=row.code,
            superseded_by=beside.newer,
            gathered_since=float(_of(value, "SINCE") or 0.0),
        )

    async def _fields(self, platform: str, name: str, fields: Sequence[Any]) -> list[Any]:
        """Return what a hash of the platform has of these fields, in their order."""
        if not fields:
            return []
        (found,) = await self._many([("HMGET", self._keys.of(platform, name), *fields)])
        return list(found)

    async def _under_way(self, platform: str, numbers: Sequence[int]) -> dict[int, float]:
        """Return since when the request of each batch is under way; of one that waits 0."""
        named = list(dict.fromkeys(numbers))
        packed = [unpack(blob) for blob in await self._fields(platform, "bt", named)]
        open_ids = [batch[_OF_BATCH["ATTEMPT"]] if batch[_OF_BATCH["STATE"]] else 0 for batch in packed]
        found = await self._fields(platform, "at", open_ids)
        return {
            number: read_attempt(attempt, blob).started_at if blob else 0.0
            for number, attempt, blob in zip(named, open_ids, found, strict=True)
        }

    async def _attempts_of(self, platform: str, ids: Sequence[int]) -> dict[int, int]:
        """Return the batch of each attempt that is kept."""
        named = list(dict.fromkeys(ids))
        found = await self._fields(platform, "at", named)
        return {each: read_attempt(each, blob).batch for each, blob in zip(named, found, strict=True) if blob}

    async def _digests(self, platform: str, hashes: Sequence[str]) -> list[bytes]:
        found = await self._fields(platform, "dd", [each or " " for each in hashes])
        return [digest_bytes(text[:DIGEST]) if text else b"" for text in found]

    async def _overtaken(
        self, platform: str, rows: Sequence[StoredRow], values: Sequence[Sequence[Any]]
    ) -> Sequence[bool]:
        """Say of each callback whether it is dead or expired and a newer one of its key was delivered."""
        line, asked = self._keys.of(platform, "f"), dict[int, tuple[Any, ...]]()
        for place, (row, value) in enumerate(zip(rows, values, strict=True)):
            key_hash = _of(value, "KH")
            if row.state in (State.DEAD, State.EXPIRED) and key_hash:
                begin = key_hash.encode()
                bounds = (b"(" + begin + b"D" + row.seq.to_bytes(8, "big"), b"(" + begin + b"E")
                asked[place] = ("ZRANGEBYLEX", line, *bounds, "LIMIT", 0, 1)
        found = dict(zip(asked, await self._many(list(asked.values())), strict=True)) if asked else {}
        return [bool(found.get(place)) for place in range(len(rows))]

    async def _newer(
        self, platform: str, rows: Sequence[StoredRow], elsewhere: Sequence[bytes | None]
    ) -> Sequence[str]:
        """Return the id of what stands for each callback: as it is kept, where that is of another store."""
        here = [row.superseded_by for row, told in zip(rows, elsewhere, strict=True) if row.superseded_by and not told]
        named, tag = list(dict.fromkeys(here)), self._tags.known(platform)
        found = await self._fields(platform, "r", named)
        ids = {
            seq: read_row(seq, blob).public_id(tag) if blob else encode_id(seq, tag)
            for seq, blob in zip(named, found, strict=True)
        }
        return [
            "" if not row.superseded_by else told.decode() if told else ids[row.superseded_by]
            for row, told in zip(rows, elsewhere, strict=True)
        ]


def _of(values: Sequence[Any], name: str) -> Any:
    """Return a field of a row as it is kept; a row of an older version may have fewer."""
    place = _PLACE[name]
    return values[place] if place < len(values) else False


def readable(text: str | None) -> str | None:
    """Return a text; None stands for one that does not open any more."""
    return None if text == UNREADABLE else text
