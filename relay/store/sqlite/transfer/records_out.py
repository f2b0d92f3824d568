"""Callbacks and requests of a file as plain records."""

from collections.abc import Callable
from typing import Any, Final

from relay.core.errors import StoreUnusable
from relay.core.model import State
from relay.sealing.codec import Column
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.sealed_values import UNREADABLE, Seals
from relay.store.transfer.hashes import text_of
from relay.store.transfer.records import AttemptRecord, CallbackRecord

_PLAIN: Final = (
    *("event", "lane", "priority", "grp", "content_type", "traceparent", "bytes", "accepted_at", "expires_s"),
    *("expires_at", "due_at", "state", "attempts", "spent", "first_sent_at", "code"),
)
"""Columns of a callback that are carried as they are."""
_CALLBACKS: Final = f"""
SELECT {", ".join(f"c.{name}" for name in _PLAIN)}, k.points,
  c.seq, c.batch, c.trail, c.key, c.key_text, c.idem, i.digest, i.targets, c.ended_at, c.held, c.dropped,
  c.maybe_applied, c.live, c.overtaken, c.reason, c.message, c.superseded_by, c.gathered_since, p.body, p.sealed,
  o.idempotency_key, o.reference
FROM callback AS c LEFT JOIN payload AS p ON p.seq = c.seq LEFT JOIN origin AS o ON o.seq = c.seq
  LEFT JOIN cost AS k ON k.seq = c.seq LEFT JOIN idempotency AS i ON i.hash = c.idem
WHERE {{}}
"""  # noqa: S608 - constants of this file
_FIELDS: Final = tuple("group" if name == "grp" else name for name in (*_PLAIN, "points"))
_ATTEMPTS_OF: Final = """
SELECT batch, id, started_at, ended_at IS NULL FROM attempt WHERE batch IN (SELECT value FROM json_each(?)) ORDER BY id
"""
_ATTEMPTS: Final = """
SELECT a.id, a.batch, a.n, a.grp, a.started_at, a.ended_at, coalesce(a.duration_s, 0.0), a.outcome, a.status, a.reason,
  a.excerpt, a.ambiguous, coalesce(a.purpose, a.n > 1), coalesce(w.items, b.items, 0),
  coalesce(nullif(a.wire_bytes, 0), w.bytes, 0), coalesce(w.points, b.items, 0)
FROM attempt AS a LEFT JOIN batch AS b ON b.number = a.batch LEFT JOIN weight AS w ON w.attempt = a.id
WHERE {}
"""


class RecordsOut:
    """Reads with ``execute``, on the thread of its connection."""

    def __init__(self, execute: Callable[..., Any], ids: PublicIds, seals: Seals) -> None:
        self._execute = execute
        self._ids = ids
        self._seals = seals

    def batch(self, number: int) -> str:
        """Return the public id of a batch."""
        return self._ids.batch(self._execute, number)

    def callbacks(self, platform: int, where: str, *values: Any) -> list[CallbackRecord]:
        """Return the callbacks of a platform, which is ``?1`` in ``where``; ``values`` follow it."""
        rows: list[Any] = list(self._execute(_CALLBACKS.format(where), (platform, *values)))
        many = len(_FIELDS)
        carried = [_batches_of(*row[many + 1 : many + 3]) for row in rows]
        named = sorted({number for numbers in carried for number in numbers})
        settled: dict[int, list[int]] = {}
        since: dict[int, float] = {}
        for batch, attempt, started_at, under_way in self._execute(_ATTEMPTS_OF, (str(named),)):
            if under_way:
                since[batch] = started_at
            else:
                settled.setdefault(batch, []).append(attempt)
        return [
            self._callback(platform, row, numbers, settled, since) for row, numbers in zip(rows, carried, strict=True)
        ]

    def _callback(
        self, platform: int, row: Any, carried: list[int], settled: dict[int, list[int]], since: dict[int, float]
    ) -> CallbackRecord:
        plain: dict[str, Any] = dict(zip(_FIELDS, row, strict=False))
        seq, batch, _, key, key_text, idem, digest, targets, ended_at, held, dropped, maybe, live, *rest = row[
            len(_FIELDS) :
        ]
        overtaken, reason, message, newer, gathered_since, body, sealed, told_key, reference = rest
        told, pending = self._ids.callback(self._execute, seq), plain["state"] == State.PENDING
        payload, text = body, self._text(Column.KEY, platform, seq, key_text)
        if sealed:
            payload, text = self._seals.body(platform, seq, body, sealed)
            if payload is None and pending:
                raise StoreUnusable(f"the payload of callback {told} does not open, and it is pending: drop it first")
        frozen = pending and batch is not None
        hashed = "" if idem is None or digest is None else text_of(idem)
        return CallbackRecord(
            **plain,
            at=seq,
            id=told,
            payload=payload,
            key=text,
            key_hash="" if key is None else text_of(key),
            idempotency_hash=hashed if targets is None else "",
            digest=digest or b"",
            post_hash=hashed if targets is not None else "",
            idempotency_key=self._text(Column.IDEMPOTENCY_KEY, platform, seq, told_key),
            reference=self._text(Column.REFERENCE, platform, seq, reference),
            place=seq,
            ended_at=ended_at or 0.0,
            under_way_since=since.get(batch, 0.0) if frozen else 0.0,
            batches=[self.batch(number) for number in carried],
            attempt_ids=sorted(attempt for number in carried for attempt in settled.get(number, ())),
            frozen=frozen,
            held=bool(held),
            dropped=bool(dropped),
            maybe_applied=bool(maybe),
            blocks=plain["state"] == State.DEAD and bool(live),
            overtaken=bool(overtaken),
            reason=reason or "",
            message=self._text(Column.MESSAGE, platform, seq, message) or "",
            superseded_by="" if newer is None else self._ids.callback(self._execute, newer),
            gathered_since=gathered_since or 0.0,
        )

    def _text(self, column: Column, platform: int, row: int, kept: Any) -> str | None:
        """Return a kept text; None also where it does not open any more."""
        text = self._seals.shown(column, platform, row, kept)
        return None if text is None or (text == UNREADABLE and isinstance(kept, bytes)) else str(text)

    def attempts(self, platform: int, where: str, *values: Any) -> list[AttemptRecord]:
        """Return the requests of a platform, which is ``?1`` in ``where``; ``values`` follow it."""
        found: list[Any] = list(self._execute(_ATTEMPTS.format(where), (platform, *values)))
        return [
            AttemptRecord(
                at=row[0],
                batch=self.batch(row[1]),
                n=row[2],
                group=row[3],
                started_at=row[4],
                ended_at=row[5],
                duration_s=row[6],
                outcome=row[7] or "",
                status=row[8],
                reason=row[9] or "",
                excerpt=self._text(Column.EXCERPT, platform, row[0], row[10]) or "",
                ambiguous=bool(row[11]),
                purpose=row[12],
                items=row[13],
                bytes=row[14],
                points=row[15],
            )
            for row in found
        ]


def _batches_of(own: int | None, trail: str | None) -> list[int]:
    """Return the batches that carried a callback, its own last."""
    return [*map(int, (trail or "").split()), *([] if own is None else [own])]
