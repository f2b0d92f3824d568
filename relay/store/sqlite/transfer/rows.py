"""Writes carried callbacks, batches, attempts and idempotency keys as a file keeps them."""

import math
from array import array
from collections.abc import Callable
from typing import Any, Final

import msgspec

from relay.core.model import State
from relay.sealing.codec import Column, frame
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.transfer.numbering import Numbering
from relay.store.transfer.hashes import number_of
from relay.store.transfer.records import AttemptRecord, BatchRecord, CallbackRecord, PostRecord

_COLUMNS: Final = (
    *(
        "seq",
        "platform",
        "grp",
        "key",
        "state",
        "live",
        "head",
        "lane",
        "prio",
        "due_at",
        "attempts",
        "spent",
        "dropped",
    ),
    *("batch", "bytes", "accepted_at", "expires_s", "expires_at", "ended_at", "first_sent_at", "held", "maybe_applied"),
    *(
        "overtaken",
        "reason",
        "key_text",
        "event",
        "content_type",
        "traceparent",
        "priority",
        "message",
        "trail",
        "idem",
    ),
    *("code", "gathered_since"),
)
_CALLBACK: Final = f"INSERT INTO callback ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_TRAIL_KEPT: Final = 20  # batches, as many as a file remembers of a callback
_MS: Final = 1e6


