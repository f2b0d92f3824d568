"""Rows 4 and 5: from accept to the platform, at full speed and idle."""

import time
from pathlib import Path

from benchmarks.machine import cpus
from benchmarks.processes import BenchmarkFailed, Daemon, call, module
from benchmarks.table import Figure, percentile

_BATCH = 500
_LINES = 1000


def throughput(directory: Path, *, quick: bool) -> list[Figure]:
    """Row 4: post so many callbacks as NDJSON while they are delivered; the clock stops when the ledger says so."""
    total = 50_000 if quick else 200_000
    one, other = cpus()
    with module("sink", cpu=other) as sink:
        sink_url = sink.line()["url"]
        platform = {
            "url": sink_url + "/callbacks",
            "key": "order_id",
            "batch": {"max_items": _BATCH},
            "compress": "gzip",
        }
        with Daemon(directory / "delivery", {"p": platform}, cpu=one) as relay:
            cpu_s = relay.process.cpu_s()
            with module(
                "client",
                "bulk",
                relay.callbacks_url("p"),
                *("--connections", "2", "--lines", str(_LINES), "--total", str(total)),
                *("--prepared", str(total // _LINES)),
                cpu=other,
            ) as client:
                told = client.result(120)
            accepted_s = told["ended_at"] - told["began_at"]
            totals = _until_delivered(relay, total, until=time.monotonic() + 120)
            took_s = time.monotonic() - told["began_at"]
            cpu_s = relay.process.cpu_s() - cpu_s
            arrived = call(sink_url + "/stats")[1]
    if told["failed"] or totals["delivered"] != total or arrived["items"] != total:
        raise BenchmarkFailed(f"client {told}, ledger {totals}, the sink got {arrived['items']}")
    requests = len(arrived["requests"])
    how = (
        f"{total:,} callbacks of 400 B posted as NDJSON ({_LINES} lines, 2 connections) while they are delivered: "
        f"accepted within {accepted_s:.1f} s, all delivered and settled within {took_s:.1f} s, {requests} requests "
        f"({total / requests:.0f} callbacks each); {cpu_s / total * 1e6:.0f} us of CPU per callback; "
        + ("relay on one CPU, poster and sink on another" if one is not None else "one CPU for everything")
    )
    return [Figure("4", total / took_s, how)]


def _until_delivered(relay: Daemon, total: int, *, until: float) -> dict[str, int]:
    while True:
        totals = relay.totals()
        if totals["delivered"] >= total or time.monotonic() > until:
            return totals
        time.sleep(0.05)


def idle_latency(directory: Path, *, quick: bool) -> list[Figure]:
    """Row 5: one post at a time, long after the one before was delivered."""
    total, rate = (100, 20.0) if quick else (300, 20.0)
    with module("sink") as sink:
        sink_url = sink.line()["url"]
        with Daemon(directory / "idle", {"p": {"url": sink_url + "/callbacks", "key": "order_id"}}) as relay:
            with module(
                "client", "paced", relay.callbacks_url("p"), "--rate", str(rate), "--total", str(total)
            ) as client:
                told = client.result(total / rate + 30)
            _until_delivered(relay, total, until=time.monotonic() + 10)
            waits_ms = [wait * 1000 for _, wait in call(sink_url + "/stats")[1]["waits_s"]]
    if told["failed"] or len(waits_ms) != total:
        raise BenchmarkFailed(f"client {told}, the sink got {len(waits_ms)}")
    how = (
        f"{total} posts, one every {1000 / rate:.0f} ms, keys all different: from just before the POST to the "
        f"first byte of the request at the platform; largest {max(waits_ms):.1f} ms"
    )
    return [Figure("5a", percentile(waits_ms, 0.50), how), Figure("5b", percentile(waits_ms, 0.99), "as 5a")]
