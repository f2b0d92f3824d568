"""``relay reconcile`` against a running relay: found, repaired under the limit, verified, clean the next time."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from relay.core.clock import boottime_s, wall_s
from tests import warm_start
from tests.e2e.harness import Bench, bench, until

PLATFORM = "shop-a"
LOST = [f"lost{n}" for n in range(4)]


class ForgetfulShop:
    """A platform that says ok to everything and forgets what it is told to, once."""

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}
        self.forget: set[str] = set(LOST)
        self.refuse: set[str] = {"dead"}
        self.arrivals: list[float] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Take callbacks; list the orders on one page."""
        self.arrivals.append(boottime_s())
        if request.method == "GET":
            at = wall_s() - 3
            rows = [{"order_id": key, "status": status, "updated_at": at} for key, status in self.orders.items()]
            return web.json_response({"orders": rows if request.query["page"] == "1" else []})
        for order in await request.json():
            key = order["order_id"]
            if key in self.refuse:
                self.refuse.discard(key)
                return web.json_response({}, status=400)
            if key in self.forget:
                self.forget.discard(key)
            else:
                self.orders[key] = order["status"]
        return web.json_response({})


@asynccontextmanager
async def serving(shop: ForgetfulShop) -> AsyncIterator[None]:
    """Serve a shop until the block ends."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", shop.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


async def reconcile(directory: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the command; return exit code, JSON and what it said beside."""
    words = ("reconcile", PLATFORM, "-c", str(directory / "config.yaml"), "-o", "json", *options)
    code, out, err = await warm_start.run(*words, stdin=b"1\n")
    return code, json.loads(out or "{}"), err


def configured(directory: Path, shop: ForgetfulShop) -> None:
    """Add the section to the configuration of the daemon."""
    file = directory / "config.yaml"
    config = yaml.safe_load(file.read_text())
    platform = config["platforms"].pop(next(iter(config["platforms"])))
    config["platforms"][PLATFORM] = platform
    config["reconcile"] = {
        PLATFORM: {
            "settle": "0s", "order_center": {"file": "orders.csv"},
            "platform": {"url": f"{shop.url}/orders?page={{page}}", "items_at": "orders", "next": {"page": 1}},
            "columns": {"key": "order_id", "status": "status", "at": "updated_at"}, "order": ["created", "paid"],
            "guard": {"max_repairs": 5},
        }
    }  # fmt: skip
    file.write_text(yaml.safe_dump(config))


async def carried_out(running: Bench, operation: str) -> None:
    """Wait for the end of an operation: a repair is ordered, and done in steps."""

    async def ended() -> bool:
        return bool((await running.read(f"/v1/operations/{operation}"))["state"] == "done")

    await until(ended, timeout_s=60, what=f"operation {operation} done")


async def delivered(running: Bench) -> None:
    """Wait until nothing is pending."""

    async def empty() -> bool:
        return bool((await running.ledger())["total"]["pending"] == 0)

    await until(empty, timeout_s=60, what="nothing pending")


async def post(running: Bench, keys: list[str]) -> None:
    """Post a callback of each order, and leave them in the order center's export."""
    body = b"\n".join(json.dumps({"order_id": key, "status": "paid"}).encode() for key in keys)
    url = f"{running.ingest}/v1/platforms/{PLATFORM}/callbacks"
    async with running.http.post(url, data=body, headers={"Content-Type": "application/x-ndjson"}) as response:
        assert response.status == 202
    rows = [f"{key},paid,{wall_s() - 5}\n" for key in [*keys, "never"]]
    (running.directory / "orders.csv").write_text("order_id,status,updated_at\n" + "".join(rows))


async def run_by_api(running: Bench) -> None:
    """Start a run as the console does, and find it in the list, by itself and in the metrics."""
    async with running.http.post(f"{running.admin}/v1/reconciliations", json={"platform": PLATFORM}) as response:
        assert response.status == 202
        started = await response.json()
        assert response.headers["Location"] == f"/v1/reconciliations/{started['run']}"

    async def ended() -> bool:
        found = await running.read(f"/v1/reconciliations/{started['run']}")
        return bool(found["state"] == "done" and [each["key"] for each in found["differences"]] == ["never"])

    await until(ended, timeout_s=60, what="the run")
    listed = await running.read(f"/v1/reconciliations?platform={PLATFORM}")
    assert listed["items"][0]["run"] == started["run"]
    assert listed["items"][0]["counts"] == {"missing": 1}

    async def measured() -> bool:
        async with running.http.get(f"{running.admin}/metrics") as response:
            return f'relay_reconcile_differences{{kind="missing",platform="{PLATFORM}"}} 1.0' in await response.text()

    await until(measured, timeout_s=60, what="the metric")
    async with running.http.post(f"{running.admin}/v1/reconciliations", json={"platform": "shop-b"}) as response:
        assert response.status == 404