class RowsIn:
    """Inside the transaction of ``execute``. Numbers that are taken are passed over (``Numbering``)."""

    def __init__(self, execute: Callable[..., Any], numbering: Numbering, seals: Seals, *, numbered: bool) -> None:
        """``numbered``: hashes come as numbers, written as 16 hex digits."""
        self._execute = execute
        self._numbering = numbering
        self._seals = seals
        self.numbered = numbered
        self._last: dict[int, int] = {}  # of each platform: the newest number here

    def key_number(self, platform: str, hashed: str) -> int:
        """Return the number that stands for a carried hash; ``platform`` is empty for a routed post."""
        return int(hashed, 16) if self.numbered else number_of(platform.encode() + b"\0", hashed)

    def callback(self, number: int, platform: str, record: CallbackRecord) -> None:
        """Write a callback behind those of its platform, and its own idempotency key."""
        last = self._last.get(number)
        if last is None:
            last = self._execute("SELECT coalesce(max(seq), 0) FROM callback WHERE platform = ?", (number,)).get
        seq = self._last[number] = self._numbering.place(record.id, record.at, last)
        self.callback_at(seq, number, platform, record)

    def callback_at(self, seq: int, number: int, platform: str, record: CallbackRecord) -> None:
        """Write a callback under a number that is free."""
        execute = self._execute
        pending = record.state == State.PENDING
        batches = [self._numbering.batch(batch) for batch in record.batches]
        own = (
            batches.pop() if batches and (record.frozen or not (pending or record.state == State.SUPERSEDED)) else None
        )
        key = self.key_number(platform, record.key_hash) if record.key_hash else None
        idem = None
        if record.post_hash:
            idem = self.key_number("", record.post_hash)
        elif record.idempotency_hash:
            idem = self.key_number(platform, record.idempotency_hash)
            execute("INSERT OR IGNORE INTO idempotency VALUES (?, ?, ?, NULL)", (idem, seq, record.digest))
        free = pending and not record.frozen and not record.held
        values = (
            *(seq, number, record.group, key, record.state, int(pending or record.blocks), int(free and key is None)),
            *(record.lane, record.lane, record.due_at, record.attempts, record.spent, int(record.dropped), own),
            *(record.bytes, record.accepted_at, record.expires_s, record.expires_at, record.ended_at or None),
            *(record.first_sent_at, int(record.held), int(record.maybe_applied), int(record.overtaken)),
            *(record.reason or None, self._key_text(number, seq, record), record.event, record.content_type),
            *(record.traceparent, record.priority, self._text(Column.MESSAGE, number, seq, record.message or None)),
            *(" ".join(map(str, batches[-_TRAIL_KEPT:])) or None, idem, record.code, record.gathered_since or None),
        )
        execute(_CALLBACK, values)
        self._beside(number, seq, record)

    def _key_text(self, platform: int, seq: int, record: CallbackRecord) -> str | bytes | None:
        """Return what is kept of the ordering key; in a sealed file it lies with the payload, while there is one."""
        sealed_with_it = self._seals.codec is not None and record.payload is not None
        return None if sealed_with_it else self._text(Column.KEY, platform, seq, record.key)

    def _text(self, column: Column, platform: int, seq: int, text: str | None) -> str | bytes | None:
        return None if text is None else self._seals.text(column, platform, seq, seq, text)

    def _beside(self, platform: int, seq: int, record: CallbackRecord) -> None:
        execute, codec = self._execute, self._seals.codec
        if record.payload is not None:
            body = record.payload
            if codec is not None:
                body = codec.seal(Column.BODY, platform, seq / _MS, seq, frame(body, record.key))
            execute("INSERT INTO payload (seq, body, sealed) VALUES (?, ?, ?)", (seq, body, int(codec is not None)))
        if record.idempotency_key is not None or record.reference is not None:
            told = self._text(Column.IDEMPOTENCY_KEY, platform, seq, record.idempotency_key)
            execute(
                "INSERT INTO origin VALUES (?, ?, ?)",
                (seq, told, self._text(Column.REFERENCE, platform, seq, record.reference)),
            )
        if record.points is not None:
            execute("INSERT INTO cost VALUES (?, ?)", (seq, record.points))
        if record.superseded_by:
            self.newer(seq, record.superseded_by)

    def newer(self, seq: int, newer_id: str) -> None:
        """Note what stands for a callback: it may come later."""
        self._execute("INSERT INTO copy_newer VALUES (?, ?)", (seq, newer_id))

    def batch(self, platform: int, record: BatchRecord) -> None:
        """Write a batch."""
        members = array("q", self._numbering.there(record.members))
        self._execute(
            "INSERT INTO batch (number, platform, grp, state, due_at, attempts, created_at, root, items, expires_at, "
            "members, confirm, waiting_since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(
                    self._numbering.batch(record.id),
                    platform,
                    record.group,
                    record.state,
                    record.due_at,
                    record.attempts,
                ),
                *(record.created_at, self._numbering.batch(record.root), len(record.members), record.expires_at),
                *(members.tobytes(), int(record.confirm), _finite(record.waiting_since)),
            ),
        )

    def attempt(self, platform: int, record: AttemptRecord) -> None:
        """Write an attempt, and what it weighs."""
        execute, number = self._execute, record.at
        while execute("SELECT EXISTS (SELECT 1 FROM attempt WHERE id = ?)", (number,)).get:
            number += 1
        batch = self._numbering.batch(record.batch)
        excerpt = self._seals.text(Column.EXCERPT, platform, batch, number, record.excerpt)
        over = record.ended_at is not None
        execute(
            "INSERT INTO attempt (id, platform, grp, batch, n, started_at, ended_at, outcome, status, duration_s, "
            "reason, excerpt, ambiguous, wire_bytes, purpose) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(number, platform, record.group, batch, record.n, record.started_at, record.ended_at),
                *(record.outcome if over else None, record.status, record.duration_s if over else None, record.reason),
                *(excerpt, int(record.ambiguous), record.bytes if over else None, record.purpose),
            ),
        )
        if record.items:
            execute("INSERT INTO weight VALUES (?, ?, ?, ?)", (number, record.items, record.bytes, record.points))

    def post(self, record: PostRecord, names: Names) -> None:
        """Write the idempotency key of a routed post."""
        pairs = [(names.number(platform), self._numbering.callback(told)) for platform, told in record.rows.items()]
        targets = msgspec.json.encode(pairs).decode()
        self._execute(
            "INSERT OR IGNORE INTO idempotency VALUES (?, ?, ?, ?)",
            (self.key_number("", record.hash), pairs[0][1], record.digest, targets),
        )


def _finite(since: float) -> float:
    return since if since < math.inf else 0.0
