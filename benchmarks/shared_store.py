"""What the shared store costs its server: memory for each pending callback, and the time of scripts while many wait.

python -m benchmarks.shared_store 200000
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from relay.config.reading.server_urls import parse_server_url
from relay.core.model import Batch, ClaimRequest, NewCallback, Outcome, PlatformRules, StoreRules
from relay.core.settlement import AttemptResult, Settlement
from relay.store.redis.backend import RedisStore
from relay.store.redis.opening import make_store, reach
from relay.store.redis.server.link import Durable
from tests.store.valkey import ValkeyServer

_BODY = 400
_BULK = 20_000
_SLOW_US = 5000


def _callbacks(first: int, count: int, *, keyed: bool) -> list[NewCallback]:
    return [
        NewCallback(
            "shop", b"%08d" % n + b"x" * (_BODY - 8), f"order-{n}" if keyed else None, "order.paid", 1, 86400.0,
            f"k{n}", "application/json", None, "",
        )
        for n in range(first, first + count)
    ]  # fmt: skip


async def _claimed(store: RedisStore, items: int) -> tuple[Batch, float]:
    began = time.perf_counter()
    batch = await store.claim(ClaimRequest("shop", "", items, 1 << 30, 2, 1, 0.0, 1))
    took = time.perf_counter() - began
    assert isinstance(batch, Batch), batch
    return batch, took


async def _settled(store: RedisStore, batch: Batch) -> float:
    result = AttemptResult(Outcome.OK, store.clock.now(), 0.01, 200)
    began = time.perf_counter()
    await store.settle(
        Settlement(batch.number, batch.attempt_id, "shop", result, delivered=[item.seq for item in batch.items])
    )
    return time.perf_counter() - began


async def _slowest(store: RedisStore) -> list[tuple[int, str]]:
    found: Any = await store.link.do("SLOWLOG", "GET", "20")
    return [(int(each[2]), str(each[3][:3])) for each in found]


async def main(count: int) -> None:
    """Fill a server and measure."""
    with tempfile.TemporaryDirectory() as directory:
        server = ValkeyServer(Path(directory), **{"slowlog-log-slower-than": str(_SLOW_US)})
        server.start()
        try:
            store = make_store(parse_server_url(server.url), prefix="relay", durable=Durable())
            await reach(store)
            await store.configure(StoreRules(platforms={"shop": PlatformRules()}))
            before = int((await store.link.info("memory"))["used_memory"])
            began = time.perf_counter()
            for first in range(0, count, _BULK):
                await store.accept(_callbacks(first, min(_BULK, count - first), keyed=True))
            took = time.perf_counter() - began
            used = int((await store.link.info("memory"))["used_memory"]) - before
            print(f"bulk accept: {count / took:,.0f} callbacks/s; {used / count:,.0f} B of server memory for each")
            began = time.perf_counter()
            posts = [_callbacks(10_000_000 + n, 1, keyed=True) for n in range(5000)]
            await asyncio.gather(*(store.accept(post) for post in posts))
            print(f"single accept, all at once: {len(posts) / (time.perf_counter() - began):,.0f} posts/s")
            await store.link.do("CONFIG", "RESETSTAT")
            for items in (100, 500):
                claims, settles = [], []
                for _ in range(10):
                    batch, took = await _claimed(store, items)
                    claims.append(took)
                    settles.append(await _settled(store, batch))
                print(
                    f"{items} items with {count:,} pending: claim {sorted(claims)[5] * 1e3:.1f} ms, "
                    f"settle {sorted(settles)[5] * 1e3:.1f} ms (median of 10, with round trips and fsync)"
                )
                stats = await store.link.info("commandstats")
                print("   scripts:", stats.get("cmdstat_evalsha"))
                await store.link.do("CONFIG", "RESETSTAT")
            slow = await _slowest(store)
            print(f"commands above {_SLOW_US / 1000:g} ms: {len(slow)}", slow[:5])
            await store.close()
        finally:
            server.kill()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
