"""Runs the real thing: daemon and platform stand-in as processes on free ports, a poster, kills, and the evidence."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from relay.core.clock import boottime_s
from relay.core.model import Rate
from relay.standin.bodies import digest
from relay.standin.ports import free_port
from tests import warm_start
from tests.e2e.checker import Evidence, Posted

PLATFORM = "shop"
PlatformOf = dict[str, Any] | Callable[[str], dict[str, Any]]
"""The platform's settings, or what makes them from the base URL of the stand-in."""
_POLL_S, _POLL_MOST_S = 0.02, 0.25
_POLL_PART = 0.05  # of what was waited


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float, what: str) -> None:
    """Wait until ``condition`` holds; fail naming ``what`` was waited for.

    The longer it takes, the longer it waits between two looks: each costs this process and a daemon some CPU.
    """
    began = boottime_s()
    while not await condition():
        waited_s = boottime_s() - began
        assert waited_s < timeout_s, f"{what}: not within {timeout_s:g} s"
        await asyncio.sleep(min(max(_POLL_S, _POLL_PART * waited_s), _POLL_MOST_S))


class NotRead(AssertionError):
    """The relay cannot read its store now."""


class Process:
    """A ``relay`` subcommand as a process of its own, with its output in a file."""

    def __init__(self, output: Path, *arguments: str) -> None:
        self.output = output
        self._arguments = arguments
        self._process: warm_start.Warm | None = None

    async def start(self) -> None:
        """Start it; output is appended."""
        kept = {name: value for name, value in os.environ.items() if name not in ("STATE_DIRECTORY", "NOTIFY_SOCKET")}
        with self.output.open("ab") as output:
            self._process = warm_start.start(*self._arguments, output=output, env=kept)

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process is not None
        return self._process.pid

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        assert self._process is not None
        async with asyncio.timeout(45):
            return await self._process.end()

    async def signal(self, number: signal.Signals) -> int | None:
        """Send a signal and wait for the end; return the exit code."""
        if self._process is None:
            return None
        self._process.send_signal(number)
        return await self.ended()

    def tail(self) -> str:
        """Return the end of its output, for failures."""
        return self.output.read_text(errors="replace")[-4000:] if self.output.exists() else ""


