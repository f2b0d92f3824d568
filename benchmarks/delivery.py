"""Rows 4 and 5: from accept to the platform, at full speed and idle."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load import callbacks_url, post_rate, rates_text
from benchmarks.machine import cpus
from benchmarks.peers import bullmq, syslog_ng
from benchmarks.processes import BenchmarkFailed, Daemon, call, module
from benchmarks.table import Figure, percentile

_BATCH = 500
_LINES = 1000
_WAIT_S = 120.0


def throughput(directory: Path, *, quick: bool, peers: bool) -> list[Figure]:
    """Row 4: so many callbacks are posted while they are delivered, in turns with the bare handler and the peers."""
    total, rounds = (50_000, 2) if quick else (200_000, 2)
    relay = _Relay()
    ways: dict[str, tuple[int, Callable[[Path, int], float]]] = {"4": (total, relay.run)}
    if peers and not bullmq.missing():
        ways["4b"] = (total // 10, _beside_bullmq)
    if peers and not syslog_ng.missing():
        ways["4c"] = (total, _beside_syslog_ng)
    rates: dict[str, list[float]] = {number: [] for number in ways}
    bare_rates: list[float] = []
    for turn in range(rounds):
        with module("bare") as bare:
            bare_rates.append(post_rate(callbacks_url(bare.line()["url"]), directory, seconds=2.0 if quick else 4.0))
        for number, (count, run) in ways.items():
            rates[number].append(run(directory / f"delivery{number}-{turn}", count))
    rate = statistics.median(rates["4"])
    how = (
        f"{total:,} callbacks of 400 B posted as NDJSON ({_LINES} lines, 2 connections) while they are delivered, "
        f"{rounds} times: {rates_text(rates['4'])} callbacks/s until all were delivered and settled, in turns with the "
        f"bare handler: {rates_text(bare_rates)} requests/s; {relay.how(total * rounds)}"
    )
    figures = [Figure("4", rate / statistics.median(bare_rates), how)]
    said = {
        "4b": "{:,} each posted to fastify, a BullMQ worker sends each alone, 50 at once; free to use every CPU: {}/s",
        "4c": "{:,} lines over TCP, each read as JSON, requests of 500, no compression, on the relay's CPU: {}/s",
    }
    for number, text in said.items():
        if number in ways:
            told = text.format(ways[number][0], rates_text(rates[number]))
            figures.append(Figure(number, rate / statistics.median(rates[number]), told))
    return figures


class _Relay:
    """Runs the relay and adds up what it used."""

    def __init__(self) -> None:
        self._cpu_s = self._requests = 0.0
        self._pinned = False

    def run(self, directory: Path, total: int) -> float:
        """Return callbacks per second; the clock stops when the ledger says that all are delivered."""
        one, other = cpus()
        self._pinned = one is not None
        with module("sink", cpu=other) as sink:
            sink_url = sink.line()["url"]
            platform = {
                "url": sink_url + "/callbacks",
                "key": "order_id",
                "batch": {"max_items": _BATCH},
                "compress": "gzip",
            }
            with Daemon(directory, {"p": platform}, cpu=one) as relay:
                cpu_s = relay.process.cpu_s()
                told = _post("bulk", relay.callbacks_url("p"), total, cpu=other)
                _until_arrived(sink_url, told, total)  # to ask the ledger meanwhile would take the relay's CPU
                totals = _until_delivered(relay, total, until=time.monotonic() + _WAIT_S)
                took_s: float = time.monotonic() - told["began_at"]
                self._cpu_s += relay.process.cpu_s() - cpu_s
                arrived = call(sink_url + "/stats")[1]
        if told["failed"] or totals["delivered"] != total or arrived["items"] != total:
            raise BenchmarkFailed(f"client {told}, ledger {totals}, the sink got {arrived['items']}")
        self._requests += len(arrived["requests"])
        return total / took_s

    def how(self, total: int) -> str:
        """Say in words what it took for ``total`` callbacks."""
        where = "relay on one CPU, poster and sink on another" if self._pinned else "one CPU for everything"
        each = f"{total / self._requests:.0f} callbacks in a request"
        return f"{each}; {self._cpu_s / total * 1e6:.1f} us of CPU per callback; {where}"


def _beside_bullmq(directory: Path, total: int) -> float:
    with module("sink") as sink:
        sink_url = sink.line()["url"]
        with bullmq.BullMQ(directory, deliver_to=sink_url + "/callbacks") as peer:
            told = _post("bulk", peer.callbacks_url, total)
            return _arrival_rate(sink_url, told, total)


def _beside_syslog_ng(directory: Path, total: int) -> float:
    one, other = cpus()
    with module("sink", cpu=other) as sink:
        sink_url = sink.line()["url"]
        with syslog_ng.SyslogNg(directory, deliver_to=sink_url + "/callbacks", items=_BATCH, cpu=one) as peer:
            told = _post("lines", f"tcp://127.0.0.1:{peer.port}", total, cpu=other)
            return _arrival_rate(sink_url, told, total)


def _post(mode: str, url: str, total: int, *, cpu: int | None = None) -> dict[str, Any]:
    counts = ("--connections", "2", "--lines", str(_LINES), "--total", str(total), "--prepared", str(total // _LINES))
    with module("client", mode, url, *counts, cpu=cpu) as client:
        return client.result(_WAIT_S)


def _arrival_rate(sink_url: str, told: dict[str, Any], total: int) -> float:
    """Return callbacks per second until the last request reached the platform."""
    _until_arrived(sink_url, told, total)
    last: float = call(sink_url + "/stats")[1]["requests"][-1]
    return total / (last - told["began_at"])


def _until_arrived(sink_url: str, told: dict[str, Any], total: int) -> None:
    """Wait until the platform has all callbacks; it must get each once."""
    until = time.monotonic() + _WAIT_S
    while (arrived := call(sink_url + "/items")[1]) < total and not told["failed"] and time.monotonic() < until:
        time.sleep(0.02)
    if arrived != total:
        raise BenchmarkFailed(f"client {told}, the sink got {arrived} of {total}")


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
