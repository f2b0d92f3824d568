"""Two real hosts over one Valkey, as operators see and use them: every host answers for all."""

import json
import os
from pathlib import Path

import pytest
from tests import warm_start
from tests.e2e.harness import until
from tests.hosts.fleet import PLATFORMS, WINDOW_S, Fleet, fleet

_OWNS = 'relay_owner{platform="shop-a"}'


async def relay(run: Fleet, host: str, *words: str) -> str:
    """Run a command against a host as an operator does; return what it prints."""
    ran = await warm_start.run(*words, "--admin", run.admin[host], env=os.environ)
    assert ran.code == 0, ran.err
    return ran.out


async def metrics(run: Fleet, host: str) -> dict[str, float]:
    """Return the metrics of a host by name and labels."""
    async with run.http.get(f"{run.admin[host]}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


@pytest.mark.timeout(300)
async def test_every_host_answers_for_all(tmp_path: Path) -> None:
    """Commands, pauses and operations work on the host that owns nothing; a change of the file rolls over both."""
    async with fleet(tmp_path, hosts=2) as run:
        first, second = run.names
        await until(lambda: run.all_owned(first), timeout_s=90, what="owners")

        async def both_are_known() -> bool:
            return all([len((await run.page(name))["items"]) == 2 for name in run.names])

        await until(both_are_known, timeout_s=60, what="both hosts know each other")
        owner, other, figures = first, second, dict[str, dict[str, float]]()

        async def is_told_alike() -> bool:  # half a minute after the start a platform goes to whom it belongs
            nonlocal owner, other
            owner = await run.owner("shop-a", first) or first
            other = second if owner == first else first
            figures.update({name: await metrics(run, name) for name in run.names})
            told = json.loads(await relay(run, other, "hosts", "-o", "json"))
            listed = [host["name"] for host in told if "shop-a" in host["platforms"]]
            both = [*figures[owner].items(), *figures[other].items()]
            begun = sum(value for name, value in both if name.startswith("relay_takeovers_total"))  # after the lease
            return listed == [owner] and begun >= 4 and [figures[name][_OWNS] for name in (owner, other)] == [1, 0]

        await until(is_told_alike, timeout_s=60, what="the owner of shop-a in page and metrics")
        shown = json.loads(await relay(run, other, "hosts", "-o", "json"))
        assert {name for host in shown for name in host["platforms"]} == set(PLATFORMS)
        assert owner in await relay(run, owner, "hosts")
        assert 0 <= figures[owner]['relay_lease_seconds{platform="shop-a"}'] < 9
        assert figures[owner]["relay_fenced_total"] == figures[owner]["relay_config_mismatch"] == 0

        assert "now paused" in await relay(run, other, "pause", "shop-a", "--reason", "try")
        for turn in range(12):
            await run.post(run.names[turn % 2], "shop-a", f"order-{turn}")
        asked = {"action": "drop", "filter": {"platform": "shop-a"}, "expect_count": 12, "reason": "try"}
        async with run.http.post(f"{run.admin[other]}/v1/operations", json=asked) as response:
            number = (await response.json())["id"]

        async def is_done() -> bool:
            async with run.http.get(f"{run.admin[other]}/v1/operations/{number}") as response:
                operation = await response.json()
            return (operation["state"], operation["done"]) == ("done", 12)

        await until(is_done, timeout_s=60, what="the operation, done by the owner")
        assert "resumed" in await relay(run, other, "resume", "shop-a")
        await run.drained(other, timeout_s=90)

        for name in run.names:
            run.write(name, rate=f"10/{WINDOW_S:g}s")
        await relay(run, other, "reload")

        async def moved() -> bool:
            items = {host["name"]: host for host in (await run.page(other))["items"]}
            return items[owner]["state"] == "mismatch" and items[other]["platforms"] == list(PLATFORMS)

        await until(moved, timeout_s=90, what="the host whose file is in force owns all")
        assert "only accepts: its file" in await relay(run, other, "hosts")
        assert f"config_mismatch: {owner} only accepts" in await relay(run, other, "status")
        assert (await metrics(run, owner))["relay_config_mismatch"] == 1
        await run.post(owner, "shop-b", "order-x")  # it accepts all the same
        await relay(run, owner, "reload")

        async def agrees() -> bool:
            return all(host["state"] != "mismatch" for host in (await run.page(other))["items"])

        await until(agrees, timeout_s=90, what="one file")
        given: list[dict[str, str]] = []

        async def is_released() -> bool:  # it may be on its way to whom it belongs just then
            ran = await warm_start.run("hosts", "release", "shop-a", "-o", "json", "--admin", run.admin[owner])
            given[:] = ran.json() if ran.code == 0 else []
            return bool(given)

        await until(is_released, timeout_s=60, what="shop-a released")
        to = given[0]["to"]
        assert given == [{"platform": "shop-a", "to": to}, {"platform": "shop-b", "to": to}]

        async def is_his() -> bool:
            return await run.owner("shop-a", owner) == await run.owner("shop-b", owner) == to

        await until(is_his, timeout_s=60, what="the other host owns what was released")
        await run.drained(owner, timeout_s=90)
