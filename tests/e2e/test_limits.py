"""The strict limit as the platform sees it: few requests for much, and never one too many in any window."""

import asyncio
import random
from pathlib import Path

import pytest
from relay.core.clock import boottime_s
from relay.core.model import Rate
from tests.e2e.checker import check
from tests.e2e.harness import bench, order_callback
from tests.faults.daemon import Slowness


@pytest.mark.timeout(120)
async def test_3000_at_once_need_no_more_than_40_requests(tmp_path: Path) -> None:
    """A burst of 3,000 is delivered within 10 s in at most 40 requests of up to 100."""
    rng = random.Random(3000)
    rows = [(f"order-{n}", order_callback(f"order-{n}", n, rng)) for n in range(3000)]
    platform = {"rate": "100/min", "key": "order_id", "batch": {"max_items": 100}}
    async with bench(tmp_path, platform=platform, sandbox=["--limit", "100/min"]) as run:
        with Slowness() as slowness:
            started_at = boottime_s()
            await run.post(rows)
            await run.drained(timeout_s=80)
            took_s = boottime_s() - started_at
        assert took_s < 10 * slowness.factor
        figures = await run.stats()
        assert (figures["callbacks"], figures["distinct"], figures["rejected"]) == (3000, 3000, 0)
        assert figures["requests"] <= 40
        assert check(await run.evidence(rates=[Rate(100, 60.0)])) == {}


@pytest.mark.timeout(180)
async def test_no_window_holds_more_than_the_limit(tmp_path: Path) -> None:
    """300 callbacks at 12/s into 10/4s with answers late by 0 to 1 s, and beside it the same over three SIGKILLs."""
    await asyncio.gather(*(_steady_load_is_strict(tmp_path / str(kills), kills) for kills in (0, 3)))


async def _steady_load_is_strict(directory: Path, kills: int) -> None:
    directory.mkdir()
    rng = random.Random(600)
    rate = Rate(10, 4.0)
    platform = {"rate": str(rate), "key": "order_id", "concurrency": 8}
    async with bench(directory, platform=platform, sandbox=["--limit", "10/4s", "--latency", "0s..1s"]) as run:
        kill_at = {75 * (number + 1) for number in range(kills)}
        started_at = boottime_s()
        posts = []
        for n in range(300):
            await asyncio.sleep(max(0.0, started_at + n / 12 - boottime_s()))  # open-loop load at 12/s
            key = f"order-{n % 100}"
            posts.append(asyncio.create_task(run.post([(key, order_callback(key, n, rng))])))
            if n in kill_at:
                await run.kill()
                await run.restart()
        await asyncio.wait_for(asyncio.gather(*posts), 60)
        await run.drained(timeout_s=60)
        figures = await run.stats()
        assert (figures["rejected"], figures["distinct"]) == (0, 300)
        assert figures["peaks"]["4"] <= 10
        assert check(await run.evidence(rates=[rate])) == {}