@pytest.mark.timeout(300)  # ten commands, each a process
async def test_found_repaired_and_clean(tmp_path: Path) -> None:
    """What the platform forgot and what died is sent once more under the limit, and shows in the next run."""
    shop = ForgetfulShop()
    async with serving(shop):
        platform = {"url": f"{shop.url}/callbacks", "rate": "5/s", "key": "order_id", "batch": {"max_items": 1}}
        async with bench(tmp_path, platform=platform) as running:
            configured(tmp_path, shop)
            await running.kill()
            await running.restart()
            await post(running, ["good", "dead", *LOST])
            await delivered(running)

            code, found, err = await reconcile(tmp_path)
            assert code == 3, err
            whys = {line["key"]: line["why"] for line in found["differences"]}
            assert whys == {**dict.fromkeys(LOST, "not_applied"), "dead": "dead", "never": "not_posted"}
            assert (await running.ledger())["total"]["accepted"] == 6

            code, refused, err = await reconcile(tmp_path, "--repair")  # 1 is typed where 5 is asked for
            assert (code, refused["repair"]["refused"]) == (1, "nobody said yes"), err
            assert "5 of them" in err

            code, made, err = await reconcile(tmp_path, "--repair", "--yes", "--report", str(tmp_path / "r"))
            assert code == 3, err
            assert (made["repair"]["sent"], made["repair"]["proposed"]) == (5, 5)
            await carried_out(running, made["repair"]["operations"][0])
            await delivered(running)
            ledger = (await running.ledger())["total"]
            assert {name: ledger[name] for name in ("accepted", "delivered", "dead", "superseded", "unaccounted")} == {
                "accepted": 11, "delivered": 10, "dead": 0, "superseded": 1, "unaccounted": 0,
            }  # fmt: skip
            operation = await running.read(f"/v1/operations/{made['repair']['operations'][0]}")
            assert (operation["action"], operation["done"]) == ("resend", 5)
            assert operation["options"]["run"] == made["run"]
            page = (tmp_path / "r" / "report.html").read_text()
            assert "平台缺单" in page
            assert "never" in page
            assert json.loads((tmp_path / "r" / "run.json").read_text())["run"] == made["run"]
            assert (tmp_path / "r" / "differences.csv").read_text().count("\n") == 7

            code, checked, err = await reconcile(tmp_path, "--verify", made["run"])
            assert code == 0, err
            assert checked["of"] == made["run"]
            assert checked["counts"] == {"repaired": 5}
            assert {each["result"] for each in checked["verified"]} == {"repaired"}

            _, clean, err = await reconcile(tmp_path)
            assert {line["key"] for line in clean["differences"]} == {"never"}, err
            await run_by_api(running)
            times = shop.arrivals
            assert max(sum(start <= at < start + 1.0 for at in times) for start in times) <= 5


async def test_too_many_repairs_are_refused(tmp_path: Path) -> None:
    """More than ``max_repairs`` is refused with exit 1 and nothing is sent; ``--max`` takes some of them."""
    shop = ForgetfulShop()
    shop.forget = {f"o{n}" for n in range(8)}
    async with serving(shop):
        platform = {"url": f"{shop.url}/callbacks", "key": "order_id"}
        async with bench(tmp_path, platform=platform) as running:
            configured(tmp_path, shop)
            await running.kill()
            await running.restart()
            await post(running, ["good", *(f"o{n}" for n in range(8))])
            await delivered(running)

            code, made, _ = await reconcile(tmp_path, "--repair", "--yes")
            assert code == 1
            assert "max_repairs" in made["repair"]["refused"]
            assert (await running.ledger())["total"]["accepted"] == 9

            code, made, _ = await reconcile(tmp_path, "--repair", "--yes", "--max", "3")
            assert (code, made["repair"]["sent"]) == (3, 3)
