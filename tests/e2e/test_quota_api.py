"""Slots by the API of a real daemon: the three calls, the client of ``relay.client``, and ``relay run-limited``."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from relay.client import AsyncRelayClient, NoSlotFree, RelayClient, RequestFailed
from tests import warm_start
from tests.e2e.harness import Bench, bench

PLATFORM = {"rate": "3/2s", "learn_limit": False}


async def ask(run: Bench, verb: str, quota: str = "shop", body: str = "{}") -> tuple[int, dict[str, Any], str | None]:
    """Return status, answer and Retry-After of one call."""
    async with run.http.post(f"{run.ingest}/v1/quotas/{quota}/{verb}", data=body) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers.get("Retry-After")


async def command(run: Bench, *words: str) -> tuple[int | None, str, str]:
    """Run a command against the ingest listener and return its exit code and what it printed."""
    return await warm_start.run(*words[:1], "--ingest", run.ingest, *words[1:])


async def test_the_three_calls(tmp_path: Path) -> None:
    """Slots are given, refused with Retry-After, waited for and given back; a refusal that is reported stops."""
    async with bench(tmp_path, platform=PLATFORM) as run:
        status, first, _ = await ask(run, "take", body="")
        assert status == 200
        assert (len(first["slots"]), first["send_by"][-1]) == (1, "Z")
        status, two, _ = await ask(run, "take", body='{"n": 2}')
        assert (status, len({*two["slots"], *first["slots"]})) == (200, 3)
        status, problem, retry_after = await ask(run, "take")
        assert (status, problem["code"]) == (429, "no_slot")
        assert int(retry_after or 0) >= 1
        names = '", "'.join(two["slots"])
        assert (await ask(run, "release", body=f'{{"slots": ["{names}"], "unused": true}}'))[1] == {"released": 2}
        assert (await ask(run, "release", body=f'{{"slots": ["{names}"], "unused": true}}'))[1] == {"released": 0}
        assert (await ask(run, "report", body='{"n": 2}'))[:2] == (200, {"counted": 2})
        waiting = asyncio.create_task(ask(run, "take", body='{"wait": "20s", "n": 2}'))
        status, taken, _ = await waiting
        assert (status, len(taken["slots"])) == (200, 2)

        refusals = {
            '{"n": 4}': (422, "never_fits"),
            '{"n": 0}': (400, "invalid_request"),
            '{"n": true}': (400, "invalid_request"),
            '{"wait": "61s"}': (400, "invalid_request"),
            '{"wait": 2}': (400, "invalid_request"),
            '{"waits": "2s"}': (400, "invalid_request"),
            "{": (400, "invalid_json"),
        }
        for body, expected in refusals.items():
            status, problem, _ = await ask(run, "take", body=body)
            assert (status, problem["code"]) == expected, body
        assert (await ask(run, "take", quota="shopp"))[1]["code"] == "unknown_quota"

        status, _, _ = await ask(run, "report", body='{"n": 1, "refused": true, "wait": "30s"}')
        assert status == 200
        shown = await run.read("/v1/platforms/shop")
        assert (shown["state"], shown["reason"]) == ("throttled", "a request of others was refused")
        status, problem, retry_after = await ask(run, "take", body='{"wait": "1s"}')
        assert (status, problem["code"]) == (429, "no_slot")
        assert 20 <= int(retry_after or 0) <= 40
        assert "shop: others use " in await run.command("status")


async def test_the_client(tmp_path: Path) -> None:
    """Both clients post, take and release; a post is safe to repeat, and a command runs when it has a slot."""
    async with bench(tmp_path, platform={**PLATFORM, "rate": "2/h", "key": "order_id"}) as run:
        relay, beside = RelayClient(run.ingest), AsyncRelayClient(run.ingest)
        given = {"key": "订单-1", "idempotency_key": "post-1"}
        blocking = await asyncio.to_thread(relay.post, "shop", {"order_id": "1", "备注": "已发货"}, **given)
        assert await beside.post("shop", {"order_id": "1", "备注": "已发货"}, **given) == blocking
        assert (await run.read(f"/v1/callbacks/{blocking}"))["key"] == "订单-1"
        await run.drained(timeout_s=40)

        async with beside.slot("shop", wait_s=0.5) as taken:
            assert len(taken.ids) == 1
            for refused in (beside.take("shop"), asyncio.to_thread(relay.take, "shop", wait_s=0.2)):
                with pytest.raises(NoSlotFree) as none:
                    await refused
                assert (none.value.code, none.value.status) == ("no_slot", 429)
                assert none.value.retry_after_s
        for call in (beside.post("nobody", {}), beside.report("nobody")):
            with pytest.raises(RequestFailed) as unknown:
                await call
            assert unknown.value.status == 404

        code, _, err = await command(run, "run-limited", "--wait", "0s", "shop", "--", "true")
        assert code == 1
        assert "all slots are taken" in err


async def test_commands_under_a_limit(tmp_path: Path) -> None:
    """The command runs with a slot, its exit code is passed on, and what could not be run costs none."""
    async with bench(tmp_path, platform={**PLATFORM, "rate": "2/h"}) as run:
        assert (await command(run, "run-limited", "shop", "--", "no-such-program"))[0] == 127
        assert (await command(run, "run-limited", "shop", "--", "echo", "--hello"))[:2] == (0, "--hello\n")
        assert (await command(run, "run-limited", "shop", "--", "sh", "-c", "exit 3"))[0] == 3
        (quota,) = (await run.read("/v1/platforms/shop"))["quotas"]
        assert (quota["used"], quota["uses"]["external"]) == (2, 2)
        assert (await command(run, "run-limited", "--wait", "soon", "shop", "--", "true"))[0] == 2
