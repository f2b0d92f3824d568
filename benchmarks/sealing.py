"""What sealing costs: two relays, one of them sealed, posted to in turns. Prints figures, asserts nothing.

python -m benchmarks.sealing [--rounds 4] [--seconds 2] [--shared]

On a machine with other work the rates say little; the CPU of the relay for each callback is what is compared.
"""

import argparse
import base64
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.store.valkey import ValkeyServer

from benchmarks.load import CONNECTIONS
from benchmarks.processes import Daemon, module

_PLATFORM = {"p": {"url": "http://127.0.0.1:9/", "key": "order_id", "batch": {"max_items": 500}}}
_KEY = base64.b64encode(bytes(range(32))).decode()
_SEALED: dict[str, Any] = {"privacy": {"encrypt": {"key": _KEY}}}


def main() -> None:
    """Measure NDJSON requests of 2,000 lines, and one callback per POST."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--shared", action="store_true", help="over a Valkey that syncs each write, not over SQLite")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _both(Path(name), shared=given.shared) as relays:
        for relay in relays.values():
            relay.order("p", "pause")
        bulk = ("bulk", "--connections", "4", "--prepared", "32")
        single = ("closed", "--connections", str(CONNECTIONS))
        for what, (kind, *options) in (("NDJSON, 2,000 lines", bulk), ("one per POST", single)):
            rates: dict[str, list[float]] = {which: [] for which in relays}
            cpus: dict[str, list[float]] = {which: [] for which in relays}
            for _ in range(given.rounds):
                for which, relay in relays.items():
                    rate, cpu_us = _load(relay, kind, (*options, "--seconds", str(given.seconds)), given.seconds)
                    rates[which].append(rate)
                    cpus[which].append(cpu_us)
            _print(what, rates, "callbacks/s")
            _print(what, cpus, "us of CPU each")


@contextmanager
def _both(directory: Path, *, shared: bool) -> Iterator[dict[str, Daemon]]:
    """Run a plain relay and a sealed one, each on a store of its own, or both on one server."""
    server = ValkeyServer(directory / "valkey") if shared else None
    stores: list[dict[str, Any]] = [{}, {}]
    if server is not None:
        server.start()
        stores = [{"store": {"url": server.url, "prefix": prefix}} for prefix in ("plain", "sealed")]
    try:
        with (
            Daemon(directory / "plain", _PLATFORM, **stores[0]) as plain,
            Daemon(directory / "sealed", _PLATFORM, **stores[1], **_SEALED) as sealed,
        ):
            yield {"plain": plain, "sealed": sealed}
    finally:
        if server is not None:
            server.kill()


def _load(relay: Daemon, kind: str, options: tuple[str, ...], seconds: float) -> tuple[float, float]:
    before = relay.process.cpu_s()
    with module("client", kind, relay.callbacks_url("p"), *options) as client:
        told: dict[str, Any] = client.result(seconds + 60)
    used = told["ended_at"] - told["began_at"]
    return told["accepted"] / used, (relay.process.cpu_s() - before) / told["accepted"] * 1e6


def _print(what: str, found: dict[str, list[float]], unit: str) -> None:
    plain, sealed = (statistics.median(found[which]) for which in ("plain", "sealed"))
    print(f"{what}: plain {plain:,.1f}, sealed {sealed:,.1f} {unit}: {sealed / plain:.3f}")


if __name__ == "__main__":
    main()
