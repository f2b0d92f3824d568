"""The demonstration: a real daemon, a platform with a limit, 3,000 callbacks, one SIGKILL, and the figures after it.

Nothing is staged. The daemon is the command that a user runs. It is killed as the kernel's out-of-memory killer would
do it. All figures are counted by the platform or read from the relay's ledger.
"""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from relay.core.clock import elapsed_s
from relay.demo.daemon import DemoDaemon, DemoFailed, until
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
        self.daemon = DemoDaemon(directory)
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

    async def run(self) -> list[Finding]:
        """Run all steps. Raises ``DemoFailed`` if a step does not succeed."""
        started_at = elapsed_s()
        await self.platform.start()
        self.daemon.configure(_CONFIG, target=self.platform.url, limit=LIMIT)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
            self._http = http
            say = self._screen.say
            say("platform", f"{self.platform.url}: a stand-in that takes {LIMIT} requests a minute, 429 above")
            process = await self.daemon.start(http)
            say(
                "relay",
                f"http://{self.daemon.ingest}: the real daemon, process {process.pid}, store {self.daemon.store}",
            )
            say("posting", f"{len(self._posted):,} status callbacks of {ORDERS} orders, one per request")
            posting = asyncio.create_task(self._post_all())
            try:
                await self._kill_midway(process, posting)
                await self._finish(posting)
            finally:
                posting.cancel()
                await asyncio.gather(posting, return_exceptions=True)
            ledger = await self.daemon.ledger(http)
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
        await self.daemon.close()
        await self.platform.close()

    async def _kill_midway(self, daemon: Process, posting: "asyncio.Task[None]") -> None:
        """Kill the daemon at the worst moment: half is accepted, and a request waits for its answer."""
        half = len(self._posted) // 2

        async def worst_moment() -> bool:
            self._look(posting)
            return self._accepted >= half and self.platform.everywhere.figures.open > 0

        await until(worst_moment, "half of the callbacks to be accepted")
        unanswered = self.platform.everywhere.figures.open
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
        self._screen.say(
            "kill -9",
            f"process {daemon.pid} is gone: {self._accepted:,} accepted so far, "
            f"{unanswered} request{'' if unanswered == 1 else 's'} to the platform without an answer",
        )
        self._screen.say("", "the order center repeats every unanswered post under its Idempotency-Key")
        killed_at = elapsed_s()
        process = await self.daemon.start(self._http)
        self._screen.say("restart", f"process {process.pid} is ready after {elapsed_s() - killed_at:.1f} s")

    async def _finish(self, posting: "asyncio.Task[None]") -> None:
        async def all_posted() -> bool:
            self._look(posting)
            return posting.done()

        async def empty() -> bool:
            self._look(posting)
            return (await self.daemon.ledger(self._http))["pending"] == 0

        await until(all_posted, "all callbacks to be accepted")
        await until(empty, "all callbacks to be delivered")

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
        url = f"http://{self.daemon.ingest}/v1/platforms/shop-a/callbacks"
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
