"""Reads recorded requests of a platform as plain records."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from relay.sealing.codec import Column
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.batch_ids import BatchIds
from relay.store.redis.server.fields import read_attempt
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.transfer.callbacks_out import readable
from relay.store.transfer.records import AttemptRecord


class AttemptsOut:
    """Reads with ``do``, which runs one plain command."""

    def __init__(
        self, do: Callable[..., Awaitable[Any]], keys: KeyNames, seals: RedisSeals, batch_ids: BatchIds
    ) -> None:
        self._do = do
        self._keys = keys
        self._seals = seals
        self._batch_ids = batch_ids

    async def of(self, platform: str, numbers: Sequence[int]) -> list[AttemptRecord]:
        """Return those of the requests with these numbers that are kept."""
        if not numbers:
            return []
        blobs = await self._do("HMGET", self._keys.of(platform, "at"), *numbers)
        found = [read_attempt(number, blob) for number, blob in zip(numbers, blobs, strict=True) if blob]
        ids = await self._batch_ids.of(platform, (attempt.batch for attempt in found))
        sealed_for = await self._seals.data_keys.number_of(platform)
        return [
            AttemptRecord(
                at=attempt.attempt_id,
                batch=ids[attempt.batch],
                n=attempt.number,
                group=attempt.group,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                duration_s=attempt.duration_s,
                outcome=attempt.outcome,
                status=attempt.status,
                reason=attempt.reason,
                excerpt=readable(
                    await self._seals.shown(Column.EXCERPT, sealed_for, attempt.attempt_id, attempt.excerpt)
                )
                or "",
                ambiguous=attempt.ambiguous,
                purpose=attempt.purpose,
                items=attempt.weight.items,
                bytes=attempt.weight.bytes,
                points=attempt.weight.points,
            )
            for attempt in found
        ]
