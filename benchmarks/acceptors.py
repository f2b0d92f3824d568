"""What acceptors bring and cost: relays with 0, 1 and 2 of them (``ingest.processes``), posted to in turns.

python -m benchmarks.acceptors [--processes 0,1,2] [--rounds 3] [--seconds 2] [--pending 0]

Prints figures, asserts nothing. Memory is counted once where processes share it (PSS). ``--pending`` loads each relay
with so many callbacks, and starts it again.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import post_rate
from benchmarks.processes import Daemon, call, cpu_s, module

_PLATFORM = {"p": {"url": "http://127.0.0.1:9/", "key": "order_id", "batch": {"max_items": 500}}}


def main() -> None:
    """Measure them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--pending", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        directory = Path(name)
        bare = opened.enter_context(module("bare"))
        bare_url = bare.line()["url"] + "/v1/platforms/p/callbacks"
        relays = {each: _relay(directory, each, opened) for each in map(int, given.processes.split(","))}
        _memory("idle", relays)
        for what in ("one per POST", "NDJSON, 2,000 lines") if given.rounds else ():
            rates: dict[int, list[float]] = {each: [] for each in (-1, *relays)}
            used: dict[int, list[str]] = {each: [] for each in relays}
            for _ in range(given.rounds):
                rates[-1].append(post_rate(bare_url, directory, seconds=given.seconds))
                for each, relay in relays.items():
                    rate, cpu = _load(relay, directory, what, given.seconds)
                    rates[each].append(rate)
                    used[each].append(cpu)
            print(f"{what}, of {given.rounds} x {given.seconds:g} s in turns; bare {_middle(rates[-1]):,.0f} posts/s")
            for each in relays:
                pairs = [mine / theirs for mine, theirs in zip(rates[each], rates[-1], strict=True)]
                told = (
                    f"{_middle(rates[each]):,.0f}/s, {_middle(pairs):.2f}x bare ({min(pairs):.2f} to {max(pairs):.2f})"
                )
                print(f"  {each} acceptors: {told}; us of CPU {'; '.join(used[each])}")
        _memory("after the load", relays)
        if given.pending:
            for each, relay in relays.items():
                _pending(relay, each, given.pending)


def _relay(directory: Path, processes: int, opened: ExitStack) -> Daemon:
    relay = opened.enter_context(Daemon(directory / str(processes), _PLATFORM, processes=processes))
    _wait(relay, processes)
    relay.order("p", "pause")
    return relay


def _wait(relay: Daemon, processes: int) -> None:
    while len(_below(relay.process.pid)) < processes + 1 + bool(processes):
        time.sleep(0.01)
    time.sleep(0.5)  # until they serve


def _load(relay: Daemon, directory: Path, what: str, seconds: float) -> tuple[float, str]:
    pids, accepted = _below(relay.process.pid), relay.totals()["accepted"]
    before = [cpu_s(pid) for pid in pids]
    if what == "one per POST":
        rate = post_rate(relay.callbacks_url("p"), directory, seconds=seconds)
    else:
        options = ("--connections", "4", "--prepared", "64", "--seconds", str(seconds))
        with module("client", "bulk", relay.callbacks_url("p"), *options) as client:
            told = client.result(seconds + 60)
        rate = told["accepted"] / (told["ended_at"] - told["began_at"])
    spent = [cpu_s(pid) - cpu for pid, cpu in zip(pids, before, strict=True)]
    count = relay.totals()["accepted"] - accepted
    return rate, " + ".join(f"{each / count * 1e6:.1f}" for each in spent if each > 0)


def _pending(relay: Daemon, processes: int, total: int) -> None:
    left = total - relay.totals()["pending"]
    if left > 0:
        options = ("--connections", "2", "--total", str(left))
        with module("client", "bulk", relay.callbacks_url("p"), *options) as client:
            client.result(300)
    _memory(f"with {relay.totals()['pending']:,} pending", {processes: relay})
    relay.process.stop()
    relay.start()
    ready_s = relay.ready_s
    _wait(relay, processes)
    call(f"{relay.ingest}/readyz")
    print(f"  ready {ready_s:.2f} s after the start of the process")
    _memory("after that start", {processes: relay})


def _memory(when: str, relays: dict[int, Daemon]) -> None:
    for each, relay in relays.items():
        pids = _below(relay.process.pid)
        shares = [_pss_bytes(pid) for pid in pids]
        told = " + ".join(f"{share / 1e6:.0f}" for share in shares)
        rss = relay.process.resident_bytes() / 1e6
        print(f"memory {when}, {each} acceptors: {sum(shares) / 1e6:.0f} MB = {told}; VmRSS of the daemon {rss:.0f} MB")


def _below(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _below(int(child)))]


def _pss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) * 1024


def _middle(found: Sequence[float]) -> float:
    return statistics.median(found)


if __name__ == "__main__":
    main()
