"""The file's keys: taken over, rotated, told of; and the steps of sealing what was there before."""

import asyncio
from functools import partial

from relay.core.errors import NotSealed
from relay.core.raw import Record
from relay.sealing.master_keys import KeySource
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.trail import keep_deed
from relay.store.sqlite.file.transaction import Transaction, Writes
from relay.store.sqlite.file.unlocking import Unlocked, rewrap, switch_on, take_over
from relay.store.sqlite.keeping.seal_rows import SealsRows
from relay.store.sqlite.read.ledger import SqliteReader
from relay.store.sqlite.read.own_thread import Reads
from relay.views.sealing_view import KeysRotated, KeysView


class SqliteSealing:
    """Implements ``relay.store.sealing.Sealing``."""

    def __init__(
        self,
        *,
        seals: Seals,
        rows: SealsRows,
        source: KeySource | None,
        write: Writes,
        read: Reads,
    ) -> None:
        self._seals = seals
        self._rows = rows
        self._source = source
        self._write = write
        self._read = read
        self._changing = asyncio.Lock()  # from what is kept of the keys to what is written of them

    async def status(self) -> KeysView:
        """Return which keys there are, and how much is still in plain."""
        found: KeysView = await self._read(SqliteReader.keys)
        return found

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records."""
        return self._seals.mark(key)

    async def step(self) -> bool:
        """Seal a few of the callbacks that lie there in plain, or wipe; return whether to go on."""
        more: bool = await self._write(self._rows.step)
        return more

    async def use(self, source: KeySource | None) -> None:
        """Take over the keys of another configuration."""
        async with self._changing:
            if source is None and self._seals.codec is None:
                return
            kept = await self._read(SqliteReader.kept_key)
            found = None if source is None else Unlocked(*await asyncio.to_thread(source.keys, kept))
            await self._write(partial(self._take, found))
            self._source = source

    def _take(self, found: Unlocked | None, transaction: Transaction) -> None:
        if self._seals.codec is None and found is not None:
            switch_on(transaction, self._seals, found)
        else:
            take_over(transaction, self._seals, found)

    async def rotate(self, *, deed: Record | None = None) -> KeysRotated:
        """Wrap all data keys with the key in force; where a service keeps that, with a new one."""
        async with self._changing:
            codec = self._seals.codec
            if codec is None or self._source is None:
                raise NotSealed("the store is not sealed: there is no privacy.encrypt.key")
            masters, keep = codec.masters, None
            if self._source.renews:
                made, keep = await asyncio.to_thread(self._source.keys, None)
                masters = codec.masters.followed_by(made.current)
            rotated: KeysRotated = await self._write(partial(self._rotate, Unlocked(masters, keep), deed))
            return rotated

    def _rotate(self, found: Unlocked, deed: Record | None, transaction: Transaction) -> KeysRotated:
        take_over(transaction, self._seals, found)
        count = rewrap(transaction, self._seals, found.masters)
        keep_deed(transaction, deed)
        return KeysRotated(key=found.masters.current.id, data_keys=count)
