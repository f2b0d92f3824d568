"""The durable store: one SQLite file behind the protocol of ``relay.store.base``.

Every write is a job of the writing thread (``writer``), in one group commit with whatever else is queued; every read
is a job of the reading thread on a read-only connection, so it sees the last commit and holds up no write.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import apsw
import msgspec

from relay.core.clock import Clock
from relay.core.errors import StoreDamaged, StoreFailed
from relay.core.model import (
    Accepted,
    AcceptedPosts,
    Batch,
    Cancelled,
    ClaimRequest,
    Expired,
    Filter,
    NewCallback,
    Quota,
    RoutedPost,
    StoreRules,
    WaitUntil,
)
from relay.core.raw import Kept, Record
from relay.core.settlement import Settlement
from relay.sealing.master_keys import KeySource
from relay.store.base import OWN_ROWS_S, Reroute, Stepped, StoreEvents, no_route
from relay.store.history import MinuteHistory
from relay.store.journal import Journal
from relay.store.lending import Lending
from relay.store.sealing import Sealing
from relay.store.sqlite.file.boot import StoreIdentity, cut_off
from relay.store.sqlite.file.connection import open_writer
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.file.trail import keep_deed
from relay.store.sqlite.file.transaction import Transaction, try_out
from relay.store.sqlite.held_keys import SqliteHeldKeys
from relay.store.sqlite.keeping.key_changes import SqliteSealing
from relay.store.sqlite.limits.lending import SqliteLending
from relay.store.sqlite.limits.past_requests import PastRequests
from relay.store.sqlite.opening import open_all, tell_opened
from relay.store.sqlite.read.journal_pages import SqliteJournal
from relay.store.sqlite.read.ledger import SqliteReader
from relay.store.sqlite.read.own_thread import ReadingThread
from relay.store.sqlite.read.survey_steps import SqliteSurveys
from relay.store.sqlite.thread.work import WriterHooks
from relay.store.sqlite.thread.writer import Writer
from relay.store.sqlite.wiring import Works
from relay.store.sqlite.write.apart.unreadable import claim_around_damage
from relay.store.sqlite.write.history import SqliteHistory
from relay.store.sqlite.write.retries import bring_forward
from relay.store.sqlite.write.rows import encode, encode_posts
from relay.store.sqlite.write.settle import read_gates, save_gate
from relay.store.survey import Surveys
from relay.store.watched import WatchedStore
from relay.views.callback_view import CallbackView, ListedCallback
from relay.views.ledger import QueueTotals
from relay.views.operation_view import PLAIN, OperationOptions, OperationView
from relay.views.queue import QueueFacts, QuotaUse, StoreSize

T = TypeVar("T")

_ASK_S = 0.5  # how long a reader waits for what only the writing thread knows


class SqliteStore(WatchedStore):
    """Implements ``relay.store.base.Store``; see there for what each method promises. Made by ``open``."""

    slowest_rows_s = OWN_ROWS_S

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        events: StoreEvents | None = None,
        clock: Clock | None = None,
        keys: KeySource | None = None,
    ) -> Self:
        """Open or create the store file at ``path`` and lock it for this process.

        ``events`` is told of commits, failures and recoveries. Without ``clock`` the file's own clock is resumed. With
        ``keys`` everything is sealed from now on. Raises ``StoreLocked``, ``StoreUnusable`` and ``KeysUnavailable``.
        """
        lock, connection, identity, reader = await asyncio.to_thread(open_all, Path(path), clock, keys)
        if events is not None:
            tell_opened(lock, identity, events)
        return cls(lock.path, lock, connection, identity, reader, events=events, keys=keys)

    def __init__(
        self,
        path: Path,
        lock: FileLock,
        connection: apsw.Connection,
        identity: StoreIdentity,
        reader: SqliteReader,
        *,
        events: StoreEvents | None,
        keys: KeySource | None,
    ) -> None:
        super().__init__()
        self.clock = identity.clock
        self._path = path
        self._lock = lock
        self._identity = identity
        self._past = PastRequests(identity)
        self._events = events
        self._closed = False
        loop = asyncio.get_running_loop()
        works = self._works = Works(
            identity,
            released=lambda: loop.call_soon_threadsafe(self._released),
            unopened=lambda platform, ids: loop.call_soon_threadsafe(self._unopened, platform, ids),
        )
        self._names, self._seals, self._slots = works.names, works.seals, works.slots
        self._claims, self._settles = works.claims, works.settles
        self._operations, self._space = works.operations, works.space
        self._read = ReadingThread(reader, path.name, damaged=self._damaged)
        self._usage: dict[str, list[QuotaUse]] = {}  # of slots, per platform, as last seen
        history = SqliteHistory(names=self._names, last_minute=identity.last_minute, write=self._write, read=self._read)
        works.receipts.then = history.write_totals
        self.leap = identity.leap
        self._duties = works.duties(self._write)
        self.held_keys = SqliteHeldKeys(write=self._write, names=self._names, accepts=works.accepts)
        self.history: MinuteHistory = history
        self.journal: Journal = SqliteJournal(self._read)
        self.sealing: Sealing = SqliteSealing(
            seals=works.seals, rows=works.seals_rows, source=keys, write=self._write, read=self._read
        )
        self.surveys: Surveys = SqliteSurveys(self._read)
        self.lending: Lending = SqliteLending(self._slots, tag=identity.ids.tag, write=self._write)
        self._writer = Writer(
            name=str(path),
            connect=self._connect,
            intake=works.accepts.write,
            clock=self.clock,
            hooks=WriterHooks(
                check=lock.check_all,
                recover=self._recover,
                totals=works.receipts.write,
                wakes=self._slots.drain_wakes,
                after_commit=self._after_commit,
                damaged=self._damaged,
                failed=self._failed,
                recovered=self._recovered,
            ),
        )
        self._writer.start(connection)

    # Inbox

    def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        """Queue ``rows`` durably, all or none."""
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        if rows:
            self._writer.post(encode(self._names, rows, future, framed=self._seals.codec is not None))
        else:
            future.set_result(Accepted([], frozenset()))
        return future

    def accept_posts(self, posts: Sequence[RoutedPost]) -> "asyncio.Future[AcceptedPosts]":
        """Queue the rows of routed posts durably, all or none."""
        future: asyncio.Future[AcceptedPosts] = asyncio.get_running_loop().create_future()
        if posts:
            self._writer.post(encode_posts(self._names, posts, future, framed=self._seals.codec is not None))
        else:
            future.set_result(AcceptedPosts([], frozenset()))
        return future

    async def cancel(self, callback_id: str) -> Cancelled:
        """End a pending callback that is in no frozen batch as superseded."""
        return await self._writer.call(lambda transaction: self._works.cancels.by_id(transaction, callback_id))

    async def cancel_key(self, platform: str, key: str) -> Cancelled:
        """Do so with all that is pending of an ordering key, or with nothing of it."""
        return await self._writer.call(lambda transaction: self._works.cancels.of_key(transaction, platform, key))

    # Outbox

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Reserve a slot, freeze a batch and record its attempt, or say until when to wait."""
        return await claim_around_damage(request, claims=self._claims, write=self._write, read=self._read)

    async def reserve(self, platform: str) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks and record its attempt."""
        return await self._writer.call(lambda transaction: self._claims.reserve(transaction, platform))

    async def settle(self, settlement: Settlement) -> None:
        """Commit what an attempt came to."""
        blocks = self._works.platform_rules(settlement.platform).block_on_dead
        await self._writer.call(lambda transaction: self._settles.settle(transaction, settlement, blocks=blocks))

    async def gates(self) -> Mapping[str, Kept]:
        """Return each platform's gate."""
        return await self._writer.call(read_gates)

    async def set_gate(self, platform: str, gate: Kept, *, deed: Record | None = None) -> None:
        """Keep a platform's gate outside a settle."""
        number = self._names.number(platform)

        def write(transaction: Transaction) -> None:
            self._names.save(transaction)
            save_gate(transaction, number, gate)
            keep_deed(transaction, deed)

        await self._writer.call(write)

    async def set_quotas(self, platform: str, quotas: Sequence[Quota]) -> None:
        """Hold ``quotas`` on one platform beside the configured ones."""

        def put(transaction: Transaction) -> None:
            self._slots.set_quotas(platform, quotas, self._past.of(transaction), transaction.now)

        await self._past.around_damage(put, write=self._write, read=self._read)

    async def retry_now(self, platform: str) -> int:
        """Make everything that waits for its retry time due now."""
        number = self._names.known(platform)
        return 0 if number is None else await bring_forward(self._writer, platform=platform, number=number)

    # Ledger

    async def configure(self, rules: StoreRules) -> None:
        """Put quotas and platform rules in force."""
        for name in rules.platforms:
            self._names.number(name)
        self._names.keeps_keys = rules.receipts is not None

        def put(transaction: Transaction) -> None:
            self._names.save(transaction)
            self._slots.configure(rules, self._past.of(transaction), transaction.now)
            for name, rule in rules.platforms.items():
                if not rule.block_on_dead:
                    self._operations.unblock(transaction, name)
                transaction.wake(name, 0)
            self._space.max_bytes = rules.max_size_bytes
            self._works.rules = rules
            self._works.receipts.watch(transaction, rules.receipts)
            self.held_keys.look(transaction)

        await self._past.around_damage(put, write=self._write, read=self._read)

    async def totals(self) -> dict[str, QueueTotals]:
        """Return the durable totals, with pending counted from rows, of one instant."""
        return await self._read(SqliteReader.totals)

    async def platform_status(self) -> dict[str, QueueFacts]:
        """Return what each platform has, does and waits for."""
        found = await self._read(SqliteReader.platform_status)
        configured = list(self._works.rules.platforms)
        shown = {name: status for name, status in found.items() if status.accepted or name in configured}
        for name, quotas in (await self._slots_used(list(shown))).items():
            shown[name].quotas = quotas
        return shown

    async def _slots_used(self, platforms: list[str]) -> dict[str, list[QuotaUse]]:
        """Ask the writing thread, which has the slots; while it cannot answer, they are as last seen."""
        asked = self._writer.call(
            lambda transaction: {name: self._slots.usage(name, transaction.now) for name in platforms}
        )
        await asyncio.wait((asked,), timeout=_ASK_S)
        if asked.done() and asked.exception() is None:
            self._usage.update(asked.result())
        asked.add_done_callback(lambda late: late.exception())  # nobody waits for a late answer
        return {name: self._usage.get(name, []) for name in platforms}

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback with its attempts, or None."""
        return await self._read(lambda reader: reader.callback(callback_id, payload=payload))

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first, and the cursor of the next page or None."""
        return await self._read(lambda reader: reader.callbacks(wanted, cursor=cursor, limit=limit))

    async def batch_members(self, batch_id: str, *, limit: int) -> list[str]:
        """Return the ids of callbacks that a batch carried."""
        return await self._read(lambda reader: reader.batch_members(batch_id, limit))

    async def start_operation(
        self,
        action: str,
        wanted: Filter,
        *,
        options: OperationOptions = PLAIN,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> OperationView:
        """Fix the matches of an operation and record it."""

        return await self._writer.call(
            lambda transaction: self._operations.start(transaction, action, wanted, options, expect_count, deed)
        )

    async def step_operation(self, number: int, limit: int, reroute: Reroute = no_route) -> Stepped:
        """Apply the operation to at most its next ``limit`` matches; return its progress and what that ended."""
        return await self._writer.call(lambda transaction: self._operations.step(transaction, number, limit, reroute))

    async def operation(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        return await self._read(lambda reader: reader.operation(number))

    async def open_operations(self) -> list[int]:
        """Return the operations that a restart must continue."""
        return await self._read(SqliteReader.open_operations)

    async def expire(self) -> Expired:
        """End one step of the pending callbacks whose time is over."""
        return await self._duties.expire()

    async def prune(self) -> bool:
        """Delete one small step of what need not be kept; return whether there may be more."""
        return await self._duties.prune()

    async def audit(self, record: Record) -> None:
        """Record who changed or saw what."""
        await self._writer.call(lambda transaction: keep_deed(transaction, record))

    async def ping(self) -> None:
        """Commit something small; raises ``StoreFailed`` when the store cannot."""
        await self._writer.call(self._try_out)

    async def size(self) -> StoreSize:
        """Return how much room is used."""
        space = self._space
        found = await self._read(lambda reader: reader.room(space.max_bytes, refused_bytes=space.refused_bytes))
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        sizes = [file.stat().st_size for file in files if file.exists()]
        return msgspec.structs.replace(found, disk_bytes=sum(sizes))

    async def ended(self) -> None:
        """Wait until the store is closed; raises ``StoreEnded`` when the writing thread ended by itself."""
        await self._writer.ended()

    async def close(self) -> None:
        """Commit what is queued, then close. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._writer.failed is None:
            # Failing, the clock's last time is a little older, which a restart allows for.
            with suppress(StoreFailed):
                await self._writer.call(self._try_out)
        await self._read.close()
        await self._writer.close()
        self._lock.release()

    def _connect(self) -> apsw.Connection:
        """Open the file again after a failure, if it is the one that was locked."""
        self._lock.check()
        connection = open_writer(self._path)
        self._lock.watch_wal()
        return connection

    def _try_out(self, transaction: Transaction) -> None:
        self._lock.check()
        try_out(transaction)

    async def _write(self, run: Callable[[Transaction], T]) -> T:
        return await self._writer.call(run)

    def _after_commit(self, wakes: dict[str, int], seconds: float, rows: int) -> None:
        if self._events is not None and rows:
            self._events.store_committed(seconds=seconds, rows=rows)
        for platform, count in wakes.items():
            self._changed(platform, count)

    def _unopened(self, platform: str, ids: Sequence[str]) -> None:
        if self._events is not None:
            self._events.seal_broken(platform=platform, callbacks=ids)

    def _damaged(self, error: StoreDamaged) -> None:
        if self._events is not None:
            self._events.store_damaged(error=error)

    def _failed(self, error: BaseException) -> None:
        if self._events is not None:
            self._events.store_failed(error=error)

    def _recovered(self, seconds: float) -> None:
        if self._events is not None:
            self._events.store_recovered(seconds=seconds)

    def _recover(self, transaction: Transaction) -> None:
        """After a failure: a claim whose commit was answered with an error may have taken effect; nobody sent it."""
        cut_off(transaction.connection, transaction.now, sorted(self._claims.under_way))
        self._works.receipts.watch_again(transaction)
        for platform in self._names.all():
            transaction.wake(platform, 0)
