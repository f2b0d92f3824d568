"""A process that works on a store and says aloud what it was promised: ``python -m ...workload FILE SEED ROUNDS``.

With a fourth word, a number, it posts its callbacks by HTTP, and so many acceptors (``ingest.processes``) take them in.

Each line on standard output is written after the store's answer, by one write:

* ``A ID DIGEST``  the callback was accepted
* ``S ID``         its claim was recorded, so that its request may go out
* ``D ID``, ``X ID``  its end was settled: delivered, dead
* ``F NAME``       the store refused, with the name of the error
"""

import asyncio
import gc
import hashlib
import io
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from relay.config.load import load
from relay.core.errors import StoreError, StoreFailed
from relay.core.model import Batch, NewCallback, Outcome, State
from relay.core.settlement import AttemptResult, Ending, Requeue, Settlement
from relay.daemon.acceptors.processes import Acceptors
from relay.daemon.acceptors.template import Forked, forked
from relay.daemon.intake import directory, ingest_settings
from relay.ingest.intake import Intake
from relay.ingest.server import IngestServer
from relay.store.sqlite.backend import SqliteStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from tests.store.harness import note, request, rules

PLATFORMS = ("shop", "mall")
Accept = Callable[[Sequence[NewCallback]], Awaitable[Sequence[str]]]
"""Has rows of one platform accepted; returns their ids. Raises ``StoreError``."""


def say(text: str) -> None:
    """Write a line with one system call, so that a recording has it in its place."""
    os.write(1, f"{text}\n".encode())


async def work(path: Path, seed: int, rounds: int, processes: int, template: Forked | None) -> None:
    """Accept, claim and settle; go on over failures of the store."""
    chance = random.Random(seed)
    store = await SqliteStore.open(path)
    await store.configure(rules(*PLATFORMS))
    if template is None:

        async def accept(rows: Sequence[NewCallback]) -> Sequence[str]:
            return (await store.accept(rows)).ids

        await _work(store, accept, chance, rounds)
    else:
        async with _beside(store, path, processes, template) as accept:
            await _work(store, accept, chance, rounds)
    await store.close()


@asynccontextmanager
async def _beside(store: SqliteStore, path: Path, processes: int, template: Forked) -> AsyncIterator[Accept]:
    """Let acceptors take posts in, as the daemon does."""
    file = path.with_name("config.yaml")
    platforms = "".join(f"  {name}: {{url: 'http://127.0.0.1:9/', key: order_id}}\n" for name in PLATFORMS)
    listen = f"ingest: {{listen: '127.0.0.1:0', processes: {processes}}}\n"
    file.write_text(f"version: 1\n{listen}platforms:\n{platforms}")
    config, metrics = load(file), Metrics()
    events = Events(log=make_logger(file=io.BytesIO()), metrics=metrics)
    acceptors = Acceptors(config=config, template=template, inbox=store, events=events)
    server = IngestServer(
        settings=ingest_settings(config, "127.0.0.1:0"),
        directory=directory(config),
        intake=Intake(inbox=store, beside=acceptors.room),
        ping=store.ping,
        describe=store.callback,
        openapi=b"",
        events=events,
        expiring=lambda _: None,
    )
    await server.start()

    async def state(callback_id: str) -> str | None:
        found = await store.callback(callback_id)
        return None if found is None else found.state

    running = asyncio.ensure_future(acceptors.run([server], state=state, expiring=lambda _: None))
    while metrics.acceptors < processes:
        await asyncio.sleep(0.01)
    async with aiohttp.ClientSession(f"http://{server.address}") as session:

        async def post(rows: Sequence[NewCallback]) -> Sequence[str]:
            body = b"\n".join(row.payload for row in rows)
            kind = {"Content-Type": "application/x-ndjson", "Connection": "close"}
            url = f"/v1/platforms/{rows[0].platform}/callbacks"
            try:
                async with session.post(url, data=body, headers=kind) as response:
                    told = json.loads(await response.read())
            except aiohttp.ClientError as error:
                raise StoreFailed("the connection was cut off") from error
            if response.status != 202:
                raise StoreFailed(told["code"])
            return list(told["ids"])

        yield post
    await acceptors.stop(2.0)
    running.cancel()
    await server.close(1.0)


async def _work(store: SqliteStore, accept: Accept, chance: random.Random, rounds: int) -> None:
    number = 0
    for _ in range(rounds):
        platform = chance.choice(PLATFORMS)
        try:
            rows = [
                note(_payload(number + i, key, chance), key=key, platform=platform)
                for i, key in enumerate(chance.choices("abcdefghi", k=chance.randrange(1, 12)))
            ]
            number += len(rows)
            for found, row in zip(await accept(rows), rows, strict=True):
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


def _payload(number: int, key: str, chance: random.Random) -> bytes:
    return b'{"order_id":"%b","n":%d,"x":"%b"}' % (key.encode(), number, b"." * chance.randrange(900))


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
    _file, _seed, _rounds, _processes = (*sys.argv[1:], "0")[:4]
    gc.freeze()
    _template = forked() if int(_processes) else None
    asyncio.run(work(Path(_file), int(_seed), int(_rounds), int(_processes), _template))
