"""Limits that no configuration holds, as an operator meets them on a running relay: found, told, set and forgotten."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import PLATFORM, Bench, bench, order_callback, until

_SINGLE = {"batch": {"max_items": 1}, "concurrency": 8}


async def _post(run: Bench, count: int) -> None:
    rng = random.Random(count)
    await run.post([(None, order_callback(f"order-{n}", n, rng)) for n in range(count)])


async def _view(run: Bench) -> dict[str, Any]:
    return await run._json(f"{run.admin}/v1/platforms/{PLATFORM}")


async def _limit(run: Bench, **order: Any) -> dict[str, Any]:
    async with run.http.post(f"{run.admin}/v1/platforms/{PLATFORM}/limit", json=order) as response:
        assert response.status == 200, await response.text()
        view: dict[str, Any] = await response.json()
        return view


@pytest.mark.timeout(180)
async def test_an_operators_limit_holds_over_a_kill_until_it_is_forgotten(tmp_path: Path) -> None:
    """Strict from the first request on, through a SIGKILL; once forgotten the platform's own speed holds."""
    async with bench(tmp_path, platform=_SINGLE) as run:
        await _limit(run, rate="5/s", reason="their support said so")
        await _post(run, 40)
        await until(lambda: _delivered(run, 10), timeout_s=40, what="10 delivered")
        told: dict[str, Any] = {}

        async def is_held() -> bool:  # between two windows it waits for nothing but its turn
            told.update(await run._json(f"{run.ingest}/v1/callbacks/{run.posted[-1].id}"))
            return bool(told["waiting"]["for"] == "limit")

        await until(is_held, timeout_s=40, what="the last one held back by the limit")
        await run.kill()
        await run.restart()
        kept = (await _view(run))["learned_limit"]
        await run.drained(timeout_s=60)
        held = await run.stats()
        forgotten = await _limit(run, forget=True)
        await _post(run, 40)
        await run.drained(timeout_s=60)
        free = await run.stats()

        # also whoever posted it is told why it waits
        assert (told["state"], told["waiting"]["limit"]["source"]) == ("pending", "operator")
        assert told["waiting"]["until"] is not None
        assert (kept["source"], kept["reason"], kept["rates"][0]["text"]) == (
            "operator",
            "their support said so",
            "5/s",
        )
        assert held["peaks"]["1"] <= 5
        assert forgotten["learned_limit"]["rates"] == []
        assert free["peaks"]["1"] > 5


@pytest.mark.timeout(180)
async def test_an_operators_limit_ends_by_itself(tmp_path: Path) -> None:
    """After its time nothing of it is left, and what waited goes on at once."""
    async with bench(tmp_path, platform=_SINGLE) as run:
        await _limit(run, **{"rate": "2/h", "for": "1h"})
        await _post(run, 60)
        shown = await run.command("limit", PLATFORM)
        await _limit(run, **{"rate": "2/h", "for": "1s"})
        await run.drained(timeout_s=60)
        view = await _view(run)

        assert "2/h    operator" in shown
        assert (view["learned_limit"]["source"], view["quotas"], view["state"]) == ("none", [], "ok")


@pytest.mark.timeout(180)
async def test_an_unannounced_limit_is_found_and_told(tmp_path: Path) -> None:
    """The same limit in status, limit, explain and metrics, with the line to adopt and why it is believed."""
    async with bench(tmp_path, platform=_SINGLE, sandbox=["--limit", "20/2s"]) as run:
        await _post(run, 3000)
        await until(lambda: _learned(run), timeout_s=60, what="a learned limit")
        last = run.posted[-1].id
        status, shown = await run.command("status"), await run.command("limit", PLATFORM)
        explained = await run.command("explain", str(last))
        quotas = (await _view(run))["quotas"]
        async with run.http.get(f"{run.admin}/metrics") as response:
            metrics = await response.text()

        assert {(each["quota"], each["source"]) for each in quotas} == {(f"learned:{PLATFORM}", "learned")}
        assert re.search(r'adopt "rate: \d+/\S+" \(relay limit ', status)
        assert re.search(r"adopt +rate: \d+/\S+ \(under platforms: ", shown)
        assert re.search(r"because +refused \d+ times after \d+ requests", shown)
        assert f'relay_rate_limit{{kind="learned",platform="{PLATFORM}",window="' in metrics
        assert "pending for" in explained
        assert "are pending" in explained


async def _delivered(run: Bench, count: int) -> bool:
    return bool((await run.ledger())["total"]["delivered"] >= count)


async def _learned(run: Bench) -> bool:
    return bool((await _view(run))["learned_limit"]["source"] == "learned")
