"""What goes wrong in the long form, one thing after the other; a seed says what, at whom and when."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from relay.core.clock import boottime_s
from tests.e2e.harness import until
from tests.hosts.fleet import PLATFORMS, RATE, WINDOW_S, Fleet

FROZEN_S = 30.0
_LOWER = 12  # requests in a window, of each platform, between two rolls
_SEEN_S = 0.5  # what was sent just before the lower rate was in force has arrived by then

Trouble = Callable[[Fleet, random.Random], Awaitable[None]]


async def any_of_three(run: Fleet, rng: random.Random) -> None:
    """A host is killed, or the store; or a host is frozen for 30 s."""
    what = rng.random()
    if what < 0.6:
        await _killed(run, rng, rng.choice(run.names))
    elif what < 0.9:
        await asyncio.to_thread(run.valkey.restart)
    else:
        await _frozen(run, rng.choice(run.names))


async def frozen_owner(run: Fleet, rng: random.Random) -> None:
    """A host that owns something is frozen for 30 s: longer than its leases last."""
    owners = [await run.owner(platform, rng.choice(run.names)) for platform in rng.sample(PLATFORMS, len(PLATFORMS))]
    await _frozen(run, next((owner for owner in owners if owner is not None), run.names[0]))


async def rolled_rate(run: Fleet, rng: random.Random) -> None:
    """A lower rate is rolled over the hosts, and then the former one; some hosts are killed meanwhile."""
    await _roll(run, rng, _LOWER)
    since = boottime_s() + _SEEN_S
    await asyncio.sleep(rng.uniform(3, 6))  # the load goes on under it
    run.sink.lowered.append((since, boottime_s(), _LOWER))
    await _roll(run, rng, RATE)


async def _killed(run: Fleet, rng: random.Random, name: str) -> None:
    await run.kill(name)
    await asyncio.sleep(rng.uniform(0, 3))
    await run.start(name)


async def _frozen(run: Fleet, name: str) -> None:
    run.freeze(name, frozen=True)
    await asyncio.sleep(FROZEN_S)
    run.freeze(name, frozen=False)


async def _roll(run: Fleet, rng: random.Random, rate: int) -> None:
    """Give each host another rate, one after the other; return when all agree and everything is owned again."""
    before = (await run.page(run.names[0]))["digest"]
    for name in rng.sample(run.names, len(run.names)):
        run.write(name, rate=f"{rate}/{WINDOW_S:g}s")
        if rng.random() < 0.3:
            await _killed(run, rng, name)
        await run.ready(name)
        await run.reload(name)
        await asyncio.sleep(rng.uniform(0, 3))

    async def agree() -> bool:
        page = await run.page(run.names[0])
        digests = {host["digest"] if host["state"] != "gone" else "" for host in page["items"]}
        return digests == {page["digest"]} != {before}

    await until(agree, timeout_s=60, what="one file")
    await until(lambda: run.all_owned(run.names[0]), timeout_s=60, what="owners under the rolled file")
