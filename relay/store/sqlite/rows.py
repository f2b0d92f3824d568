"""How callbacks reach SQLite: a group's bodies as one bound column, its other facts as rows of ``VALUES``.

A statement run per row would take the GIL back per row, and beside a busy loop each of those costs up to a switch
interval (docs/decisions). Bodies go in with one ``INSERT .. SELECT`` over ``carray``. That binds one column without
NULLs, and taking fourteen columns apart again in SQL costs twice as much as binding them, so the facts go in as
``VALUES`` of some hundred rows a statement, short ones filled up with rows that are left out.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from relay.core.model import Accepted, NewCallback
from relay.store.sqlite.names import Names

INSERT_PAYLOADS = "INSERT INTO payload (seq, body) SELECT ?1 + rowid, value FROM carray(?2)"

# Rows per statement. The text of the largest stays under the 16 KiB up to which apsw keeps statements compiled.
_SIZES = (400, 64, 8)
_WASTE = 3  # a statement may be filled to a third with rows that count, rather than running three smaller ones
# seq, head, then the facts; state, live and what a new callback has not done yet are the same for all.
_COLUMNS = 13
_ROW = f"({','.join('?' * _COLUMNS)})"
_INSERT = """
INSERT INTO callback (seq, head, platform, grp, key, lane, prio, priority, bytes, expires_s, expires_at, key_text,
  event, content_type, traceparent, idem, state, live, due_at, accepted_at, attempts, spent, strikes, first_sent_at,
  held, maybe_applied, overtaken)
SELECT column1, column2, column3, column4, column5, column6, column6, column6, column7, column8, ?1 + column8, column9,
  column10, column11, column12, column13, 0, 1, ?1, ?1, 0, 0, 0, 0.0, 0, 0, 0
FROM (VALUES {rows}) WHERE column1 IS NOT NULL
"""
_INSERTS = {size: _INSERT.format(rows=",".join([_ROW] * size)) for size in _SIZES}
_FILLER = (None,) * _COLUMNS


class Facts(NamedTuple):
    """What is kept of a callback beside its body, in the order of the statement."""

    platform: int
    group: str
    key: int | None
    lane: int
    size_bytes: int
    expires_s: float
    key_text: str | None
    event: str | None
    content_type: str | None
    traceparent: str | None
    idem: bytes | None


class Post:
    """The rows of one ``accept``, ready to be bound."""

    __slots__ = ("bodies", "bytes", "dead", "facts", "future", "idempotency", "weight")

    def __init__(self, future: "asyncio.Future[Accepted]") -> None:
        self.future = future
        self.bodies: list[bytes] = []
        self.facts: list[tuple[Any, ...]] = []  # Facts, as plain tuples: making them is half as dear
        self.idempotency: dict[int, tuple[bytes, bytes]] = {}  # row -> hash, digest
        self.dead: dict[int, str] = {}  # row -> why it is dead from the start
        self.bytes = 0
        self.weight = 0


def encode(names: Names, rows: Sequence[NewCallback], future: "asyncio.Future[Accepted]") -> Post:
    """Return ``rows`` as a post that resolves ``future``; on the loop, two microseconds per row."""
    post = Post(future)
    bodies, facts = post.bodies, post.facts
    total = 0
    of: str | None = None
    number, prefix = 0, b""
    hashed: int | None
    for platform, payload, key, event, lane, expires_s, idempotency_key, content_type, traceparent, group, dead in rows:
        if platform != of:
            of, number, prefix = platform, names.number(platform), names.key_prefix(platform)
        hashed = None if key is None else names.key_hash(prefix, key.encode())
        idem = None
        if idempotency_key is not None:
            idem = names.idempotency_hash(prefix, idempotency_key)
            post.idempotency[len(bodies)] = (idem, names.body_digest(payload, key, event))
        if dead is not None:
            post.dead[len(bodies)] = dead
        size = len(payload)
        total += size
        facts.append((number, group, hashed, lane, size, expires_s, key, event, content_type, traceparent, idem))
        bodies.append(payload)
    post.bytes = total
    post.weight = len(bodies)
    return post


def insert_callbacks(
    execute: Callable[[str, Sequence[Any]], Any],
    first: int,
    now: float,
    facts: Sequence[tuple[Any, ...]],
    heads: bytearray,
) -> None:
    """Insert rows numbered from ``first`` on; ``heads`` says of each whether it may be claimed."""
    at = 0
    for size in _sizes(len(facts)):
        values: list[Any] = [now]
        part = facts[at : at + size]
        for seq, (head, row) in enumerate(zip(heads[at : at + size], part, strict=True), first + at):
            values += (seq, head, *row)
        for _ in range(size - len(part)):
            values += _FILLER
        execute(_INSERTS[size], values)
        at += size


def _sizes(count: int) -> Iterator[int]:
    """Return the sizes of the statements for ``count`` rows, the last one filled up."""
    while count > 0:
        size = next((size for size in _SIZES if count * _WASTE > size), _SIZES[-1])
        yield size
        count -= size
