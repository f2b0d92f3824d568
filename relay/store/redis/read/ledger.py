"""What the store shows of gates and callbacks. Read from the server, on any host, in steps of a bounded size."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, structs

from relay.core.clock import Clock
from relay.core.ids import written_id
from relay.core.model import Filter, Lane, State
from relay.core.raw import Kept
from relay.sealing.codec import Column
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.batch_ids import BatchIds
from relay.store.redis.server.fields import BATCH, StoredAttempt, StoredRow, pairs_of, read_attempt, read_row, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import platform_script
from relay.store.redis.server.tags import PlatformTags
from relay.views.callback_view import AttemptView, CallbackFacts, CallbackView
from relay.views.moments import Instant, moment

_STEP: Final = 300
_PRIORITIES: Final = {Lane.HIGH: "high", Lane.LOW: "low"}
_UNDER_WAY: Final = BATCH.index("STATE")
_ATTEMPT: Final = BATCH.index("ATTEMPT")


def matches(row: StoredRow, wanted: Filter, ids: frozenset[int] | None) -> bool:
    """Say whether a row of a platform that is meant matches; ``ids`` are the sequence numbers asked for, if any."""
    state = State(row.state).word
    return (
        (wanted.state is None or state == wanted.state)
        and (row.dropped if wanted.dropped else wanted.state != State.DEAD.word or bool(wanted.ids) or not row.dropped)
        and (wanted.key is None or row.key == wanted.key)
        and (wanted.event is None or row.event == wanted.event)
        and (wanted.reason is None or row.reason == wanted.reason)
        and (wanted.code is None or row.code == wanted.code)
        and (ids is None or row.seq in ids)
        and (wanted.since is None or row.accepted_at >= wanted.since)
        and (wanted.until is None or row.accepted_at < wanted.until)
    )


class RedisReader:
    """Reads; changes nothing. ``step`` is how many rows one part holds."""

    step: Final = _STEP

    def __init__(self, link: ServerLink, keys: KeyNames, tags: PlatformTags, clock: Clock, seals: RedisSeals) -> None:
        self._seals = seals
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self.batch_ids = BatchIds(link, keys, tags)

    def platforms(self) -> list[str]:
        """Return all platforms that any host has named, as far as is known here."""
        return list(self._tags.names())

    async def many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run plain commands in one pipeline."""
        answers = await self._link.run([ServerCall(None, (), command) for command in commands]) if commands else []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def gates(self) -> dict[str, Kept]:
        """Return each platform's gate."""
        names = list(self._tags.names())
        answers = await self.many([("HGETALL", self._keys.of(name, "gt")) for name in names])
        gates: dict[str, Kept] = {}
        for name, found in zip(names, answers, strict=True):
            if (gate := gate_in(found)) is not None:
                gates[name] = gate
        return gates

    async def newest_time(self) -> float:
        """Return the newest time that any platform's numbers hold."""
        await self._tags.load()
        commands = [("HMGET", self._keys.of(name, "m"), "seq", "number") for name in self._tags.names()]
        found = await self.many(commands)
        return max((int(number or 0) / 1e6 for pair in found for number in pair), default=0.0)

    async def callback(self, callback_id: str, *, payload: bool) -> CallbackView | None:
        """Return one callback with its attempts, newest last."""
        found = await self.find(callback_id)
        if found is None:
            return None
        platform, seq = found
        packed = await self._link.do("HGET", self._keys.of(platform, "r"), seq)
        if packed is None:
            return None
        row = read_row(seq, packed)
        await self._seals.open_rows(platform, [row])
        await self.overlay({platform: [row]})
        attempts = await self._attempts(platform, row.attempt_ids)
        body: Any = UNSET
        kept = await self._link.do("HEXISTS", self._keys.of(platform, "b"), seq)
        if payload:
            kept_body = await self._link.do("HGET", self._keys.of(platform, "b"), seq)
            (body,) = await self._seals.open_bodies(platform, [row], [kept_body])
        ids = await self.batch_ids.of(platform, [row.batch, *(attempt.batch for attempt in attempts)])
        held_back = None
        if row.key is not None:
            held_back = await self._link.do(
                "HGET", self._keys.of(platform, "kp"), self._keys.key_hash(platform, row.key)
            )
        return CallbackView(
            **structs.asdict(facts_of(platform, self._tags.known(platform), row, ids)),
            attempt_count=row.attempts,
            attempts=[_attempt(attempt, ids) for attempt in attempts],
            superseded_by=UNSET if not row.superseded_by else await self._superseded_by(platform, row),
            payload_deleted=not kept,
            traceparent=UNSET if row.traceparent is None else row.traceparent,
            reference=UNSET if row.reference is None else row.reference,
            key_held=UNSET if held_back is None else held_back[1:].decode(),
            payload=body,
        )

    async def batch_members(self, batch_id: str, limit: int) -> list[str]:
        """Return the ids of up to ``limit`` callbacks that a batch carried; some may be pruned."""
        found = await self.batch_ids.find(batch_id)
        if found is None:
            return []
        platform, number = found
        under_way, ended = await self.many([("HGET", self._keys.of(platform, kept), number) for kept in ("bt", "bm")])
        seqs = unpack(ended) if ended else unpack(under_way)[BATCH.index("SEQS")] if under_way else []
        return await self.told_ids(platform, seqs[:limit])

    async def told_ids(self, platform: str, seqs: Sequence[int]) -> list[str]:
        """Return the ids that were given out for callbacks; of one that is not kept, the id of its number."""
        tag = self._tags.known(platform)
        kept = {row.seq: row.public_id(tag) for row in await self.by_seq(platform, seqs)}
        return [kept.get(seq) or self._tags.id_of(platform, seq) for seq in seqs]

    async def find(self, callback_id: str) -> tuple[str, int] | None:
        """Return the platform and the sequence number of an id; of one that a host's spool gave out too."""
        found = self._tags.find(callback_id)
        if found is None:
            await self._tags.load()
            found = self._tags.find(callback_id)
        if found is not None:
            return found
        names = list(self._tags.names())
        given_out = written_id(callback_id)
        aliases = await self.many([("HGET", self._keys.of(name, "al"), given_out) for name in names])
        return next(((name, int(seq)) for name, seq in zip(names, aliases, strict=True) if seq is not None), None)

    async def _superseded_by(self, platform: str, row: StoredRow) -> str:
        """Return the id of what stands for a row: of its own platform, or where it was routed to."""
        elsewhere = await self._link.do("HGET", self._keys.of(platform, "sup"), row.seq)
        if elsewhere:
            told: str = elsewhere.decode()
            return told
        newer = await self.by_seq(platform, [row.superseded_by])
        alias = newer[0].alias if newer else ""
        return alias or self._tags.id_of(platform, row.superseded_by)

    async def _attempts(self, platform: str, ids: Sequence[int]) -> list[StoredAttempt]:
        if not ids:
            return []
        found = await self._link.do("HMGET", self._keys.of(platform, "at"), *ids)
        attempts = [read_attempt(number, blob) for number, blob in zip(ids, found, strict=True) if blob]
        if self._seals.on:
            number = await self._seals.data_keys.number_of(platform)
            for each in attempts:
                each.excerpt = await self._seals.shown(Column.EXCERPT, number, each.attempt_id, each.excerpt)
        return attempts

    async def meant(self, wanted: Filter) -> list[str]:
        """Return the platforms that a filter means."""
        if wanted.platform is None or wanted.platform not in self._tags.names():
            await self._tags.load()
        names = self._tags.names()
        return [name for name in names if wanted.platform in (None, name)]

    async def rows(
        self, platform: str, wanted: Filter, *, below: float = math.inf, sets: Sequence[str] | None = None
    ) -> AsyncIterator[StoredRow]:
        """Yield the rows of a platform that match, with a sequence number below ``below``: of each set newest first."""
        ids = await self.seqs(platform, wanted)
        if ids is not None and not ids:
            return
        if ids is not None:
            sources = [self._by_ids(platform, ids, below)]
        elif wanted.key is not None:
            sources = [self._of_key(platform, wanted.key, below)]
        else:
            sources = [self._scan(platform, each, below) for each in sets or (smallest_set(wanted),)]
        for source in sources:
            async for row in source:
                if matches(row, wanted, ids):
                    yield row

    async def seqs(self, platform: str, wanted: Filter) -> frozenset[int] | None:
        """Return the sequence numbers on a platform of the ids that a filter names; None where it names none."""
        if not wanted.ids:
            return None
        found = {each: self._tags.find(each) for each in wanted.ids}
        seqs = [place[1] for place in found.values() if place is not None and place[0] == platform]
        others = [written_id(each) for each, place in found.items() if place is None]
        if others:
            aliases = await self._link.do("HMGET", self._keys.of(platform, "al"), *others)
            seqs += [int(seq) for seq in aliases if seq is not None]
        return frozenset(seqs)

    async def _by_ids(self, platform: str, ids: frozenset[int], below: float) -> AsyncIterator[StoredRow]:
        seqs = sorted((seq for seq in ids if seq < below), reverse=True)
        for first in range(0, len(seqs), _STEP):
            for row in await self.by_seq(platform, seqs[first : first + _STEP]):
                yield row

    async def by_seq(self, platform: str, seqs: Sequence[int]) -> list[StoredRow]:
        """Return those of the rows with these sequence numbers that are kept."""
        if not seqs:
            return []
        found = await self._link.do("HMGET", self._keys.of(platform, "r"), *seqs)
        rows = [read_row(seq, blob) for seq, blob in zip(seqs, found, strict=True) if blob is not None]
        await self._seals.open_rows(platform, rows)
        return rows

    async def _scan(self, platform: str, index: str, below: float) -> AsyncIterator[StoredRow]:
        while True:
            found = await self.part(platform, index, below)
            for row in found:
                yield row
            if len(found) < _STEP:
                return
            below = found[-1].seq

    async def part(self, platform: str, index: str, below: float) -> list[StoredRow]:
        """Return the next rows of a set, newest first."""
        return await self._list("list", platform, index, below)

    async def _of_key(self, platform: str, key: str, below: float) -> AsyncIterator[StoredRow]:
        index = self._keys.key_hash(platform, key)
        while below > 0:
            floor, *found = await self._listed("keyed", platform, index, below)
            rows = {row.seq: row for row in await self._rows(platform, found)}
            for seq in sorted(rows, reverse=True):
                if int(floor) <= seq < below:
                    yield rows[seq]
            below = int(floor)

    async def _list(self, script: str, platform: str, index: str, below: float) -> list[StoredRow]:
        return await self._rows(platform, await self._listed(script, platform, index, below))

    async def _listed(self, script: str, platform: str, index: str, below: float) -> list[bytes]:
        bound = "+inf" if below == math.inf else str(int(below))
        call = ServerCall(platform_script(script, flags=False), self._keys.pair(platform), ("0", index, bound, _STEP))
        found: list[bytes] = await self._link.one(call)
        return found

    async def _rows(self, platform: str, found: Sequence[bytes]) -> list[StoredRow]:
        rows = [read_row(int(seq), blob) for seq, blob in zip(found[::2], found[1::2], strict=True) if blob]
        await self._seals.open_rows(platform, rows)
        return rows

    async def open_rows(self, platform: str, rows: Sequence[StoredRow]) -> None:
        """Open what is sealed in rows."""
        await self._seals.open_rows(platform, rows)

    async def overlay(self, rows: Mapping[str, Sequence[StoredRow]]) -> None:
        """Put what requests under way change into rows of platforms; the store writes it when they are settled."""
        asked = {name: [row.seq for row in those] for name, those in rows.items() if those}
        found = await self.many([("HMGET", self._keys.of(name, "fz"), *seqs) for name, seqs in asked.items()])
        inside = {
            name: {seq: int(number) for seq, number in zip(asked[name], numbers, strict=True) if number is not None}
            for name, numbers in zip(asked, found, strict=True)
        }
        named = {name: list(dict.fromkeys(numbers.values())) for name, numbers in inside.items() if numbers}
        blobs = await self.many([("HMGET", self._keys.of(name, "bt"), *numbers) for name, numbers in named.items()])
        for name, kept in zip(named, blobs, strict=True):
            batches = {number: unpack(blob) for number, blob in zip(named[name], kept, strict=True) if blob}
            for row in rows[name]:
                batch = batches.get(inside[name].get(row.seq, 0))
                if batch is not None and batch[_UNDER_WAY]:
                    row.in_flight = True
                    row.batch = inside[name][row.seq]
                    row.attempts += 1
                    row.attempt_ids.append(batch[_ATTEMPT])


