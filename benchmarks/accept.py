"""Rows 1 to 3 and 10: how fast callbacks are accepted, durably. The platform is paused: only the intake works."""

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.store.valkey import ValkeyServer

from benchmarks.load import callbacks_url, post_rate, rates_text, tool
from benchmarks.peers import bullmq
from benchmarks.processes import BenchmarkFailed, Daemon, module
from benchmarks.table import Figure

_PLATFORM = {
    "p": {"url": "http://127.0.0.1:9/", "key": "order_id", "batch": {"max_items": 500}},
}
_PEER = "fastify + BullMQ"


def single(directory: Path, *, quick: bool, peers: bool) -> list[Figure]:
    """Rows 1 and 2: one callback per POST to the bare handler, the relay and the peer, A B C A B C A B C."""
    seconds, rounds = (3.0, 2) if quick else (8.0, 3)
    with ExitStack() as opened:
        bare = opened.enter_context(module("bare"))
        relay = opened.enter_context(Daemon(directory / "accept", _PLATFORM))
        urls = {"bare": callbacks_url(bare.line()["url"]), "relay": relay.callbacks_url("p")}
        if peers and not bullmq.missing():
            urls[_PEER] = opened.enter_context(bullmq.BullMQ(directory / "bullmq")).callbacks_url
        relay.order("p", "pause")
        for url in urls.values():
            post_rate(url, directory, seconds=1.0)  # connections, caches and the first pages of the file
        before = relay.totals()["accepted"]
        cpu_s, bare_cpu_s = relay.process.cpu_s(), bare.cpu_s()
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                rates[name].append(post_rate(url, directory, seconds=seconds))
        cpu_s, bare_cpu_s = relay.process.cpu_s() - cpu_s, bare.cpu_s() - bare_cpu_s
        accepted = relay.totals()["accepted"] - before
    answered = sum(rates["relay"]) * seconds
    if accepted < answered * 0.99:
        raise BenchmarkFailed(f"{answered:.0f} posts were answered, but the ledger counts {accepted} accepted")
    bare_us, relay_us = bare_cpu_s / (sum(rates["bare"]) * seconds) * 1e6, cpu_s / accepted * 1e6
    shown = "; ".join(f"{name} {rates_text(each)}/s" for name, each in rates.items())
    how = (
        f"{tool()}, {rounds} x {seconds:g} s each in turn: {shown}; CPU of bare and relay {bare_us:.0f} and "
        f"{relay_us:.0f} us each; no errors; platform paused"
    )
    middle = {name: statistics.median(each) for name, each in rates.items()}
    figures = [Figure("1", middle["relay"] / middle["bare"], how)]
    if _PEER in middle:
        figures.append(Figure("2", middle["relay"] / middle[_PEER], "as 1; node, one process, appendfsync always"))
    return figures


def bulk(directory: Path, *, quick: bool) -> list[Figure]:
    """Row 3: NDJSON requests of 2,000 lines over 4 connections, in turns with the bare handler's single posts."""
    seconds, bare_seconds, rounds = (3.0, 2.0, 2) if quick else (6.0, 3.0, 3)
    rates: list[float] = []
    bare_rates: list[float] = []
    with module("bare") as bare, Daemon(directory / "bulk", _PLATFORM) as relay:
        bare_url = callbacks_url(bare.line()["url"])
        relay.order("p", "pause")
        cpu_s = relay.process.cpu_s()
        accepted = 0
        for _ in range(rounds):
            bare_rates.append(post_rate(bare_url, directory, seconds=bare_seconds))
            before = relay.totals()["accepted"]
            rates.append(_bulk_rate(relay, seconds, prepared=64 if quick else 200))
            accepted += relay.totals()["accepted"] - before
        cpu_s = relay.process.cpu_s() - cpu_s
    rate = statistics.median(rates)
    how = (
        f"bodies of 2,000 lines x 400 B over 4 connections, built before the clock starts, {rounds} x {seconds:g} s: "
        f"{rates_text(rates)} callbacks/s, in turns with the bare handler: {rates_text(bare_rates)} requests/s; "
        f"{cpu_s / accepted * 1e6:.1f} us of CPU per callback; platform paused"
    )
    return [Figure("3", rate / statistics.median(bare_rates), how)]


def shared(directory: Path, *, quick: bool) -> list[Figure]:
    """Row 10: single posts, then NDJSON, in turns to a relay over SQLite and one over a Valkey that syncs writes."""
    seconds, rounds = (3.0, 2) if quick else (6.0, 3)
    server = ValkeyServer(directory / "valkey")
    server.start()
    try:
        with (
            Daemon(directory / "own", _PLATFORM) as own,
            Daemon(directory / "over", _PLATFORM, store={"url": server.url}) as over,
        ):
            both = {"SQLite": own, "Valkey": over}
            for relay in both.values():
                relay.order("p", "pause")
                post_rate(relay.callbacks_url("p"), directory, seconds=1.0)
            measures: dict[str, Callable[[Daemon], float]] = {
                "10a": lambda relay: post_rate(relay.callbacks_url("p"), directory, seconds=seconds),
                "10b": lambda relay: _bulk_rate(relay, seconds, prepared=64),
            }
            figures = []
            for number, measure in measures.items():
                rates: dict[str, list[float]] = {name: [] for name in both}
                for _ in range(rounds):
                    for name, relay in both.items():
                        rates[name].append(measure(relay))
                shown = "; ".join(f"{name} {rates_text(each)}/s" for name, each in rates.items())
                ratio = statistics.median(rates["Valkey"]) / statistics.median(rates["SQLite"])
                figures.append(
                    Figure(number, ratio, f"{rounds} x {seconds:g} s each in turn: {shown}; platform paused")
                )
            return figures
    finally:
        server.kill()


def _bulk_rate(relay: Daemon, seconds: float, *, prepared: int) -> float:
    """Post bodies of 2,000 lines for ``seconds``; return callbacks per second. The ledger must count them too."""
    before = relay.totals()["accepted"]
    with module(
        "client",
        "bulk",
        relay.callbacks_url("p"),
        *("--connections", "4", "--seconds", str(seconds), "--prepared", str(prepared)),
    ) as client:
        told = client.result(seconds + 60)
    counted = relay.totals()["accepted"] - before
    if told["failed"] or told["accepted"] != counted:
        raise BenchmarkFailed(f"client: {told}, ledger: {counted} accepted")
    rate: float = told["accepted"] / (told["ended_at"] - told["began_at"])
    return rate
