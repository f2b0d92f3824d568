"""The daemon is killed at random moments under load, again and again; afterwards every promise must have held."""

import asyncio
import os
import random
from pathlib import Path

import pytest
from tests.e2e.harness import bench
from tests.e2e.killing import PLATFORM, SANDBOX, Load, judged, under


@pytest.mark.timeout(3600)
async def test_no_promise_breaks_under_kill_9(tmp_path: Path) -> None:
    """At least 20 SIGKILLs under load, with resets, 500s and slow answers: the checker finds nothing."""
    kills = max(20, int(os.environ.get("KILLS", "20")))
    seed = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(2**32)
    print(f"seed {seed}: repeat with SEED={seed}")  # pytest shows it when the test fails
    rng = random.Random(seed)
    sandbox = [*SANDBOX, "--latency", "0s..100ms"]
    async with bench(tmp_path, platform=PLATFORM, sandbox=sandbox, seed=seed) as run:
        async with under(Load(run, seed, workers=6, sizes=[1, 1, 1, 5, 20], walks_away=0.1)):
            for number in range(kills):
                moment_s = rng.uniform(0.0, 0.6)
                print(f"kill {number} after {moment_s:.3f} s")
                await asyncio.sleep(moment_s)  # the moment is the test's subject, no wait for a condition
                await run.kill()
                await run.daemon.start()
                if rng.random() > 0.2:  # one in five is killed again before it is ready
                    await run.ready()
        evidence = await judged(run)
        assert len(evidence.kills) == kills
        assert sum(posted.accepted for posted in evidence.posted) > 10 * kills
