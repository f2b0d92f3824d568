"""Opens the store that several hosts share on a server."""

import socket

from relay.config.reading.server_urls import ServerUrl
from relay.config.schema.file import Config
from relay.core.errors import StoreAway
from relay.hosts.wiring import HostWiring
from relay.sealing.master_keys import KeySource
from relay.store.base import Store
from relay.store.redis.backend import RedisStore
from relay.store.redis.opening import make_store, reach
from relay.store.redis.server.cluster import link_to
from relay.store.redis.server.examine import ServerFacts, examine
from relay.store.redis.server.link import Durable
from relay.store.redis.spool.spool_file import SpoolFile
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.store.sqlite.moved.history_file import SqliteHistoryFile
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics


async def open_shared(
    config: Config, server: ServerUrl, events: Events | None, *, alone: bool = True, source: KeySource | None = None
) -> RedisStore:
    """Open the store, sealed where ``source`` gives keys; while its server is away, posts go to the spool.

    Raises ``StoreUnusable`` and ``KeysUnavailable``.
    """
    settings = config.store.durability
    durable = Durable(settings.aof, settings.replicas, settings.timeout)
    host = config.host or socket.gethostname()
    spool = SpoolFile(config.store_path, host=host, max_bytes=config.store.spool.max_size, keys=source)
    store = make_store(
        server, prefix=config.store.prefix, durable=durable, events=events, alone=alone, spool=spool, source=source
    )
    try:
        if config.store.keep.history is not None:
            path, clock = config.history_path, store.clock
            await store.keep_history(
                lambda keys: SqliteHistoryFile.open_history(path, host=host, clock=clock, keys=keys)
            )
        await reach(store)
    except StoreAway:
        assert isinstance(store, SpoolingStore)
        store.begin_away()
    except BaseException:  # whatever it was: what stays open would hide it when the loop is closed
        await store.close()
        raise
    return store


def share(config: Config, store: Store, *, version: str, events: Events, metrics: Metrics) -> HostWiring:
    """Return this host's part in sharing ``store``, which ``open_shared`` opened."""
    assert isinstance(store, SpoolingStore)
    return HostWiring(config, store, version=version, events=events, metrics=metrics)


async def examined(config: Config) -> ServerFacts:
    """Return what the server of a configuration is like, and what is wrong with it. Raises ``StoreError``."""
    assert config.server is not None
    settings = config.store.durability
    durable = Durable(settings.aof, settings.replicas, settings.timeout)
    link = link_to(config.server, durable)
    try:
        return await examine(link, durable)
    finally:
        await link.close()
