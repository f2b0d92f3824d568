"""The writing thread: it owns the writing connection, groups what is queued into one commit, and checkpoints.

The loop queues *posts* (rows to accept, merged by the intake into a few statements per group) and *jobs* (functions
of the transaction: a claim, a settle, a step of upkeep). The thread takes everything queued up to a bound, runs it in
one ``BEGIN IMMEDIATE .. COMMIT`` and wakes all of it with one ``call_soon_threadsafe``; a cancelled task therefore
never leaves a transaction open.

One request's error is its own: the group is rolled back and run again without it. When the disk fails, the whole group
gets ``StoreFailed``, whether it took effect is unknown, and nothing is acknowledged until the file has been opened
again and a small commit went through (ATC'20 "Can applications recover from fsync failures?": after a failed fsync
only re-reading tells what is there).
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import apsw

from relay.core.clock import Clock, elapsed_s
from relay.core.errors import StoreDamaged, StoreEnded, StoreError, StoreFailed
from relay.store.sqlite.file.checksums import PAGE_BYTES, as_damaged
from relay.store.sqlite.file.connection import copy_back
from relay.store.sqlite.file.lock import WalLost
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.thread import work as works
from relay.store.sqlite.thread.handover import HandOver
from relay.store.sqlite.thread.work import DISK_ERRORS, BadUnit, Finished, GroupWriter, Job, Post, Unit, WriterHooks

T = TypeVar("T")

# A group ends at so many rows, so that a claim or settle queued meanwhile waits for milliseconds only; one post that
# is larger goes whole.
_GROUP_ROWS = 2000
# How long a thread that wants the GIL lets another keep it. With the default of 5 ms each statement of a group could
# cost that much. A fifth of this costs more in switches than it gains.
_SWITCH_S = 0.0001
_GATHER_S = 0.002  # a loop with ever more to queue hands it over after so long
_CHECKPOINT_IDLE_PAGES = 1000  # when nobody waits: SQLite's own default
_CHECKPOINT_BUSY_PAGES = 32 * 1024 * 1024 // PAGE_BYTES  # under load that never pauses: bounds the WAL and the pause
_IDLE_S = 0.01  # nobody waits when nothing came for so long
_LAST_AT_EVERY_S = 1.0  # how exactly a restart on another boot knows the last time
_RETRY_FIRST_S = 0.05
_RETRY_MAX_S = 1.0


class Writer:
    """The queue in front of the writing thread. All public methods are called on the loop."""

    def __init__(
        self,
        *,
        name: str,
        connect: Callable[[], apsw.Connection],
        intake: GroupWriter,
        clock: Clock,
        hooks: WriterHooks,
    ) -> None:
        self.failed: StoreFailed | None = None
        self._name = name
        self._connect = connect
        self._hooks = hooks
        self._intake = intake
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._chunk: list[Any] = []
        self._gathered_until_s = 0.0
        self._queue: SimpleQueue[list[Any] | None] = SimpleQueue()
        self._ready: deque[Any] = deque()
        self._closing = False
        self._closing_seen = False  # by the thread
        self._group: list[Any] = []
        self._wal_pages = 0  # written since the last checkpoint
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._last_at_written = 0.0
        self._checked_at = 0.0
        self._hand_over = HandOver(self._loop)
        self._connection: apsw.Connection
        self._thread = threading.Thread(target=self._main, name=f"store-writer {name}", daemon=True)
        # Process-wide; given back at close.
        self._switch_interval_s = sys.getswitchinterval()

    def start(self, connection: apsw.Connection) -> None:
        """Hand the opened connection to the thread and start it."""
        self._connection = connection
        sys.setswitchinterval(min(self._switch_interval_s, _SWITCH_S))
        self._thread.start()

    def call(self, run: Callable[[Transaction], T]) -> "asyncio.Future[T]":
        """Run a function inside the next group; its result arrives after the commit."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._submit(Job(future, run))
        return future

    def post(self, post: Post) -> None:
        """Queue rows for the next group."""
        self._submit(post)

    async def close(self) -> None:
        """Commit what is queued, then close the connection and end the thread."""
        if not self._closing:
            self._hand_off()
            self._closing = True
            self._queue.put(None)
        await asyncio.wait((self._closed,))
        self._thread.join()

    async def ended(self) -> None:
        """Wait for the end of the thread; raises ``StoreEnded`` when nobody asked for it."""
        await asyncio.shield(self._closed)

    def _submit(self, work: Any) -> None:
        refusal = self._refusal()
        if refusal is not None:
            work.future.set_exception(refusal)
            return
        if not self._chunk:
            self._loop.call_soon(self._flush)
        self._chunk.append(work)

    def _refusal(self) -> StoreFailed | None:
        return self.failed or (StoreFailed(f"{self._name} is closed") if self._closing else None)

    def _flush(self, seen: int = 0) -> None:
        """Hand the chunk over once a round of the loop brought nothing more to it.

        Requests that come in together, on many connections, then make one group and not two that get in each other's
        way: with 64 connections it saves a seventh of the CPU per callback.
        """
        if seen == 0:
            self._gathered_until_s = elapsed_s() + _GATHER_S
        elif len(self._chunk) == seen or elapsed_s() >= self._gathered_until_s:
            self._hand_off()
            return
        self._loop.call_soon(self._flush, len(self._chunk))

    def _hand_off(self) -> None:
        chunk, self._chunk = self._chunk, []
        if not chunk:
            return
        if (refusal := self._refusal()) is None:
            self._hand_over.sent(len(chunk))
            self._queue.put(chunk)
        else:
            self._finish([(work.future, None, refusal) for work in chunk], {}, 0.0, 0, sent=False)

    def _finish(
        self, finished: list[Finished], wakes: dict[str, int], seconds: float, rows: int, *, sent: bool = True
    ) -> None:
        """Wake everyone of a group (on the loop); ``sent`` unless the thread never got it."""
        if sent:
            self._hand_over.finished(len(finished))
        for future, result, error in finished:
            if future.done():
                continue  # its caller was cancelled; the transaction took effect all the same
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        self._hooks.after_commit(wakes, seconds, rows)

    # --- below: the thread ---

    def _main(self) -> None:
        error: BaseException | None = None
        try:
            self._work()
        except BaseException as problem:  # noqa: BLE001 - nothing may end this thread unseen: all queued work must fail
            error = problem
            copy_back(self._connection)
            lost = str(problem) if isinstance(problem, WalLost) else ""
            self.failed = StoreEnded(lost or "the store's writing thread ended, a bug; the relay must start again")
            self._ready.extendleft(reversed(self._group))  # whoever of them was answered already is left as it is
            self._fail_queued()
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._ended, error)

    def _ended(self, error: BaseException | None) -> None:
        sys.setswitchinterval(self._switch_interval_s)
        self._closing = True
        if error is None:
            self._closed.set_result(None)
            return
        self._fail_queued()  # what was put while the thread ended
        assert self.failed is not None, "set by the thread"
        self.failed.__cause__ = error
        self._closed.set_exception(self.failed)
        self._closed.exception()  # seen here: nobody need wait for ``ended``

    def _work(self) -> None:
        while not self._closing_seen or self._ready:
            self._group = self._collect()
            if self._group:  # empty after a failure, which answered all that was queued
                self._commit_group(self._group)
            if self._wal_pages >= _CHECKPOINT_BUSY_PAGES:
                self._checkpoint()
        self._close_file()

    def _close_file(self) -> None:
        try:
            if self.failed is None:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._connection.close()
        except DISK_ERRORS as error:  # nothing is lost: what was not copied back is in the WAL, and read at the start
            self._loop.call_soon_threadsafe(self._hooks.failed, error)

    def _collect(self) -> list[Any]:
        """Wait for work and take it up to the bound; empty when it was all answered meanwhile, or at the end."""
        ready = self._ready
        if not ready and not self._closing_seen:
            self._take(self._next_chunk())
        while not self._closing_seen:
            try:
                self._take(self._queue.get_nowait())
            except Empty:
                break
        group: list[Any] = []
        weight = 0
        while ready and (not group or weight + ready[0].weight <= _GROUP_ROWS):
            work = ready.popleft()
            weight += work.weight
            group.append(work)
        return group

    def _next_chunk(self) -> list[Any] | None:
        """Wait for the next chunk, and use the first quiet moment for a checkpoint."""
        if self._wal_pages >= _CHECKPOINT_IDLE_PAGES:
            try:
                return self._queue.get(timeout=_IDLE_S)
            except Empty:
                self._checkpoint()
        return None if self._closing_seen else self._queue.get()

    def _take(self, chunk: list[Any] | None) -> None:
        if chunk is None:
            self._closing_seen = True
        else:
            self._ready.extend(chunk)

    def _commit_group(self, group: list[Any]) -> None:
        started_s = elapsed_s()
        posts = [work for work in group if not isinstance(work, Job)]
        units: list[Unit] = [*([posts] if posts else []), *(work for work in group if isinstance(work, Job))]
        finished: list[Finished] = []
        again = True
        transaction = Transaction(self._connection, self._clock.now())
        while units:
            transaction = Transaction(self._connection, self._clock.now())
            try:
                finished += self._run(transaction, units)
                break
            except BadUnit as bad:
                finished += works.without(units, bad)
                if not self._rolled_back(transaction, finished, units):
                    return
            except works.BadTotals as bad:
                if not self._rolled_back(transaction, finished, units):
                    return
                if not again:
                    self._report([*finished, *works.answered_alone(units, bad.error)], {}, 0.0, 0)
                    for half in works.halves(units):
                        self._commit_group(half)
                    return
                again = False  # the history of the minute is left out by now, if it was that
            except DISK_ERRORS as error:
                self._fail(transaction, error, finished, units)
                return
        if units:
            for follow in transaction.on_commit:
                follow()
            for platform in self._hooks.wakes():
                transaction.wake(platform, 0)
        self._report(finished, transaction.wakes if units else {}, elapsed_s() - started_s, transaction.rows)

    def _tell_damaged(self, damaged: StoreDamaged) -> None:
        self._loop.call_soon_threadsafe(self._hooks.damaged, damaged)

    def _run(self, transaction: Transaction, units: list[Unit]) -> list[Finished]:
        if transaction.now - self._checked_at >= _LAST_AT_EVERY_S:
            self._hooks.check()
            self._checked_at = transaction.now
        transaction.execute("BEGIN IMMEDIATE")
        done = works.run_units(transaction, units, self._intake, self._tell_damaged)
        try:
            self._hooks.totals(transaction)
        except (*DISK_ERRORS, StoreDamaged) as error:
            if (damaged := as_damaged(error)) is None:
                raise
            self._tell_damaged(damaged)
            raise works.BadTotals(damaged) from error
        if transaction.rows and transaction.now - self._last_at_written >= _LAST_AT_EVERY_S:
            transaction.execute("UPDATE meta SET value = ? WHERE name = 'last_at'", (transaction.now,))
            transaction.on_commit.append(lambda: setattr(self, "_last_at_written", transaction.now))
        transaction.execute("COMMIT")
        self._wal_pages += self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, reset=True)[0]
        return done

    def _rolled_back(self, transaction: Transaction, finished: list[Finished], units: list[Unit]) -> bool:
        """Undo a group that will be run again; return False when the disk failed at that and all were told."""
        for undo in reversed(transaction.on_rollback):
            undo()
        transaction.on_rollback.clear()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except DISK_ERRORS as error:
            self._fail(transaction, error, finished, units)
            return False
        return True

    def _report(self, finished: list[Finished], wakes: dict[str, int], seconds: float, rows: int) -> None:
        self._loop.call_soon_threadsafe(self._finish, finished, wakes, seconds, rows)
        self._hand_over.release()

    def _checkpoint(self) -> None:
        """Copy the WAL back into the database. A reader may keep part of it; the next one takes that."""
        if self.failed is not None:
            return
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except DISK_ERRORS as error:
            self._fail(Transaction(self._connection, self._clock.now()), error, [], [])
        self._wal_pages = 0

    def _fail(
        self,
        transaction: Transaction,
        error: Exception,
        finished: list[Finished],
        units: list[Unit],
    ) -> None:
        """Fail the group and everything queued, then try until the file works again."""
        self.failed = self._cannot_commit(error)
        for undo in reversed(transaction.on_rollback):
            undo()
        finished += [(work.future, None, self.failed) for work in works.works_of(units)]
        self._report(finished, {}, 0.0, 0)
        self._fail_queued()
        failed_s = elapsed_s()
        self.failed.__cause__ = error
        self._loop.call_soon_threadsafe(self._hooks.failed, self.failed)
        if damaged := as_damaged(error):
            self._tell_damaged(damaged)
        wait_s = _RETRY_FIRST_S
        while not self._closing_seen and not self._reopened():
            try:
                self._take(self._queue.get(timeout=wait_s))
            except Empty:
                wait_s = min(_RETRY_MAX_S, wait_s * 2)
            self._fail_queued()
        if self.failed is None:
            self._loop.call_soon_threadsafe(self._hooks.recovered, elapsed_s() - failed_s)

    def _reopened(self) -> bool:
        try:
            self._hooks.check()  # before it is closed: closing copies nothing back while the readers are open
            self._connection.close()
            self._connection = self._connect()
            transaction = Transaction(self._connection, self._clock.now())
            transaction.execute("BEGIN IMMEDIATE")
            transaction.execute("UPDATE meta SET value = ? WHERE name = 'last_at'", (transaction.now,))
            self._hooks.recover(transaction)
            transaction.execute("COMMIT")
        except (apsw.Error, StoreError) as error:
            self.failed = self._cannot_commit(error)
            return False
        self.failed = None
        self._report([], transaction.wakes, 0.0, 0)
        return True

    def _cannot_commit(self, error: Exception) -> StoreFailed:
        why = as_damaged(error) or error
        return StoreFailed(f"the store {self._name} cannot commit ({why}); it is tried again every second")

    def _fail_queued(self) -> None:
        while True:
            try:
                self._take(self._queue.get_nowait())
            except Empty:
                break
        failed = list(self._ready)
        self._ready.clear()
        if failed:
            self._report([(work.future, None, self.failed) for work in failed], {}, 0.0, 0)
