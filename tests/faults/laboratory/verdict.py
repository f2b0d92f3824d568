"""Judges a store after a fault: what it promised before must hold."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import apsw
from relay.store.sqlite.backend import SqliteStore
from tests.store.harness import rules

from .workload import PLATFORMS


async def broken_promises(path: Path, said: Iterable[str]) -> list[str]:
    """Open the store and return which promises among ``said`` (see ``workload``) do not hold, as sentences."""
    store = await SqliteStore.open(path)
    await store.configure(rules(*PLATFORMS))
    broken: list[str] = []
    try:
        accepted: dict[str, str] = {}
        sent: set[str] = set()
        ends: dict[str, str] = {}
        for line in said:
            word, _, rest = line.partition(" ")
            if word == "A":
                found, _, digest = rest.partition(" ")
                accepted[found] = digest
            elif word == "S":
                sent.add(rest)
            elif word in "DX":
                ends[rest] = {"D": "delivered", "X": "dead"}[word]
        for callback_id, digest in accepted.items():
            view = await store.callback(callback_id, payload=True)
            if view is None:
                broken.append(f"{callback_id} was accepted and is gone")
                continue
            payload = (view.payload or "").encode() if isinstance(view.payload, str) else bytes(view.payload or b"")
            if view.state != "delivered" and hashlib.sha256(payload).hexdigest()[:16] != digest:
                broken.append(f"{callback_id} has another payload")
            if callback_id in sent and not view.attempts:
                broken.append(f"{callback_id} was sent and no attempt is recorded")
            if ends.get(callback_id, view.state) != view.state:
                broken.append(f"{callback_id} was {ends[callback_id]} and is {view.state}")
        for platform, totals in (await store.totals()).items():
            if totals.unaccounted:
                broken.append(f"{platform}: {totals.unaccounted} unaccounted for")
    finally:
        await store.close()
    connection = apsw.Connection(str(path))
    problem = connection.pragma("integrity_check")
    connection.close()
    return broken if problem == "ok" else [*broken, f"integrity: {problem}"]
