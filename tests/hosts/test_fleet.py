"""Three real hosts over one real Valkey: they are killed at random, and every promise holds over all of them."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.e2e.harness import until
from tests.hosts.fleet import PLATFORMS, Fleet, fleet

KILLS = int(os.environ.get("HOST_KILLS", "3"))
SEED = int(os.environ.get("SEED", "7"))
WORKERS = 6


def check(run: Fleet, total: dict[str, int]) -> None:
    """Nothing is lost, order holds per key, and no window was exceeded as the platforms saw it."""
    for platform in PLATFORMS:
        assert run.accepted[platform] <= run.delivered(platform), f"{platform}: lost"
    assert run.sink.out_of_order() == []
    assert run.sink.broken_windows() == []
    assert total["unaccounted"] == total["dead"] == total["expired"] == 0
    # What waited in a spool while another host accepted its repeat is superseded by that.
    assert total["delivered"] == total["accepted"] - total["superseded"] == sum(map(len, run.accepted.values()))


@pytest.mark.timeout(3600)
async def test_no_promise_breaks_when_hosts_are_killed(tmp_path: Path) -> None:
    """Hosts are killed at random moments under load and started again; ``test_long.py`` also kills the server."""
    print(f"seed {SEED}: repeat with SEED={SEED}")
    async with fleet(tmp_path, seed=SEED) as run:
        stop = asyncio.Event()
        load = [asyncio.create_task(run.load(worker, 50, stop, 0.03)) for worker in range(WORKERS)]
        for _ in range(KILLS):
            await asyncio.sleep(run.rng.uniform(0.2, 2.0))  # the moment is the test's subject
            name = run.rng.choice(run.names)
            await run.kill(name)
            await run.start(name)
            if run.rng.random() > 0.3:
                await run.ready(name)
        await asyncio.gather(*(run.ready(name) for name in run.names))
        stop.set()
        await asyncio.wait_for(asyncio.gather(*load), 60)
        total = await run.drained(run.names[1], timeout_s=120)
        check(run, total)
        assert sum(map(len, run.accepted.values())) > 20 * KILLS


@pytest.mark.timeout(600)
async def test_another_host_takes_over_and_a_frozen_one_does_no_harm(tmp_path: Path) -> None:
    """An owner that is frozen loses its platforms; awake again it sends nothing late, and gives way.

    That this takes 20 s at the most is shown in virtual time (``test_ownership.py``).
    """
    async with fleet(tmp_path, hosts=2, seed=SEED) as run:
        first, second = run.names
        await until(lambda: run.all_owned(first), timeout_s=90, what="owners")
        owner = await run.owner("shop-a", first)
        assert owner is not None
        other = second if owner == first else first
        stop = asyncio.Event()
        load = [asyncio.create_task(run.load(worker, 20, stop, 0.05)) for worker in range(2)]

        async def under_way() -> bool:
            return bool(run.delivered("shop-a"))

        await until(under_way, timeout_s=90, what="load on shop-a")
        run.names.remove(owner)  # nothing more is posted to it
        run.freeze(owner, frozen=True)

        async def given_way(asked: str) -> bool:
            return await run.owner("shop-a", asked) == other

        await until(lambda: given_way(other), timeout_s=90, what="take-over")
        run.freeze(owner, frozen=False)
        await until(lambda: given_way(owner), timeout_s=90, what="the frozen host sees it")
        stop.set()
        await asyncio.wait_for(asyncio.gather(*load), 60)
        total = await run.drained(other, timeout_s=120)
        check(run, total)
        assert await run.owner("shop-a", other) == other
