"""The daemon over a real Valkey: host and server are killed under load, and afterwards every promise must have held."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay.core.model import Rate
from tests.e2e.checker import check
from tests.e2e.harness import Bench, bench, order_callback
from tests.store.valkey import ValkeyServer

RATE = Rate(30, 2.0)
_PLATFORM = {
    "rate": str(RATE),
    "concurrency": 4,
    "key": "order_id",
    "batch": {"max_items": 50},
    "retry": {"times": 20, "backoff": "50ms..500ms"},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test alone."""
    made = ValkeyServer(tmp_path / "valkey")
    made.start()
    yield made
    made.kill()


async def _load(run: Bench, worker: int, stop: asyncio.Event) -> None:
    rng = random.Random(worker)
    count = 0
    while not stop.is_set():
        rows: list[tuple[str | None, bytes]] = []
        for _ in range(rng.choice([1, 1, 1, 5, 150])):
            key = f"order-{worker}-{rng.randrange(20)}"
            rows.append((key, order_callback(key, count, rng)))
            count += 1
        await run.post(rows)
        await asyncio.sleep(0.02)


@pytest.mark.timeout(180)
async def test_kill_9_of_host_and_server_loses_nothing(tmp_path: Path, server: ValkeyServer) -> None:
    """Killed in turn, they come back to the same queue: nothing is lost, sent out of order or above the limit."""
    rng = random.Random(7)
    faults = ["--fault", "apply-then-reset:0.03", "--fault", "500:0.03"]
    store = {"url": server.url, "spool": {"path": str(tmp_path / "spool.db")}}
    async with bench(tmp_path, platform=_PLATFORM, sandbox=["--limit", str(RATE), *faults], store=store) as run:
        stop = asyncio.Event()
        load = [asyncio.create_task(_load(run, worker, stop)) for worker in range(3)]
        ledger = asyncio.create_task(run.watch_ledger())
        for number in range(6):
            await asyncio.sleep(rng.uniform(0.1, 0.5))  # the moment is the test's subject, no wait for a condition
            if number % 2:
                await asyncio.to_thread(server.restart)
            else:
                await run.kill()
                await run.daemon.start()
                await run.ready()
        await run.ready()
        stop.set()
        await asyncio.wait_for(asyncio.gather(*load), 60)
        await run.drained(timeout_s=90)
        ledger.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ledger
        figures = await run.stats()
        evidence = await run.evidence(rates=[RATE], max_items=50)
        assert check(evidence) == {}
        assert figures["rejected"] == 0
        assert figures["distinct"] == run.ledgers[-1]["total"]["delivered"] == run.ledgers[-1]["total"]["accepted"]
