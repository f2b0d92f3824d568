"""A daemon under conditions that no promise excuses: bad networks, clocks set, too few descriptors or bytes, floods.

``make faults`` runs them (LAB=1), each for half a minute or so.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from relay.core.clock import elapsed_s
from tests import warm_start
from tests.e2e.checker import check
from tests.e2e.harness import Bench, bench, until
from tests.e2e.killing import PLATFORM, RATE, SANDBOX, Load, judged, under
from tests.faults.daemon import Daemon, Slowness, call, daemon, p99
from tests.faults.laboratory.proxy import KINDS, spoiling
from tests.faults.platforms import good, serving

pytestmark = pytest.mark.timeout(600)


async def test_a_network_that_spoils_connections(tmp_path: Path) -> None:
    """Late, in single bytes, cut, reset and half closed, on both sides, both directions: every promise holds."""
    rng = random.Random(5)
    async with AsyncExitStack() as stack:
        made: list[Any] = []

        def through(target: str) -> dict[str, Any]:
            made.append(target)
            return PLATFORM | {"timeout": "3s", "url": "http://127.0.0.1:1/callbacks"}

        run = Bench(tmp_path, platform=through, sandbox=[], seed=1)
        stack.push_async_callback(run.http.close)
        outward = await stack.enter_async_context(spoiling(made[0], rng, share=0.8))
        inward = await stack.enter_async_context(spoiling(run.ingest, rng, share=0.8))
        file = tmp_path / "config.yaml"
        file.write_text(file.read_text().replace("http://127.0.0.1:1/", f"{outward.address}/"))
        stack.push_async_callback(run.sandbox.signal, signal.SIGTERM)
        stack.push_async_callback(run.daemon.signal, signal.SIGKILL)
        await run.sandbox.start()
        await run.daemon.start()
        await run.ready()
        direct, run.ingest = run.ingest, inward.address
        async with under(Load(run, 5, workers=4, sizes=[1, 1, 5, 20])):
            await asyncio.sleep(20.0)
            run.ingest = direct
        evidence = await run.evidence(rates=[RATE], max_items=50)
        evidence.kills = outward.broken
        assert check(evidence) == {}
        assert all(outward.kinds[kind] + inward.kinds[kind] for kind in KINDS), (outward.kinds, inward.kinds)
        print(f"{len(outward.broken)} connections to the platform and {len(inward.broken)} to the relay were broken")


async def test_the_wall_clock_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour and by ten years, forward and back, under load: every promise holds."""
    off = tmp_path / "off"
    off.write_text("0")
    monkeypatch.setattr(warm_start, "start", _start_cold)
    monkeypatch.setenv("CLOCK_OFF", str(off))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "laboratory" / "stepped"))
    async with bench(tmp_path, platform=PLATFORM, sandbox=SANDBOX) as run:
        years = set()
        async with under(Load(run, 1, workers=4, sizes=[1, 1, 5])):
            for step_s in (3600, -3600, 315_576_000, -315_576_000, 0):
                await asyncio.sleep(2.0)
                off.write_text(str(step_s))
                async with run.http.get(f"{run.ingest}/livez") as response:
                    years.add(response.headers["Date"].split()[3])
            await asyncio.sleep(2.0)
        assert len(years) == 3, f"the clock was not set: {years}"
        await judged(run)


@pytest.mark.parametrize("limit", ["--nofile=64", "--as=700000000"])
async def test_too_little_of_something(limit: str, tmp_path: Path) -> None:
    """With 64 descriptors and 200 silent connections, or with 700 MB of addresses: it refuses, and loses nothing."""
    async with bench(tmp_path, platform=PLATFORM, sandbox=SANDBOX) as run:
        host, _, port = run.ingest.removeprefix("http://").partition(":")
        await _run("prlimit", "--pid", str(run.daemon.pid), limit)
        idle = []
        rows = [b'{"order_id":"x","n":%d,"x":"%b"}' % (n, b"x" * 900) for n in range(20_000)]
        body = b"\n".join([*rows, b"no JSON"])  # read whole, then refused
        path = "/v1/platforms/shop/callbacks"
        async with under(Load(run, 1, workers=4, sizes=[1, 1, 5])):
            for _ in range(200):
                with suppress(OSError):
                    idle.append(await asyncio.open_connection(host, int(port)))
            if "as" in limit:
                posts = [call(int(port), "POST", path, body, Content_Type="application/x-ndjson") for _ in range(16)]
                await asyncio.gather(*posts)
            await asyncio.sleep(8.0)
            for _, writer in idle:
                writer.transport.abort()
        await judged(run)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting is for root")
async def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    """The start says so and what to do; once it is writable the same start works."""
    store = tmp_path / "store"
    store.mkdir()
    relay = Daemon(tmp_path, {"shop": {"url": "http://127.0.0.1:9/"}}, store="sqlite:store/relay.db")
    await _run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(store))
    try:
        await relay.process.start()
        assert await relay.process.ended() == 1
        assert "mount the file system writable" in relay.process.tail()
        await _run("mount", "-o", "remount,rw", str(store))
        await relay.process.start()
        await until(relay.ready, timeout_s=40, what="ready")
    finally:
        await relay.process.signal(signal.SIGKILL)
        await _run("umount", str(store))


