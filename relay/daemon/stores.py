"""Opens the store a configuration names; the only place, with the simulator, that knows the backends."""

from relay.config.schema import Config
from relay.core.errors import StoreUnusable
from relay.store.base import Store
from relay.store.sqlite.reader import SqliteReader
from relay.store.sqlite.store import SqliteStore
from relay.telemetry.events import Events


async def open_store(config: Config, events: Events) -> Store:
    """Open the store for the one daemon that may write to it. Raises ``StoreLocked`` and ``StoreUnusable``."""
    _check_scheme(config)
    return await SqliteStore.open(
        config.store_path,
        max_size_bytes=config.store.max_size,
        committed=lambda seconds, rows: events.store_committed(seconds=seconds, rows=rows),
        failed=lambda error: events.store_failed(error=error),
        recovered=lambda seconds: events.store_recovered(seconds=seconds),
    )


def open_reader(config: Config) -> SqliteReader:
    """Open the store for reading while no daemon runs. Raises ``StoreUnusable`` when there is none."""
    _check_scheme(config)
    return SqliteReader.open(config.store_path)


def _check_scheme(config: Config) -> None:
    if not config.store.url.startswith("sqlite:"):
        scheme = config.store.url.partition(":")[0]
        raise StoreUnusable(f"store.url: {scheme}: stores come with a later version; use sqlite:relay.db")
