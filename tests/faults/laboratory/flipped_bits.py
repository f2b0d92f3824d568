"""Says what becomes of single bits that flip in a store's file: ``python -m tests.faults.laboratory.flipped_bits``.

The shares stand in docs/guarantees.md. Each flip is made in a copy of its own, and is one of three:

1. noticed: the file does not open, ``relay doctor`` finds it, or reading all rows meets it;
2. harmless: every row of every table reads as before, so the bit lies where nothing is kept;
3. silent: a row reads as something else, or is gone, and nothing tells.
"""

import asyncio
import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import apsw
from relay.core.errors import StoreError
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.read.ledger import open_reader
from tests.clocks import FakeClock
from tests.store.harness import bury, claimed, deliver, note, request, resend, rules

_FLIPS = 1500
_POSTS, _ROWS = 40, 50
_LETTERS = b"abcdefgh "


async def fill(path: Path, rng: random.Random) -> None:
    """Make a store of 2,000 callbacks: delivered, dead, in a batch that waits for its re-send, and pending."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules("shop"))
    for post in range(_POSTS):
        texts = [bytes(rng.choices(_LETTERS, k=rng.randrange(200, 400))) for _ in range(_ROWS)]
        payloads = [b'{"order_id":"o%d-%d","x":"%b"}' % (post, row, text) for row, text in enumerate(texts)]
        rows = [
            note(payload, key=f"k{n}", idempotency_key=f"{post}-{n}", platform="shop")
            for n, payload in enumerate(payloads)
        ]
        await store.accept(rows)
        if post % 4 == 0:
            await deliver(store, await claimed(store, request(max_items=30)), clock)
            await bury(store, await claimed(store, request(max_items=5)), clock)
    await resend(store, await claimed(store, request(max_items=20)), clock, after_s=60)
    await store.close()


def content(path: Path) -> dict[str, list[str]] | None:
    """Return all rows by table; None where the damage is noticed."""
    try:
        reader = open_reader(path)
    except (StoreError, apsw.Error, ValueError):
        return None
    try:
        totals, recount = reader.ledger_and_recount()
        if reader.damage() or totals != recount:
            return None
    except (StoreError, apsw.Error, ValueError, KeyError):
        return None
    finally:
        with suppress(apsw.Error):
            reader.close()
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: [repr(row) for row in connection.execute(f'SELECT * FROM "{name}"')] for name in tables}
    except (apsw.Error, UnicodeDecodeError):
        return None
    finally:
        connection.close()


def shares(path: Path, flips: int, rng: random.Random) -> Counter[str]:
    """Flip one bit after the other, each in a copy of its own; count what came of it."""
    whole = path.read_bytes()
    wanted = content(path)
    assert wanted is not None
    copy = path.with_name("flipped.db")
    copy.touch(mode=0o600)
    found: Counter[str] = Counter()
    for _ in range(flips):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        copy.write_bytes(flipped)
        there = content(copy)
        found["noticed" if there is None else "harmless" if there == wanted else "silent"] += 1
    return found


def main() -> None:
    """Print the shares."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "relay.db"
        asyncio.run(fill(path, rng))
        found = shares(path, _FLIPS, rng)
    print(", ".join(f"{what} {count} of {_FLIPS}" for what, count in found.most_common()))


if __name__ == "__main__":
    main()
