"""How callbacks reach SQLite: all rows of a group as two bound columns, bodies and headers.

A statement run per row would take the GIL back per row, and beside a busy loop each of those costs up to a switch
interval (docs/decisions). One ``INSERT .. SELECT`` over ``carray`` takes it once for the whole group, but carray
binds one column without NULLs. So everything but the body goes into a *header* per row: fixed-width decimal numbers,
then the texts, found by their offsets. Headers are made on the loop when a request comes in; the part that callbacks
of the same kind share is made once.
"""

import asyncio
from collections.abc import Sequence

from relay.core.model import Accepted, NewCallback
from relay.store.sqlite.names import Names

# Layout (1-based, as SQL's substr counts): 1 key hash (19), 20 body bytes (10), 30 platform (6), 36 lane (1),
# 37 expiry in microseconds (18), 55 59+ offsets of event, content type, key, idempotency hash, traceparent (7 each),
# 90 group, then the texts in that order.
_TEXTS_AT = 90
_SHAPES_KEPT = 4096  # distinct kinds remembered; a source of ever new event names must not grow memory
_LONGEST_US = 10**17  # three thousand years: "never" fits the width
_NO_KEY = b""

INSERT_PAYLOADS = "INSERT INTO payload (seq, body) SELECT ?1 + rowid, value FROM carray(?2)"

INSERT_CALLBACKS = """
INSERT INTO callback (seq, platform, grp, key, state, live, head, lane, prio, due_at, attempts, spent, strikes, batch,
  bytes, accepted_at, expires_s, expires_at, ended_at, first_sent_at, held, maybe_applied, overtaken, reason,
  key_text, event, content_type, traceparent, superseded_by, priority, trail, idem)
SELECT ?1 + r, platform, CAST(substr(h, 90, oe - 90) AS TEXT), NULLIF(key, 0), 0, 1,
  key = 0 OR NOT EXISTS (SELECT 1 FROM callback AS e INDEXED BY callback_key WHERE e.key = n.key AND e.live = 1),
  lane, lane, ?2, 0, 0, 0, NULL,
  bytes, ?2, expires_s, ?2 + expires_s, NULL, 0.0, 0, 0, 0, NULL,
  CASE WHEN key <> 0 THEN CAST(substr(h, ok, oi - ok) AS TEXT) END,
  CASE WHEN oc > oe THEN CAST(substr(h, oe, oc - oe) AS TEXT) END,
  CASE WHEN ok > oc THEN CAST(substr(h, oc, ok - oc) AS TEXT) END,
  CASE WHEN length(h) >= ot THEN CAST(substr(h, ot) AS TEXT) END,
  NULL, lane, NULL,
  CASE WHEN ot > oi THEN substr(h, oi, ot - oi) END
FROM (
  SELECT rowid AS r, value AS h,
    CAST(substr(value, 1, 19) AS INTEGER) AS key, CAST(substr(value, 20, 10) AS INTEGER) AS bytes,
    CAST(substr(value, 30, 6) AS INTEGER) AS platform, CAST(substr(value, 36, 1) AS INTEGER) AS lane,
    CAST(substr(value, 37, 18) AS INTEGER) / 1e6 AS expires_s,
    CAST(substr(value, 55, 7) AS INTEGER) AS oe, CAST(substr(value, 62, 7) AS INTEGER) AS oc,
    CAST(substr(value, 69, 7) AS INTEGER) AS ok, CAST(substr(value, 76, 7) AS INTEGER) AS oi,
    CAST(substr(value, 83, 7) AS INTEGER) AS ot
  FROM carray(?3)
) AS n
"""


class Post:
    """The rows of one ``accept``, ready to be bound."""

    __slots__ = ("bodies", "bytes", "counts", "future", "headers", "idempotency", "keys", "weight")

    def __init__(self, future: "asyncio.Future[Accepted]") -> None:
        self.future = future
        self.headers: list[bytes] = []
        self.bodies: list[bytes] = []
        self.keys: list[int] = []  # key hashes, 0 = unordered
        self.idempotency: dict[int, tuple[bytes, bytes]] = {}  # row -> hash, digest
        self.bytes = 0
        self.weight = 0


class RowEncoder:
    """Makes posts of callbacks; on the loop, a few microseconds per row."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._shapes: dict[tuple[object, ...], tuple[bytes, bytes, int, bytes]] = {}

    def encode(self, rows: Sequence[NewCallback], future: "asyncio.Future[Accepted]") -> Post:
        """Return ``rows`` as a post that resolves ``future``."""
        post = Post(future)
        names = self._names
        shapes = self._shapes
        headers, bodies, keys = post.headers, post.bodies, post.keys
        total = 0
        for platform, payload, key, event, lane, expires_s, idempotency_key, content_type, traceparent, group in rows:
            kind = (platform, event, lane, expires_s, content_type, group)
            shape = shapes.get(kind)
            if shape is None:
                shape = self._shape(platform, event, lane, expires_s, content_type, group)
            fixed, texts, key_at, prefix = shape
            if key is None:
                key_bytes, hashed = _NO_KEY, 0
            else:
                key_bytes = key.encode()
                hashed = names.key_hash(prefix, key_bytes)
            size = len(payload)
            total += size
            hash_at = key_at + len(key_bytes)
            if idempotency_key is None:
                idem, trace_at = _NO_KEY, hash_at
            else:
                idem = names.idempotency_hash(prefix, idempotency_key)
                trace_at = hash_at + len(idem)
                digest = names.body_digest(payload, key_bytes, (event or "").encode())
                post.idempotency[len(bodies)] = (idem, digest)
            trace = traceparent.encode() if traceparent else _NO_KEY
            headers.append(
                b"%019d%010d%b%07d%07d%b%b%b%b"
                % (hashed, size, fixed, hash_at, trace_at, texts, key_bytes, idem, trace)
            )
            bodies.append(payload)
            keys.append(hashed)
        post.bytes = total
        post.weight = len(bodies)
        return post

    def _shape(
        self, platform: str, event: str | None, lane: int, expires_s: float, content_type: str | None, group: str
    ) -> tuple[bytes, bytes, int, bytes]:
        group_bytes, event_bytes = group.encode(), (event or "").encode()
        type_bytes = (content_type or "").encode()
        event_at = _TEXTS_AT + len(group_bytes)
        type_at = event_at + len(event_bytes)
        key_at = type_at + len(type_bytes)
        expires_us = min(_LONGEST_US, round(max(0.0, min(expires_s, _LONGEST_US / 1e6)) * 1e6))
        fixed = b"%06d%d%018d%07d%07d%07d" % (
            self._names.number(platform),
            lane,
            expires_us,
            event_at,
            type_at,
            key_at,
        )
        if len(self._shapes) >= _SHAPES_KEPT:
            self._shapes.clear()
        shape = (fixed, group_bytes + event_bytes + type_bytes, key_at, self._names.key_prefix(platform))
        self._shapes[platform, event, lane, expires_s, content_type, group] = shape
        return shape
