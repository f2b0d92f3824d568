"""Rows 1 to 3: how fast callbacks are accepted, durably. The platform is paused, so that only intake is measured."""

import re
import shutil
import statistics
import subprocess
from pathlib import Path

from benchmarks.processes import BenchmarkFailed, Daemon, module
from benchmarks.table import Figure

_AGAINST_BULLMQ = 0.94  # fastify + BullMQ did so much of the bare handler, measured on one machine in one run
_LUA = """
local number = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local rest = '","status":"paid","shop":"shop-a","note":"' .. string.rep("packed and handed over; ", 14) .. '"}'
request = function()
  number = number + 1
  return wrk.format(nil, nil, nil, '{"order_id":"o' .. string.format("%011d", number) .. rest)
end
"""
CONNECTIONS = 64
_PLATFORM = {
    "p": {"url": "http://127.0.0.1:9/", "key": "order_id", "batch": {"max_items": 500}},
}


def single(directory: Path, *, quick: bool) -> list[Figure]:
    """Rows 1 and 2: `wrk` (or our own client) against the bare handler and the relay, A B A B A B."""
    seconds, rounds = (3.0, 2) if quick else (8.0, 3)
    bare_rates: list[float] = []
    relay_rates: list[float] = []
    with module("bare") as bare, Daemon(directory / "accept", _PLATFORM) as relay:
        bare_url = bare.line()["url"] + "/v1/platforms/p/callbacks"
        relay.order("p", "pause")
        script = directory / "post.lua"
        script.write_text(_LUA)
        for url in (bare_url, relay.callbacks_url("p")):
            _load(url, script, seconds=1.0)  # connections, caches and the first pages of the file
        before = relay.totals()["accepted"]
        cpu_s, bare_cpu_s = relay.process.cpu_s(), bare.cpu_s()
        for _ in range(rounds):
            bare_rates.append(_load(bare_url, script, seconds=seconds))
            relay_rates.append(_load(relay.callbacks_url("p"), script, seconds=seconds))
        cpu_s, bare_cpu_s = relay.process.cpu_s() - cpu_s, bare.cpu_s() - bare_cpu_s
        accepted = relay.totals()["accepted"] - before
    answered = sum(relay_rates) * seconds
    if accepted < answered * 0.99:
        raise BenchmarkFailed(f"{answered:.0f} posts were answered, but the ledger counts {accepted} accepted")
    bare_rate, rate = statistics.median(bare_rates), statistics.median(relay_rates)
    tool = (
        "wrk -t1"
        if shutil.which("wrk")
        else "benchmarks.client (wrk is missing: this client is slower than both, compare the CPU)"
    )
    bare_us, relay_us = bare_cpu_s / (sum(bare_rates) * seconds) * 1e6, cpu_s / accepted * 1e6
    how = (
        f"{tool} -c{CONNECTIONS}, 400 B, {rounds} x {seconds:g} s each in turn: bare {_rates(bare_rates)}/s, "
        f"relay {_rates(relay_rates)}/s; CPU {bare_us:.0f} and {relay_us:.0f} us each; no errors; platform paused"
    )
    derived = f"derived: row 1 / {_AGAINST_BULLMQ}, which fastify + BullMQ did of the bare handler when it was measured"
    return [Figure("1", rate / bare_rate, how), Figure("2", rate / bare_rate / _AGAINST_BULLMQ, derived)]


def bulk(directory: Path, *, quick: bool) -> list[Figure]:
    """Row 3: NDJSON requests of 2,000 lines over 4 connections."""
    seconds = 4.0 if quick else 10.0
    with Daemon(directory / "bulk", _PLATFORM) as relay:
        relay.order("p", "pause")
        with module(
            "client",
            "bulk",
            relay.callbacks_url("p"),
            *("--connections", "4", "--seconds", str(seconds), "--prepared", "64" if quick else "200"),
        ) as client:
            told = client.result(seconds + 60)
        cpu_s = relay.process.cpu_s()
        accepted = relay.totals()["accepted"]
        used = told["ended_at"] - told["began_at"]
    if told["failed"] or accepted != told["accepted"]:
        raise BenchmarkFailed(f"client: {told}, ledger: {accepted} accepted")
    how = (
        f"bodies of 2,000 lines x 400 B over 4 connections for {used:.1f} s ({accepted:,} callbacks, built before the "
        f"clock started); {cpu_s / accepted * 1e6:.1f} us of CPU per callback; platform paused"
    )
    return [Figure("3", accepted / used, how)]


def _rates(rates: list[float]) -> str:
    return ", ".join(f"{rate:,.0f}" for rate in rates)


def _load(url: str, script: Path, *, seconds: float) -> float:
    """Return the answers per second. Raises ``BenchmarkFailed`` when one was an error or not a 2xx."""
    if shutil.which("wrk") is None:
        options = ("--connections", str(CONNECTIONS), "--seconds", str(seconds))
        with module("client", "closed", url, *options) as client:
            told = client.result(seconds + 30)
        if told["failed"]:
            raise BenchmarkFailed(f"{url}: {told}")
        return float(told["accepted"] / (told["ended_at"] - told["began_at"]))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(script), url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    rate = re.search(r"Requests/sec: +([0-9.]+)", shown)
    if rate is None or "Non-2xx" in shown or "Socket errors" in shown:
        raise BenchmarkFailed(f"{url}:\n{shown}")
    return float(rate[1])
