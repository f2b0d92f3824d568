"""Opens the two stores of a copy by their URLs."""

from collections.abc import Callable
from pathlib import Path

from relay.config.reading.server_urls import parse_server_url
from relay.config.schema.file import Config
from relay.core.clock import RelayClock, boottime_s, wall_s
from relay.core.errors import StoreUnusable
from relay.daemon.stores import key_source
from relay.sealing.master_keys import KeySource
from relay.store.sqlite.transfer.source import SqliteSource
from relay.store.sqlite.transfer.target import SqliteTarget
from relay.store.transfer.copy_run import Copied, CopySource, CopyTarget, copy_store

_FILE = "sqlite:"


async def copy_between(
    source_url: str, target_url: str, config: Config | None, *, resume: bool, told: Callable[[str, str, int], None]
) -> Copied:
    """Copy the store at ``source_url`` into the one at ``target_url``.

    Of ``config`` are the key that both are sealed with, and prefix and durability of a store on a server. Raises
    ``StoreError`` and ``KeysUnavailable``.
    """
    keys = None if config is None else key_source(config)
    source = await _source(source_url, config, keys)
    try:
        target = await _target(target_url, config, keys)
        try:
            return await copy_store(source, target, resume=resume, told=told)
        finally:
            await target.close()
    finally:
        await source.close()


async def _source(url: str, config: Config | None, keys: KeySource | None) -> CopySource:
    if url.startswith(_FILE):
        return await SqliteSource.open(Path(url.removeprefix(_FILE)), keys)
    from relay.store.redis.opening import make_store, reach  # the server's client is loaded only where it is named
    from relay.store.redis.sealed.data_keys import SharedDataKeys
    from relay.store.redis.server.copied import refuse_nothing
    from relay.store.redis.server.link import Durable
    from relay.store.redis.server.tags import PlatformTags
    from relay.store.redis.spool.closed_spool import left_in
    from relay.store.redis.transfer.source import RedisSource

    if config is not None and config.server is not None and (waiting := left_in(config.store_path)):
        raise StoreUnusable(
            f"the spool of this host ({config.store_path}) holds {waiting} posts: start the host, see with "
            "`relay hosts` that nothing is spooled, and stop it"
        )
    # Nothing is written to a source, so nothing is waited for; what a host left half done stays so (``alone``).
    durable = Durable(aof=False)
    store = make_store(parse_server_url(url), prefix=_prefix(config), durable=durable, alone=False, source=keys)
    try:
        await refuse_nothing(store.link, store.keys)
        await reach(store)
        tags = PlatformTags(store.link, store.keys)
        return await RedisSource.open(store, SharedDataKeys(store.link, store.keys, tags, keys), tags)
    except BaseException:  # whatever it was: let go of the server, then raised on
        await store.close()
        raise


async def _target(url: str, config: Config | None, keys: KeySource | None) -> CopyTarget:
    if url.startswith(_FILE):
        return await SqliteTarget.open(Path(url.removeprefix(_FILE)), keys)
    from relay.store.redis.sealed.data_keys import SharedDataKeys
    from relay.store.redis.server.cluster import link_to
    from relay.store.redis.server.examine import fit
    from relay.store.redis.server.keys import KeyNames
    from relay.store.redis.server.link import Durable
    from relay.store.redis.server.tags import PlatformTags
    from relay.store.redis.transfer.target import RedisTarget

    durable = Durable()
    if config is not None:
        asked = config.store.durability
        durable = Durable(asked.aof, asked.replicas, asked.timeout)
    link, names = link_to(parse_server_url(url), durable), KeyNames(_prefix(config))
    tags = PlatformTags(link, names)
    try:
        await fit(link)
    except BaseException:  # as above
        await link.close()
        raise
    clock = RelayClock(wall_s() - boottime_s())
    return RedisTarget(link, names, SharedDataKeys(link, names, tags, keys), tags, clock)


def _prefix(config: Config | None) -> str:
    return "relay" if config is None else config.store.prefix
