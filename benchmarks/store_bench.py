"""What the SQLite store does per second, and against how much waiting: prints figures, asserts nothing.

    python benchmarks/store_bench.py [--pending 200000] [--directory DIR]

Bodies are 400 bytes; nine of ten callbacks have a key of their own, the rest share one hot key.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from relay.core.model import Batch, ClaimRequest, NewCallback, Outcome, StoreRules, WaitUntil
from relay.core.settlement import AttemptResult, Settlement
from relay.store.sqlite.backend import SqliteStore

_BODY = b'{"order_id": "1234567890", "status": "shipped", "items": "' + b"x" * 340 + b'"}'


def _rows(first: int, count: int, *, hot: int = 10, idempotent: bool = False) -> list[NewCallback]:
    return [
        NewCallback(
            "shop-a",
            _BODY,
            "hot" if hot and number % hot == 0 else f"order-{number}",
            "order.shipped",
            1,
            86400.0,
            f"idem-{number}" if idempotent else None,
            None,
            None,
            "",
        )
        for number in range(first, first + count)
    ]


def _posts(first: int, count: int, size: int) -> Iterator[list[NewCallback]]:
    for start in range(first, first + count, size):
        yield _rows(start, min(size, first + count - start))


async def _accept(store: SqliteStore, first: int, count: int, size: int, waiting: int) -> float:
    """Accept ``count`` rows in posts of ``size``, ``waiting`` posts at a time; return rows per second."""
    posts = list(_posts(first, count, size))
    started = time.perf_counter()
    pending: set[asyncio.Future[object]] = set()
    for post in posts:
        pending.add(asyncio.ensure_future(store.accept(post)))
        if len(pending) >= waiting:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*pending)
    return count / (time.perf_counter() - started)


async def _singles(store: SqliteStore, first: int, clients: int, each: int, *, idempotent: bool) -> float:
    """One row per post from closed-loop clients; return posts per second."""

    async def client(number: int) -> None:
        for row in _rows(first + number * each, each, idempotent=idempotent):
            await store.accept([row])

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return clients * each / (time.perf_counter() - started)


async def _cycles(store: SqliteStore, items: int, times: int) -> tuple[list[float], list[float]]:
    """Claim and settle batches; return the seconds of each."""
    claims: list[float] = []
    settles: list[float] = []
    for turn in range(times):
        started = time.perf_counter()
        batch = await store.claim(ClaimRequest("shop-a", "", items, 1 << 24, 2, 1, 0.0, turn))
        claims.append(time.perf_counter() - started)
        assert isinstance(batch, Batch)
        result = AttemptResult(Outcome.OK, store.clock.now(), 0.01, 200)
        seqs = [item.seq for item in batch.items]
        started = time.perf_counter()
        await store.settle(Settlement(batch.number, batch.attempt_id, "shop-a", result, delivered=seqs))
        settles.append(time.perf_counter() - started)
    return claims, settles


async def _idle_claim(store: SqliteStore) -> float:
    started = time.perf_counter()
    for _ in range(200):
        assert isinstance(await store.claim(ClaimRequest("shop-b", "", 100, 1 << 20, 2, 1, 0.0, 0)), WaitUntil)
    return (time.perf_counter() - started) / 200


async def _busy_commits(store: SqliteStore, first: int) -> list[float]:
    """Accept groups of 500 while the loop always has something ready; return the seconds of each."""
    stop = False

    def spin() -> None:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        if not stop:
            asyncio.get_running_loop().call_soon(spin)

    asyncio.get_running_loop().call_soon(spin)
    seconds = []
    for number in range(20):
        rows = _rows(first + number * 500, 500)
        started = time.perf_counter()
        await store.accept(rows)
        seconds.append(time.perf_counter() - started)
    stop = True
    return seconds


def _rss_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _ms(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds) * 1e3:.2f} ms, worst {max(seconds) * 1e3:.2f} ms"


async def _main(directory: Path, pending: int) -> None:
    path = directory / "bench.db"
    print(f"resident before {_rss_mb():.0f} MB")
    store = await SqliteStore.open(path)
    await store.configure(StoreRules())
    number = 0
    for size, count, waiting in ((500, 20_000, 4), (2000, 40_000, 4), (5000, 50_000, 3)):
        rate = await _accept(store, number, count, size, waiting)
        number += count
        print(f"accept, posts of {size}: {rate:,.0f} callbacks/s ({1e6 / rate:.1f} us each)")
    for idempotent in (False, True):
        rate = await _singles(store, number, 64, 150, idempotent=idempotent)
        number += 64 * 150
        print(f"accept, 64 clients, one each{', with idempotency key' if idempotent else ''}: {rate:,.0f} posts/s")
    print(f"accept 500 beside a busy loop: {_ms(await _busy_commits(store, number))}")
    number += 10_000
    while number < pending:
        await _accept(store, number, min(50_000, pending - number), 5000, 2)
        number += min(50_000, pending - number)
    totals = await store.totals()
    print(f"pending {totals['shop-a'].pending:,}, resident {_rss_mb():.0f} MB")
    for items in (100, 500):
        claims, settles = await _cycles(store, items, 40)
        each = (statistics.median(claims) + statistics.median(settles)) / items
        print(f"batches of {items}: claim {_ms(claims)}; settle {_ms(settles)}; {each * 1e6:.1f} us per callback")
    print(f"claim with nothing due: {await _idle_claim(store) * 1e6:.0f} us")
    started = time.perf_counter()
    await store.totals()
    print(f"totals: {(time.perf_counter() - started) * 1e3:.1f} ms")
    print(f"resident {_rss_mb():.0f} MB, {(await store.size()).used_bytes / 1e6:.0f} MB used")
    await store.close()
    started = time.perf_counter()
    store = await SqliteStore.open(path)
    print(f"open: {(time.perf_counter() - started) * 1e3:.0f} ms")
    await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=200_000)
    parser.add_argument("--directory", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as made:
        asyncio.run(_main(Path(made), arguments.pending))
