"""Carries out what answers decided: settlements for ``settle.lua``, long ones in parts of a few milliseconds each."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.core.clock import Clock
from relay.core.errors import Fenced
from relay.core.model import Batch, Outcome, Purpose, Weight
from relay.core.raw import Kept
from relay.core.settlement import AttemptResult, Requeue, Settlement
from relay.sealing.codec import NOBODY, Column
from relay.store.quota_lines import Sent
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.sealed.row_seals import SEAL_BROKEN, RedisSeals
from relay.store.redis.server.fields import pack, pairs_of, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.server.tags import PlatformTags

_PART: Final = 50
"""Rows in one script, which takes a millisecond or two. The parts go in one pipeline, so they are synced once."""
_EXCERPT, _DELIVERED, _REQUEUES, _ENDINGS, _HELD, _LAST_ERROR = 5, 9, 10, 11, 12, 21  # places in a packed settlement


def packed_settlement(settlement: Settlement, *, blocks: bool, numbers: Sequence[int], purpose: Purpose) -> list[Any]:
    """Return a settlement; ``numbers`` are those of the batches it makes; ``blocks``: a dead row blocks its key."""
    result, ask, resend = settlement.result, settlement.ask, settlement.resend
    return [
        result.ended_at,
        result.duration_s,
        result.outcome.value,
        result.status or False,
        result.reason,
        result.excerpt,
        int(result.ambiguous),
        _or_false(result.code),
        int(result.outcome.accepted),
        list(settlement.delivered),
        [
            [list(each.seqs), each.due_at, int(each.charge), each.reason, int(each.maybe_applied), each.message]
            for each in settlement.requeue
        ],
        [
            [
                list(each.seqs),
                int(each.state),
                each.reason,
                int(each.maybe_applied),
                each.message,
                _or_false(each.code),
            ]
            for each in settlement.endings
        ],
        list(settlement.held),
        False if ask is None else [list(ask.seqs), ask.due_at, ask.reason],
        False if resend is None else [resend.due_at, int(resend.charge), resend.reason],
        [list(part) for part in settlement.split],
        int(blocks),
        list(numbers),
        False if settlement.gate is None else packed_gate(settlement.gate),
        int(purpose),
        result.wire_bytes,
        result.excerpt,
    ]


def settlement_parts(whole: Sequence[Any]) -> list[list[Any]]:
    """Return a settlement in parts that settle so many rows each; the last one ends the attempt."""
    pieces: list[tuple[int, Any]] = [(_DELIVERED, seqs) for seqs in _cut(whole[_DELIVERED])]
    pieces += [(_REQUEUES, [[seqs, *each[1:]]]) for each in whole[_REQUEUES] for seqs in _cut(each[0])]
    pieces += [(_ENDINGS, [[seqs, *each[1:]]]) for each in whole[_ENDINGS] for seqs in _cut(each[0])]
    pieces += [(_HELD, seqs) for seqs in _cut(whole[_HELD])]
    if sum(_rows(piece) for piece in pieces) <= _PART:
        return [list(whole)]
    emptied = [[] if place in (_DELIVERED, _REQUEUES, _ENDINGS, _HELD) else value for place, value in enumerate(whole)]
    parts: list[list[Any]] = []
    room = 0
    for place, value in pieces:
        rows = _rows((place, value))
        if rows > room:
            parts.append([[] if each == [] else each for each in emptied])
            room = _PART
        parts[-1][place] = [*parts[-1][place], *value]
        room -= rows
    return [*parts, emptied]


def _rows(piece: tuple[int, Any]) -> int:
    place, value = piece
    return len(value[0][0]) if place in (_REQUEUES, _ENDINGS) else len(value)


def _cut(seqs: Sequence[int]) -> list[Sequence[int]]:
    return [seqs[first : first + _PART] for first in range(0, len(seqs), _PART)]


def _or_false(text: str | None) -> str | bool:
    return False if text is None else text


def packed_gate(gate: Kept) -> list[Any]:
    """Return a gate as the scripts keep it: itself, and each stop of a group that changed (False: over)."""
    main = _json({name: value for name, value in gate.items() if name != "groups"})
    stops = gate.get("groups", {}).items()
    return [main, [[group, False if stop is None else _json(stop)] for group, stop in stops]]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """What a settle must know of an attempt under way."""

    platform: str
    purpose: Purpose
    seqs: frozenset[int]
    group: str
    started_at: float
    weight: Weight


class RedisSettlements:
    """Settles for the platforms this host owns."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        owned: OwnedPlatforms,
        *,
        attempts: dict[int, OpenAttempt],
        changed: Callable[[str, int], None],
        released: Callable[[], None],
        noted: Callable[[str, int], Awaitable[None]],
        seals: RedisSeals,
        clock: Clock,
    ) -> None:
        """``attempts`` are those under way, by their id; one that is settled is taken out.

        ``changed(platform, count)`` is told what became claimable; ``released`` that operations may go on;
        ``noted(platform, count)`` how many receipts are due.
        """
        self._link = link
        self._keys = keys
        self._tags = tags
        self._owned = owned
        self._open = attempts
        self._changed = changed
        self._released = released
        self._noted = noted
        self._seals = seals
        self._clock = clock

    def forget(self, platforms: Collection[str]) -> None:
        """Forget the attempts that were under way when platforms were taken over anew."""
        for attempt_id in [number for number, each in self._open.items() if each.platform in platforms]:
            del self._open[attempt_id]

    async def settle(self, settlement: Settlement) -> None:
        """Commit what an attempt came to; a second call for it does nothing.

        Raises ``ValueError``, changing nothing, when the parts do not name each item of the batch exactly once.
        """
        platform, attempt_id, result = settlement.platform, settlement.attempt_id, settlement.result
        known = self._open.get(attempt_id)
        if known is not None:
            settlement.check(known.seqs, tag=self._tags.known(platform))
        rule = self._owned.rules.platforms.get(platform)
        asked = settlement.ask.seqs if settlement.ask is not None else ()
        numbers = [self._owned.next_number() for _ in (*settlement.split, *asked)]
        purpose = Purpose.FIRST if known is None else known.purpose
        whole = packed_settlement(
            settlement, blocks=rule is not None and rule.block_on_dead, numbers=numbers, purpose=purpose
        )
        await self._seal(platform, attempt_id, whole)
        try:
            answer = await self._carry_settlement(platform, attempt_id, settlement.batch, whole)
        except Fenced:
            self._owned.slots.forget(attempt_id)
            self._open.pop(attempt_id, None)
            raise
        self._open.pop(attempt_id, None)
        if known is not None:
            weight = known.weight._replace(bytes=result.wire_bytes or known.weight.bytes)
            facts = (attempt_id, platform, known.group, known.started_at, result.ended_at, result.duration_s)
            self._owned.settled(Sent(*facts, purpose, weight=weight), result.wire_bytes)
        if answer is None:
            return
        freed, released, noted = answer
        self._changed(platform, freed)
        for woken in self._owned.slots.drain_wakes():
            self._changed(woken, 0)
        if released:
            self._released()
        await self._noted(platform, noted)

    async def _seal(self, platform: str, attempt_id: int, whole: list[Any]) -> None:
        """Seal the words in a packed settlement: the excerpt, and what is said about each callback for its row."""
        seals = self._seals
        if not seals.on:
            return
        excerpt = whole[_EXCERPT]
        (whole[_EXCERPT],) = await seals.texts(Column.EXCERPT, platform, (attempt_id,), excerpt)
        number = await seals.data_keys.number_of(platform)
        whole[_LAST_ERROR] = await seals.own_text(Column.LAST_ERROR, NOBODY, number, excerpt)
        for place, at in ((_REQUEUES, 5), (_ENDINGS, 4)):
            apart: list[Any] = []
            for each in whole[place]:
                if not each[at]:
                    apart.append(each)
                    continue
                sealed = await seals.texts(Column.MESSAGE, platform, each[0], each[at])
                apart += [
                    [[seq], *each[1:at], word, *each[at + 1 :]] for seq, word in zip(each[0], sealed, strict=True)
                ]
            whole[place] = apart

    async def set_aside(self, batch: Batch, broken: Sequence[int], *, fresh: bool) -> None:
        """Hold callbacks whose payloads do not open; the others of the batch, which was not sent, go on."""
        now = self._clock.now()
        rest = [item.seq for item in batch.items if item.seq not in broken]
        result = AttemptResult(Outcome.UNSENT, now, 0.0, None, SEAL_BROKEN)
        self._owned.slots.forget(batch.attempt_id)  # nothing was sent
        await self.settle(
            Settlement(
                batch.number,
                batch.attempt_id,
                batch.platform,
                result,
                held=broken,
                requeue=[Requeue(rest, now, False, "")] if fresh and rest else [],
                split=[] if fresh or not rest else [rest],
            )
        )

    async def _carry_settlement(
        self, platform: str, attempt_id: int, batch: int, whole: Sequence[Any]
    ) -> tuple[int, int, int] | None:
        """Send a settlement, a long one in parts that take a few milliseconds each; None: it was settled before."""
        parts = settlement_parts(whole)
        calls = [
            self._owned.call("settle", platform, attempt_id, pack(part), int(place == len(parts)))
            for place, part in enumerate(parts, 1)
        ]
        if len(parts) > 1:
            calls.insert(0, self._owned.call("intend", platform, attempt_id, pack([batch, *whole])))
        answers = await self._owned.last.write(platform, calls)
        if answers[-1] is None:
            return None
        done = answers[-len(parts) :]
        return sum(answer[0] for answer in done), done[-1][1], sum(answer[2] for answer in done)

    async def resume(self, platform: str) -> None:
        """Finish the settlements whose parts a crash of host or server cut off."""
        found = await self._link.do("HGETALL", self._keys.of(platform, "si"))
        for attempt_id, blob in pairs_of(found):
            batch, *whole = unpack(blob)
            await self._carry_settlement(platform, int(attempt_id), batch, whole)
