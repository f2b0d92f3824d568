"""Settlements as ``settle.lua`` reads them, and long ones cut into parts of a few milliseconds each."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from relay.core.model import Purpose
from relay.core.raw import Kept
from relay.core.settlement import Settlement

_PART: Final = 100
_DELIVERED, _REQUEUES, _ENDINGS, _HELD = 9, 10, 11, 12  # places in a packed settlement


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
