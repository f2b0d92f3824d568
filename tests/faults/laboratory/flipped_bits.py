"""Says what becomes of single bits that flip in a store: ``python -m tests.faults.laboratory.flipped_bits``.

They flip in the file of a store that was closed, or in the write-ahead log that a kill left.

The shares stand in docs/guarantees.md. Each flip is made in a copy of its own, and is one of three:

1. noticed: the file does not open, ``relay doctor`` finds it, or reading all rows meets it;
2. harmless: every row of every table reads as before, so the bit lies where nothing is kept;
3. silent: a row reads as something else, or is gone, and nothing tells.
"""

import asyncio
import random
import shutil
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


async def fill(path: Path, rng: random.Random) -> Path:
    """Make a store of 2,000 callbacks: delivered, dead, in a batch that waits for its re-send, and pending.

    Return where a copy lies of how a kill would have left it.
    """
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
    killed = path.with_name("killed.db")
    for ending in ("", "-wal"):
        shutil.copy(Path(f"{path}{ending}"), Path(f"{killed}{ending}"))
    await store.close()
    return killed


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


def shares(path: Path, flips: int, rng: random.Random, *, log: bool = False) -> Counter[str]:
    """Flip one bit after the other of the file or of its log, each in a copy of its own; count what came of it."""
    copy = path.with_name("flipped.db")
    ending = "-wal" if log else ""
    whole = Path(f"{path}{ending}").read_bytes()
    shutil.copy(path, copy)
    Path(f"{copy}{ending}").write_bytes(whole)
    wanted = content(copy)
    assert wanted is not None
    found: Counter[str] = Counter()
    for _ in range(flips):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        Path(f"{copy}-shm").unlink(missing_ok=True)
        Path(f"{copy}{ending}").write_bytes(flipped)
        there = content(copy)
        found["noticed" if there is None else "harmless" if there == wanted else "silent"] += 1
    return found


def main() -> None:
    """Print the shares."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "relay.db"
        killed = asyncio.run(fill(path, rng))
        for what, found in (("file", shares(path, _FLIPS, rng)), ("log", shares(killed, _FLIPS, rng, log=True))):
            print(f"{what}: {', '.join(f'{one} {count} of {_FLIPS}' for one, count in found.most_common())}")


if __name__ == "__main__":
    main()
