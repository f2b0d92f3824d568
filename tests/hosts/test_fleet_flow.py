"""Two real hosts over one sealed Valkey, with receipts, windows of items and others who take slots."""

import asyncio
import base64
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.e2e.harness import until
from tests.hosts.fleet import PLATFORMS, WINDOW_S, Fleet, fleet

ITEMS = 30
KILLS = int(os.environ.get("HOST_KILLS", "1"))
ORDERS = 20
POSTS = 4 * (KILLS + 1) * ORDERS


class OrderCenter:
    """Takes receipts, and keeps them in the order in which they came."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take a batch of receipts; now and then the answer is an error."""
        self.told += await request.json()
        return web.Response(status=500 if len(self.told) % 7 == 3 else 200)

    def once_each(self) -> set[str]:
        """Return the idempotency keys of the callbacks told of, after a look that each ended once."""
        states = {(each["id"], each["state"], each["at"]) for each in self.told}
        ids = {each["id"] for each in self.told}
        assert len(states) == len(ids)
        return {each["idempotency_key"] for each in self.told}

    def out_of_order(self) -> list[str]:
        """Return keys whose receipts came in another order than their callbacks ended."""
        last: dict[tuple[str, str], int] = defaultdict(int)
        seen: set[str] = set()
        found = []
        for each in self.told:
            number, key = int(each["idempotency_key"].removeprefix("post-")), (each["platform"], each["key"])
            if each["id"] not in seen and number < last[key]:
                found.append(f"{key}: {number} after {last[key]}")
            seen.add(each["id"])
            last[key] = max(last[key], number)
        return found


def too_many_items(run: Fleet) -> list[str]:
    """Return where more items came within a window than the limit allows, as the platform saw it."""
    found = []
    for platform in PLATFORMS:
        arrivals = [(each.at, len(each.items)) for each in run.sink.arrivals if each.platform == platform]
        for at, _ in arrivals:
            items = sum(count for other, count in arrivals if at <= other < at + WINDOW_S)
            if items > ITEMS:
                found.append(f"{platform}: {items} items from {at:.3f} on")
    return found


async def others(run: Fleet, stop: asyncio.Event) -> int:
    """Use the app key of a platform beside the relay: take a slot on either host, send, give it back."""
    sent = 0
    while not stop.is_set():
        host = run.ingest[run.names[sent % len(run.names)]]
        try:
            async with run.http.post(f"{host}/v1/quotas/shop-c/take", json={"wait": "1s"}) as answer:
                slots = (await answer.json())["slots"] if answer.status == 200 else None
            if slots:
                async with run.http.post(f"{run.sink.url}/shop-c", json=[]):
                    sent += 1
                async with run.http.post(f"{host}/v1/quotas/shop-c/release", json={"slots": slots}):
                    pass
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass  # the host was killed: the slot counts all the same
        await asyncio.sleep(0.02)
    return sent


@pytest.mark.timeout(3600)
async def test_every_promise_holds_with_all_that_is_counted_and_told(tmp_path: Path) -> None:
    """Hosts are killed under load. Each end has one receipt, windows hold, nothing is lost and nothing readable."""
    center = OrderCenter()
    app = web.Application()
    app.router.add_post("/", center.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receipts = {
        "url": f"http://127.0.0.1:{runner.addresses[0][1]}/",
        "on": ["delivered", "dead", "expired"],
        "batch": {"max_items": 50},
        "retry": {"times": 50, "backoff": "50ms..200ms"},
    }
    more = {"receipts": receipts, "privacy": {"encrypt": {"key": base64.b64encode(b"k" * 32).decode()}}}
    try:
        async with fleet(tmp_path, hosts=2, more=more, of_each={"items": f"{ITEMS}/{WINDOW_S:g}s"}) as run:
            await until(lambda: run.all_owned(run.names[0]), timeout_s=90, what="owners")
            stop = asyncio.Event()
            taking = asyncio.create_task(others(run, stop))

            async def post(order: int, turns: int) -> None:
                for turn in range(turns):
                    await run.post(run.names[(order + turn) % 2], PLATFORMS[order % 5], f"order-{order}")

            await asyncio.gather(*(post(order, 4) for order in range(ORDERS)))
            for _ in range(KILLS):
                posting = asyncio.gather(*(post(order, 4) for order in range(ORDERS)))
                await asyncio.sleep(run.rng.uniform(0, 0.5))  # the moment is the test's subject
                name = run.rng.choice(run.names)
                await run.kill(name)
                await run.start(name)
                await posting
            await asyncio.gather(*(run.ready(name) for name in run.names))
            total = await run.drained(run.names[0], timeout_s=90 + 5 * KILLS)
            stop.set()
            assert await taking > 0

            async def all_is_told() -> bool:
                async with run.http.get(f"{run.admin[run.names[0]]}/v1/ledger") as response:
                    if response.status != 200:
                        return False
                    told = (await response.json())["platforms"].get("_receipts", {})
                return bool(told.get("accepted") == told.get("delivered") == POSTS)

            await until(all_is_told, timeout_s=90, what="receipts")
            accepted = sum(map(len, run.accepted.values()))
            assert (accepted, total["unaccounted"]) == (POSTS, 0)
            for platform in PLATFORMS:
                assert run.accepted[platform] <= run.delivered(platform), f"{platform}: lost"
            assert center.once_each() == {f"post-{number}" for number in range(1, POSTS + 1)}
            assert center.out_of_order() == []
            assert run.sink.out_of_order() == []
            assert run.sink.broken_windows() == []
            assert too_many_items(run) == []
            kept = b"".join(file.read_bytes() for file in (tmp_path / "valkey").rglob("*") if file.is_file())
            assert b"order-1" not in kept
    finally:
        await runner.cleanup()
