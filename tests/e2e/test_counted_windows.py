"""Windows of items, bytes and points, and a calendar day, through a real daemon and over a kill -9."""

import json
import random
from pathlib import Path
from typing import Any

from relay.core.clock import wall_s
from tests.e2e.harness import bench, order_callback, until

NOON = f"{round(12 - wall_s() % 86400 / 3600):+03}:00"
"""A zone in which it is about noon: no day ends while the test runs."""
DAY = f"day@{NOON}"


async def test_what_windows_count_holds_over_a_kill(tmp_path: Path) -> None:
    """Of 40 callbacks a day goes what fits, and after a kill no more; what never fits is refused at the door."""
    platform = {
        "items": f"30/{DAY}",
        "bytes": "1MiB/min",
        "points": {"rate": "100/h", "cost": "weight"},
        "batch": {"max_items": 20},
        "learn_limit": False,
    }
    rng = random.Random(4)
    async with bench(tmp_path, platform=platform) as run:
        await run.post([(None, order_callback(f"order-{n}", n, rng)) for n in range(40)])

        shown: dict[str, Any] = {}

        async def is_settled() -> bool:
            shown.update(await run.read("/v1/platforms/shop"))
            return bool(shown["pending"] == 20 and shown["in_flight"] == 0)

        await until(is_settled, timeout_s=40, what="a batch is delivered, and another one does not fit")
        await run.kill()
        await run.restart()
        shown = await run.read("/v1/platforms/shop")
        assert (shown["pending"], shown["in_flight"]) == (20, 0)
        used = {(quota["unit"], quota["calendar"]): quota["used"] for quota in shown["quotas"]}
        assert used["items", DAY] == 20
        assert used["points", ""] == 20
        assert 0 < used["bytes", ""] < 2**20
        table = await run.command("limit", "shop")
        assert f"30 items/{DAY}" in table
        async with run.http.get(f"{run.admin}/metrics") as answer:
            assert f'window="{DAY} items"' in await answer.text()
        heavy = json.dumps({"weight": 101}).encode()
        async with run.http.post(f"{run.ingest}/v1/platforms/shop/callbacks", data=heavy) as answer:
            assert answer.status == 422
            assert (await answer.json(content_type=None))["code"] == "never_fits"
        assert (await run.stats())["callbacks"] <= 30
