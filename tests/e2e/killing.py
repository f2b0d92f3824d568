"""Load while something is killed again and again, and the judgement at the end: every promise must have held."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from relay.core.model import Rate
from tests.e2e.checker import Evidence, check
from tests.e2e.harness import Bench, order_callback

RATE = Rate(30, 2.0)
PLATFORM = {
    "rate": str(RATE),
    "concurrency": 4,
    "key": "order_id",
    "batch": {"max_items": 50},
    "retry": {"times": 20, "backoff": "50ms..500ms"},
}
SANDBOX = ["--limit", str(RATE), "--fault", "apply-then-reset:0.03", "--fault", "500:0.03"]
_KEYS_PER_WORKER = 20
_PAUSE_S = 0.02  # between the posts of one worker: load, but one that a rate of 15 batches a second carries


@dataclass
class Load:
    """Workers that post on keys of their own. ``sizes`` of posts are drawn from; ``walks_away`` is a share of posts
    whose unclear end is left so, the others are repeated until they are accepted.
    """

    run: Bench
    seed: int
    workers: int
    sizes: Sequence[int]
    walks_away: float = 0.0

    async def work(self, worker: int, stop: asyncio.Event) -> None:
        """Post until told to stop."""
        rng = random.Random(f"{self.seed}-{worker}")
        count = 0
        while not stop.is_set():
            rows: list[tuple[str | None, bytes]] = []
            for _ in range(rng.choice(self.sizes)):
                key = f"order-{worker}-{rng.randrange(_KEYS_PER_WORKER)}"
                rows.append((key, order_callback(key, count, rng)))
                count += 1
            await self.run.post(rows, retry=rng.random() >= self.walks_away)
            await asyncio.sleep(_PAUSE_S)


@contextlib.asynccontextmanager
async def under(load: Load) -> AsyncIterator[None]:
    """Keep the load up and watch the ledger; at the end the daemon is there again and everything is delivered."""
    run, stop = load.run, asyncio.Event()
    work = [asyncio.create_task(load.work(worker, stop)) for worker in range(load.workers)]
    ledger = asyncio.create_task(run.watch_ledger())
    yield
    await run.ready()
    stop.set()
    await asyncio.wait_for(asyncio.gather(*work), 60)
    await run.drained(timeout_s=120)
    ledger.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ledger


async def judged(run: Bench) -> Evidence:
    """Return what everyone wrote down, after the checker found nothing wrong in it."""
    figures = await run.stats()
    evidence = await run.evidence(rates=[RATE], max_items=50)
    assert check(evidence) == {}
    assert figures["rejected"] == 0
    total = run.ledgers[-1]["total"]
    assert figures["distinct"] == total["delivered"] == total["accepted"] - total["superseded"]
    return evidence
