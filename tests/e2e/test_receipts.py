"""Every end has exactly one receipt, whatever kills the daemon; an endpoint that is down holds up nothing."""

import asyncio
import json
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest
import yaml
from aiohttp import web
from relay.standin.ports import free_port
from tests.e2e.harness import Process, until

FINAL = {1: "delivered", 2: "dead", 3: "expired", 4: "superseded"}
FATES = ("ok", "ok", "bad", "odd")


class OtherSide:
    """A platform that treats each callback as it says itself, and the order center, which hears of it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.listens = False

    async def take(self, request: web.Request) -> web.Response:
        order = json.loads(await request.read())
        if order["fate"] == "bad":
            return web.Response(status=400)
        return web.json_response({"code": 0 if order["fate"] == "ok" else "strange"})

    async def hear(self, request: web.Request) -> web.Response:
        if not self.listens:
            return web.Response(status=503)
        self.heard += json.loads(await request.read())
        return web.Response()


@pytest.fixture
async def other() -> AsyncIterator[tuple[OtherSide, str]]:
    """Both sides on one port, and its address."""
    made = OtherSide()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/take", made.take)
    app.router.add_post("/hear", made.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def _settings(there: str, ingest: int, admin: int) -> dict[str, Any]:
    plain = {
        "url": f"{there}/take",
        "envelope": "single",
        "key": "order_id",
        "concurrency": 16,
        "breaker": "off",
        "learn_limit": False,
        "classify": [{"status": 200, "path": "code", "in": [0], "as": "ok"}],
    }
    return {
        "version": 1,
        "ingest": {"listen": f"127.0.0.1:{ingest}"},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "platforms": {
            "shop": plain,
            "stock": {**plain, "coalesce": "latest", "rate": "20/s"},
            "never": {**plain, "rate": "1/h"},
        },
        "receipts": {
            "url": f"{there}/hear",
            "on": ["dead", "expired", "held", "delivered", "superseded"],
            "compress": "none",
            "retry": {"times": 1000, "backoff": "50ms..200ms"},
        },
    }


@pytest.mark.timeout(3600)
async def test_every_end_has_one_receipt(other: tuple[OtherSide, str], tmp_path: Path) -> None:
    """Delivered, dead, expired, superseded, held and resolved, over SIGKILLs; CALLBACKS and KILLS for the long form."""
    count, kills = int(os.environ.get("CALLBACKS", "300")), int(os.environ.get("KILLS", "3"))
    rng = random.Random(int(os.environ.get("SEED", "20")))
    side, there = other
    ingest, admin = free_port(), free_port()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(_settings(there, ingest, admin)))
    daemon = Process(tmp_path / "log", "run", "-c", str(file))
    await daemon.start()
    async with aiohttp.ClientSession() as http:

        async def ready() -> bool:
            assert daemon.running, daemon.tail()
            try:
                return (await http.get(f"http://127.0.0.1:{admin}/readyz")).status == 200
            except aiohttp.ClientError:
                return False

        async def kill() -> None:
            await asyncio.sleep(rng.uniform(0.0, 0.5))  # the moment is the test's subject
            await daemon.signal(signal.SIGKILL)
            await daemon.start()
            await until(ready, timeout_s=120, what=f"ready after a kill: {daemon.tail()}")

        async def post(platform: str, first: int, fates: list[str], **headers: str) -> None:
            lines = [
                json.dumps({"order_id": f"o{rng.randrange(count // 4)}", "fate": fate, "n": first + place})
                for place, fate in enumerate(fates)
            ]
            given = {
                "Content-Type": "application/x-ndjson", "Idempotency-Key": f"{platform}-{first}",
                "Relay-Reference": f"ref-{first}", **headers,
            }  # fmt: skip
            url = f"http://127.0.0.1:{ingest}/v1/platforms/{platform}/callbacks"
            while True:  # safe to repeat, and a kill may come between
                try:
                    async with http.post(url, data="\n".join(lines), headers=given) as answer:
                        assert answer.status == 202, await answer.text()
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

        async def load() -> None:
            for first in range(0, count * 7 // 10, 20):
                await post("shop", first, [rng.choice(FATES) for _ in range(20)])
            for first in range(0, count * 2 // 10, 20):
                await post("stock", first, ["ok"] * 20)
            await post("never", 0, ["ok"] * (count // 10), **{"Relay-Expires": "3s"})

        async def ledger() -> dict[str, Any]:
            try:
                async with http.get(f"http://127.0.0.1:{admin}/v1/ledger") as answer:
                    found: dict[str, Any] = await answer.json()
                    return found["platforms"]
            except aiohttp.ClientError:
                return {}

        async def resolve(verdict: str) -> None:
            order = {"action": "resolve", "as": verdict, "filter": {"platform": "shop"}, "reason": "seen"}
            async with http.post(f"http://127.0.0.1:{admin}/v1/operations", json=order) as answer:
                assert answer.status == 202, await answer.text()

        async def held() -> int:
            async with http.get(f"http://127.0.0.1:{admin}/v1/platforms/shop") as answer:
                found: int = (await answer.json())["held"]
                return found

        verdicts = cycle(("delivered", "dead"))  # what is held first, much at once, is resolved as delivered

        async def all_ended() -> bool:
            if await held():
                await resolve(next(verdicts))
            states = await ledger()
            return bool(states) and not any(states.get(name, {}).get("pending") for name in ("shop", "stock", "never"))

        await until(ready, timeout_s=60, what="ready")
        posting = asyncio.create_task(load())
        for _ in range(kills // 2):
            await kill()
        await posting
        # the order center does not listen: nothing of that holds up the callbacks
        await until(all_ended, timeout_s=90 + count / 20, what=f"every end {await ledger()}")
        assert side.heard == []
        side.listens = True
        for _ in range(kills - kills // 2):
            await kill()

        async def all_heard() -> bool:
            states = await ledger()
            return bool(states) and not states["_receipts"]["pending"]

        await until(all_heard, timeout_s=90 + count / 20, what="every receipt delivered")
        total = await ledger()
    assert await daemon.signal(signal.SIGTERM) == 0
    _check(side, tmp_path / "relay.db", total)


def _check(side: OtherSide, store: Path, ledger: dict[str, Any]) -> None:
    """Compare what the store says of each callback with its receipts, and both with what the order center heard."""
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    number = connection.execute("SELECT id FROM platform WHERE name = '_receipts'").get
    queued = [
        json.loads(body)
        for (body,) in connection.execute(
            "SELECT body FROM payload JOIN callback USING (seq) WHERE platform = ? ORDER BY seq", (number,)
        )
    ]
    states = Counter(
        state for (state,) in connection.execute("SELECT state FROM callback WHERE platform <> ?", (number,))
    )
    told: dict[str, list[str]] = defaultdict(list)
    for receipt in queued:
        told[receipt["id"]].append(receipt["state"])
    assert len(told) == sum(states.values())
    ways = Counter(tuple(each) for each in told.values())
    assert {way for way in ways if len(way) > 1 and way[0] != "held"} == set()
    assert {way for way in ways if len(way) > 2} == set()
    assert Counter(way[-1] for way in told.values()) == {FINAL[state]: n for state, n in states.items()}
    assert set(ways) >= {("delivered",), ("dead",), ("expired",), ("superseded",), ("held", "delivered")}

    texts = [json.dumps(each, sort_keys=True) for each in queued]
    assert len(set(texts)) == len(texts) == ledger["_receipts"]["delivered"] == ledger["_receipts"]["accepted"]
    heard = list(dict.fromkeys(json.dumps(each, sort_keys=True) for each in side.heard))
    assert sorted(heard) == sorted(texts)
    of_key: dict[str, list[str]] = defaultdict(list)
    wanted: dict[str, list[str]] = defaultdict(list)
    for found, lists in ((heard, of_key), (texts, wanted)):
        for text in found:
            lists[json.loads(text)["key"]].append(text)
    assert of_key == wanted  # first arrivals of a key, in the order in which its callbacks ended
    assert all(each["reference"].startswith("ref-") and each["idempotency_key"] for each in queued)
    assert not any("fate" in text or "payload" in text for text in texts)
