"""The daemon is killed at random moments under load, again and again; afterwards every promise must have held."""

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from tests.e2e.harness import Bench, bench
from tests.e2e.killing import PLATFORM, SANDBOX, Load, judged, under

_STOPPED_S = (0.1, 1.5)  # how long the daemon stands still: shorter and longer than posts wait for it


@pytest.mark.timeout(3600)
async def test_no_promise_breaks_under_kill_9(tmp_path: Path) -> None:
    """At least 20 SIGKILLs under load, with resets, 500s and slow answers: the checker finds nothing.

    In the second half acceptors take posts in (``ingest.processes``). They are killed too, and so is their template,
    and the daemon stands still for a while.
    """
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
                if number > kills // 2:
                    await _spoil_acceptors(run, rng)
                await run.kill()
                if number == kills // 2:
                    _use_acceptors(run.directory / "config.yaml")
                await run.daemon.start()
                if rng.random() > 0.2:  # one in five is killed again before it is ready
                    await run.ready()
        evidence = await judged(run)
        assert len(evidence.kills) == kills
        assert sum(posted.accepted for posted in evidence.posted) > 10 * kills
        log = run.daemon.output.read_text()
        print({event: log.count(f'"{event}"') for event in ("acceptor_started", "acceptor_ended", "acceptor_silent")})
        assert '"acceptor_started"' in log


def _use_acceptors(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    config["ingest"]["processes"] = 2
    file.write_text(yaml.safe_dump(config, sort_keys=False))


async def _spoil_acceptors(run: Bench, rng: random.Random) -> None:
    """Kill one that takes posts, or the template of all, or let the daemon stand still; then go on for a moment."""
    pids, below = _below(run.daemon.pid), rng.random()
    if below < 0.5 and len(pids) > 1:
        _kill(rng.choice(pids[1:]))
    elif below < 0.6 and pids:
        _kill(pids[0])
    elif below < 0.9:
        os.kill(run.daemon.pid, signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(*_STOPPED_S))
        os.kill(run.daemon.pid, signal.SIGCONT)
    await asyncio.sleep(rng.uniform(0.0, 0.6))


def _below(pid: int) -> list[int]:
    """Return the template of a daemon, and the acceptors below it."""
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for template in list(found):
        with suppress(OSError):  # it has ended
            found += map(int, Path(f"/proc/{template}/task/{template}/children").read_text().split())
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, signal.SIGKILL)
