"""``relay resume`` on a running relay: what the platform refused before it was mended is tried at once."""

import random
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import PLATFORM, Bench, bench, order_callback, until

# A retry time, a probe and a stop are all far beyond the test's patience.
_PATIENT = {
    "batch": {"max_items": 1},
    "concurrency": 1,
    "retry": {"times": 3, "backoff": "10m..20m"},
    "breaker": {"open_after": 2, "probe_every": "10m"},
}


async def _change(run: Bench, **settings: Any) -> None:
    """Let the platform behave otherwise from now on."""
    async with run.http.post(f"{run.control}/settings", json=settings) as response:
        assert response.status == 200, await response.text()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("outage", "count", "state"), [("500", 2, "broken"), ("500", 1, "ok"), ("429", 1, "throttled")]
)
async def test_a_mended_platform_gets_what_it_refused(tmp_path: Path, outage: str, count: int, state: str) -> None:
    """Behind an open breaker, a retry time alone or a stop; the operator is told what to type and how many it frees."""
    async with bench(tmp_path, platform=_PATIENT, sandbox=["--outage", outage]) as run:
        await run.post([(None, order_callback(f"order-{n}", n, random.Random(n))) for n in range(count)])
        last = run.posted[-1].id

        async def is_refused() -> bool:
            view = await run.read(f"/v1/platforms/{PLATFORM}")
            found = await run.read(f"/v1/callbacks/{last}")
            return view["state"] == state and view["in_flight"] == 0 and len(found["attempts"]) == 1

        await until(is_refused, timeout_s=40, what=f"{count} refused")
        explained = await run.command("explain", str(last))
        await _change(run, outage=None)
        resumed = await run.command("resume", PLATFORM)
        await run.drained(timeout_s=40)

        assert f"to do  relay resume {PLATFORM} " in explained
        assert f"{count} of them need not wait for their retry time, now " in resumed
        assert (await run.ledger())["total"]["delivered"] == count
        assert (await run.stats())["requests"] == 2 * count
