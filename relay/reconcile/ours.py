"""Writes what the relay itself got and sent, in the form the engine reads: a line per callback."""

import csv
from collections.abc import Iterable, Mapping, Sequence

import jmespath
import msgspec

from relay.store.sent import SentCallback


def write(
    rows: Iterable[SentCallback],
    file: str,
    *,
    key: str,
    status: str,
    status_map: Mapping[str, str],
    order: Sequence[str],
    shift_s: float,
) -> int:
    """Write ``rows`` to ``file`` and return how many tell a status that nobody knows.

    Order and status stand in the payload. Where it is deleted, or holds none, they are the callback's key and event.
    ``shift_s`` is added to the relay clock for the wall's.
    """
    ranks = {word: rank for rank, word in enumerate(order)}
    find_key, find_status = jmespath.compile(key), jmespath.compile(status)
    unknown = 0
    with open(file, "w", encoding="utf-8", newline="") as into:
        writer = csv.writer(into)
        for row in rows:
            payload = _decoded(row.body)
            name = _text(find_key.search(payload)) or row.key or ""
            written = _text(find_status.search(payload)) or row.event or ""
            word = status_map.get(written, written)
            if word not in ranks and written not in status_map:
                unknown += 1
                continue
            if name:
                state = "held" if row.held and row.state == "pending" else row.state
                writer.writerow([row.seq, name, word, ranks.get(word, -1), row.id, state, row.at + shift_s, row.reason])
    return unknown


def _decoded(body: bytes | None) -> object:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, RecursionError):
        return None  # no JSON: key and event tell


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else msgspec.json.encode(value).decode()
