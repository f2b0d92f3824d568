"""The long form: 20,000 callbacks through three hosts, while hosts and the store they share are killed (make hosts)."""

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from relay.core.clock import boottime_s
from tests.e2e.harness import until
from tests.hosts.fleet import Fleet, fleet
from tests.hosts.stores import BadNetwork, BehindSentinels, OneNodeAtATime, SharedServer
from tests.hosts.test_fleet import SEED, check
from tests.hosts.troubles import Trouble, any_of_three, frozen_owner, rolled_rate
from tests.store.pairs import Pair
from tests.store.valkey import ValkeyServer

CALLBACKS = int(os.environ.get("CALLBACKS", "0"))  # of each run; without it only that they are there is tried
WORKERS, KEYS = 15, 20  # 300 keys
_TROUBLES: dict[str, Trouble] = {"frozen owners": frozen_owner, "rolled rates": rolled_rate}
_LEAST = 5  # troubles of each run, however short


async def _store(kind: str, directory: Path) -> SharedServer:
    if kind == "cluster":
        return OneNodeAtATime(directory)
    if kind == "sentinels":
        return BehindSentinels(directory)
    if kind == "bad-network":
        behind = BadNetwork(directory, seed=SEED)
        await behind.listen()
        return behind
    return ValkeyServer(directory)


def _posted(run: Fleet) -> int:
    return sum(map(len, run.accepted.values()))


async def _each_owned(run: Fleet) -> bool:
    return await run.all_owned(run.names[0]) and all(run.owned[name] for name in run.names)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["server", "frozen owners", "rolled rates", "cluster", "sentinels", "bad-network"])
async def test_no_promise_breaks(tmp_path: Path, kind: str) -> None:
    """Nothing is lost, order holds, no window is exceeded, every host owned something."""
    print(f"{kind}, seed {SEED}: repeat with SEED={SEED}")
    rng = random.Random(f"{kind}{SEED}")
    store = await _store(kind, tmp_path / "store")
    async with fleet(tmp_path, seed=SEED, store=store, replicas=int(kind == "sentinels")) as run:
        run.sticks = True
        stop = asyncio.Event()
        began = boottime_s()
        load = [asyncio.create_task(run.load(worker, KEYS, stop, 0.05)) for worker in range(WORKERS)]
        run.tasks += load
        troubles = 0
        while _posted(run) < CALLBACKS or troubles < _LEAST:
            await asyncio.sleep(rng.uniform(2, 6))  # the moment is the test's subject
            await _TROUBLES.get(kind, any_of_three)(run, rng)
            troubles += 1
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                await run.page(rng.choice(run.names))  # notes who owns what
        for name in run.names:
            if not run.daemons[name].running:
                await run.start(name)
        await asyncio.gather(*(run.ready(name) for name in run.names))
        stop.set()
        await asyncio.wait_for(asyncio.gather(*load), 120)
        total = await run.drained(run.names[1], timeout_s=300)
        # Balance moves one platform in 5 s, to hosts that have been there for 30 s.
        await until(lambda: _each_owned(run), timeout_s=120, what="each host owned something")
        print(f"{total} after {troubles} troubles in {boottime_s() - began:.0f} s; owned: {dict(run.owned)}")
        check(run, total)
        assert _posted(run) >= CALLBACKS


async def _told_lost(run: Fleet) -> float:
    lines = [line for name in run.names for line in (await _metrics(run, name)).splitlines()]
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("relay_lost_callbacks_total{"))


async def _metrics(run: Fleet, name: str) -> str:
    async with run.http.get(f"{run.admin[name]}/metrics") as response:
        return await response.text()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("with_owner", [False, True], ids=["owners live", "an owner is gone too"])
async def test_a_replica_that_was_behind_takes_over(tmp_path: Path, with_owner: bool) -> None:
    """Each failover loses the last writes: no window is exceeded, order holds, the hosts count what was lost."""
    print(f"seed {SEED}: repeat with SEED={SEED}")
    rng = random.Random(f"behind{SEED}")
    pair = Pair(tmp_path / "store")
    await pair.listen()
    async with fleet(tmp_path, seed=SEED, store=pair) as run:
        run.sticks = True
        stop = asyncio.Event()
        await until(lambda: run.all_owned(run.names[0]), timeout_s=60, what="owners")
        load = [asyncio.create_task(run.load(worker, KEYS, stop, 0.05)) for worker in range(WORKERS)]
        run.tasks += load
        failovers = 0
        while _posted(run) < CALLBACKS or failovers < _LEAST:
            failovers += 1
            await asyncio.sleep(rng.uniform(2, 6))
            await pair.part()
            await asyncio.sleep(rng.uniform(0.3, 2))
            victim = rng.choice(run.names)
            if with_owner:
                await run.kill(victim)
            pair.fail_over()
            await asyncio.sleep(rng.uniform(0, 5))
            await asyncio.to_thread(pair.heal)
            if with_owner:
                await run.start(victim)
            await asyncio.gather(*(run.ready(name) for name in run.names))
        stop.set()
        await asyncio.wait_for(asyncio.gather(*load), 120)
        total = await run.drained(run.names[1], timeout_s=300)
        assert run.sink.broken_windows() == []
        assert run.sink.out_of_order() == []
        assert total["unaccounted"] == total["dead"] == total["expired"] == 0
        lost = sum(len(run.accepted[name] - run.delivered(name)) for name in run.accepted)
        told = await _told_lost(run)
        print(f"{failovers} failovers: {total}, {_posted(run)} posted, {lost} never delivered, {told:.0f} told as lost")
        assert lost > 0
        if not with_owner:
            assert told == _posted(run) - total["accepted"] + total["superseded"]
            assert told >= lost
