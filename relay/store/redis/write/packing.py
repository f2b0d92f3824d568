"""Callbacks as the scripts take them: what is hashed, how large a chunk is."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Raw

from relay.core.model import NewCallback, RoutedPost
from relay.store.redis.server.fields import pack
from relay.store.redis.server.keys import KeyNames

SCRIPT_ROWS: Final = 100  # that one script accepts, in two or three milliseconds
SCRIPT_BYTES: Final = 256 * 1024
CHUNK_ROWS: Final = 50  # of a bulk, which take their places in one script, beside others that do as much
CHUNK_BYTES: Final = 128 * 1024
DIGEST: Final = 12

PackedRow = list[object]
KEY, REPEAT, REFERENCE, IDEMPOTENCY_KEY, NUMBER = 0, 5, 13, 19, 21  # places in a packed row


def digest_of(keys: KeyNames, row: NewCallback | RoutedPost) -> str:
    """Return what makes two posts the same, in ``DIGEST`` characters: payload, key and event."""
    return keys.body_digest(row.payload, row.key, row.event)


def packed_row(
    keys: KeyNames, new: NewCallback, *, digest: str | None = None, post: str = "", idempotency_key: str | None = None
) -> PackedRow:
    """Return a row as ``adding.lua`` reads it, without its payload, which is no text.

    ``post`` is the hash of its routed post's idempotency key; ``idempotency_key`` is kept as it is, for its receipts.
    """
    return [
        False if new.key is None else new.key,
        "" if new.key is None else keys.key_hash(new.platform, new.key),
        False if new.event is None else new.event,
        int(new.lane),
        new.expires_s,
        "" if new.idempotency_key is None else keys.idempotency_hash(new.platform, new.idempotency_key),
        digest if digest is not None else ("" if new.idempotency_key is None else digest_of(keys, new)),
        False if new.content_type is None else new.content_type,
        False if new.traceparent is None else new.traceparent,
        new.group,
        len(new.payload) if new.body_bytes is None else new.body_bytes,
        False if new.dead_reason is None else new.dead_reason,
        post,
        False if new.reference is None else new.reference,
        new.delay_s,
        "",  # the id a spool gave out
        0,  # how long it waited there
        False,  # the id of what it repeats
        False,  # or whether that had another body
        False if idempotency_key is None else idempotency_key,
        False if new.points is None else new.points,
        False,  # the number it is sealed for
    ]


def packed_chunk(rows: Sequence[PackedRow], bodies: Sequence[bytes], span: range) -> bytes:
    """Return a chunk of a bulk as it is kept until it takes its place: an array of rows, each with its payload last."""
    some = slice(span.start, span.stop)
    return pack([[*row, _text(body)] for row, body in zip(rows[some], bodies[some], strict=True)])


def _text(value: bytes) -> Raw:
    """Return bytes as a MessagePack text, which need not be UTF-8: Lua knows one kind of string."""
    size = len(value)
    if size < 1 << 8:
        return Raw(b"\xd9" + size.to_bytes(1, "big") + value)
    if size < 1 << 16:
        return Raw(b"\xda" + size.to_bytes(2, "big") + value)
    return Raw(b"\xdb" + size.to_bytes(4, "big") + value)


def idempotency_keys(rows: Sequence[PackedRow]) -> list[tuple[int, object, object]]:
    """Return of each row with an idempotency key its place, the hash of the key and the digest of its body."""
    return [(place, row[REPEAT], row[REPEAT + 1]) for place, row in enumerate(rows) if row[REPEAT]]


def fits_one_script(rows: Sequence[NewCallback]) -> bool:
    """Say whether rows are few and small enough, and of one platform, to be accepted by one script."""
    if len(rows) == 1:
        return len(rows[0].payload) <= SCRIPT_BYTES
    first = rows[0].platform
    return (
        len(rows) <= SCRIPT_ROWS
        and all(row.platform == first for row in rows)
        and sum(len(row.payload) for row in rows) <= SCRIPT_BYTES
    )


def chunks(sizes: Sequence[int]) -> Iterator[range]:
    """Yield spans of rows that are a chunk of a bulk, given the length of each payload."""
    start, room = 0, CHUNK_BYTES
    for place, size in enumerate(sizes):
        if place > start and (place - start == CHUNK_ROWS or size > room):
            yield range(start, place)
            start, room = place, CHUNK_BYTES
        room -= size
    if start < len(sizes):
        yield range(start, len(sizes))
