"""What lies in the places of a row, a batch and an attempt: the same names for Python and for the scripts.

They are MessagePack arrays. A script writes ``row[@KEY]`` for the first place of a row; ``scripts.py`` puts the number
in. A new field goes to the end: a row of an older version is shorter.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.core.ids import encode_id
from relay.core.model import Weight

ROW: Final = (
    *("KEY", "KH", "EVENT", "LANE", "PRIO", "GROUP", "CTYPE", "TRACE", "IDEM", "POST", "BYTES", "ACC", "EXPS", "EXPAT"),
    *("DUE", "PLACE", "STATE", "ENDED", "ATTEMPTS", "SPENT", "FIRST", "BATCH", "HELD", "DROPPED", "MAYBE"),
    *(
        "REASON",
        "MESSAGE",
        "CODE",
        "SUPER",
        "ATTS",
        "BLOCK",
        "HEAD",
        "REF",
        "SINCE",
        "ALIAS",
        "IKEY",
        "POINTS",
        "SEALED",
    ),
)
BATCH: Final = (
    *("GROUP", "CREATED", "ROOT", "ATTEMPTS", "STATE", "ATTEMPT", "DUE", "EXPAT", "CONFIRM", "PART", "SEQS"),
)
ATTEMPT: Final = (
    *("BATCH", "N", "GROUP", "STARTED", "ENDED", "DURATION", "OUTCOME", "STATUS", "REASON", "EXCERPT", "AMBIGUOUS"),
    *("ROWS", "PURPOSE", "ITEMS", "BYTES", "POINTS"),
)
LENT: Final = ("PLATFORM", "QUOTA", "GROUP", "TAKEN", "FROM", "DONE")
PLACES: Final = {
    **{name: place for place, name in enumerate(ROW, 1)},
    **{f"B_{name}": place for place, name in enumerate(BATCH, 1)},
    **{f"A_{name}": place for place, name in enumerate(ATTEMPT, 1)},
    **{f"L_{name}": place for place, name in enumerate(LENT, 1)},
}
"""By name the place in its array, counted from 1 as Lua does."""

unpack = msgspec.msgpack.Decoder().decode
pack = msgspec.msgpack.Encoder().encode


def pairs_of(found: Any) -> list[tuple[Any, Any]]:
    """Return the fields and values of a hash, which the client gives as a mapping or, out of a pipeline, flat."""
    return list(found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True))


TOTALS: Final = ("accepted", "delivered", "dead", "expired", "superseded")
"""What is counted of a platform, as the ledger names it."""


@dataclass(slots=True)
class StoredRow:
    """A callback as it lies in the store: without what a request under way will have changed."""

    seq: int
    key: str | None
    event: str | None
    lane: int
    priority: int
    group: str
    content_type: str | None
    traceparent: str | None
    bytes: int
    accepted_at: float
    expires_s: float
    expires_at: float
    due_at: float
    state: int
    ended_at: float
    attempts: int
    spent: int
    first_sent_at: float
    batch: int
    held: bool
    dropped: bool
    maybe_applied: bool
    reason: str
    message: str
    code: str | None
    superseded_by: int
    attempt_ids: list[int]
    head: bool
    reference: str | None
    alias: str  # the id that a host's spool gave out; empty without one
    sealed: bool  # its payload is; of texts it is seen by their type
    in_flight: bool = False

    def public_id(self, tag: int) -> str:
        """Return the id that was given out, on a platform with ``tag``."""
        return self.alias or encode_id(self.seq, tag)


def read_row(seq: int, packed: bytes) -> StoredRow:
    """Return a row; None stands as false in the store, because an array of Lua has no holes."""
    key, _, event, lane, priority, group, ctype, trace, _, _, size, accepted, expires_s, expires_at, *rest = unpack(
        packed
    )
    due, _, state, ended, attempts, spent, first, batch, held, dropped, maybe, *told = rest
    reason, message, code, newer, ids, _, head, reference, _, alias, *newer_fields = told
    return StoredRow(
        seq=seq,
        key=_text(key),
        event=_text(event),
        lane=lane,
        priority=priority,
        group=group,
        content_type=_text(ctype),
        traceparent=_text(trace),
        bytes=size,
        accepted_at=float(accepted),
        expires_s=float(expires_s),
        expires_at=float(expires_at),
        due_at=float(due),
        state=state,
        ended_at=float(ended),
        attempts=attempts,
        spent=spent,
        first_sent_at=float(first),
        batch=batch,
        held=bool(held),
        dropped=bool(dropped),
        maybe_applied=bool(maybe),
        reason=reason,
        message=message,
        code=_text(code),
        superseded_by=newer,
        attempt_ids=list(ids),  # an empty table of Lua is packed as an empty array or map
        head=bool(head),
        reference=_text(reference),
        alias=alias,
        sealed=bool(newer_fields[2]) if len(newer_fields) > 2 else False,
    )


def _text(value: Any) -> str | None:
    return None if value is False else value


@dataclass(slots=True)
class StoredAttempt:
    """A recorded request; ``ended_at`` is None while no answer is known."""

    attempt_id: int
    batch: int
    number: int
    group: str
    started_at: float
    ended_at: float | None
    duration_s: float
    outcome: str
    status: int | None
    reason: str
    excerpt: str
    ambiguous: bool
    purpose: int
    weight: Weight


def read_attempt(attempt_id: int, packed: bytes) -> StoredAttempt:
    """Return an attempt."""
    batch, number, group, started, ended, duration, outcome, status, reason, excerpt, ambiguous, *rest = unpack(packed)
    _, purpose, *weight = rest
    return StoredAttempt(
        attempt_id=attempt_id,
        batch=batch,
        number=number,
        group=group,
        started_at=float(started),
        ended_at=None if ended is False else float(ended),
        duration_s=float(duration),
        outcome=outcome,
        status=status or None,
        reason=reason,
        excerpt=excerpt,
        ambiguous=bool(ambiguous),
        purpose=purpose,
        weight=Weight(1, *weight),
    )