def gate_in(found: Any) -> Kept | None:
    """Return the gate out of the hash in which a platform's lies, with the stops of its groups; None: there is none."""
    pairs = dict(pairs_of(found))
    if b"" not in pairs:
        return None
    gate: Kept = msgspec.json.decode(pairs.pop(b""))
    stops = {group[1:].decode(): msgspec.json.decode(stop) for group, stop in pairs.items()}
    return {**gate, "groups": stops} if stops else gate


def facts_of(platform: str, tag: int, row: StoredRow, batch_ids: Mapping[int, str]) -> CallbackFacts:
    """Return a row as what every view of it tells."""
    return CallbackFacts(
        id=row.public_id(tag),
        platform=platform,
        state=State(row.state).word,
        key=row.key,
        event=row.event,
        priority=_PRIORITIES.get(Lane(row.priority), "normal"),
        group=row.group,
        accepted_at=Instant(row.accepted_at),
        due_at=Instant(row.due_at),
        expires_at=Instant(row.expires_at),
        ended_at=moment(row.ended_at or None),
        spent=row.spent,
        held=row.held,
        in_flight=row.in_flight,
        maybe_applied=row.maybe_applied,
        reason=row.reason,
        code=row.code,
        message=row.message,
        bytes=row.bytes,
        batch=batch_ids[row.batch] if row.batch else None,
    )


def _attempt(attempt: StoredAttempt, batch_ids: Mapping[int, str]) -> AttemptView:
    answered = attempt.ended_at is not None
    return AttemptView(
        attempt=attempt.number,
        batch=batch_ids[attempt.batch],
        started_at=Instant(attempt.started_at),
        duration_s=attempt.duration_s if answered else None,
        outcome=attempt.outcome if answered else None,
        status=attempt.status,
        reason=attempt.reason,
        excerpt=attempt.excerpt,
        ambiguous=attempt.ambiguous,
    )


def smallest_set(wanted: Filter) -> str:
    """Return the smallest set, by number, that holds all that match."""
    if wanted.dropped:
        return "dr"
    if wanted.state == State.DEAD.word:
        return "dl"
    return "ex" if wanted.state == State.EXPIRED.word else "all"
