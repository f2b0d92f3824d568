"""Writes what the relay itself got and sent, in the form the engine reads: a line per callback."""

import csv
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec

from relay.reconcile.job import RelaySide
from relay.reconcile.sources.record import text_of, value_at
from relay.store.sent import SentCallback

Find = Callable[[bytes], tuple[Any, Any]]


def write(
    rows: Iterable[SentCallback],
    file: str,
    side: RelaySide,
    *,
    order: Sequence[str],
    shift_s: float,
    only: Collection[str] | None = None,
) -> int:
    """Write ``rows`` (with ``only``, of these orders) to ``file``; return how many tell a status that nobody knows.

    Order and status stand in the payload. Where it is deleted, or holds none, they are the callback's key and event.
    ``shift_s`` is added to the relay clock for the wall's.
    """
    ranks = {word: rank for rank, word in enumerate(order)}
    find = _finder(side)
    unknown = 0
    with open(file, "w", encoding="utf-8", errors="replace", newline="") as into:
        writerow = csv.writer(into).writerow
        for seq, callback_id, own_key, event, state, held, at, reason, body in rows:
            key, written = find(body) if body else (None, None)
            name = text_of(key) or own_key or ""
            told = text_of(written) or event or ""
            word = side.status_map.get(told, told)
            if word not in ranks and told not in side.status_map:
                unknown += 1
                continue
            if name and (only is None or name in only):
                standing = "held" if held and state == "pending" else state
                writerow((seq, name, word, ranks.get(word, -1), callback_id, standing, at + shift_s, reason))
    return unknown


def _finder(side: RelaySide) -> Find:
    """Return what finds key and status in a payload; nothing in one that is no JSON."""
    if side.key.isidentifier() and side.status.isidentifier() and side.key != side.status:
        names = {"key": side.key, "status": side.status}
        told = msgspec.defstruct("Told", [("key", Any, None), ("status", Any, None)], rename=names)
        return partial(_found, msgspec.json.Decoder(told).decode, attrgetter("key"), attrgetter("status"))
    return partial(_found, msgspec.json.decode, value_at(side.key), value_at(side.status))


def _found(
    decode: Callable[[bytes], Any], key: Callable[[Any], Any], status: Callable[[Any], Any], body: bytes
) -> tuple[Any, Any]:
    try:
        value = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None  # no JSON object: key and event tell
    return key(value), status(value)
