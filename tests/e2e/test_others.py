"""Others who use the same limit: they take slots by the API, and the platform never sees more than its limit in all."""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from tests.e2e.harness import Bench, bench, order_callback, until

LIMIT, WINDOW_S = (int(part) for part in os.environ.get("LIMIT", "30/3").split("/"))
RUN_S = float(os.environ.get("SECONDS", "9"))

OTHER = """
import sys, time, urllib.request
from relay.client import RelayClient, RequestFailed
ingest, target, name = sys.argv[1:]
relay = RelayClient(ingest)
while True:
    try:
        with relay.slot("shop", wait_s=20):
            body = ('[{"by": "%s"}]' % name).encode()
            with urllib.request.urlopen(urllib.request.Request(target, body), timeout=40) as answer:
                answer.read()
        print("sent", flush=True)
    except RequestFailed as error:  # the relay is down, or there is no slot
        print(error, flush=True)
        time.sleep(0.1)
"""


class Other:
    """A process beside the relay that sends to the same platform, as fast as it gets slots."""

    def __init__(self, run: Bench, name: str) -> None:
        self.sent = 0
        self._run = run
        self._name = name
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OTHER, self._run.ingest, f"{self._run.target}/callbacks", self._name), stdout=PIPE
        )
        self._reader = asyncio.create_task(self._read(self._process))

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self.sent += line == b"sent\n"

    async def kill(self) -> None:
        """End it with SIGKILL, wherever it is."""
        assert self._process is not None
        assert self._reader is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._reader


@pytest.mark.timeout(RUN_S + 180)
async def test_the_platform_sees_its_limit_in_all(tmp_path: Path) -> None:
    """Backlog and four others; two of them, and once the relay, are killed: the limit holds, and all get slots."""
    rate = f"{LIMIT}/{WINDOW_S}s"
    platform = {"rate": rate, "key": "order_id", "batch": {"max_items": 1}, "learn_limit": False}
    rng = random.Random(20)
    rows = [(f"order-{n}", order_callback(f"order-{n}", n, rng)) for n in range(int(LIMIT / WINDOW_S * RUN_S))]
    async with bench(tmp_path, platform=platform, sandbox=["--limit", rate, "--latency", "0s..0.1s"]) as run:
        others = [Other(run, f"other-{n}") for n in range(4)]
        await run.post(rows)
        try:
            for other in others:
                await other.start()
            for n in range(4):
                await asyncio.sleep(RUN_S / 5)  # the moment is the test's subject
                await others[n % 2].kill()
                await others[n % 2].start()
            await run.kill()
            before = [other.sent for other in others]
            await run.restart()
            await until(lambda: _more(others, before), timeout_s=90, what="slots for all after the restart")
            await until(lambda: _counted(run), timeout_s=40, what="slots of others counted as theirs")
        finally:
            for other in others:
                await other.kill()
        figures = await run.stats()
        assert figures["peaks"][f"{WINDOW_S}"] <= LIMIT
        assert figures["rejected"] == 0
        own = figures["requests"] - sum(other.sent for other in others)
        shares = {"relay": own, **{f"other {n}": other.sent for n, other in enumerate(others)}}
        assert min(shares.values()) >= 3, shares


async def _more(others: list[Other], before: list[int]) -> bool:
    return all(other.sent >= max(3, sent + 1) for other, sent in zip(others, before, strict=True))


async def _counted(run: Bench) -> bool:
    (quota,) = (await run.read("/v1/platforms/shop"))["quotas"]
    return bool(quota["uses"]["external"] > 0)
