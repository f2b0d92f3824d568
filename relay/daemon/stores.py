"""Opens the store of a configuration. Only this module and the simulator know the backends."""

from pathlib import Path

from relay.config.schema.file import Config
from relay.core.clock import Clock
from relay.core.errors import StoreUnusable
from relay.delivery.tokenstore import FileTokens, MemoryTokens, TokenStore
from relay.store.base import Store
from relay.store.memory.backend import MemoryStore
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.restored import lies_on_old_wal as sqlite_lies_on_old_wal
from relay.store.sqlite.read.ledger import SqliteReader
from relay.store.sqlite.read.ledger import open_reader as open_sqlite_reader
from relay.telemetry.events import Events


async def open_store(config: Config, events: Events) -> Store:
    """Open the store for the one daemon that may write to it. Raises ``StoreLocked`` and ``StoreUnusable``."""
    _check_scheme(config.store.url)
    return await SqliteStore.open(config.store_path, events=events)


def open_queue(clock: Clock) -> Store:
    """Open a store in memory, for messages that must leave while the other store fails."""
    return MemoryStore(clock=clock)


def open_reader(url: str) -> SqliteReader:
    """Open the store at ``url`` (its path absolute) for reading while no daemon runs. Raises ``StoreUnusable``."""
    _check_scheme(url)
    return open_sqlite_reader(Path(url.removeprefix("sqlite:")), passing=True)


def lies_on_old_wal(url: str) -> bool:
    """Return whether a store was restored over the side files of another one. Call it while no daemon runs."""
    return sqlite_lies_on_old_wal(Path(url.removeprefix("sqlite:")))


def open_tokens(config: Config) -> TokenStore:
    """Open the place for tokens: a file beside the store if there is a key for it, else memory.

    Raises ``TokensNotKept``.
    """
    key = config.store.token_key
    return MemoryTokens() if key is None else FileTokens(config.token_path, key=key)


def _check_scheme(url: str) -> None:
    if not url.startswith("sqlite:"):
        scheme = url.partition(":")[0]
        raise StoreUnusable(f"store.url: {scheme}: stores come with a later version; use sqlite:relay.db")
