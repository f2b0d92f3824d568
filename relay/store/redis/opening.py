"""Opens the shared store: reaches the server, examines it, and takes its clock."""

from relay.config.reading.server_urls import ServerUrl
from relay.core.clock import RelayClock, boottime_s, wall_s
from relay.sealing.master_keys import KeySource
from relay.store.base import StoreEvents
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.cluster import link_to
from relay.store.redis.server.copied import refuse_half
from relay.store.redis.server.examine import ServerFacts, fit, take_prefix
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable
from relay.store.redis.spool.spool_file import SpoolFile
from relay.store.redis.spool.spooling_store import SpoolingStore


def make_store(
    server: ServerUrl,
    *,
    prefix: str,
    durable: Durable,
    events: StoreEvents | None = None,
    alone: bool = True,
    spool: SpoolFile | None = None,
    source: KeySource | None = None,
) -> RedisStore:
    """Return the store on a server that has not been reached yet; ``reach`` makes it usable."""
    clock = RelayClock(wall_s() - boottime_s())
    link = link_to(server, durable)
    keys = KeyNames(prefix)
    if spool is None:
        return RedisStore(link, keys, clock, events=events, alone=alone, source=source)
    store = SpoolingStore(link, keys, clock, spool, events=events, alone=alone, source=source)

    async def again() -> None:
        await reach(store)

    store.reach = again
    return store


async def reach(store: RedisStore) -> ServerFacts:
    """Reach the server and make the store usable.

    Raises ``StoreAway`` while it cannot be reached, and ``StoreUnusable`` with all that is wrong with it.
    """
    facts = await fit(store.link)
    await refuse_half(store.link, store.keys)
    await take_prefix(store.link, store.keys)
    clock = store.clock
    if isinstance(clock, RelayClock):
        clock.offset_s = await _server_offset_s(store)
    await store.begin(flags=facts.flags)
    return facts


async def _server_offset_s(store: RedisStore) -> float:
    """Return what to add to boot time to get the server's time: hosts whose clocks differ share it.

    It never lies before the newest time in the store: a new primary's clock may be behind.
    """
    before = boottime_s()
    seconds, microseconds = await store.link.do("TIME")
    middle = (before + boottime_s()) / 2
    now = float(seconds) + float(microseconds) / 1e6
    return max(now, await store.newest_time()) - middle
