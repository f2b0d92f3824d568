"""The daemon is killed at random moments under load, again and again; afterwards every promise must have held."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest
from relay.core.model import Rate
from tests.e2e.checker import check
from tests.e2e.harness import Bench, bench, order_callback

_WORKERS = 6
_KEYS_PER_WORKER = 20
_PAUSE_S = 0.02  # between the posts of one worker: load, but one that a rate of 15 batches a second carries
RATE = Rate(30, 2.0)


async def _load(run: Bench, worker: int, seed: int, stop: asyncio.Event) -> None:
    """Post on keys of its own until told to stop; one post in ten walks away from an unclear end."""
    rng = random.Random(f"{seed}-{worker}")
    count = 0
    while not stop.is_set():
        rows: list[tuple[str | None, bytes]] = []
        for _ in range(rng.choice([1, 1, 1, 5, 20])):
            key = f"order-{worker}-{rng.randrange(_KEYS_PER_WORKER)}"
            rows.append((key, order_callback(key, count, rng)))
            count += 1
        await run.post(rows, retry=rng.random() > 0.1)
        await asyncio.sleep(_PAUSE_S)


@pytest.mark.timeout(3600)
async def test_no_promise_breaks_under_kill_9(tmp_path: Path) -> None:
    """At least 20 SIGKILLs under load, with resets, 500s and slow answers: the checker finds nothing."""
    kills = max(20, int(os.environ.get("KILLS", "20")))
    seed = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(2**32)
    print(f"seed {seed}: repeat with SEED={seed}")  # pytest shows it when the test fails
    rng = random.Random(seed)
    platform = {
        "rate": str(RATE),
        "concurrency": 4,
        "key": "order_id",
        "batch": {"max_items": 50},
        "retry": {"times": 20, "backoff": "50ms..500ms"},
    }
    faults = ["--fault", "apply-then-reset:0.03", "--fault", "500:0.03", "--latency", "0s..100ms"]
    async with bench(tmp_path, platform=platform, sandbox=["--limit", str(RATE), *faults], seed=seed) as run:
        stop = asyncio.Event()
        load = [asyncio.create_task(_load(run, worker, seed, stop)) for worker in range(_WORKERS)]
        ledger = asyncio.create_task(run.watch_ledger())
        for number in range(kills):
            moment_s = rng.uniform(0.0, 0.6)
            print(f"kill {number} after {moment_s:.3f} s")
            await asyncio.sleep(moment_s)  # the moment is the test's subject, no wait for a condition
            await run.kill()
            await run.daemon.start()
            if rng.random() > 0.2:  # one in five is killed again before it is ready
                await run.ready()
        await run.ready()
        stop.set()
        await asyncio.wait_for(asyncio.gather(*load), 60)
        await run.drained(timeout_s=120)
        ledger.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ledger
        figures = await run.stats()
        evidence = await run.evidence(rates=[RATE], max_items=50)
        assert check(evidence) == {}
        assert figures["rejected"] == 0
        assert figures["distinct"] == run.ledgers[-1]["total"]["delivered"] == run.ledgers[-1]["total"]["accepted"]
        assert len(evidence.kills) == kills
        assert sum(posted.accepted for posted in evidence.posted) > 10 * kills
