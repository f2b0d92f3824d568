"""Rows 6 and 7: waiting under a limit that carries the load, and slots used under one that does not.

Two platforms of one daemon, at the same time.
"""

import time
from pathlib import Path

from benchmarks.processes import BenchmarkFailed, Daemon, call, module
from benchmarks.table import Figure, percentile

_LIMIT = 100
_STEADY = 50.0


def limited(directory: Path, *, quick: bool) -> list[Figure]:
    """Rows 6 and 7; ``quick`` scales the window from a minute to 12 s and the limit to 20: the same pace."""
    window_s, limit = (12.0, _LIMIT // 5) if quick else (60.0, _LIMIT)
    rate = f"{limit}/{window_s:g}s"
    steady_total = int(_STEADY * window_s * 2.5)
    with module("sink") as steady_sink, module("sink") as backlog_sink:
        steady_url, backlog_url = steady_sink.line()["url"], backlog_sink.line()["url"]
        common = {"rate": rate, "key": "order_id", "batch": {"max_items": 100}}
        platforms = {"steady": {"url": steady_url, **common}, "backlog": {"url": backlog_url, **common}}
        with Daemon(directory / "limits", platforms) as relay:
            _fill(relay, limit * 100 * 5)
            with module(
                "client", "paced", relay.callbacks_url("steady"), "--rate", str(_STEADY), "--total", str(steady_total)
            ) as client:
                told = client.result(steady_total / _STEADY + 60)
            _wait_for(backlog_url, requests=limit * 3 + 1, until=time.monotonic() + window_s * 2)
            waits = _wait_for(steady_url, waits=steady_total, until=time.monotonic() + window_s)["waits_s"]
            sent = call(backlog_url + "/stats")[1]["requests"]
    if told["failed"] or len(waits) != steady_total or len(sent) <= limit * 3:
        raise BenchmarkFailed(f"client {told}; arrived: {len(waits)} steady callbacks, {len(sent)} backlog requests")
    _check_strict(sent, limit, window_s)
    late = [wait for at, wait in waits if at >= waits[0][0] + window_s]
    first = [wait for at, wait in waits if at < waits[0][0] + window_s]
    steady = (
        f"{steady_total:,} posts at {_STEADY:g}/s into {rate}, from just before the POST; the first window is left out "
        f"(p99 of it: {percentile(first, 0.99):.2f} s); p50 {percentile(late, 0.5):.2f}, largest {max(late):.2f} s"
    )
    # The slots of two windows: from the first request after a full window to the same one two windows later.
    spent_s = sent[limit * 3] - sent[limit]
    used = 100 * (2 * window_s) / spent_s
    slots = (
        f"requests {limit + 1} to {limit * 3 + 1} under a backlog took {spent_s:.2f} s of the {2 * window_s:g} s that "
        f"{rate} allows; no window of {window_s:g} s held more than {limit}; the bound N/(W + answer) is 100 % less "
        f"the answer time ({window_s:g} s + about 1 ms here)"
    )
    return [Figure("6", percentile(late, 0.99), steady), Figure("7", used, slots)]


def _fill(relay: Daemon, total: int) -> None:
    with module(
        "client", "bulk", relay.callbacks_url("backlog"), "--lines", "1000", "--connections", "1", "--total", str(total)
    ) as client:
        if client.result(60)["accepted"] != total:
            raise BenchmarkFailed("the backlog was not accepted")


def _wait_for(url: str, *, until: float, requests: int = 0, waits: int = 0) -> dict[str, list[list[float]]]:
    while True:
        stats: dict[str, list[list[float]]] = call(url + "/stats")[1]
        enough = len(stats["requests"]) >= requests and len(stats["waits_s"]) >= waits
        if enough or time.monotonic() > until:
            return stats
        time.sleep(0.5)


def _check_strict(sent: list[float], limit: int, window_s: float) -> None:
    """A figure for slots used counts only if the limit held."""
    for at, later in zip(sent, sent[limit:], strict=False):
        if later - at < window_s:
            raise BenchmarkFailed(
                f"{limit + 1} requests arrived within {later - at:.3f} s of the {window_s:g} s window"
            )
