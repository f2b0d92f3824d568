"""Whether the file is sealed, and with what: its data keys, and single values sealed and opened."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import apsw

from relay.core.errors import StoreUnusable
from relay.sealing.codec import NOBODY, Codec, Column, WrappedKey, unframed
from relay.sealing.master_keys import DoesNotOpen, KeySource, MasterKeys
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.transaction import Transaction, numbers

UNREADABLE = "(sealed: does not open)"
"""Stands for a text that does not open, or for which no key was given."""

_SECRET_BYTES = 16  # a sealed one is longer
_KEPT = "kept_key"  # name in meta of what the source of the keys gave us to keep
_BATCH_S = 1e6  # numbers of callbacks and batches are microseconds
_SEALED_BODIES = """
SELECT p.seq, c.platform, p.body FROM carray(?) AS a CROSS JOIN payload AS p ON p.seq = a.value
  JOIN callback AS c ON c.seq = p.seq WHERE p.sealed = 1
"""
_SAVE = "INSERT OR REPLACE INTO data_key (id, platform, day, master, wrapped) VALUES (?, ?, ?, ?, ?)"


class Seals:
    """Seals and opens what the file holds. Without a codec nothing is sealed, and what is sealed cannot be read."""

    def __init__(self, codec: Codec | None, secret: bytes | None) -> None:
        """``secret`` is what hashes are keyed with; None where it is sealed and no key was given."""
        self.codec = codec
        self._names = None if secret is None else Names(secret, {})

    def save(self, transaction: Transaction) -> None:
        """Write the data keys made since the last commit. Call it after the last value was sealed."""
        codec = self.codec
        if codec is None or not codec.fresh:
            return
        saved = list(codec.fresh)
        transaction.connection.executemany(_SAVE, saved)
        transaction.on_commit.append(lambda: codec.fresh.clear())

    def text(self, column: Column, platform: int, since: int, row: int, text: str) -> str | bytes:
        """Return a text as it is kept: sealed, with the platform's data key of the day of ``since``, in microseconds.

        An empty text says nothing and stays one.
        """
        if self.codec is None or not text:
            return text
        return self.codec.seal(column, platform, since / _BATCH_S, row, text.encode("utf-8", "surrogatepass"))

    def words(self, transaction: Transaction, platform: int, seqs: Sequence[int], message: str) -> None:
        """Keep a platform's words about callbacks, each sealed for its row; without a codec that is done already."""
        if self.codec is not None and message:
            rows = [(self.text(Column.MESSAGE, platform, seq, seq, message), seq) for seq in seqs]
            transaction.connection.executemany("UPDATE callback SET message = ? WHERE seq = ?", rows)
            self.save(transaction)

    def shown(self, column: Column, platform: int, row: int, kept: Any) -> Any:
        """Return a kept text as it was; what was not sealed is returned as it is."""
        if not isinstance(kept, bytes):
            return kept
        if self.codec is None:
            return UNREADABLE
        try:
            return self.codec.open(column, platform, row, kept).decode("utf-8", "surrogatepass")
        except DoesNotOpen:
            return UNREADABLE

    def opened(
        self,
        platform: int,
        seqs: Sequence[int],
        bodies: Sequence[bytes],
        keys: Sequence[str | None],
        sealed: Sequence[int],
    ) -> tuple[list[Any], list[str | None]]:
        """Return payloads and ordering keys of rows, some of which are sealed; None is a payload that does not open."""
        payloads: list[Any] = list(bodies)
        texts = list(keys)
        places = [place for place, one in enumerate(sealed) if one]
        if self.codec is None:
            found: list[bytes | None] = [None] * len(places)
        else:
            rows = [seqs[place] for place in places]
            found = self.codec.open_rows(Column.BODY, platform, rows, [bodies[place] for place in places])
        for place, text in zip(places, found, strict=True):
            payloads[place], texts[place] = (None, None) if text is None else unframed(text)
        return payloads, texts

    def body(self, platform: int, seq: int, body: bytes, sealed: int) -> tuple[bytes | None, str | None]:
        """Return one kept payload, and the ordering key sealed with it; None is a payload that does not open."""
        (payload,), (key,) = self.opened(platform, (seq,), (body,), (None,), (sealed,))
        return payload, key

    def keep_keys(self, transaction: Transaction, seqs: Sequence[int]) -> None:
        """Keep the ordering keys of callbacks whose payloads, with which they are sealed, are to be deleted."""
        if self.codec is None:
            return
        rows = list(transaction.execute(_SEALED_BODIES, (numbers(seqs),)))
        kept = [(self.body(platform, seq, body, 1)[1], platform, seq) for seq, platform, body in rows]
        anew = [(self.text(Column.KEY, platform, seq, seq, key), seq) for key, platform, seq in kept if key is not None]
        transaction.connection.executemany("UPDATE callback SET key_text = ? WHERE seq = ?", anew)
        self.save(transaction)

    def with_key(self, key: str, platforms: Mapping[str, int]) -> tuple[str, tuple[object, ...]]:
        """Return the condition that a callback of one of ``platforms`` has the ordering key, and its values.

        Raises ``StoreUnusable`` where the file is sealed and no key was given.
        """
        if self.codec is None and self._names is not None:
            return "key_text = ?", (key,)
        if self._names is None:
            raise StoreUnusable("the store is sealed: without privacy.encrypt.key no ordering key is found in it")
        numbers = tuple(self._names.key_number(platform, key) for platform in platforms)
        return f"key IN ({', '.join('?' * len(numbers))})", numbers

    def bodies(self, first: int, platforms: Sequence[int], bodies: Sequence[bytes]) -> Sequence[bytes]:
        """Return framed bodies as they are kept; rows are numbered from ``first``, each of the platform beside it."""
        codec = self.codec
        if codec is None:
            return bodies
        sealed: list[bytes] = []
        at = 0
        for platform, run in groupby(platforms):
            end = at + len(list(run))
            rows = range(first + at, first + end)
            sealed += codec.seal_rows(Column.BODY, platform, rows[0] / _BATCH_S, rows, bodies[at:end])
            at = end
        return sealed


