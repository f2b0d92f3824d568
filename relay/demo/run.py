"""The demonstration: a real daemon, a platform with a limit, 3,000 callbacks, one SIGKILL, and the figures after it.

Nothing is staged. The daemon is the command that a user runs. It is killed as the kernel's out-of-memory killer would
do it. All figures are counted by the platform or read from the relay's ledger.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from relay.core.clock import elapsed_s
from relay.core.errors import RelayError
from relay.core.raw import JsonObject
from relay.demo.findings import Finding, Posting, findings
from relay.standin.arrivals import Arrival
from relay.standin.orders import OrderCallback, order_callbacks
from relay.standin.platform import Platform
from relay.standin.settings import Settings

ORDERS = 500
LIMIT = 100  # requests a minute: the limit of the incident in which the relay began
_SEED = 100
_WORKERS = 20
_POSTS_PER_S = 450.0  # slow enough to be watched, fast enough to end in half a minute
_REPEAT_S = 0.1  # an order center's wait before it repeats a post
_LOOK_S = 0.05
_START_S = 15.0
_END_S = 60.0

_CONFIG = """\
version: 1
ingest: {{listen: "{ingest}"}}
admin: {{listen: "{admin}"}}
store: {{url: "sqlite:{store}"}}
platforms:
  shop-a:
    url: {target}/callbacks
    rate: {limit}/min
    batch: {{max_items: 100}}
    compress: gzip
    key: order_id
