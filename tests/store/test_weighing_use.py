"""How much of a window is used by batches of mixed size, and that it is never exceeded."""

import random

import pytest
from relay.core.model import Batch, Rate
from relay.store.memory.backend import MemoryStore
from tests.clocks import FakeClock
from tests.store.harness import deliver, note, post, request
from tests.store.weighing import counting


@pytest.mark.parametrize("seed", range(1))
async def test_mixed_batches_use_the_window_up(seed: int) -> None:
    """Batches of 1 to 500 under ``6000/min`` use at least 97 % of it over ten minutes, and never more in any."""
    rng, clock = random.Random(seed), FakeClock()
    store = MemoryStore(clock=clock)
    await store.configure(counting(Rate(6000, 60.0, "items")))
    began = clock.now()
    row = note(b"1")
    await post(store, *[row] * 66_000)
    sent: list[tuple[float, int]] = []
    size = rng.randint(1, 500)
    while clock.now() < began + 600.0:
        claimed = await store.claim(request(max_items=size))
        if isinstance(claimed, Batch):
            sent.append((clock.now(), len(claimed.items)))
            size = rng.randint(1, 500)
            clock.advance(rng.uniform(0.05, 0.2))
            await deliver(store, claimed, clock)
        else:
            clock.advance(max(0.001, claimed.at - clock.now()))
    steady = [count for at, count in sent if began + 60.0 <= at]
    assert sum(steady) >= 0.97 * 6000 * 9
    first = 0
    held = 0
    for at, count in sent:
        held += count
        while sent[first][0] <= at - 60.0:
            held -= sent[first][1]
            first += 1
        assert held <= 6000
