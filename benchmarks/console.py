"""The bars of the console, 1,000,000 callbacks in the store: ``python -m benchmarks.console [--total N] [--dir D]``.

A real daemon, Debian's chromium and a real SQLite file. 600,000 of the callbacks are delivered, 400,000 wait; each has
an ordering key of its own. Measured are the overview from the address to what it shows, a search by key from the
submit to the row, and what watching costs the daemon: 20 tabs of one browser, and 20 clients with a stream each.
Prints one JSON object. Exits 1 when a bar is not met.
"""

import argparse
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect
from tests.console.browser_side import chromium, shown

from benchmarks.machine import describe, workplace
from benchmarks.processes import BenchmarkFailed, Daemon, module

_OVERVIEW_S, _SEARCH_S, _WATCHING = 1.0, 0.3, 0.05
_TABS = 20
_TRIES = 5
_LOOK_S = 10.0


def main() -> int:
    """Fill a store, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__.splitlines()[0])
    parser.add_argument("--total", type=int, default=1_000_000, help="callbacks in the store")
    parser.add_argument("--dir", metavar="DIRECTORY", type=Path, help="where the store lies")
    given = parser.parse_args()
    with workplace(given.dir) as directory, module("sink") as sink:
        machine = describe(directory)
        platform = {"url": sink.line()["url"] + "/callbacks", "key": "order_id", "batch": {"max_items": 500}}
        with Daemon(directory / "console", {"goes": platform, "waits": platform}) as relay:
            _fill(relay, given.total)
            figures = {**_pages(relay, given.total), **_watching(relay)}
    met = {
        "overview_s": figures["overview_s"] < _OVERVIEW_S,
        "search_waiting_s": figures["search_waiting_s"] < _SEARCH_S,
        "search_delivered_s": figures["search_delivered_s"] < _SEARCH_S,
        "tabs_core_share": figures["tabs_core_share"] < _WATCHING,
        "streams_core_share": figures["streams_core_share"] < _WATCHING,
    }
    print(json.dumps({"machine": machine, "callbacks": given.total, **figures, "met": met}, indent=2))
    return 0 if all(met.values()) else 1


def _fill(relay: Daemon, total: int) -> None:
    relay.order("waits", "pause")
    waiting = total * 2 // 5
    for name, count in (("waits", waiting), ("goes", total - waiting)):
        bulk = ("bulk", relay.callbacks_url(name), "--connections", "2", "--total", str(count))
        with module("client", *bulk) as client:
            if client.result(300)["accepted"] < count:
                raise BenchmarkFailed("not every callback was accepted")
    until = time.monotonic() + 300
    while relay.totals()["pending"] > waiting:
        if time.monotonic() > until:
            raise BenchmarkFailed("not every callback was delivered")
        time.sleep(0.2)


def _pages(relay: Daemon, total: int) -> dict[str, float]:
    with chromium() as browser:
        page = browser.new_page()
        overview = median(_overview(page, relay) for _ in range(_TRIES))
        page.goto(f"{relay.admin}/ui/callbacks")
        shown(page, "callbacks")
        # Each platform has keys from number 0 on; these are far from both ends.
        waiting = [_search(page, f"o{total // 3 + number:011d}") for number in range(_TRIES)]
        delivered = [_search(page, f"o{total // 2 + number:011d}") for number in range(_TRIES)]
    return {
        "overview_s": round(overview, 3),
        "search_waiting_s": round(median(waiting), 3),
        "search_delivered_s": round(median(delivered), 3),
    }


def _overview(page: Page, relay: Daemon) -> float:
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(f"{relay.admin}/ui/")
    page.wait_for_selector('main[data-page="overview"] [data-platform="goes"] [data-field="pending"]')
    return time.perf_counter() - began


def _search(page: Page, key: str) -> float:
    page.fill('[data-search] [name="key"]', key)
    began = time.perf_counter()
    page.keyboard.press("Enter")
    page.wait_for_selector(f'tr[data-callback]:has-text("{key}")')
    took = time.perf_counter() - began
    expect(page.locator("tr[data-callback]").first).to_contain_text(key)
    return took


def _watching(relay: Daemon) -> dict[str, float]:
    """Return which share of one core the daemon uses for who watches, beside a callback now and then."""
    alone = _core_share(relay)
    with chromium() as browser:
        context = browser.new_context()
        for _ in range(_TABS):
            tab = context.new_page()
            tab.goto(f"{relay.admin}/ui/")
            shown(tab, "overview")
        tabs = _core_share(relay)
    with ExitStack() as stack:
        for _ in range(_TABS):
            stack.enter_context(_stream(relay))
        streams = _core_share(relay)
    return {
        "tabs_core_share": round(tabs - alone, 4),
        "streams_core_share": round(streams - alone, 4),
        "idle_core_share": round(alone, 4),
    }


def _core_share(relay: Daemon) -> float:
    """Return the share of a core over some seconds in which ten callbacks a second come in and go out."""
    bulk = ("paced", relay.callbacks_url("goes"), "--rate", "10", "--total", str(int(_LOOK_S * 10)))
    with module("client", *bulk) as client:
        time.sleep(1.0)  # the client's start is over
        before, began = relay.process.cpu_s(), time.monotonic()
        client.result(60)
        return (relay.process.cpu_s() - before) / (time.monotonic() - began)


@contextmanager
def _stream(relay: Daemon) -> Iterator[None]:
    """Read the stream of events on a connection of its own until the block ends."""
    parts = urlsplit(relay.admin)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80))
    connection.sendall(f"GET /v1/events HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())

    def read() -> None:
        while connection.recv(1 << 16):
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        connection.shutdown(socket.SHUT_RDWR)
        reader.join()
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
