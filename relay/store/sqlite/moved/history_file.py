"""The history file of a host: a store file that is only filled, looked at, pruned and forgotten from."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from relay.core.clock import Clock
from relay.core.errors import StoreError, StoreUnusable
from relay.core.model import Filter, StoreRules
from relay.sealing.master_keys import KeySource
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.foreign.copied import keep_way
from relay.store.sqlite.file.transaction import SET_META, Transaction
from relay.store.sqlite.file.unlocking import rewrap
from relay.store.sqlite.moved.given_back import given
from relay.store.sqlite.moved.moved_rows import INDEX, MovedRows, forget_unused, keyed
from relay.store.sqlite.read.ledger import SqliteReader
from relay.store.sqlite.transfer.numbering import Numbering
from relay.store.sqlite.write.apart.around import Around
from relay.store.transfer.hashes import HashWay
from relay.store.transfer.history_file import FinalRows, Given
from relay.views.queue import HistorySize

_FORGOTTEN: Final = "forgotten_to"
_UNSURE: Final = "unsure"
_STEP: Final = 500
_NAME: Final = "store.keep.history"


class SqliteHistoryFile(SqliteStore):
    """Implements ``relay.store.transfer.history_file.HistoryFile``. Made by ``open_history``."""

    host: str
    held: HistorySize
    forgotten_to: int
    unsure: frozenset[str]
    _numbered = False

    @classmethod
    async def open_history(cls, path: Path, *, host: str, clock: Clock, keys: KeySource | None) -> Self:
        """Open or create the file; it is sealed where ``keys`` are given. ``clock`` is that of the store.

        Raises ``StoreLocked``, ``StoreUnusable`` and ``KeysUnavailable``.
        """
        try:
            made = await cls.open(path, clock=clock, keys=keys)
        except StoreError as error:
            raise type(error)(f"{_NAME}: {in_its_words(error)}") from error
        try:
            made.host = host
            made._identity.ids.expect_more()
            await made._read(SqliteReader.expect_more)
            await made._write(lambda transaction: transaction.execute(INDEX))
            made._works.prunes.batches = _prune_unused
            made.forgotten_to = await made._write(_forgotten_to)
            made.unsure = await made._write(_unsure)
            await made._wrap_anew()
            await made._look()
        except BaseException:  # whatever it was: undone, then raised on
            await made.close()
            raise
        return made

    async def belong_to(self, way: HashWay, *, numbered: bool) -> None:
        """Find ordering keys by the hashes of the store on the server."""
        self._numbered = numbered
        if _secret_of(way, self._seals.secret) == _secret_of(self._identity.way, self._seals.secret):
            return

        def begin(transaction: Transaction) -> HashWay:
            if transaction.execute("SELECT EXISTS (SELECT 1 FROM callback)").get:
                raise StoreUnusable(
                    f"{_NAME}: {self._path} holds the history of another store; move it away, and look into it as a "
                    "store of its own, or name another store.spool.path"
                )
            kept = keep_way(transaction.execute, way, self._seals.codec)
            self._seals.save(transaction)
            return kept

        kept = await self._write(begin)
        own = (way.secret if kept.secret is None else None) or self._seals.secret or b""
        self._identity = self._identity._replace(way=kept)
        self._names.hash_as(own, kept)
        self._seals.hash_as(own, kept)

    async def take(self, moved: Sequence[FinalRows]) -> None:
        """Keep final callbacks with their attempts."""
        numbers = [self._names.number(each.platform) for each in moved]

        def write(transaction: Transaction) -> None:
            self._names.save(transaction)
            rows = MovedRows(transaction.execute, self._seals, numbered=self._numbered)
            for number, each in zip(numbers, moved, strict=True):
                rows.take(transaction, number, each.platform, each.callbacks, each.attempts)
            self._seals.save(transaction)
            _note_unsure(transaction, unsure)

        unsure = self.unsure.union(record.id for each in moved for record in each.callbacks)
        await self._write(write)
        self.unsure = unsure
        await self._look()

    async def confirm(self, gone: Collection[str], stays: Collection[str]) -> None:
        """Keep which rows are the last word, and delete those that the server has."""
        if not stays and self.unsure.isdisjoint(gone):
            return
        unsure = self.unsure.difference(gone, stays)

        def write(transaction: Transaction) -> None:
            MovedRows(transaction.execute, self._seals, numbered=self._numbered).leave(transaction, stays)
            _note_unsure(transaction, unsure)

        await self._write(write)
        self.unsure = unsure

    async def given(self, ids: Sequence[str]) -> list[Given]:
        """Return callbacks with their attempts."""
        own_ids, names, unsure = self._identity.ids, self._names.all(), self.unsure
        found = await self._write(lambda transaction: given(transaction.execute, ids, own_ids, names, self._seals))
        return [each._replace(sure=each.callback.id not in unsure) for each in found]

    async def step(self, keep_s: float) -> bool:
        """Delete one step of what ended too long ago, and seal or wipe what is left to."""
        self._works.rules = StoreRules(keep_delivered_s=keep_s, keep_dead_s=keep_s)
        more = await self.prune()
        more = await self.sealing.step() or more
        await self._look()
        return more

    async def forget(self, wanted: Filter, hashes: Mapping[str, str]) -> int:
        """Destroy what callbacks hold of a person; return of how many."""
        if hashes:
            return await self._forget_keys(hashes)
        if wanted.platform is not None and self._names.known(wanted.platform) is None:
            return 0
        started = await self.start_operation("forget", wanted, expect_count=None)
        while started.state == "running":
            started = (await self.step_operation(started.id, _STEP)).progress
        return started.done

    async def _forget_keys(self, hashes: Mapping[str, str]) -> int:
        def erase(transaction: Transaction) -> int:
            rows = MovedRows(transaction.execute, self._seals, numbered=self._numbered)
            seqs = keyed(transaction.execute, [rows.key_number(name, hashed) for name, hashed in hashes.items()])
            for first in range(0, len(seqs), _STEP):
                self._works.forgets.erase(transaction, seqs[first : first + _STEP], lay_dead=True)
            self._works.forgets.finish(transaction, Filter(), None, asked_at=transaction.now)
            return len(seqs)

        return await self._write(erase)

    async def looked_at(self, number: int) -> None:
        """Keep how far the store's operations were looked at."""
        await self._write(lambda transaction: transaction.execute(SET_META, (_FORGOTTEN, number)))
        self.forgotten_to = number

    async def use(self, source: KeySource) -> None:
        """Take over the keys of another configuration."""
        await self.sealing.use(source)
        await self._wrap_anew()

    async def rotate(self) -> None:
        """Wrap the data keys anew."""
        if self._seals.codec is not None:
            await self.sealing.rotate()

    async def _wrap_anew(self) -> None:
        """Wrap the data keys that a former key wraps: it may go then."""
        codec = self._seals.codec
        if codec is None:
            return
        masters = codec.masters
        if any(key.master != masters.current.id for key in codec.kept):
            await self._write(lambda transaction: rewrap(transaction, self._seals, masters))

    async def _look(self) -> None:
        rows = await self._read(SqliteReader.finals)
        self.held = HistorySize(rows, (await self.size()).disk_bytes)


def in_its_words(error: Exception) -> str:
    """Return why the file cannot be used, with the key that says where it lies: beside the spool."""
    return str(error).replace("store.url", "store.spool.path")


def _prune_unused(transaction: Transaction, _around: Around) -> bool:
    """Look at no batch that may still be shown: there may be millions."""
    return forget_unused(transaction.execute)


def _forgotten_to(transaction: Transaction) -> int:
    return int(transaction.execute("SELECT value FROM meta WHERE name = ?", (_FORGOTTEN,)).get or 0)


def _unsure(transaction: Transaction) -> frozenset[str]:
    kept = transaction.execute("SELECT value FROM meta WHERE name = ?", (_UNSURE,)).get
    places = Numbering(transaction.execute)
    return frozenset(each for each in (kept or "").split() if places.holds(each))


def _note_unsure(transaction: Transaction, ids: frozenset[str]) -> None:
    transaction.execute(SET_META, (_UNSURE, " ".join(sorted(ids))))


def _secret_of(way: HashWay, own: bytes | None) -> tuple[str, bytes | None]:
    return way.way, own if way.secret is None else way.secret
