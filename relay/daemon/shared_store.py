"""Opens the store that several hosts share on a server."""

from relay.config.reading.server_urls import ServerUrl
from relay.config.schema.file import Config
from relay.hosts.wiring import HostWiring
from relay.store.base import Store
from relay.store.redis.backend import RedisStore
from relay.store.redis.opening import make_store, reach
from relay.store.redis.server.link import Durable
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics


async def open_shared(config: Config, server: ServerUrl, events: Events | None, *, alone: bool = True) -> RedisStore:
    """Reach the server and open the store. Raises ``StoreAway`` and ``StoreUnusable``."""
    settings = config.store.durability
    durable = Durable(settings.aof, settings.replicas, settings.timeout)
    store = make_store(server, prefix=config.store.prefix, durable=durable, events=events, alone=alone)
    await reach(store)
    return store


def share(config: Config, store: Store, *, version: str, events: Events, metrics: Metrics) -> HostWiring:
    """Return this host's part in sharing ``store``, which ``open_shared`` opened."""
    assert isinstance(store, RedisStore)
    return HostWiring(config, store, version=version, events=events, metrics=metrics)
