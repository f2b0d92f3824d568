"""The SQLite store keeps the promises of every backend, and of those that outlive their process."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from relay.core.model import StoreRules
from relay.sealing.master_keys import GivenKeys, KeySource
from relay.store.base import Store
from relay.store.sqlite.backend import SqliteStore
from tests.clocks import FakeClock
from tests.store.conformance import (
    Conformance,
    DurabilityConformance,
)
from tests.store.forgetting import ForgettingConformance


class SqliteHarness:
    def __init__(self, directory: Path, keys: KeySource | None = None) -> None:
        self.clock = FakeClock()
        self._keys = keys
        self._directory = directory
        self._opened: list[SqliteStore] = []
        self._path = directory / "relay.db"

    async def open(self, in_force: StoreRules) -> Store:
        store = await SqliteStore.open(self._path, clock=self.clock, keys=self._keys)
        self._opened.append(store)
        await store.configure(in_force)
        return store

    async def reopen(self, in_force: StoreRules) -> Store:
        # What lies on disk between two commits is what a killed process leaves: the file and its WAL, never closed.
        image = self._directory / f"image{len(self._opened)}.db"
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self._path}{suffix}", f"{image}{suffix}")
        self._path = image
        return await self.open(in_force)

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[SqliteHarness]:
    """A SQLite store on a clock that tests move."""
    made = SqliteHarness(tmp_path)
    yield made
    await made.close()


class TestSqlite(
    Conformance,
    DurabilityConformance,
    ForgettingConformance,
):
    pass


class TestSealedSqlite(
    Conformance,
    DurabilityConformance,
    ForgettingConformance,
):
    """The same with everything sealed."""

    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[SqliteHarness]:
        """A sealed SQLite store on a clock that tests move."""
        made = SqliteHarness(tmp_path, GivenKeys(b"k" * 32))
        yield made
        await made.close()
