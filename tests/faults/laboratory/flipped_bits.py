"""Says what becomes of single bits that flip in a store's file: ``python -m tests.faults.laboratory.flipped_bits``.

The shares stand in docs/guarantees.md. A payload that changed is sent as it is by a plain store; in a sealed one it
does not open, so it is held.
"""

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

import apsw
from relay.sealing.master_keys import GivenKeys, KeySource
from relay.store.sqlite.backend import SqliteStore
from tests.store.harness import note, rules

_FLIPS = 1500
_POSTS, _ROWS = 40, 50
_LETTERS = b"abcdefgh "


async def fill(path: Path, keys: KeySource | None, rng: random.Random) -> None:
    """Make a store of 2,000 callbacks that wait."""
    store = await SqliteStore.open(path, keys=keys)
    await store.configure(rules("shop"))
    for post in range(_POSTS):
        texts = [bytes(rng.choices(_LETTERS, k=rng.randrange(200, 400))) for _ in range(_ROWS)]
        payloads = [b'{"order_id":"o%d-%d","x":"%b"}' % (post, row, text) for row, text in enumerate(texts)]
        await store.accept([note(payload, key=f"k{n}", platform="shop") for n, payload in enumerate(payloads)])
    await store.close()


def content(path: Path) -> dict[str, list[str]] | None:
    """Return all rows by table; None where ``relay doctor`` would find damage."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        if connection.pragma("integrity_check") != "ok":
            return None
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: _rows(connection, name) for name in tables}
    except apsw.Error:
        return None
    finally:
        connection.close()


def _rows(connection: apsw.Connection, table: str) -> list[str]:
    try:
        return [repr(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
    except UnicodeDecodeError:  # a text that is none any more
        return []


def shares(path: Path, rng: random.Random) -> Counter[str]:
    """Flip one bit after the other, each in a copy of its own; count what came of it."""
    whole = path.read_bytes()
    wanted = content(path)
    assert wanted is not None
    copy = path.with_name("flipped.db")
    found: Counter[str] = Counter()
    for _ in range(_FLIPS):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        copy.write_bytes(flipped)
        there = content(copy)
        changed = [] if there is None else [name for name in wanted if there.get(name) != wanted[name]]
        found["noticed" if there is None else " and ".join(changed) or "nothing that is read"] += 1
    return found


def main() -> None:
    """Print the shares for a plain store and for a sealed one."""
    for name, keys in (("plain", None), ("sealed", GivenKeys(b"k" * 32, ()))):
        rng = random.Random(1)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "relay.db"
            asyncio.run(fill(path, keys, rng))
            told = [f"{what} {count / _FLIPS:.0%}" for what, count in shares(path, rng).most_common()]
        print(f"{name}: {', '.join(told)}")


if __name__ == "__main__":
    main()
