"""How callbacks reach SQLite: a group's bodies as one bound column, its other facts as rows of ``VALUES``.

A statement run per row would take the GIL back per row, and beside a busy loop each of those costs up to a switch
interval (docs/decisions). Bodies go in with one ``INSERT .. SELECT`` over ``carray``. That binds one column without
NULLs, and taking fourteen columns apart again in SQL costs twice as much as binding them, so the facts go in as
``VALUES`` of some hundred rows a statement, short ones filled up with rows that are left out.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from relay.core.model import NewCallback, RoutedPost
from relay.sealing.codec import NO_KEY, frame, key_length
from relay.store.sqlite.file.names import Names

INSERT_PAYLOADS = "INSERT INTO payload (seq, body, sealed) SELECT ?1 + rowid, value, ?3 FROM carray(?2)"

# Rows per statement. The text of the largest stays under the 16 KiB up to which apsw keeps statements compiled.
_SIZES = (400, 64, 8)
_PACKED_ON_LOOP = 4000  # rows: 8 ms
_WASTE = 3  # a statement may be filled to a third with rows that count, rather than running three smaller ones
# seq, head, then the facts; state, live and what a new callback has not done yet are the same for all.
_COLUMNS = 13
_REMEMBERED_COLUMNS = 4  # hash, seq, digest, targets
_INSERT = """
INSERT INTO callback (seq, head, platform, grp, key, lane, prio, priority, bytes, expires_s, expires_at, key_text,
  event, content_type, traceparent, idem, state, live, due_at, accepted_at, attempts, spent, dropped, first_sent_at,
  held, maybe_applied, overtaken)
SELECT column1, column2, column3, column4, column5, column6, column6, column6, column7, column8, ?1 + column8, column9,
  column10, column11, column12, column13, 0, 1, ?1, ?1, 0, 0, 0, 0.0, 0, 0, 0