class Bench:
    """One daemon, one platform, one poster, and what they wrote down. Made by ``bench``."""

    def __init__(
        self,
        directory: Path,
        *,
        platform: PlatformOf,
        sandbox: Sequence[str],
        seed: int,
        store: dict[str, Any] | None = None,
        host: str | None = None,
    ) -> None:
        self.directory = directory
        self.ingest = f"http://127.0.0.1:{free_port()}"
        self.admin = f"http://127.0.0.1:{free_port()}"
        self.target = f"http://127.0.0.1:{free_port()}"
        self.control = f"http://127.0.0.1:{free_port()}/_sandbox"
        self.log = directory / "arrivals.jsonl"
        config = {
            "version": 1,
            **({} if host is None else {"host": host}),
            "ingest": {"listen": self.ingest.removeprefix("http://")},
            "admin": {"listen": self.admin.removeprefix("http://")},
            "store": store or {"url": f"sqlite:{directory / 'relay.db'}"},
            "platforms": {
                PLATFORM: {"url": f"{self.target}/callbacks"}
                | (platform(self.target) if callable(platform) else platform)
            },
        }
        config_file = directory / "config.yaml"
        config_file.write_text(yaml.safe_dump(config, sort_keys=False))
        self.daemon = Process(directory / "daemon.log", "run", "-c", str(config_file))
        self.sandbox = Process(
            directory / "sandbox.log", "sandbox", "--listen", self.target.removeprefix("http://"),
            "--control", self.control.removeprefix("http://").removesuffix("/_sandbox"),
            "--log", str(self.log), "--seed", str(seed), *sandbox,
        )  # fmt: skip
        self.posted: list[Posted] = []
        self.ledgers: list[dict[str, Any]] = []
        self.kills: list[float] = []
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30), connector=aiohttp.TCPConnector(limit=0))
        self._numbers = iter(range(10**9))
        self._posts = iter(range(10**9))

    async def ready(self) -> None:
        """Wait until the daemon can accept."""
        await until(self._is_ready, timeout_s=45, what=f"readyz of {self.ingest}")

    async def _is_ready(self) -> bool:
        assert self.daemon.running, f"the daemon ended by itself:\n{self.daemon.tail()}"
        return await self._answers(f"{self.ingest}/readyz")

    async def _answers(self, url: str) -> bool:
        try:
            async with self.http.get(url) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def kill(self) -> None:
        """End the daemon with SIGKILL and note when."""
        assert self.daemon.running, f"the daemon ended by itself:\n{self.daemon.tail()}"
        self.kills.append(boottime_s())
        await self.daemon.signal(signal.SIGKILL)

    async def restart(self) -> None:
        """Start the daemon again and wait until it accepts."""
        await self.daemon.start()
        await self.ready()

    async def post(self, rows: Sequence[tuple[str | None, bytes]], *, retry: bool = True) -> list[Posted]:
        """Post rows of (key, payload) in one request, and note each under the same number of post.

        With ``retry`` it is repeated under its idempotency key until it is answered 202; without, an unclear end is
        noted as such. One row goes as it is, several as NDJSON.
        """
        post = next(self._posts)
        numbers = [next(self._numbers) for _ in rows]
        name = f"post-{post}"
        headers = {"Idempotency-Key": name, "Content-Type": "application/json"}
        if len(rows) > 1:
            headers["Content-Type"] = "application/x-ndjson"
        elif rows[0][0] is not None:
            headers["Relay-Key"] = rows[0][0]
        body = b"\n".join(payload for _, payload in rows)
        repeats = 0
        while True:
            status, answer = await self._post_once(body, headers)
            if status == 202 or not retry or (status is not None and status < 500):
                break
            repeats += 1
            await asyncio.sleep(_POLL_S)
        ids = [None] * len(rows) if answer is None else answer.get("ids") or [answer["id"]]
        noted = [
            Posted(number, post, key, name, digest(payload), status, callback_id, repeats)
            for number, (key, payload), callback_id in zip(numbers, rows, ids, strict=True)
        ]
        self.posted += noted
        return noted

    async def _post_once(self, body: bytes, headers: dict[str, str]) -> tuple[int | None, dict[str, Any] | None]:
        url = f"{self.ingest}/v1/platforms/{PLATFORM}/callbacks"
        try:
            async with self.http.post(url, data=body, headers=headers) as response:
                answer = await response.json(content_type=None)
                return response.status, answer if response.status == 202 else None
        except (aiohttp.ClientError, OSError):
            return None, None

    async def ledger(self) -> dict[str, Any]:
        """Read the ledger and keep the reading."""
        reading = await self._json(f"{self.admin}/v1/ledger")
        self.ledgers.append(reading)
        return reading

    async def watch_ledger(self) -> None:
        """Read the ledger again and again until cancelled; a daemon or server that is down is passed over."""
        while True:
            with suppress(aiohttp.ClientError, OSError, NotRead):
                await self.ledger()
            await asyncio.sleep(0.05)

    async def command(self, *words: str) -> str:
        """Run a command as an operator does and return what it prints."""
        ran = await warm_start.run(*words, "--admin", self.admin, env=os.environ)
        assert ran.code == 0, ran.err
        return ran.out

    async def drained(self, *, timeout_s: float) -> None:
        """Wait until nothing is pending."""

        async def is_empty() -> bool:
            try:
                return bool((await self.ledger())["total"]["pending"] == 0)
            except NotRead:  # a server on a busy machine may take longer than the relay waits
                return False

        try:
            await until(is_empty, timeout_s=timeout_s, what="nothing pending")
        except AssertionError as error:
            platforms = await self._json(f"{self.admin}/v1/platforms")
            raise AssertionError(f"{error}\n{self.ledgers[-1]['total']}\n{json.dumps(platforms, indent=1)}") from error

    async def stats(self) -> dict[str, Any]:
        """Return the platform's figures."""
        return await self._json(f"{self.control}/stats")

    async def read(self, path: str) -> dict[str, Any]:
        """Return what the admin side says at ``path``."""
        return await self._json(self.admin + path)

    async def evidence(self, *, rates: Sequence[Rate], max_items: int = 100) -> Evidence:
        """End the platform, so that its log is whole, and gather what everyone wrote down."""
        await read_in_the_end(self.ledger)
        stored = await self._stored()
        await self.sandbox.signal(signal.SIGTERM)
        self.posted.sort(key=lambda posted: posted.n)
        lines = (json.dumps(asdict(posted)) for posted in self.posted)
        (self.directory / "posted.jsonl").write_text("\n".join(lines))
        (self.directory / "stored.jsonl").write_text("\n".join(map(json.dumps, stored)))
        arrivals = [json.loads(line) for line in self.log.read_text().splitlines()]
        return Evidence(self.posted, arrivals, stored, self.ledgers, self.kills, rates, max_items=max_items)

    async def _stored(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        query = {"platform": PLATFORM, "limit": "500"}
        while True:
            page = await read_in_the_end(partial(self._json, f"{self.admin}/v1/callbacks", **query))
            rows += page["items"]
            if page["next"] is None:
                return rows
            query["cursor"] = page["next"]

    async def _json(self, url: str, **query: str) -> dict[str, Any]:
        async with self.http.get(url, params=query) as response:
            if response.status == 503:
                raise NotRead(f"{url}: {await response.text()}")
            assert response.status == 200, f"{url}: {response.status} {await response.text()}"
            answer: dict[str, Any] = await response.json(content_type=None)
            return answer


async def read_in_the_end(ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Read something; a server on a busy machine may take longer than the relay waits for it."""
    deadline = boottime_s() + 60
    while True:
        try:
            return await ask()
        except NotRead:
            assert boottime_s() < deadline, "not read within 60 s"
            await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def bench(
    directory: Path,
    *,
    platform: PlatformOf,
    sandbox: Sequence[str] = (),
    seed: int = 1,
    store: dict[str, Any] | None = None,
    host: str | None = None,
) -> AsyncIterator[Bench]:
    """Start platform and daemon; end both whatever happens."""
    made = Bench(directory, platform=platform, sandbox=sandbox, seed=seed, store=store, host=host)
    try:
        await made.sandbox.start()
        await until(
            lambda: made._answers(f"{made.control}/stats"), timeout_s=45, what=f"the sandbox ({made.sandbox.tail()})"
        )
        await made.daemon.start()
        await made.ready()
        yield made
    finally:
        await made.daemon.signal(signal.SIGKILL)
        await made.sandbox.signal(signal.SIGTERM)
        await made.http.close()


def order_callback(key: str, n: int, rng: random.Random) -> bytes:
    """Return a unique payload of an order, about 200 to 400 bytes."""
    note = "".join(rng.choices("abcdefgh 快递已发货", k=rng.randrange(40, 160)))
    return json.dumps({"order_id": key, "n": n, "status": "shipped", "note": note}, ensure_ascii=False).encode()
