"""A process that works on a store and says aloud what it was promised: ``python -m ...workload FILE SEED ROUNDS``.

Each line on standard output is written after the store's answer, by one write:

* ``A ID DIGEST``  the callback was accepted
* ``S ID``         its claim was recorded, so that its request may go out
* ``D ID``, ``X ID``  its end was settled: delivered, dead
* ``F NAME``       the store refused, with the name of the error
"""

import asyncio
import hashlib
import os
import random
import sys
from pathlib import Path

from relay.core.errors import StoreError
from relay.core.model import Batch, Outcome, State
from relay.core.settlement import AttemptResult, Ending, Requeue, Settlement
from relay.store.sqlite.backend import SqliteStore
from tests.store.harness import note, request, rules

PLATFORMS = ("shop", "mall")


def say(text: str) -> None:
    """Write a line with one system call, so that a recording has it in its place."""
    os.write(1, f"{text}\n".encode())


async def work(path: Path, seed: int, rounds: int) -> None:
    """Accept, claim and settle; go on over failures of the store."""
    chance = random.Random(seed)
    store = await SqliteStore.open(path)
    await store.configure(rules(*PLATFORMS))
    number = 0
    for _ in range(rounds):
        platform = chance.choice(PLATFORMS)
        try:
            rows = [
                note(_payload(number + i, chance), key=f"k{chance.randrange(9)}", platform=platform)
                for i in range(chance.randrange(1, 12))
            ]
            number += len(rows)
            accepted = await store.accept(rows)
            for found, row in zip(accepted.ids, rows, strict=True):
                say(f"A {found} {hashlib.sha256(row.payload).hexdigest()[:16]}")
            if chance.random() < 0.7 and isinstance(batch := await store.claim(request(platform, max_items=20)), Batch):
                for item in batch.items:
                    say(f"S {item.id}")
                await _settle(store, batch, chance)
            if chance.random() < 0.2:
                await asyncio.sleep(0.02)  # idle: the writer copies the WAL into the database
        except StoreError as error:
            say(f"F {type(error).__name__}")
            await asyncio.sleep(0.05)
    await store.close()


def _payload(number: int, chance: random.Random) -> bytes:
    return b'{"n":%d,"x":"%b"}' % (number, b"." * chance.randrange(900))


async def _settle(store: SqliteStore, batch: Batch, chance: random.Random) -> None:
    ids = {item.seq: item.id for item in batch.items}
    seqs = list(ids)
    cut = chance.randrange(len(seqs) + 1)
    done, rest = seqs[:cut], seqs[cut:]
    now = batch.created_at
    result = AttemptResult(Outcome.OK, now, 0.0, 200, "", ambiguous=False)
    ends = [Ending(rest[:1], State.DEAD, "rejected")] if rest else []
    again = [Requeue(rest[1:], now, True, "throttled")] if rest[1:] else []
    await store.settle(
        Settlement(batch.number, batch.attempt_id, batch.platform, result, delivered=done, endings=ends, requeue=again)
    )
    for seq in done:
        say(f"D {ids[seq]}")
    for seq in rest[:1]:
        say(f"X {ids[seq]}")


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
