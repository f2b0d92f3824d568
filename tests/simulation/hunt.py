"""Runs seeds, in as many processes as there are processors, until stopped or until so many are done."""

import argparse
import asyncio
import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from relay.core.clock import elapsed_s
from relay.simulate.virtual import VirtualLoop
from tests.simulation.judging import findings, summary, trace
from tests.simulation.plan import plan
from tests.simulation.world import World

_AT_ONCE = 4  # seeds handed to each process
_TELL_EVERY_S = 5.0
_MEMORY = Path("/dev/shm")


class Ran(NamedTuple):
    """What came of one seed."""

    seed: int
    findings: list[str]
    summary: str
    trace: str


def run(seed: int) -> Ran:
    """Run one seed in this process."""
    directory = _place() / str(os.getpid())
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            world = runner.run(_run(seed, directory))
        return Ran(seed, findings(world), summary(world), trace(world))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@cache
def _place() -> Path:
    """Return one place for all runs: a configuration that names it is compiled once in a process."""
    place = Path(tempfile.mkdtemp(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


async def _run(seed: int, directory: Path) -> World:
    world = World(plan(seed), directory)
    await world.run()
    return world


def _judged(seed: int) -> tuple[int, list[str]]:
    """Run a seed; an error of the simulation itself is a finding too."""
    try:
        return seed, run(seed).findings
    except Exception as error:
        return seed, [f"the run itself failed: {error!r}"]


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say. Return 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, help="stop after so many; without it, at Ctrl-C")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one alone, and show its plan and what came of it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        print(*plan(asked.seed).lines(), sep="\n")
        ran = run(asked.seed)
        print(ran.summary, *ran.findings, sep="\n")
        return int(bool(ran.findings))
    failed = 0
    began_s = told_s = elapsed_s()
    done = 0
    try:
        for done, (seed, found) in enumerate(_all(islice(count(asked.first), asked.seeds), asked.processes), 1):
            if found:
                failed += 1
                print(f"seed {seed} fails: {found[0]}", *(["..."] if found[1:] else []))
                print(f"  replay: .venv/bin/python -m tests.simulation --seed {seed}", flush=True)
            if elapsed_s() - told_s >= _TELL_EVERY_S:
                told_s = elapsed_s()
                print(f"{done} seeds, {done / (told_s - began_s):.1f} a second, {failed} failed", file=sys.stderr)
    except KeyboardInterrupt:
        pass  # how a hunt ends
    took_s = elapsed_s() - began_s
    print(f"{done} seeds in {took_s:.0f} s, {done / took_s:.1f} a second, {failed} failed")
    return int(failed > 0)


def _all(seeds: Iterator[int], processes: int) -> Iterator[tuple[int, list[str]]]:
    _place()  # before the others are forked: who ends as they do removes nothing
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        under_way: set[Future[tuple[int, list[str]]]] = set()
        try:
            while True:
                for seed in islice(seeds, processes * _AT_ONCE - len(under_way)):
                    under_way.add(pool.submit(_judged, seed))
                if not under_way:
                    return
                ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for one in ended:
                    yield one.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