FROM (VALUES {rows}) WHERE column1 IS NOT NULL
"""
_REMEMBER = """
INSERT INTO idempotency (hash, seq, digest, targets) SELECT column1, column2, column3, column4 FROM (VALUES {rows})
WHERE column1 IS NOT NULL
"""


def _statements(template: str, columns: int) -> dict[int, str]:
    row = f"({','.join('?' * columns)})"
    return {size: template.format(rows=",".join([row] * size)) for size in _SIZES}


_INSERTS = _statements(_INSERT, _COLUMNS)
_REMEMBERS = _statements(_REMEMBER, _REMEMBERED_COLUMNS)


class RowFacts(NamedTuple):
    """What is kept of a callback beside its body, in the order of the statement."""

    platform: int
    group: str
    key: int | None
    lane: int
    size_bytes: int  # in a request's body
    expires_s: float
    key_text: str | None
    event: str | None
    content_type: str | None
    traceparent: str | None
    idem: int | None


_KEY_TEXT = RowFacts._fields.index("key_text")


class Fan(NamedTuple):
    """A routed post among the rows of its request: ``platforms`` has one number for each of its rows, in order."""

    first: int  # index of its first row
    platforms: tuple[int, ...]
    dead_reason: str | None


class Packed:
    """Rows ready to be bound. ``idempotency`` goes by row, or with ``fans`` by the index of the post.

    ``framed``: the bodies will be sealed, so each holds its ordering key too, and the other facts do not.
    """

    __slots__ = ("bodies", "bytes", "dead", "delays", "facts", "fans", "framed", "idempotency", "origins", "points")

    def __init__(self, *, framed: bool) -> None:
        self.framed = framed
        self.origins: dict[int, tuple[str | None, str | None]] = {}  # row -> idempotency key, reference
        self.bodies: list[bytes] = []
        self.facts: list[tuple[Any, ...]] = []  # Facts, as plain tuples: making them is half as dear
        self.idempotency: dict[int, tuple[int, bytes]] = {}  # -> hash, digest
        self.dead: dict[int, str] = {}  # row -> why it is dead from the start
        self.delays: dict[int, float] = {}  # row -> seconds before which it must not go
        self.points: dict[int, int] = {}  # row -> what it costs
        self.fans: list[Fan] | None = None
        self.bytes = 0


class PackedPost(Packed):
    """The rows of one ``accept`` or ``accept_posts``, and the future that gets the answer."""

    __slots__ = ("_pack", "future", "weight")

    def __init__(self, future: "asyncio.Future[Any]", weight: int, *, framed: bool) -> None:
        super().__init__(framed=framed)
        self.future = future
        self.weight = weight
        self._pack: Callable[[PackedPost], None] | None = None

    def later(self, names: Names, rows: Iterable[NewCallback], pack: Callable[["PackedPost"], None]) -> None:
        """Leave packing ``rows`` to the writing thread, because so many would hold up the loop."""
        for platform in {row.platform for row in rows}:
            names.number(platform)  # numbers are given on the loop only
        self._pack = pack

    def finish(self, *, framed: bool) -> None:
        """Pack what was left for later, in the form that is wanted by now; on the writing thread."""
        if self._pack is not None:
            self.framed = framed
            self._pack(self)
            self._pack = None
        elif framed and not self.framed:  # sealing was switched on meanwhile
            self.bodies = [frame(body, row[_KEY_TEXT]) for body, row in zip(self.bodies, self.facts, strict=True)]
            self.facts = [(*row[:_KEY_TEXT], None, *row[_KEY_TEXT + 1 :]) for row in self.facts]
            self.framed = True


def encode(names: Names, rows: Sequence[NewCallback], future: "asyncio.Future[Any]", *, framed: bool) -> PackedPost:
    """Return ``rows`` as a post that resolves ``future``; on the loop, two microseconds per row of a small one."""
    post = PackedPost(future, len(rows), framed=framed)
    if post.weight <= _PACKED_ON_LOOP:
        pack(post, names, rows)
    else:
        post.later(names, rows, partial(pack, names=names, rows=_handed_out(rows)))
    return post


def _handed_out(rows: Sequence[NewCallback]) -> Iterator[NewCallback]:
    """Yield ``rows`` once and keep none of them: 100,000 rows and what they are packed to are 40 MB each."""
    left = list(rows)
    del rows
    left.reverse()
    while left:
        yield left.pop()


def encode_posts(
    names: Names, posts: Sequence[RoutedPost], future: "asyncio.Future[Any]", *, framed: bool
) -> PackedPost:
    """Return routed posts as one that resolves ``future``; on the loop."""
    made = PackedPost(future, max(1, sum(len(post.rows) for post in posts)), framed=framed)
    if made.weight <= _PACKED_ON_LOOP:
        _pack_posts(made, names, posts)
    else:
        rows = (row for post in posts for row in post.rows)
        made.later(names, rows, partial(_pack_posts, names=names, posts=posts))
    return made


def _pack_posts(post: PackedPost, names: Names, posts: Sequence[RoutedPost]) -> None:
    post.fans = []
    prefix = names.key_prefix("")  # no platform has this name, so their keys are nobody's but theirs
    for index, (rows, payload, key, event, idempotency_key, dead_reason) in enumerate(posts):
        idem = None
        if idempotency_key is not None:
            idem = names.idempotency_hash(prefix, idempotency_key)
            post.idempotency[index] = (idem, names.body_digest(payload, key, event))
        post.fans.append(Fan(len(post.bodies), tuple([names.number(row.platform) for row in rows]), dead_reason))
        pack(post, names, rows, idem, idempotency_key)


def pack(
    packed: Packed,
    names: Names,
    rows: Iterable[NewCallback],
    post_idem: int | None = None,
    post_key: str | None = None,
) -> None:
    """Add ``rows`` to ``packed``; ``post_key`` is the idempotency key of their routed post, ``post_idem`` its hash."""
    bodies, facts, framed = packed.bodies, packed.facts, packed.framed
    total = 0
    of: str | None = None
    number, prefix = 0, b""
    hashed: int | None
    for (
        platform,
        payload,
        key,
        event,
        lane,
        expires_s,
        own_key,
        kind,
        trace,
        group,
        sized,
        dead,
        told,
        delay_s,
        points,
    ) in rows:
        if platform != of:
            of, number, prefix = platform, names.number(platform), names.key_prefix(platform)
        encoded = None if key is None else key.encode()
        hashed = None if encoded is None else names.key_hash(prefix, encoded)
        idem = post_idem
        if own_key is not None:
            idem = names.idempotency_hash(prefix, own_key)
            packed.idempotency[len(bodies)] = (idem, names.body_digest(payload, key, event))
        told_key = own_key or post_key if names.keeps_keys else None
        if told is not None or told_key is not None:
            packed.origins[len(bodies)] = (told_key, told)
        if delay_s:
            packed.delays[len(bodies)] = delay_s
        if points is not None:
            packed.points[len(bodies)] = points
        if dead is not None:
            packed.dead[len(bodies)] = dead
        size = len(payload)
        total += size
        if sized is not None:
            size = sized
        if framed:  # what ``frame`` does, without the call
            payload = payload + NO_KEY if encoded is None else payload + encoded + key_length(len(encoded))
            key = None
        facts.append((number, group, hashed, lane, size, expires_s, key, event, kind, trace, idem))
        bodies.append(payload)
    packed.bytes += total


def insert_callbacks(
    execute: Callable[[str, Sequence[Any]], Any],
    first: int,
    now: float,
    facts: Sequence[tuple[Any, ...]],
    heads: bytearray,
) -> None:
    """Insert rows numbered from ``first`` on; ``heads`` says of each whether it may be claimed."""
    at = 0
    filler = (None,) * _COLUMNS
    for size in _sizes(len(facts)):
        values: list[Any] = [now]
        part = facts[at : at + size]
        for seq, (head, row) in enumerate(zip(heads[at : at + size], part, strict=True), first + at):
            values += (seq, head, *row)
        for _ in range(size - len(part)):
            values += filler
        execute(_INSERTS[size], values)
        at += size


def remember(execute: Callable[[str, Sequence[Any]], Any], rows: Sequence[tuple[int, int, bytes, str | None]]) -> None:
    """Keep idempotency keys: hash, sequence number, digest and, of a routed post, the targets of each."""
    at = 0
    for size in _sizes(len(rows)):
        values: list[Any] = [value for row in rows[at : at + size] for value in row]
        values += [None] * (size * _REMEMBERED_COLUMNS - len(values))
        execute(_REMEMBERS[size], values)
        at += size


def _sizes(count: int) -> Iterator[int]:
    """Return the sizes of the statements for ``count`` rows, the last one filled up."""
    while count > 0:
        size = next((size for size in _SIZES if count * _WASTE > size), _SIZES[-1])
        yield size
        count -= size
