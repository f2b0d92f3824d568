"""The reading thread: each read runs there, so that it sees the last commit and holds up neither loop nor writer."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import apsw

from relay.core.errors import StoreDamaged, StoreFailed
from relay.store.sqlite.file.checksums import as_damaged
from relay.store.sqlite.read.ledger import SqliteReader

T = TypeVar("T")


class Reads(Protocol):
    """Runs a function of the reader in the reading thread."""

    def __call__(self, read: Callable[[SqliteReader], T]) -> Awaitable[T]:
        """Return what ``read`` returns. Raises ``StoreFailed``."""


class ReadingThread:
    """Runs functions of one reader, one after the other."""

    def __init__(self, reader: SqliteReader, name: str, *, damaged: Callable[[StoreDamaged], object]) -> None:
        """``damaged`` is told of each read that met damage."""
        self._reader = reader
        self._damaged = damaged
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-reader {name}")

    async def __call__(self, read: Callable[[SqliteReader], T]) -> T:
        """Return what ``read`` returns. Raises ``StoreFailed``, and ``StoreDamaged`` where it met a damaged page."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _guarded, read, self._reader)
        except StoreDamaged as error:
            self._damaged(error)
            raise

    async def close(self) -> None:
        """Close the reader and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)
        self._thread.shutdown(wait=False)


def _guarded(read: Callable[[SqliteReader], T], reader: SqliteReader) -> T:
    try:
        return read(reader)
    except (
        apsw.IOError,
        apsw.CorruptError,
        apsw.CantOpenError,
        apsw.BusyError,
        apsw.NotADBError,
        apsw.SQLError,
    ) as error:
        if damaged := as_damaged(error):
            raise damaged from error
        if isinstance(error, apsw.SQLError):
            raise
        raise StoreFailed(f"the store cannot be read ({error})") from error
