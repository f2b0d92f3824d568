"""The demonstration of `relay reconcile`: twenty differences of every kind, planted, found and repaired.

A shop takes callbacks and shows its orders page by page. It forgets some, refuses one and answers one as nobody knows.
The order center's export says what should be there. The commands are those that a user runs.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp
from aiohttp import web

from relay.core.clock import elapsed_s, wall_s
from relay.core.raw import JsonObject
from relay.demo.daemon import DemoDaemon, DemoFailed, environment, until
from relay.demo.findings import Finding
from relay.demo.run import Screen

ORDERS = 200
LIMIT = 20  # requests a second
_HOUR_S = 3600.0

_CONFIG = """\
version: 1
ingest: {{listen: "{ingest}"}}
admin: {{listen: "{admin}"}}
store: {{url: "sqlite:{store}", keep: {{delivered: 1d}}}}
platforms:
  shop-a:
    url: {target}/callbacks
    rate: {limit}/s
    envelope: single
    key: order_id
    classify: [{{path: ok, in: [true], as: ok}}, {{status: 4xx, as: reject}}]
reconcile:
  shop-a:
    span: 3d
    settle: 2s
    order_center: {{file: orders.csv}}
    platform: {{url: "{target}/orders?page={{page}}", items_at: orders, next: {{page: 1}}}}
    columns: {{key: order_id, status: status, at: updated_at, also: [amount]}}
    order: [created, paid, shipped, signed]
    status_map: {{order_center: {{REFUND: refunded}}, platform: {{REFUND: refunded}}}}
    stuck: {{created: 6h}}
"""


_SETTLED_S = 2.5  # what was delivered within `settle` is unsettled


class Planted(NamedTuple):
    """One order that differs, and how it must be found."""

    key: str
    center: str | None  # the status that the order center's export says; None: it has no such order
    posted: tuple[str, ...]  # statuses that are posted to the relay
    kind: str
    why: str | None


PLANTED = (
    Planted("forgot-1", "paid", ("paid",), "missing", "not_applied"),
    Planted("forgot-2", "paid", ("paid",), "missing", "not_applied"),
    Planted("refused", "paid", ("paid",), "missing", "dead"),
    Planted("odd", "paid", ("paid",), "missing", "held"),
    Planted("behind-odd", "shipped", ("paid", "shipped"), "missing", "waiting"),
    Planted("late", "paid", (), "missing", "expired"),
    Planted("never", "paid", (), "missing", "not_posted"),
    Planted("old", "paid", (), "missing", "pruned"),
    Planted("slow-1", "shipped", ("paid", "shipped"), "behind", "not_applied"),
    Planted("slow-2", "shipped", ("paid", "shipped"), "behind", "not_applied"),
    Planted("half", "shipped", ("paid",), "behind", "not_posted"),
    Planted("fast", "paid", ("paid",), "ahead", None),
    Planted("money-back", "REFUND", ("shipped",), "conflict", None),
    Planted("more", "paid", ("paid",), "different", "over"),
    Planted("less", "paid", ("paid",), "different", "short"),
    Planted("nobody", None, (), "unknown", None),
    Planted("twice", "paid", ("paid",), "duplicate", None),
    Planted("stands", "created", ("created",), "stuck", None),
    Planted("young", "paid", (), "unsettled", None),
    Planted("LOST", "LOST", (), "unreadable", None),
)
"""Twenty differences: every kind, and every why of `missing`."""
REPAIRED = ("forgot-1", "forgot-2", "refused", "late", "slow-1", "slow-2")


class _Shop:
    """The platform: what it shows, what it forgets once, and when it was asked."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, object]] = {}
        self.arrivals: list[float] = []
        self.url = ""
        self._forgets = Counter({("forgot-1", "paid"): 1, ("forgot-2", "paid"): 1})
        self._forgets += Counter({("slow-1", "shipped"): 1, ("slow-2", "shipped"): 1})
        self._refuses = {"refused"}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/callbacks", self._take)
        app.router.add_get("/orders", self._show)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.arrivals.append(elapsed_s())
        order = await request.json()
        key, status = order["order_id"], order["status"]
        if key in self._refuses:
            self._refuses.discard(key)
            return web.json_response({"ok": False}, status=400)
        if key in ("odd", "behind-odd"):
            return web.json_response({"result": "?"})
        if self._forgets[key, status]:
            self._forgets[key, status] -= 1
        else:
            self.orders[key] = {**order, "updated_at": wall_s() - 2 * _HOUR_S}
        return web.json_response({"ok": True})

    async def _show(self, request: web.Request) -> web.Response:
        self.arrivals.append(elapsed_s())
        start = (int(request.query["page"]) - 1) * 50
        return web.json_response({"orders": list(self.orders.values())[start : start + 50]})


