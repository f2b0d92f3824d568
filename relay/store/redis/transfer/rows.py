"""Writes carried callbacks, batches and attempts as a store on a server keeps them, sealed where it is."""

import math
from collections.abc import Sequence
from typing import Any, Final

from relay.core.ids import decode_id, number_in
from relay.sealing.codec import NOBODY, Column
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.batch_ids import OTHERS
from relay.store.redis.server.fields import BATCH, pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.tags import PlatformTags
from relay.store.transfer.hashes import digest_text
from relay.store.transfer.records import AttemptRecord, BatchRecord, CallbackRecord
from relay.views.queue import ErrorView

_US: Final = 1e6
_THERE: Final = b"\1"  # begins a payload that is kept; one that was deleted is sent as an empty text
Command = tuple[Any, ...]


class RowsToServer:
    """Numbers stay: those of a platform are its own."""

    def __init__(self, seals: RedisSeals, keys: KeyNames, tags: PlatformTags) -> None:
        self._seals = seals
        self._keys = keys
        self._tags = tags

    async def callbacks(self, platform: str, records: Sequence[CallbackRecord]) -> tuple[list[Any], list[bytes]]:
        """Return what ``carry.lua`` is given: rows, and the payload of each."""
        bodies: list[bytes] = []
        packed: list[Any] = []
        for record in records:
            digest = digest_text(record.digest) if record.idempotency_hash else ""
            inside = number_in(record.batches[-1][1:]) if record.frozen else 0
            packed.append([record.at, await self._row(platform, record), inside, digest, record.superseded_by])
            bodies.append(await self._body(platform, record))
        return packed, bodies

    async def _row(self, platform: str, record: CallbackRecord) -> list[Any]:
        """Return a row without what the request under way changes: that is written when it is settled."""
        under_way = bool(record.under_way_since)
        first_sent_at = record.first_sent_at
        if under_way and first_sent_at == record.under_way_since:
            first_sent_at = 0
        before = record.batches[:-1] if under_way and not record.attempt_ids else record.batches
        texts = [
            await self._text(column, platform, record.at, text)
            for column, text in (
                (Column.KEY, record.key),
                (Column.MESSAGE, record.message),
                (Column.REFERENCE, record.reference),
                (Column.IDEMPOTENCY_KEY, record.idempotency_key),
            )
        ]
        key, message, reference, told_key = texts
        own = decode_id(record.id, self._tags.known(platform)) == record.at
        return [
            *(key, record.key_hash, _or_false(record.event), record.lane, record.priority, record.group),
            *(_or_false(record.content_type), _or_false(record.traceparent), record.idempotency_hash, record.post_hash),
            *(record.bytes, record.accepted_at, record.expires_s, record.expires_at, record.due_at, record.place),
            *(record.state, record.ended_at, record.attempts - under_way, record.spent, first_sent_at),
            *(number_in(before[-1][1:]) if before else 0, int(record.held), int(record.dropped)),
            *(int(record.maybe_applied), record.reason, message or "", _or_false(record.code)),
            *(record.at if record.superseded_by else 0, record.attempt_ids, int(record.blocks), 0, reference),
            *(record.gathered_since, "" if own else record.id, told_key, _or_false(record.points)),
            int(self._seals.on and record.payload is not None),
        ]

    async def _text(self, column: Column, platform: str, number: int, text: str | None) -> Any:
        """Return a text as a row keeps it; False stands for none."""
        return False if text is None else (await self._seals.texts(column, platform, (number,), text))[0]

    async def _body(self, platform: str, record: CallbackRecord) -> bytes:
        if record.payload is None:
            return b""
        codec = self._seals.data_keys.codec
        if codec is None:
            return _THERE + record.payload
        number, at = await self._seals.data_keys.number_of(platform), record.at / _US
        await self._seals.data_keys.ready(codec, number, at, 1)
        return _THERE + codec.seal(Column.BODY, number, at, record.at, record.payload)

    def batch(self, platform: str, record: BatchRecord, members: list[int]) -> list[Command]:
        """Return what writes a batch."""
        of, number = self._keys.of, number_in(record.id[1:])
        commands: list[Command] = []
        if decode_id(record.id[1:], self._tags.known(platform)) is None:
            commands.append(("HSET", of(platform, OTHERS), number, record.id))
        if record.state == _DONE:
            return [*commands, ("HSET", of(platform, "bm"), number, pack(members))]
        waits = record.state == _WAITS
        root = number_in(record.root[1:])
        whole = [
            *(record.group, record.created_at, root, record.attempts, record.state, record.attempt_id, record.due_at),
            *(record.expires_at, int(record.confirm), int(root != number), members),
        ]
        commands.append(("HSET", of(platform, "bt"), number, pack(whole)))
        if members and record.waiting_since < math.inf:
            commands.append(("ZADD", of(platform, "bs"), repr(record.waiting_since), number))
        if waits:
            queue = ("rp:" if root != number else "rs:") + record.group
            commands += [("ZADD", of(platform, name), repr(record.due_at), number) for name in (queue, "bw")]
        if waits and record.group:
            commands.append(("ZADD", of(platform, "g"), 0, record.group))
        return commands

    @staticmethod
    def in_flight(packed: bytes) -> int:
        """Return how many callbacks of a kept batch are under way."""
        batch = unpack(packed)
        return len(batch[BATCH.index("SEQS")]) if batch[BATCH.index("STATE")] else 0

    async def fields_of(self, platform: str, record: AttemptRecord, rows: int) -> list[Any]:
        """Return an attempt that so many kept rows show, as it is packed."""
        over = record.ended_at is not None
        (excerpt,) = await self._seals.texts(Column.EXCERPT, platform, (record.at,), record.excerpt)
        return [
            *(number_in(record.batch[1:]), record.n, record.group, record.started_at),
            *(record.ended_at if over else False, record.duration_s, record.outcome, record.status or False),
            *(record.reason, excerpt, int(record.ambiguous), rows if over else record.items, record.purpose),
            *(record.items, record.bytes, record.points),
        ]

    async def attempt(self, platform: str, record: AttemptRecord, rows: int) -> list[Command]:
        """Return what writes an attempt that so many kept rows show."""
        of, over = self._keys.of, record.ended_at is not None
        whole = await self.fields_of(platform, record, rows)
        commands: list[Command] = [("HSET", of(platform, "at"), record.at, pack(whole))]
        commands.append(("ZADD", of(platform, "au"), repr(record.ended_at) if over else "+inf", record.at))
        if over and not rows:
            commands.append(("ZADD", of(platform, "loose"), repr(record.ended_at), record.at))
        return commands

    async def error(self, platform: str, view: ErrorView) -> bytes:
        """Return the last attempt that did not go well, as it is kept."""
        number = await self._seals.data_keys.number_of(platform)
        excerpt = await self._seals.own_text(Column.LAST_ERROR, NOBODY, number, view.excerpt)
        facts = [float(view.at), view.outcome, view.status or False, view.reason, excerpt]
        return pack([*facts, view.batch] if view.batch else facts)


_WAITS: Final = 0
_DONE: Final = 2


def _or_false(value: Any) -> Any:
    """Return a value; False for none, because an array of Lua has no holes."""
    return False if value is None else value