def kept_keys(connection: apsw.Connection) -> list[WrappedKey]:
    """Return the data keys that the file keeps."""
    rows = connection.execute("SELECT id, platform, day, master, wrapped FROM data_key ORDER BY id")
    return [WrappedKey(*row) for row in rows]


class Unlocked(NamedTuple):
    """The master keys of a file, and what their source wants kept in it."""

    masters: MasterKeys
    keep: str | None


def check_keys(connection: apsw.Connection, path: object, source: KeySource | None) -> Unlocked | None:
    """Return the master keys, after a look that they are those of the file; it writes nothing.

    Raises ``StoreUnusable`` where one is missing, and ``KeysUnavailable``.
    """
    has_keys = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'data_key')").get
    used = [row[0] for row in connection.execute("SELECT DISTINCT master FROM data_key")] if has_keys else []
    if source is None:
        if used and connection.execute("SELECT EXISTS (SELECT 1 FROM callback)").get:
            raise StoreUnusable(
                f"{path} is sealed with the key {', '.join(used)}; give that key as privacy.encrypt.key: sealing "
                "cannot be switched off while sealed callbacks are there"
            )
        return None
    has_meta = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'meta')").get
    kept = connection.execute("SELECT value FROM meta WHERE name = ?", (_KEPT,)).get if has_meta else None
    found = Unlocked(*source.keys(kept))
    missing = missing_keys(used, found.masters)
    if missing:
        raise StoreUnusable(f"{path} {missing}")
    return found


def unlock(connection: apsw.Connection, meta: dict[str, Any], found: Unlocked | None) -> tuple[bytes, Seals]:
    """Return the secret that hashes are keyed with, and what seals; inside a transaction. ``meta`` is written after.

    The secret is sealed where the file is, so that who has the file alone cannot try out phone numbers on its hashes.
    """
    if found is None:
        if len(meta["secret"]) != _SECRET_BYTES:
            _leave_sealing(connection, meta)
        return meta["secret"], Seals(None, meta["secret"])
    codec = Codec(found.masters, kept_keys(connection))
    secret = meta["secret"]
    if len(secret) == _SECRET_BYTES:
        meta["secret"] = codec.seal(Column.SECRET, NOBODY, 0.0, 0, secret)
    else:
        secret = codec.open(Column.SECRET, NOBODY, 0, secret)
    if found.keep is not None:
        meta[_KEPT] = found.keep
    connection.executemany(_SAVE, codec.fresh)
    codec.fresh.clear()
    return secret, Seals(codec, secret)


def seals_for_reading(connection: apsw.Connection, path: object, source: KeySource | None) -> Seals:
    """Return what opens the file for who only reads it; without keys, what is sealed stays so.

    Raises ``StoreUnusable`` where keys are given and are not those of the file, and ``KeysUnavailable``.
    """
    secret = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    if secret is None or len(secret) == _SECRET_BYTES:
        return Seals(None, secret)
    found = None if source is None else check_keys(connection, path, source)
    if found is None:
        return Seals(None, None)
    codec = Codec(found.masters, kept_keys(connection))
    return Seals(codec, codec.open(Column.SECRET, NOBODY, 0, secret))


def _leave_sealing(connection: apsw.Connection, meta: dict[str, Any]) -> None:
    """Begin anew without keys: no callback is there, and what is left of former ones is not read without them."""
    meta["secret"] = secrets.token_bytes(_SECRET_BYTES)
    connection.execute(
        "DELETE FROM data_key; DELETE FROM idempotency; UPDATE ledger SET last_error = NULL; "
        "UPDATE attempt SET excerpt = NULL; UPDATE operation SET sealed_key = NULL"
    )


def missing_keys(used: Iterable[str], masters: MasterKeys) -> str:
    """Say which keys in use are not among ``masters``; empty if all are."""
    missing = [key for key in used if masters.get(key) is None]
    if not missing:
        return ""
    return (
        f"is sealed with the key {', '.join(missing)}, and privacy.encrypt has {', '.join(masters.ids)}; "
        "give the missing key as privacy.encrypt.key, or under privacy.encrypt.previous"
    )