"""


class DemoFailed(RelayError):
    """The demonstration could not be completed."""


class Screen(Protocol):
    """Shows the demonstration to a person."""

    def say(self, topic: str, text: str) -> None:
        """Show one step."""
        ...

    def progress(self, accepted: int, delivered: int, total: int, requests: int) -> None:
        """Show how far it is."""
        ...


class Demo:
    """One run in ``directory``. ``run`` shows it on ``screen`` and returns the findings."""

    def __init__(self, directory: Path, *, screen: Screen) -> None:
        self.ingest, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.config = directory / "config.yaml"
        self.daemon_log = directory / "daemon.log"
        self._store = directory / "relay.db"
        self._arrivals = directory / "arrivals.jsonl"
        self._screen = screen
        self.platform = Platform(
            settings=Settings().changed({"limit": f"{LIMIT}/min", "latency": "150ms..400ms"}),
            seed=_SEED,
            log=self._arrivals,
        )
        self._lives = list(order_callbacks(ORDERS, seed=_SEED))
        self._posted = [callback for life in self._lives for callback in life]
        self._accepted = 0
        self._repeated: set[str] = set()
        self._daemon: asyncio.subprocess.Process | None = None

    async def run(self) -> list[Finding]:
        """Run all steps. Raises ``DemoFailed`` if a step does not succeed."""
        started_at = elapsed_s()
        await self.platform.start()
        self._write_config()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
            self._http = http
            say = self._screen.say
            say("platform", f"{self.platform.url}: a stand-in that takes {LIMIT} requests a minute, 429 above")
            process = await self._start_daemon()
            say("relay", f"http://{self.ingest}: the real daemon, process {process.pid}, store {self._store}")
            say("posting", f"{len(self._posted):,} status callbacks of {ORDERS} orders, one per request")
            posting = asyncio.create_task(self._post_all())
            try:
                await self._kill_midway(posting)
                await self._finish(posting)
            finally:
                posting.cancel()
                await asyncio.gather(posting, return_exceptions=True)
            ledger = await self._ledger()
            say("done", f"everything delivered after {elapsed_s() - started_at:.1f} s")
        self.platform.log.flush()
        arrivals = [msgspec.json.decode(line, type=Arrival) for line in self._arrivals.read_bytes().splitlines()]
        return findings(
            Posting(self._posted, accepted=self._accepted, repeated=len(self._repeated)),
            arrivals,
            self.platform.stats(),
            ledger,
            limit=LIMIT,
        )

    async def close(self) -> None:
        """End daemon and platform."""
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.terminate()
            try:
                async with asyncio.timeout(10):
                    await self._daemon.wait()
            except TimeoutError:
                self._daemon.kill()
                await self._daemon.wait()
        await self.platform.close()

    def log_tail(self, lines: int = 30) -> list[str]:
        """Return the end of the daemon's log."""
        if not self.daemon_log.exists():
            return []
        return self.daemon_log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]

    def _write_config(self) -> None:
        text = _CONFIG.format(
            ingest=self.ingest, admin=self.admin, store=self._store, target=self.platform.url, limit=LIMIT
        )
        self.config.write_text(text, encoding="utf-8")

    async def _start_daemon(self) -> asyncio.subprocess.Process:
        with self.daemon_log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay", "run", "-c", str(self.config), stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment(),
            )  # fmt: skip
        self._daemon = process

        async def ready() -> bool:
            if process.returncode is not None:
                raise DemoFailed(f"the daemon ended with exit code {process.returncode} before it was ready")
            try:
                async with self._http.get(f"http://{self.ingest}/readyz") as response:
                    return response.status == 200
            except (aiohttp.ClientError, OSError):
                return False  # not listening yet

        await self._until(ready, _START_S, "the daemon to be ready")
        return process

    async def _kill_midway(self, posting: "asyncio.Task[None]") -> None:
        """Kill the daemon at the worst moment: half is accepted, and a request waits for its answer."""
        half = len(self._posted) // 2

        async def worst_moment() -> bool:
            self._look(posting)
            return self._accepted >= half and self.platform.everywhere.figures.open > 0

        await self._until(worst_moment, _END_S, "half of the callbacks to be accepted")
        assert self._daemon is not None
        unanswered = self.platform.everywhere.figures.open
        self._daemon.send_signal(signal.SIGKILL)
        await self._daemon.wait()
        self._screen.say(
            "kill -9",
            f"process {self._daemon.pid} is gone: {self._accepted:,} accepted so far, "
            f"{unanswered} request{'' if unanswered == 1 else 's'} to the platform without an answer",
        )
        self._screen.say("", "the order center repeats every unanswered post under its Idempotency-Key")
        killed_at = elapsed_s()
        process = await self._start_daemon()
        self._screen.say("restart", f"process {process.pid} is ready after {elapsed_s() - killed_at:.1f} s")

    async def _finish(self, posting: "asyncio.Task[None]") -> None:
        async def all_posted() -> bool:
            self._look(posting)
            return posting.done()

        async def empty() -> bool:
            self._look(posting)
            return (await self._ledger())["pending"] == 0

        await self._until(all_posted, _END_S, "all callbacks to be accepted")
        await self._until(empty, _END_S, "all callbacks to be delivered")

    def _look(self, posting: "asyncio.Task[None]") -> None:
        if posting.done():
            posting.result()  # raises if a post was refused, which ends the demonstration
        figures = self.platform.everywhere.figures
        delivered = figures.callbacks - figures.duplicates
        self._screen.progress(self._accepted, delivered, len(self._posted), figures.requests)

    async def _post_all(self) -> None:
        """Post as an order center does: the statuses of an order one after the other, many orders at once."""
        start_at = elapsed_s()
        try:
            async with asyncio.TaskGroup() as workers:
                for worker in range(_WORKERS):
                    workers.create_task(self._post_lives(self._lives[worker::_WORKERS], worker, start_at))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group  # one refusal is enough

    async def _post_lives(self, lives: Sequence[list[OrderCallback]], worker: int, start_at: float) -> None:
        turn = 0
        for step in zip(*lives, strict=True):
            for callback in step:
                due_at = start_at + (turn * _WORKERS + worker) / _POSTS_PER_S
                turn += 1
                await asyncio.sleep(max(0.0, due_at - elapsed_s()))
                await self._post(callback)

    async def _post(self, callback: OrderCallback) -> None:
        name = f"{callback.order}-{callback.step}"
        headers = {
            "Idempotency-Key": name,
            "Content-Type": "application/json",
            "Relay-Event": callback.event,
        }
        url = f"http://{self.ingest}/v1/platforms/shop-a/callbacks"
        while True:
            try:
                async with self._http.post(url, data=callback.payload, headers=headers) as response:
                    if response.status == 202:
                        self._accepted += 1
                        return
                    if response.status < 500:
                        raise DemoFailed(f"a post was answered {response.status}: {await response.text()}")
            except (aiohttp.ClientError, OSError):
                pass  # no answer: it may have been accepted, and a repeat is safe
            self._repeated.add(name)
            await asyncio.sleep(_REPEAT_S)

    async def _ledger(self) -> dict[str, int]:
        try:
            async with self._http.get(f"http://{self.admin}/v1/ledger") as response:
                response.raise_for_status()
                answer: JsonObject = await response.json()
        except (aiohttp.ClientError, OSError) as error:
            raise DemoFailed(f"the ledger at http://{self.admin}/v1/ledger cannot be read: {error}") from error
        total: dict[str, int] = answer["total"]
        return total

    async def _until(self, condition: Callable[[], Awaitable[bool]], timeout_s: float, what: str) -> None:
        deadline = elapsed_s() + timeout_s
        while not await condition():
            if elapsed_s() > deadline:
                raise DemoFailed(f"waited {timeout_s:g} s in vain for {what}")
            await asyncio.sleep(_LOOK_S)


def environment() -> dict[str, str]:
    """Return our environment without the variables of a service manager: the demo's daemon is no service."""
    foreign = ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC")
    return {name: value for name, value in os.environ.items() if name not in foreign}


def free_port() -> int:
    """Return a loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
