"""The daemon over a real Valkey: host and server are killed under load, and afterwards every promise must have held."""

import asyncio
import json
import random
from pathlib import Path

import pytest
from tests import warm_start
from tests.e2e.harness import Bench, bench, until
from tests.e2e.killing import PLATFORM, SANDBOX, Load, judged, under
from tests.store.valkey import ValkeyServer


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


@pytest.mark.timeout(60)
async def test_status_while_the_server_is_away(tmp_path: Path, server: ValkeyServer) -> None:
    """It tells since when, what the store told last and what waits here; a host that starts then says what it knows."""
    store = {"url": server.url, "spool": {"path": str(tmp_path / "spool.db")}}
    (tmp_path / "order.json").write_text('{"order_id": "1"}')

    async def relay(*words: str) -> str:
        ran = await asyncio.to_thread(warm_start.run_here, *words, "-c", "config.yaml", cwd=tmp_path)
        assert ran.code == 0, ran
        return ran.out

    async with bench(tmp_path, platform={**PLATFORM, "expires": "1h"}, store=store) as run:
        await relay("pause", "shop", "--reason", "their move")
        await relay("send", "shop", "order.json")
        assert "away" not in await relay("status")
        server.kill()
        at_once = await relay("status")
        assert "shop paused: their move" in at_once
        assert "LEDGER  1 in = 0 delivered + 1 pending" in at_once
        assert "as of" in at_once
        assert "away since" in at_once
        await relay("send", "shop", "order.json")
        told = json.loads(await relay("status", "-o", "json"))
        assert (told["ledger"]["total"]["pending"], told["ledger"]["total"]["spooled"]) == (2, 1)
        assert told["ledger"]["away"]["since"] > told["ledger"]["away"]["as_of"]
        async with run.http.get(f"{run.admin}/v1/ledger") as answer:  # who does not ask for it gets no old figures
            assert answer.status == 503
        async with run.http.get(f"{run.admin}/v1/events") as events:  # a page of the console that is opened now
            assert await events.content.readline() == b"event: state\n"
            state = json.loads((await events.content.readline()).removeprefix(b"data: "))
            assert [each["state"] for each in state["platforms"]["items"]] == ["paused"]
            assert state["ledger"]["away"]["as_of"] is not None
        await run.kill()
        await run.restart()
        told_anew = await relay("status")
        assert "LEDGER  not known" in told_anew
        assert "shop 1" in told_anew
        server.start()
        await until(lambda: _there(run), timeout_s=20, what="the store is back")
        assert "LEDGER  2 in = 0 delivered + 2 pending" in await relay("status")


async def _there(run: Bench) -> bool:
    async with run.http.get(f"{run.admin}/v1/ledger") as answer:
        return answer.status == 200 and (await answer.json())["total"]["spooled"] == 0
