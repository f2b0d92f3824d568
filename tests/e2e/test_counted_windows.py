"""Windows of items, bytes and points, and a calendar day, through a real daemon and over a kill -9."""

import json
import random
from pathlib import Path

from tests.e2e.harness import bench, order_callback, until


async def test_what_windows_count_holds_over_a_kill(tmp_path: Path) -> None:
    """Of 40 callbacks a day goes what fits, and after a kill no more; what never fits is refused at the door."""
    platform = {
        "items": "30/day@+08:00",
        "bytes": "1MiB/min",
        "points": {"rate": "100/h", "cost": "weight"},
        "batch": {"max_items": 20},
        "learn_limit": False,
    }
    rng = random.Random(4)
    async with bench(tmp_path, platform=platform) as run:
        await run.post([(None, order_callback(f"order-{n}", n, rng)) for n in range(40)])

        async def is_settled() -> bool:
            return bool((await run.read("/v1/platforms/shop"))["pending"] <= 20)

        await until(is_settled, timeout_s=20, what="the first batch")
        await run.kill()
        await run.restart()
        shown = await run.read("/v1/platforms/shop")
        used = {(quota["unit"], quota["calendar"]): quota["used"] for quota in shown["quotas"]}
        assert used["items", "day@+08:00"] == 40 - shown["pending"]
        assert used["points", ""] == 40 - shown["pending"]
        assert 0 < used["bytes", ""] < 2**20
        table = await run.command("limit", "shop")
        assert "30 items/day@+08:00" in table
        async with run.http.get(f"{run.admin}/metrics") as answer:
            assert 'window="day@+08:00 items"' in await answer.text()
        heavy = json.dumps({"weight": 101}).encode()
        async with run.http.post(f"{run.ingest}/v1/platforms/shop/callbacks", data=heavy) as answer:
            assert answer.status == 422
            assert (await answer.json(content_type=None))["code"] == "never_fits"
        assert (await run.stats())["callbacks"] <= 30