class ReconcileDemo:
    """One run in ``directory``. ``run`` shows it on ``screen`` and returns the findings."""

    def __init__(self, directory: Path, *, screen: Screen) -> None:
        self.daemon = DemoDaemon(directory)
        self.shop = _Shop()
        self._directory = directory
        self._screen = screen

    async def run(self) -> list[Finding]:
        """Run all steps. Raises ``DemoFailed`` if a step does not succeed."""
        say = self._screen.say
        await self.shop.start()
        self.daemon.configure(_CONFIG, target=self.shop.url, limit=LIMIT)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
            self._http = http
            say("platform", f"{self.shop.url}: a shop that forgets, refuses and mumbles now and then")
            await self.daemon.start(http)
            say(
                "relay",
                f"http://{self.daemon.ingest}: the real daemon; console http://{self.daemon.admin}/ui/reconcile",
            )
            await self._post_all()
            say("posted", f"{ORDERS} orders that go well, and what is needed for {len(PLANTED)} that do not")
            await asyncio.sleep(_SETTLED_S)
            self._export()
            say("compare", f"relay reconcile shop-a -c {self.daemon.config}")
            found = await self._reconcile()
            for line in found["differences"]:
                say("", f"{line['kind']:<11} {line['why'] or '-':<12} {line['key']:<11} -> {line['proposal']}")
            say("repair", "relay reconcile shop-a --repair --yes")
            made = await self._reconcile("--repair", "--yes")
            say("", f"{made['repair']['sent']} callbacks are sent once more, at most {LIMIT} requests a second")
            await until(self._settled, "the repairs to be delivered")
            say("verify", f"relay reconcile shop-a --verify {made['run']}")
            await asyncio.sleep(_SETTLED_S)
            checked = await self._reconcile("--verify", made["run"])
            again = await self._reconcile()
        return self._judged(found, made, checked, again)

    async def close(self) -> None:
        """End daemon and shop."""
        await self.daemon.close()
        await self.shop.close()

    async def _post_all(self) -> None:
        """Post everything, let one callback expire while the platform is paused, and wait for the rest."""
        good = [(f"order-{n:03}", "paid") for n in range(ORDERS)]
        steps = [(each.key, status) for each in PLANTED for status in each.posted]
        await self._post([*good, *steps])
        await until(self._settled, "the callbacks to be delivered")
        await self._act("pause")
        await self._post([("late", "paid")], {"Relay-Expires": "1s"})

        async def expired() -> bool:
            return (await self.daemon.ledger(self._http))["expired"] == 1

        await until(expired, "a callback to expire")
        await self._act("resume")
        shown, at = self.shop.orders, wall_s() - 2 * _HOUR_S
        shown["fast"]["status"] = "signed"
        shown["more"]["amount"], shown["less"]["amount"] = "12.00", "9.00"
        shown["nobody"] = {"order_id": "nobody", "status": "paid", "amount": "10.00", "updated_at": at}

    async def _post(self, orders: list[tuple[str, str]], headers: dict[str, str] | None = None) -> None:
        rows = [json.dumps({"order_id": key, "status": status, "amount": "10.00"}) for key, status in orders]
        url = f"http://{self.daemon.ingest}/v1/platforms/shop-a/callbacks"
        sent = {"Content-Type": "application/x-ndjson", **(headers or {})}
        async with self._http.post(url, data="\n".join(rows), headers=sent) as response:
            if response.status != 202:
                raise DemoFailed(f"a post was answered {response.status}: {await response.text()}")

    async def _act(self, deed: str) -> None:
        async with self._http.post(f"http://{self.daemon.admin}/v1/platforms/shop-a/{deed}") as response:
            response.raise_for_status()

    def _export(self) -> None:
        """Write what the order center says."""
        ages = {"old": 40.0, "stands": 8.0, "young": -0.02}  # hours
        rows = [f"order-{n:03},paid,{_stamp(2)},10.00" for n in range(ORDERS)]
        for each in PLANTED:
            if each.center is not None:
                row = f"{each.key},{each.center},{_stamp(ages.get(each.key, 2.0))},10.00"
                rows += [row] * (2 if each.key == "twice" else 1)
        head = "order_id,status,updated_at,amount"
        (self._directory / "orders.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")

    async def _reconcile(self, *options: str) -> JsonObject:
        command = ("reconcile", "shop-a", "-c", str(self.daemon.config), "-o", "json", *options)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", *command),
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(),
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode not in (0, 3):
            raise DemoFailed(f"relay reconcile ended with {process.returncode}: {err.decode()[-500:]}")
        answer: JsonObject = json.loads(out)
        return answer

    async def _settled(self) -> bool:
        """Whether all that can be delivered is: two orders are held, and one waits behind one of them."""
        return (await self.daemon.ledger(self._http))["pending"] == 3

    def _judged(self, found: JsonObject, made: JsonObject, checked: JsonObject, again: JsonObject) -> list[Finding]:
        wanted = {(each.key, each.kind, each.why) for each in PLANTED}
        told = {(line["key"], line["kind"], line["why"]) for line in found["differences"]}
        left = {line["key"] for line in again["differences"]}
        rest = {each.key for each in PLANTED} - {*REPAIRED}
        times = self.shop.arrivals
        peak = max(sum(start <= at < start + 1.0 for at in times) for start in times)
        repaired = checked["counts"].get("repaired", 0)
        return [
            Finding("differences planted", str(len(PLANTED)), "of every kind and why", True),
            Finding("found", str(len(wanted & told)), "each as what it is", wanted <= told),
            Finding("invented", str(len(told - wanted)), "orders that do not differ", told <= wanted),
            Finding("repaired", str(repaired), "sent once more, shown by now", repaired == len(REPAIRED)),
            Finding("left for people", str(len(left)), "the rest", left == rest),
            Finding("peak in any 1 s", str(peak), f"requests, pages included; the limit is {LIMIT}", peak <= LIMIT),
        ]


def _stamp(hours_ago: float) -> str:
    return f"{datetime.fromtimestamp(wall_s() - hours_ago * _HOUR_S, UTC):%Y-%m-%d %H:%M:%S}"