async def _run(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(*words)
    assert await process.wait() == 0


async def test_one_platform_of_20_hangs(tmp_path: Path) -> None:
    """The other 19 keep at least 95 % of what they got through before."""
    rate, seconds = 5, 20.0  # requests a second, for each half

    async def hang(_writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        platforms = [await stack.enter_async_context(serving(good)) for _ in range(20)]
        settings = {"rate": f"{rate * 10}/10s", "batch": {"max_items": 1}, "timeout": "10s", "concurrency": 4}
        relay = await stack.enter_async_context(
            daemon(tmp_path, {f"p{n}": {"url": one.url, **settings} for n, one in enumerate(platforms)})
        )
        rows = b"\n".join(b'{"n":%d}' % number for number in range(int(rate * seconds * 4)))
        for n in range(20):
            status, answer = await call(
                relay.ingest, "POST", f"/v1/platforms/p{n}/callbacks", rows, Content_Type="application/x-ndjson"
            )
            assert status == 202, answer

        async def others_sent() -> float:
            before, began_s = sum(one.seen for one in platforms[1:]), elapsed_s()
            await asyncio.sleep(seconds)
            return (sum(one.seen for one in platforms[1:]) - before) / (elapsed_s() - began_s)

        await asyncio.sleep(10.0)  # the first window
        usual = await others_sent()
        platforms[0].answer = hang
        kept = await others_sent()
        print(f"the 19 others sent {usual:.1f} requests a second before, {kept:.1f} while one hung: {kept / usual:.1%}")
        assert kept >= 0.95 * usual


async def test_a_flood(tmp_path: Path) -> None:
    """Ten times what goes out, for a minute: nothing acknowledged is lost, memory below 512 MB, p99 below 1 s."""
    post_s, rows, seconds = 0.012, 20, 60.0  # 1,667 rows a second into 100 requests of 100 a minute
    acked: list[str] = []
    waits: list[float] = []
    refused = 0

    async def post(relay: Daemon, number: int) -> None:
        nonlocal refused
        body = b"\n".join(b'{"order_id":"%d-%d","x":"%b"}' % (number, row, b"x" * 300) for row in range(rows))
        began_s = elapsed_s()
        status, answer = await call(
            relay.ingest, "POST", "/v1/platforms/shop/callbacks", body, Content_Type="application/x-ndjson"
        )
        if status == 202:
            waits.append(elapsed_s() - began_s)
            acked.extend(json.loads(answer)["ids"])
        else:
            refused += 1

    async with serving(good) as platform:
        async with flooded(tmp_path, platform.url) as relay:
            with Slowness() as slowness:
                began_s, posts = elapsed_s(), []
                while (past_s := elapsed_s() - began_s) < seconds:
                    while len(posts) * post_s < past_s:
                        posts.append(asyncio.create_task(post(relay, len(posts))))
                    await asyncio.sleep(post_s)
                await asyncio.gather(*posts)
            peak_mb = relay.peak_mb
            await relay.process.signal(signal.SIGKILL)
            await relay.process.start()
            await until(relay.ready, timeout_s=60, what="ready after a kill")
            ledger = await relay.read("/v1/ledger")
            there = await _ids(relay)
        told = (
            f"{len(acked)} accepted and {refused} posts refused in {seconds:.0f} s, p99 {p99(waits):.3f} s, "
            f"{peak_mb:.0f} MB, the machine {slowness.factor:.1f} times as slow as when idle"
        )
        print(told)
        assert len(acked) > 0.9 * rows * seconds / post_s, told
        assert not set(acked) - there, told
        assert ledger["total"]["unaccounted"] == 0
        assert ledger["total"]["accepted"] >= len(acked)
        assert peak_mb < 512, told
        assert p99(waits) < 1.0 * slowness.factor, told


class _Cold(subprocess.Popen[bytes]):
    """A ``relay`` that begins with a Python of its own, which looks at PYTHONPATH."""

    async def end(self) -> int:
        """Wait for its end; return the exit code."""
        return await asyncio.to_thread(self.wait)


def _start_cold(*arguments: str, output: IO[bytes], env: Mapping[str, str]) -> _Cold:
    return _Cold([sys.executable, "-m", "relay", *arguments], stdout=output, stderr=output, env=dict(env))


@asynccontextmanager
async def flooded(directory: Path, url: str) -> AsyncIterator[Daemon]:
    """Serve one platform at the rate of the specification's example."""
    async with daemon(directory, {"shop": {"url": url, "rate": "100/min", "key": "order_id"}}) as relay:
        yield relay


async def _ids(relay: Daemon) -> set[str]:
    found: set[str] = set()
    cursor = ""
    while True:
        page = await relay.read(f"/v1/callbacks?limit=500{cursor}")
        found.update(item["id"] for item in page["items"])
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


assert sys.platform == "linux", "prlimit and /proc"
