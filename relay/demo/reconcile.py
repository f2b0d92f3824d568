"""The demonstration of `relay reconcile`: twenty differences of every kind, planted, found and repaired.

A shop takes callbacks and shows its orders page by page. It forgets some, refuses one and answers one as nobody knows.
The order center's export says what should be there. The commands are those that a user runs.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp
from aiohttp import web

from relay.core.clock import elapsed_s, wall_s
from relay.core.raw import JsonObject
from relay.demo.findings import Finding
from relay.demo.run import DemoFailed, Screen, environment, free_port

ORDERS = 200
LIMIT = 20  # requests a second
_HOUR_S = 3600.0
_START_S, _END_S, _LOOK_S = 20.0, 60.0, 0.05

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
        self.ingest, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.config = directory / "config.yaml"
        self.daemon_log = directory / "daemon.log"
        self.shop = _Shop()
        self._directory = directory
        self._screen = screen
        self._daemon: asyncio.subprocess.Process | None = None

    async def run(self) -> list[Finding]:
        """Run all steps. Raises ``DemoFailed`` if a step does not succeed."""
        say = self._screen.say
        await self.shop.start()
        text = _CONFIG.format(
            ingest=self.ingest, admin=self.admin, store=self._directory / "relay.db", target=self.shop.url, limit=LIMIT
        )
        self.config.write_text(text, encoding="utf-8")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
            self._http = http
            say("platform", f"{self.shop.url}: a shop that forgets, refuses and mumbles now and then")
            await self._start_daemon()
            say("relay", f"http://{self.ingest}: the real daemon; console http://{self.admin}/ui/reconcile")
            await self._post_all()
            say("posted", f"{ORDERS} orders that go well, and what is needed for {len(PLANTED)} that do not")
            await asyncio.sleep(_SETTLED_S)
            self._export()
            say("compare", f"relay reconcile shop-a -c {self.config}")
            found = await self._reconcile()
            for line in found["differences"]:
                say("", f"{line['kind']:<11} {line['why'] or '-':<12} {line['key']:<11} -> {line['proposal']}")
            say("repair", "relay reconcile shop-a --repair --yes")
            made = await self._reconcile("--repair", "--yes")
            say("", f"{made['repair']['sent']} callbacks are sent once more, at most {LIMIT} requests a second")
            await self._until(self._settled, "the repairs to be delivered")
            say("verify", f"relay reconcile shop-a --verify {made['run']}")
            await asyncio.sleep(_SETTLED_S)
            checked = await self._reconcile("--verify", made["run"])
            again = await self._reconcile()
        return self._judged(found, made, checked, again)

    async def close(self) -> None:
        """End daemon and shop."""
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.terminate()
            await self._daemon.wait()
        await self.shop.close()

    def log_tail(self, lines: int = 30) -> list[str]:
        """Return the end of the daemon's log."""
        if not self.daemon_log.exists():
            return []
        return self.daemon_log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]

    async def _start_daemon(self) -> None:
        with self.daemon_log.open("ab") as log:
            self._daemon = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", "run", "-c", str(self.config)),
                stdin=DEVNULL, stdout=log, stderr=log, env=environment(),
            )  # fmt: skip

        async def ready() -> bool:
            if process.returncode is not None:
                raise DemoFailed(f"the daemon ended with exit code {process.returncode} before it was ready")
            try:
                async with self._http.get(f"http://{self.ingest}/readyz") as response:
                    return response.status == 200
            except (aiohttp.ClientError, OSError):
                return False  # not listening yet

        await self._until(ready, "the daemon to be ready", within_s=_START_S)

    async def _post_all(self) -> None:
        """Post everything, let one callback expire while the platform is paused, and wait for the rest."""
        good = [(f"order-{n:03}", "paid") for n in range(ORDERS)]
        steps = [(each.key, status) for each in PLANTED for status in each.posted]
        await self._post([*good, *steps])
        await self._until(self._settled, "the callbacks to be delivered")
        await self._act("pause")
        await self._post([("late", "paid")], {"Relay-Expires": "1s"})

        async def expired() -> bool:
            return (await self._ledger())["expired"] == 1

        await self._until(expired, "a callback to expire")
        await self._act("resume")
        shown, at = self.shop.orders, wall_s() - 2 * _HOUR_S
        shown["fast"]["status"] = "signed"
        shown["more"]["amount"], shown["less"]["amount"] = "12.00", "9.00"
        shown["nobody"] = {"order_id": "nobody", "status": "paid", "amount": "10.00", "updated_at": at}

    async def _post(self, orders: list[tuple[str, str]], headers: dict[str, str] | None = None) -> None:
        rows = [json.dumps({"order_id": key, "status": status, "amount": "10.00"}) for key, status in orders]
        url = f"http://{self.ingest}/v1/platforms/shop-a/callbacks"
        sent = {"Content-Type": "application/x-ndjson", **(headers or {})}
        async with self._http.post(url, data="\n".join(rows), headers=sent) as response:
            if response.status != 202:
                raise DemoFailed(f"a post was answered {response.status}: {await response.text()}")

    async def _act(self, deed: str) -> None:
        async with self._http.post(f"http://{self.admin}/v1/platforms/shop-a/{deed}") as response:
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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "reconcile", "shop-a", "-c", str(self.config), "-o", "json", *options),
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(),
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode not in (0, 3):
            raise DemoFailed(f"relay reconcile ended with {process.returncode}: {err.decode()[-500:]}")
        answer: JsonObject = json.loads(out)
        return answer

    async def _ledger(self) -> dict[str, int]:
        async with self._http.get(f"http://{self.admin}/v1/ledger") as response:
            answer = await response.json()
        total: dict[str, int] = answer["total"]
        return total

    async def _settled(self) -> bool:
        """Whether all that can be delivered is: two orders are held, and one waits behind one of them."""
        return (await self._ledger())["pending"] == 3

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str, *, within_s: float = _END_S) -> None:
        deadline = elapsed_s() + within_s
        while not await condition():
            if elapsed_s() > deadline:
                raise DemoFailed(f"waited {within_s:g} s in vain for {what}")
            await asyncio.sleep(_LOOK_S)

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
