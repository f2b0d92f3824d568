"""Rows 8 and 9: what a backlog of a million costs in memory, and at a start."""

import signal
import time
from pathlib import Path

from benchmarks.processes import BenchmarkFailed, Daemon, call, module
from benchmarks.table import Figure

_MB = 1_000_000


def backlog(directory: Path, *, quick: bool) -> list[Figure]:
    """Load a million while the platform is paused, weigh the daemon, let it deliver, kill it, start it, stop, start."""
    total = 100_000 if quick else 1_000_000
    with module("sink") as sink:
        sink_url = sink.line()["url"]
        platform = {"url": sink_url + "/callbacks", "key": "order_id", "batch": {"max_items": 500}, "timeout": "30s"}
        with Daemon(directory / "backlog", {"p": platform}) as relay:
            empty = relay.process.resident_bytes()
            relay.order("p", "pause")
            with module(
                "client", "bulk", relay.callbacks_url("p"), "--connections", "2", "--total", str(total)
            ) as client:
                told = client.result(180)
            if told["accepted"] < total or relay.totals()["pending"] < total:
                raise BenchmarkFailed(f"client {told}, ledger {relay.totals()}")
            loaded = relay.process.resident_bytes()
            file_bytes = sum(path.stat().st_size for path in (directory / "backlog").glob("relay.db*"))
            relay.order("p", "resume")
            delivered = _delivered(sink_url, total // 10)
            delivering = relay.process.resident_bytes()
            relay.process.stop(signal.SIGKILL)
            killed_s, killed_first_s = _start(relay, sink_url)
            relay.process.stop()
            ready_s, first_s = _start(relay, sink_url)
            pending = relay.totals()["pending"]
    memory = (
        f"VmRSS with {total:,} pending of 400 B, distinct keys, {loaded / _MB:.0f} MB; empty {empty / _MB:.0f} MB; "
        f"after delivering {delivered:,} of them {delivering / _MB:.0f} MB; store {file_bytes / _MB:.0f} MB"
    )
    start = (
        f"after SIGTERM, {pending:,} pending, pages cached: process start to readyz 200; first arrival at the platform "
        f"after {first_s:.2f} s; after kill -9 while delivering: {killed_s:.2f} s, first arrival {killed_first_s:.2f} s"
    )
    return [Figure("8", max(loaded, delivering) / _MB, memory), Figure("9", ready_s, start)]


def _delivered(sink_url: str, wanted: int) -> int:
    """Wait until so many arrived, and return how many did: most of the backlog is still there."""
    until = time.monotonic() + 60
    while (delivered := int(call(sink_url + "/stats")[1]["items"])) < wanted:
        if time.monotonic() > until:
            raise BenchmarkFailed(f"{delivered} of {wanted} delivered within 60 s of resuming")
        time.sleep(0.01)
    return delivered


def _start(relay: Daemon, sink_url: str) -> tuple[float, float]:
    before = len(call(sink_url + "/stats")[1]["requests"])
    relay.start()
    until = time.monotonic() + 60
    while len(requests := call(sink_url + "/stats")[1]["requests"]) <= before:
        if time.monotonic() > until:
            raise BenchmarkFailed("nothing arrived within 60 s of a start")
        time.sleep(0.01)
    return relay.ready_s, requests[before] - relay.process.started_at
