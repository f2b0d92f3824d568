"""A host with a spool on a real server, for tests of what is accepted while the server comes and goes."""

import asyncio
from contextlib import suppress
from pathlib import Path

from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import StoreAway
from relay.core.model import StoreRules
from relay.sealing.master_keys import KeySource
from relay.store.redis.opening import reach
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink
from relay.store.redis.spool.spool_file import SpoolFile
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.store.sqlite.moved.history_file import SqliteHistoryFile
from tests.clocks import FakeClock
from tests.store.harness import rules
from tests.store.valkey import ValkeyServer


class Host:
    """One host with a spool of its own, on a server that tests end and start."""

    def __init__(
        self, server: ValkeyServer, directory: Path, prefix: str, *, name: str = "edge-1", keys: KeySource | None = None
    ) -> None:
        self.clock = FakeClock()
        self.keys = keys
        self._server = server
        self._path = directory / f"{name}.db"
        self._prefix = prefix
        self._name = name
        self.store: SpoolingStore

    @property
    def history_path(self) -> Path:
        """Where its history file lies, if it keeps one."""
        return self._path.with_name(self._path.name + ".history")

    async def start(
        self, *, max_bytes: int = 1 << 20, alone: bool = True, wanted: StoreRules | None = None
    ) -> SpoolingStore:
        """Start it; where ``wanted`` says how long a history is kept, it keeps one."""
        file = SpoolFile(self._path, host=self._name, max_bytes=max_bytes, keys=self.keys)
        link = ServerLink.to(parse_server_url(self._server.url), Durable())
        self.store = store = SpoolingStore(
            link, KeyNames(self._prefix), self.clock, file, alone=alone, source=self.keys
        )
        wanted = wanted or rules("shop", "mall")
        store.reach = lambda: _reached(store)
        try:
            if wanted.keep_history_s is not None:
                place = self.history_path
                await store.keep_history(
                    lambda keys: SqliteHistoryFile.open_history(place, host=self._name, clock=self.clock, keys=keys)
                )
            await reach(store)
        except StoreAway:
            store.begin_away()
        except BaseException:  # what stays open would be in the way of the next start
            await store.close()
            raise
        await store.configure(wanted)
        return store


async def _reached(store: SpoolingStore) -> None:
    await reach(store)


async def gone(store: SpoolingStore) -> None:
    """Wait until the store has seen that its server is away; it answers from the spool then."""
    with suppress(StoreAway):
        await store.link.do("PING")
    async with asyncio.timeout(20):
        while not store._spool.away:
            await store.ping()
            await asyncio.sleep(0.05)


async def drained(store: SpoolingStore) -> None:
    """Wait until nothing waits here."""
    async with asyncio.timeout(20):
        while store.spooled():
            await asyncio.sleep(0.01)
