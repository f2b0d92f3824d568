"""A store is copied to a server and back between kills and load; afterwards every promise must have held."""

import asyncio
import signal
from pathlib import Path

import pytest
import yaml
from tests import warm_start
from tests.e2e.harness import Bench, bench, read_in_the_end
from tests.e2e.killing import PLATFORM, SANDBOX, Load, judged, under
from tests.store.valkey import ValkeyServer


@pytest.mark.timeout(180)
async def test_a_store_moves_to_a_server_and_back(tmp_path: Path, server: ValkeyServer) -> None:
    """Copied with requests under way and a backlog: nothing is lost, invented, out of order, or above the limit."""
    first, last = f"sqlite:{tmp_path / 'relay.db'}", f"sqlite:{tmp_path / 'back.db'}"
    async with bench(tmp_path, platform=PLATFORM, sandbox=SANDBOX) as run:
        async with under(Load(run, 7, workers=3, sizes=[1, 1, 5, 60])):
            await _backlog(run)
            await run.kill()
            await _moved(run, first, server.url)
            await _backlog(run)
            await run.daemon.signal(signal.SIGTERM)
            await run.daemon.ended()
            await _moved(run, server.url, last)
            await _backlog(run)
        await judged(run)


async def _backlog(run: Bench) -> None:
    """Wait until much was delivered by this process and much is pending."""
    await run.ready()
    begun = (await read_in_the_end(run.ledger))["total"]["delivered"]
    while True:
        total = (await read_in_the_end(run.ledger))["total"]
        if total["delivered"] > begun + 30 and total["pending"] > 100:
            return
        await asyncio.sleep(0.02)


async def _moved(run: Bench, source: str, target: str) -> None:
    """Copy the store, and start the daemon on the copy."""
    copied = await warm_start.run("store", "copy", "--from", source, "--to", target, cwd=run.directory)
    assert copied.code == 0, copied.out + copied.err
    file = run.directory / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["store"] = {"url": target, "spool": {"path": str(run.directory / "spool.db")}}
    if target.startswith("sqlite:"):
        del config["store"]["spool"]
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    await run.daemon.start()
