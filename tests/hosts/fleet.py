"""Several relay daemons over one Valkey, five platforms, and the evidence of what each of them got."""

import asyncio
import json
import math
import os
import random
import signal
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from relay.core.clock import boottime_s
from relay.standin.ports import free_port
from tests.e2e.harness import Process, until
from tests.hosts.stores import SharedServer
from tests.store.valkey import ValkeyServer

PLATFORMS = ("shop-a", "shop-b", "shop-c", "shop-d", "shop-e")
RATE, SHARED, WINDOW_S = 20, 30, 2.0
"""Requests of each platform in a window, and of shop-a and shop-b together, which share a quota."""


@dataclass
class Arrival:
    """One request as a platform saw it."""

    at: float
    platform: str
    items: list[dict[str, Any]]
    accepted: bool


@dataclass
class Sink:
    """The platforms: answers after a while, at times with an error, and keeps all that came."""

    rng: random.Random
    arrivals: list[Arrival] = field(default_factory=list)
    lowered: list[tuple[float, float, int]] = field(default_factory=list)  # from, until: a lower rate was in force
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take one request; a request that was cut off before its end is none."""
        at = boottime_s()
        body = await request.read()  # unpacked
        accepted = self.rng.random() > 0.03
        self.arrivals.append(Arrival(at, request.match_info["platform"], json.loads(body), accepted))
        await asyncio.sleep(self.rng.uniform(0, 0.1))
        return web.Response(status=200 if accepted else 500)

    def broken_windows(self) -> list[str]:
        """Return where more requests came within a window than its limit allows."""
        spans = [(-math.inf, math.inf, RATE), *self.lowered]
        found = [self._broken((name,), limit, since, until) for name in PLATFORMS for since, until, limit in spans]
        return [text for text in (*found, self._broken(("shop-a", "shop-b"), SHARED)) if text]

    def _broken(self, platforms: Sequence[str], limit: int, since: float = -math.inf, until: float = math.inf) -> str:
        mine = (arrival.at for arrival in self.arrivals if arrival.platform in platforms)
        times = sorted(at for at in mine if since <= at <= until)
        for first, last in zip(times, times[limit:], strict=False):
            if last - first < WINDOW_S:
                return f"{platforms}: {limit + 1} requests within {last - first:.3f} s at {first:.3f}"
        return ""

    def out_of_order(self) -> list[str]:
        """Return the callbacks that first came after a later one of their key."""
        last: dict[tuple[str, str], int] = {}
        seen: set[tuple[str, int]] = set()
        found = []
        for arrival in self.arrivals:
            for item in arrival.items:
                if (arrival.platform, item["n"]) in seen:
                    continue
                seen.add((arrival.platform, item["n"]))
                key = arrival.platform, item["order_id"]
                if item["turn"] <= last.get(key, -1):
                    found.append(f"{key}: {item['turn']} after {last[key]}")
                last[key] = item["turn"]
        return found


class Fleet:
    """The hosts, the store, the sink, and what was posted."""

    def __init__(
        self,
        directory: Path,
        *,
        hosts: int,
        seed: int,
        more: Mapping[str, Any],
        of_each: Mapping[str, Any],
        store: SharedServer | None,
        replicas: int,
    ) -> None:
        """``more`` stands in every file beside the platforms, ``of_each`` in every platform."""
        self._more = more
        self._of_each = of_each
        self.rng = random.Random(seed)
        self.sink = Sink(random.Random(seed + 1))
        self.valkey: SharedServer = store or ValkeyServer(directory / "valkey")
        self._durability = {"replicas": replicas, "timeout": "2s"} if replicas else {}
        self.tasks: list[asyncio.Task[None]] = []  # cancelled in the end, whatever happens
        self.sticks = False  # each key is posted to one host: with spools, order holds per host
        self.names = [f"host-{number}" for number in range(1, hosts + 1)]  # each of three belongs something
        self.ingest = {name: f"http://127.0.0.1:{free_port()}" for name in self.names}
        self.admin = {name: f"http://127.0.0.1:{free_port()}" for name in self.names}
        self.daemons: dict[str, Process] = {}
        self.accepted: dict[str, set[int]] = defaultdict(set)
        self.owned: dict[str, set[str]] = defaultdict(set)  # by host: what it was seen to own
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30), connector=aiohttp.TCPConnector(limit=0))
        self._directory = directory
        self._number = 0
        self._turns: dict[tuple[str, str], int] = defaultdict(int)

    def write(self, name: str, **changes: Any) -> Path:
        """Write a host's file."""
        platforms = {
            each: {
                "url": f"{self.sink.url}/{each}",
                "rate": f"{RATE}/{WINDOW_S:g}s",
                "quotas": ["shared"] if each in ("shop-a", "shop-b") else [],
                "key": "order_id",
                "timeout": "3s",
                "batch": {"max_items": 40},
                "retry": {"times": 50, "backoff": "50ms..500ms"},
                **self._of_each,
                **changes,
            }
            for each in PLATFORMS
        }
        config = {
            "version": 1,
            "host": name,
            "ingest": {"listen": self.ingest[name].removeprefix("http://")},
            "admin": {"listen": self.admin[name].removeprefix("http://")},
            "store": {"url": self.valkey.url, "durability": self._durability},
            "quotas": {"shared": {"rate": f"{SHARED}/{WINDOW_S:g}s"}},
            "platforms": platforms,
            **self._more,
        }
        file = self._directory / name / "config.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        return file

    async def start(self, name: str) -> None:
        """Start a host; it need not be ready."""
        file = self.write(name) if name not in self.daemons else self._directory / name / "config.yaml"
        self.daemons[name] = self.daemons.get(name) or Process(self._directory / f"{name}.log", "run", "-c", str(file))
        await self.daemons[name].start()

    async def kill(self, name: str) -> None:
        """End a host with SIGKILL."""
        await self.daemons[name].signal(signal.SIGKILL)

    def freeze(self, name: str, frozen: bool) -> None:
        """Stop a host as a paused machine would be, or let it go on."""
        os.kill(self.daemons[name].pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    async def reload(self, name: str) -> None:
        """Put a host's file in force, as a person does who rolls it out."""
        async with self.http.post(f"{self.admin[name]}/v1/config/reload", json={"reason": "roll out"}) as response:
            assert response.status == 200, await response.text()

    async def ready(self, name: str) -> None:
        """Wait until a host accepts."""

        async def answers() -> bool:
            assert self.daemons[name].running, self.daemons[name].tail()
            try:
                async with self.http.get(f"{self.ingest[name]}/readyz") as response:
                    return response.status == 200
            except (aiohttp.ClientError, OSError, TimeoutError):
                return False

        await until(answers, timeout_s=90, what=f"{name} ready ({self.daemons[name].tail()})")

    async def page(self, name: str) -> dict[str, Any]:
        """Return what a host shows of all hosts, and note who owns what."""
        page: dict[str, Any] = {}

        async def answers() -> bool:
            try:
                async with self.http.get(f"{self.admin[name]}/v1/hosts") as response:
                    page.update(await response.json() if response.status == 200 else {})
            except aiohttp.ClientConnectorError:
                assert self.daemons[name].running, self.daemons[name].tail()
                raise
            return bool(page)

        await until(answers, timeout_s=60, what=f"{name} tells of the hosts")
        for host in page["items"]:
            if host["state"] == "owning":
                self.owned[host["name"]] |= set(host["platforms"])
        return page

    async def owner(self, platform: str, asked: str) -> str | None:
        """Return the live host that owns a platform, as ``asked`` shows it."""
        items = (await self.page(asked))["items"]
        return next(
            (host["name"] for host in items if host["state"] == "owning" and platform in host["platforms"]), None
        )

    async def all_owned(self, asked: str) -> bool:
        """Say whether every platform has an owner that is live."""
        items = (await self.page(asked))["items"]
        owned = {platform for host in items if host["state"] == "owning" for platform in host["platforms"]}
        return owned.issuperset(PLATFORMS)

    async def post(self, name: str, platform: str, key: str) -> None:
        """Post the next callback of a key, to one host and then to others, until one answers 202."""
        if self.sticks:
            # By its worker: whoever posts to a host that is frozen waits, and the others go on.
            name = self.names[zlib.crc32(key.rpartition("-")[0].encode()) % len(self.names)]
        self._number += 1
        self._turns[platform, key] += 1
        number = self._number
        body = json.dumps({"order_id": key, "n": number, "turn": self._turns[platform, key], "pad": "x" * 200})
        headers = {"Idempotency-Key": f"post-{number}"}
        while True:
            try:
                url = f"{self.ingest[name]}/v1/platforms/{platform}/callbacks"
                async with self.http.post(url, data=body, headers=headers) as response:
                    if response.status == 202:
                        self.accepted[platform].add(number)
                        return
                    assert response.status == 503, await response.text()
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            name = name if self.sticks else self.rng.choice(self.names)
            await asyncio.sleep(0.05)

    async def load(self, worker: int, keys: int, stop: asyncio.Event, pause_s: float) -> None:
        """Post on keys of its own until told to stop."""
        rng = random.Random(worker)
        while not stop.is_set():
            key = f"order-{worker}-{rng.randrange(keys)}"
            await self.post(rng.choice(self.names), rng.choice(PLATFORMS), key)
            await asyncio.sleep(pause_s)

    async def drained(self, asked: str, *, timeout_s: float) -> dict[str, Any]:
        """Wait until nothing is pending; return the ledger's total."""
        total: dict[str, Any] = {}

        async def is_empty() -> bool:
            async with self.http.get(f"{self.admin[asked]}/v1/ledger") as response:
                if response.status != 200:
                    return False
                total.update((await response.json())["total"])
            spooled = sum(host["spooled"] for host in (await self.page(asked))["items"])
            return bool(total["pending"] == 0 and not spooled)

        try:
            await until(is_empty, timeout_s=timeout_s, what="nothing pending")
        except AssertionError as error:
            tails = "\n".join(daemon.tail()[-1500:] for daemon in self.daemons.values())
            raise AssertionError(f"{error}\n{total}\n{await self.page(asked)}\n{tails}") from error
        return total

    def delivered(self, platform: str) -> set[int]:
        """Return what a platform accepted."""
        taken = (each for each in self.sink.arrivals if each.accepted and each.platform == platform)
        return {item["n"] for arrival in taken for item in arrival.items}


@asynccontextmanager
async def fleet(
    directory: Path,
    *,
    hosts: int = 3,
    seed: int = 1,
    store: SharedServer | None = None,
    replicas: int = 0,
    more: Mapping[str, Any] = MappingProxyType({}),
    of_each: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[Fleet]:
    """Start the store, the sink and the hosts; end all of them whatever happens."""
    made = Fleet(directory, hosts=hosts, seed=seed, more=more, of_each=of_each, store=store, replicas=replicas)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/{platform}", made.sink.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.sink.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        await asyncio.to_thread(made.valkey.start)
        await asyncio.gather(*(made.start(name) for name in made.names))
        await asyncio.gather(*(made.ready(name) for name in made.names))
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        for name, daemon in made.daemons.items():
            if daemon.running:
                made.freeze(name, frozen=False)
            await daemon.signal(signal.SIGKILL)
        made.valkey.kill()
        await made.http.close()
        await runner.cleanup()
