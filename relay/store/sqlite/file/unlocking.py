"""Unlocks a file: which master keys it needs, what they open, and how other ones take their place."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import apsw

from relay.core.errors import StoreUnusable
from relay.sealing.codec import NOBODY, Codec, Column, WrappedKey
from relay.sealing.master_keys import KeySource, MasterKeys
from relay.store.sqlite.file.foreign.copied import way_in, way_of
from relay.store.sqlite.file.names import SECRET_BYTES
from relay.store.sqlite.file.sealed_values import SAVE, Seals
from relay.store.sqlite.file.transaction import Transaction
from relay.views.sealing_view import KEYS_OFF, KeysView, MasterKeyUse

SPAN = ("sealing_after", "sealing_to", "sealing_done")
"""What ``meta`` tells of the sealing of what was there before: numbers of callbacks, and a count of them."""

_KEPT = "kept_key"  # name in meta of what the source of the keys gave us to keep
_MARGIN_US = 60_000_000  # what is accepted while sealing is switched on is looked at too
_OFF = "sealing cannot be switched off while sealed callbacks are there"


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
                f"{path} is sealed with the key {', '.join(used)}; give that key as privacy.encrypt.key: {_OFF}"
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
        if len(meta["secret"]) != SECRET_BYTES:
            _leave_sealing(connection, meta)
        return meta["secret"], Seals(None, meta["secret"], way_of(meta))
    codec = Codec(found.masters, kept_keys(connection))
    secret = meta["secret"]
    if len(secret) == SECRET_BYTES:
        meta["secret"] = codec.seal(Column.SECRET, NOBODY, 0.0, 0, secret)
        meta.update(_span(connection.execute, int(meta["last_at"] * 1e6)))
    else:
        secret = codec.open(Column.SECRET, NOBODY, 0, secret)
    if found.keep is not None:
        meta[_KEPT] = found.keep
    connection.executemany(SAVE, codec.fresh)
    codec.fresh.clear()
    seals = Seals(codec, secret, way_of(meta))
    seals.only_sealed = SPAN[0] not in meta
    return secret, seals


def _span(execute: Callable[..., Any], now_us: int) -> dict[str, int]:
    """Return what ``meta`` is to tell of everything that lies there in plain by now; empty if that is nothing."""
    there = execute("SELECT EXISTS (SELECT 1 FROM callback) OR EXISTS (SELECT 1 FROM operation)").get
    last = execute("SELECT coalesce(max(seq), 0) FROM callback").get
    return dict(zip(SPAN, (0, max(last, now_us) + _MARGIN_US, 0), strict=True)) if there else {}


def switch_on(transaction: Transaction, seals: Seals, found: Unlocked) -> None:
    """Seal from now on."""
    execute = transaction.execute
    codec = Codec(found.masters)
    secret = execute("SELECT value FROM meta WHERE name = 'secret'").get
    meta: dict[str, Any] = {"secret": codec.seal(Column.SECRET, NOBODY, 0.0, 0, secret)}
    span = _span(execute, int(transaction.now * 1e6))
    meta.update(span)
    _write(transaction, codec.fresh, meta, found.keep)

    def begin() -> None:
        codec.fresh.clear()
        seals.codec = codec
        seals.only_sealed = not span

    transaction.on_commit.append(begin)


def take_over(transaction: Transaction, seals: Seals, found: Unlocked | None) -> None:
    """Put other master keys in force, for the rest of the group too: it may make data keys.

    Raises ``StoreUnusable`` where one is missing, or all are.
    """
    codec = seals.codec
    assert codec is not None, "it is sealed"
    if found is None:
        raise StoreUnusable(f"{_OFF}: privacy.encrypt.key {codec.masters.current.id} is needed")
    missing = missing_keys({key.master for key in codec.kept}, found.masters)
    if missing:
        raise StoreUnusable(f"the store {missing}")
    _write(transaction, [], {}, found.keep)
    before = codec.masters
    transaction.on_rollback.append(lambda: codec.change_back(before))
    codec.change(found.masters)


def rewrap(transaction: Transaction, seals: Seals, masters: MasterKeys) -> int:
    """Wrap all data keys with the first of ``masters``; return how many that changed.

    They count from here on: what follows in the group saves data keys, and must not save them as they were.
    """
    codec = seals.codec
    assert codec is not None, "it is sealed"
    anew = codec.wrapped_anew(masters.current)
    _write(transaction, anew, {}, None)
    before = codec.rewrapped(anew)
    transaction.on_rollback.append(lambda: codec.rewrapped(before))
    return len(anew)


def _write(transaction: Transaction, keys: Iterable[WrappedKey], meta: dict[str, Any], keep: str | None) -> None:
    if keep is not None:
        meta[_KEPT] = keep
    transaction.connection.executemany(SAVE, list(keys))
    transaction.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))


def kept_key(connection: apsw.Connection) -> str | None:
    """Return what the source of the keys gave the file to keep."""
    found: str | None = connection.execute("SELECT value FROM meta WHERE name = ?", (_KEPT,)).get
    return found


def keys_view(connection: apsw.Connection, masters: MasterKeys | None) -> KeysView:
    """Return which keys the file needs and which of them are given, and how far sealing has come."""
    used: Counter[str] = Counter(dict(connection.execute("SELECT master, count(*) FROM data_key GROUP BY 1")))
    if not used:
        return KEYS_OFF
    given = [] if masters is None else list(masters.ids)
    ids = [*given, *(key for key in used if key not in given)]
    span = dict(connection.execute("SELECT name, value FROM meta WHERE name LIKE 'sealing_%'"))
    left = "SELECT count(*) FROM callback WHERE seq > ? AND seq <= ?"
    return KeysView(
        state="sealing" if span else "sealed",
        keys=[MasterKeyUse(id=key, in_force=key in given[:1], data_keys=used[key]) for key in ids],
        data_keys=used.total(),
        to_seal=connection.execute(left, (span[SPAN[0]], span[SPAN[1]])).get if span else 0,
        sealed=span.get(SPAN[2], 0),
    )


def seals_for_reading(connection: apsw.Connection, path: object, source: KeySource | None) -> Seals:
    """Return what opens the file for who only reads it; without keys, what is sealed stays so.

    Raises ``StoreUnusable`` where keys are given and are not those of the file, and ``KeysUnavailable``.
    """
    secret = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    if secret is None or len(secret) == SECRET_BYTES:
        return Seals(None, secret, way_in(connection))
    found = None if source is None else check_keys(connection, path, source)
    if found is None:
        return Seals(None, None)
    codec = Codec(found.masters, kept_keys(connection))
    return Seals(codec, codec.open(Column.SECRET, NOBODY, 0, secret), way_in(connection))


def _leave_sealing(connection: apsw.Connection, meta: dict[str, Any]) -> None:
    """Begin anew without keys: no callback is there, and what is left of former ones is not read without them."""
    meta["secret"] = secrets.token_bytes(SECRET_BYTES)
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
