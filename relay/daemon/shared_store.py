"""Opens the store that several hosts share on a server."""

from relay.config.reading.server_urls import ServerUrl
from relay.config.schema.file import Config
from relay.store.base import Store
from relay.store.redis.opening import make_store, reach
from relay.store.redis.server.link import Durable
from relay.telemetry.events import Events


async def open_shared(config: Config, server: ServerUrl, events: Events) -> Store:
    """Reach the server and open the store. Raises ``StoreAway`` and ``StoreUnusable``."""
    settings = config.store.durability
    durable = Durable(settings.aof, settings.replicas, settings.timeout)
    store = make_store(server, prefix=config.store.prefix, durable=durable, events=events)
    await reach(store)
    return store
