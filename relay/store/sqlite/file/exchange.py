"""Puts another file in the place of a store, so that a kill at any moment loses neither of them.

The former file, its write-ahead log and the new file are renamed one after the other. Between two of these steps there
is no store, or one without its log. So what is to be done is written down first, in ``relay.db.exchange`` beside the
store. Who locks the store next does the rest: each step looks what was done already.
"""

import os
from itertools import chain, count
from pathlib import Path
from typing import Final

import msgspec

from relay.core.errors import StoreUnusable

SIDE_FILES: Final = ("-wal", "-shm")


class _Exchange(msgspec.Struct, forbid_unknown_fields=True):
    """Names of files that lie beside the store."""

    coming: str  # the file that will be the store
    former: str  # the name that the store gets; empty: it held nothing and goes


_decode = msgspec.json.Decoder(_Exchange).decode


def put_in_place(coming: Path, store: Path, *, aside: str) -> Path | None:
    """Make ``coming``, which lies beside it, the store, whose lock is held; what lay there is renamed with ``aside``.

    Two in the same second are told apart by a number behind: ``relay.db.replaced-20261130T073633-2``. Return where the
    former file is now, None where it was empty. Raises ``StoreUnusable``.
    """
    former = _free(store.with_name(store.name + aside)) if store.stat().st_size else None
    synced(coming)
    _write(plan_of(store), _Exchange(coming.name, "" if former is None else former.name))
    finish(store)
    return former


def _free(wanted: Path) -> Path:
    """Return a name at which no file lies: the wanted one, or with the first number behind it that makes it so."""
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return next(name for name in chain((wanted,), numbered) if not name.exists())


def _write(file: Path, plan: _Exchange) -> None:
    """Write a plan, whole or not at all."""
    part = file.with_name(file.name + ".part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as written:
            written.write(msgspec.json.encode(plan))
            written.flush()
            os.fsync(written.fileno())
        os.replace(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreUnusable(f"cannot write {file}: {error.strerror}; the store is as it was") from error
    synced(file.parent)


def plan_of(store: Path) -> Path:
    """Return the file that says what is to be done; it is there only while something is."""
    real = Path(os.path.realpath(store))
    return real.with_name(real.name + ".exchange")


def finish(store: Path) -> bool:
    """Do what is left of an exchange, with the lock beside the store held; return whether something was.

    Raises ``StoreUnusable`` where files are there, or missing, that leave it open which one is the store.
    """
    try:
        plan = _decode(plan_of(store).read_bytes())
    except FileNotFoundError:
        return False
    except msgspec.DecodeError as error:
        raise StoreUnusable(
            f"{plan_of(store)} cannot be read ({error}); see which file beside it is the store"
        ) from None
    coming = store.with_name(plan.coming)
    former = store.with_name(plan.former) if plan.former else None
    if coming.exists():
        _give_way(store, former)
        os.rename(coming, store)
    elif not store.exists():
        raise StoreUnusable(
            f"{store} was to be replaced by {coming}, and neither is there: put one of them back"
            + (f", or rename {former}" if former is not None and former.exists() else "")
            + f", then remove {plan_of(store)}"
        )
    synced(store)
    synced(store.parent)
    plan_of(store).unlink()
    synced(store.parent)
    return True


def _give_way(store: Path, former: Path | None) -> None:
    """Rename the store and what belongs to it; SQLite would mix a log that stays into the new file."""
    if former is None:
        for ending in SIDE_FILES:
            store.with_name(store.name + ending).unlink(missing_ok=True)
        return
    if store.exists():
        if former.exists():
            raise StoreUnusable(
                f"{store} was put there while it was being replaced: move it away, then start again; the former store "
                f"is {former}"
            )
        os.rename(store, former)
    for ending in SIDE_FILES:
        beside = store.with_name(store.name + ending)
        if beside.exists():
            os.rename(beside, former.with_name(former.name + ending))


def synced(path: Path) -> None:
    """Sync a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
