"""The daemon over a real Valkey: host and server are killed under load, and afterwards every promise must have held."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import bench
from tests.e2e.killing import PLATFORM, SANDBOX, Load, judged, under
from tests.store.valkey import ValkeyServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test alone."""
    made = ValkeyServer(tmp_path / "valkey")
    made.start()
    yield made
    made.kill()


@pytest.mark.timeout(180)
async def test_kill_9_of_host_and_server_loses_nothing(tmp_path: Path, server: ValkeyServer) -> None:
    """Killed in turn, they come back to the same queue: nothing is lost, sent out of order or above the limit."""
    rng = random.Random(7)
    store = {"url": server.url, "spool": {"path": str(tmp_path / "spool.db")}}
    async with bench(tmp_path, platform=PLATFORM, sandbox=SANDBOX, store=store) as run:
        async with under(Load(run, 7, workers=3, sizes=[1, 1, 1, 5, 150])):
            for number in range(6):
                await asyncio.sleep(rng.uniform(0.1, 0.5))  # the moment is the test's subject, no wait for a condition
                if number % 2:
                    await asyncio.to_thread(server.restart)
                else:
                    await run.kill()
                    await run.daemon.start()
                    await run.ready()
        await judged(run)
