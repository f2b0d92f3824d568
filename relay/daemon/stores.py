"""Opens the store of a configuration. Only this module and the simulator know the backends."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relay.config.schema.file import Config
from relay.config.schema.protection.privacy import VaultKey
from relay.core.clock import Clock
from relay.core.errors import StoreUnusable
from relay.delivery.tokenstore import FileTokens, MemoryTokens, TokenStore
from relay.sealing.master_keys import GivenKeys, KeySource
from relay.store.base import Store
from relay.store.memory.backend import MemoryStore
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.foreign.restored import lies_on_old_wal as sqlite_lies_on_old_wal
from relay.store.sqlite.read.ledger import SqliteReader
from relay.store.sqlite.read.ledger import open_reader as open_sqlite_reader

if TYPE_CHECKING:
    from relay.telemetry.events import Events


async def open_store(config: Config, events: "Events | None") -> Store:
    """Open the store for the one process that may write to it; ``events`` is told what happens to it.

    Raises ``StoreLocked``, ``StoreUnusable`` and ``KeysUnavailable``.
    """
    if config.server is not None:
        from relay.daemon.shared_store import open_shared  # the server's client is loaded only where it is configured

        return await open_shared(config, config.server, events, alone=False, source=key_source(config))
    return await SqliteStore.open(config.store_path, events=events, keys=key_source(config))


def shown_store(config: Config) -> str:
    """Return the store's URL as it may be logged: without a password."""
    return config.store.url if config.server is None else config.server.shown


def key_source(config: Config) -> KeySource | None:
    """Return where the keys come from that the store is sealed with; None: it is not."""
    encrypt = config.privacy.encrypt
    if encrypt is None:
        return None
    if isinstance(encrypt.key, VaultKey):
        from relay.sealing.vault import VaultTransit

        return VaultTransit(encrypt.key.url, encrypt.key.path, encrypt.key.token, previous=encrypt.previous)
    return GivenKeys(encrypt.key, encrypt.previous)


def given_keys(texts: Sequence[str]) -> KeySource | None:
    """Return keys as the configuration writes them, the one in force first; None if there is none or one is no key."""
    try:
        keys = [base64.b64decode(text.strip(), validate=True) for text in texts]
        return GivenKeys(keys[0], keys[1:]) if keys else None
    except ValueError:  # the file is being edited
        return None


def open_queue(clock: Clock) -> Store:
    """Open a store in memory, for messages that must leave while the other store fails."""
    return MemoryStore(clock=clock)


def open_reader(url: str, keys: KeySource | None = None) -> SqliteReader:
    """Open the store at ``url`` (its path absolute) for reading while no daemon runs. Raises ``StoreUnusable``.

    ``keys`` open what is sealed; without them it is shown as sealed.
    """
    _check_scheme(url)
    return open_sqlite_reader(Path(url.removeprefix("sqlite:")), passing=True, keys=keys)


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
        raise StoreUnusable(
            f"the store is on a server ({scheme}:), which only a running relay reads; ask one with --url, or start it"
        )
