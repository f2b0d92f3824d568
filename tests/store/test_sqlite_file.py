"""The store's file: who may open it, what it survives, and what it says when it cannot go on."""

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import apsw
import pytest
from relay.core import clock as clocks
from relay.core.errors import StoreEnded, StoreFailed, StoreFull, StoreLocked, StoreUnusable
from relay.core.model import Filter, Lane, Rate, WaitUntil
from relay.daemon.readiness import Readiness
from relay.privacy.chain import Link, record_text, verify
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file import upgrade as upgrade_module
from relay.store.sqlite.file.connection import open_writer
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.file.upgrade import SCHEMA_VERSION, copy_of
from relay.store.sqlite.read import ledger, survey
from relay.store.sqlite.read.history import OLDEST_DUE
from relay.store.sqlite.read.ledger import open_reader
from relay.store.sqlite.read.operations import PROGRESS
from relay.store.sqlite.thread import writer as writer_module
from relay.store.sqlite.thread.work import Finished, Unit
from relay.store.sqlite.thread.writer import Writer
from relay.store.sqlite.transfer.source import SqliteSource
from relay.store.sqlite.write import groups, matches, retries, settle
from relay.views.ledger import QueueTotals
from tests.clocks import FakeClock
from tests.store.harness import (
    balanced,
    bury,
    claimed,
    deliver,
    note,
    payloads,
    post,
    refused,
    request,
    requeue,
    resend,
    rules,
    seqs,
    settlement,
    states,
    until,
)
from tests.store.receipting import receipts, told


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """An open store on its own clock."""
    made = await SqliteStore.open(path)
    await made.configure(rules())
    yield made
    await made.close()


class _FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: "_FaultyVfs", name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._vfs = vfs
        self._is_database = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)

    def xSync(self, flags: int) -> None:
        self._vfs.check()
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._vfs.armed and self._is_database:
            self._vfs.armed, self._vfs.failing = False, True
            raise apsw.FullError("no room")
        if self._vfs.writes_fail:
            self._vfs.check()
        super().xWrite(data, offset)


class _FaultyVfs(apsw.VFS):
    """The real file system, until told to fail."""

    def __init__(self) -> None:
        self.failing = False
        self.writes_fail = False
        self.armed = False  # fails from the next write to the database itself on: a checkpoint's
        self.syncs = 0
        super().__init__("faulty", "unix")

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:
        return _FaultyFile(self, name, flags)

    def check(self) -> None:
        self.syncs += 1
        if self.failing:
            raise apsw.IOError("the disk is not well")


@pytest.fixture
def disk() -> Iterator[_FaultyVfs]:
    """A disk that can be made to fail."""
    before = apsw.vfs_names()[0]
    vfs = _FaultyVfs()
    apsw.set_default_vfs("faulty")
    yield vfs
    apsw.set_default_vfs(before)
    vfs.unregister()


def test_pragmas_hold(path: Path) -> None:
    """The writing connection is durable (WAL, FULL) and bounded (cache, WAL length), and prunes back to the disk."""
    lock = FileLock(path)
    connection = open_writer(path)
    found = {
        name: connection.pragma(name)
        for name in ("journal_mode", "synchronous", "auto_vacuum", "foreign_keys", "wal_autocheckpoint", "cache_size")
    }
    connection.close()
    lock.release()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "auto_vacuum": 2,
        "foreign_keys": 0,
        "wal_autocheckpoint": 0,
        "cache_size": -16 * 1024,
    }


async def test_files_are_private(path: Path, store: SqliteStore) -> None:
    """The database, its WAL, its index and the lock file are readable by their owner alone."""
    await post(store, note(b"1"))
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert found == dict.fromkeys(("relay.db", "relay.db-wal", "relay.db-shm", "relay.db.lock"), 384)


async def test_second_daemon_is_refused(path: Path, store: SqliteStore) -> None:
    """One daemon per file: the second is told the first one's process id; after a close the file is free."""
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        await SqliteStore.open(path)
    await store.close()
    await (await SqliteStore.open(path)).close()


async def test_newer_file_is_refused(path: Path) -> None:
    """A file of a later schema is left alone, and the message says which and what to do."""
    await (await SqliteStore.open(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 77)
    connection.execute("UPDATE meta SET value = '9.9.0' WHERE name = 'written_by'")
    connection.close()
    with pytest.raises(StoreUnusable, match=r"schema version 77, written by relay 9\.9\.0.*Run relay 9\.9\.0 or newer"):
        await SqliteStore.open(path)


async def test_newer_file_with_a_copy_from_before(path: Path) -> None:
    """The message names the copy that the upgrade put aside, and what is missing in it."""
    await (await SqliteStore.open(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", SCHEMA_VERSION + 1)
    connection.close()
    copy_of(path, SCHEMA_VERSION).touch()
    with pytest.raises(StoreUnusable, match=rf"or to .*schema{SCHEMA_VERSION}\.bak, .* since is not in it"):
        await SqliteStore.open(path)


def _version_one(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.pragma("auto_vacuum", 2)
    connection.execute(resources.files("relay.store.sqlite.file").joinpath("schema.sql").read_text())
    connection.execute("INSERT INTO platform VALUES (1, 'shop')")
    connection.pragma("application_id", 0x524C5931)
    connection.pragma("user_version", 1)
    connection.close()


async def test_upgrade_puts_a_copy_aside(path: Path) -> None:
    """The copy has the earlier schema and all rows, is private, and the only one that is kept."""
    _version_one(path)
    older = copy_of(path, 0)
    older.touch()
    await (await SqliteStore.open(path)).close()
    copy = copy_of(path, 1)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    connection = apsw.Connection(str(copy))
    assert connection.pragma("user_version") == 1
    assert connection.execute("SELECT name FROM platform").get == "shop"
    connection.close()
    assert not older.exists()
    assert not list(path.parent.glob("*.part"))


async def test_upgrade_without_room_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the copy has no room, the store stays as it is; the message says how much is needed."""
    _version_one(path)
    usage = shutil.disk_usage(path.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreUnusable, match=r"no room for a copy.*bytes are needed.*1,000 are free"):
        await SqliteStore.open(path)
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == 1
    connection.close()
    assert not copy_of(path, 1).exists()


async def test_upgrade_that_fails_leaves_the_earlier_schema(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction: a step that fails undoes those before it, and the next start tries again."""
    _version_one(path)
    monkeypatch.setattr(upgrade_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)  # a step that is not there
    with pytest.raises(FileNotFoundError):
        await SqliteStore.open(path)
    monkeypatch.undo()
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == 1
    connection.close()
    await (await SqliteStore.open(path)).close()


async def test_file_of_version_one_is_migrated(path: Path) -> None:
    """A file of the first schema opens with what it holds, also with batches frozen and under way."""
    connection = apsw.Connection(str(path))
    connection.pragma("auto_vacuum", 2)
    connection.execute(resources.files("relay.store.sqlite.file").joinpath("schema.sql").read_text())
    connection.pragma("application_id", 0x524C5931)
    connection.pragma("user_version", 1)
    at = 1_699_999_000.0
    number = int(at * 1e6)
    connection.execute("INSERT INTO platform VALUES (1, 'shop')")
    connection.execute("INSERT INTO ledger (platform, accepted) VALUES (1, 2)")
    attempt = "INSERT INTO attempt (id, platform, grp, batch, n, started_at) VALUES (1, 1, '', ?, 1, ?)"
    connection.execute(attempt, (number, at))
    for n, state in enumerate((1, 0)):
        connection.execute("INSERT INTO payload VALUES (?, x'30')", (n + 1,))
        connection.execute(
            "INSERT INTO batch VALUES (?, 1, '', ?, ?, 1, ?, ?, 1, 2e9, ?, 0)",
            (number + n, state, at, at, number, array("q", [n + 1]).tobytes()),
        )
        connection.execute(
            "INSERT INTO callback (seq, platform, grp, state, live, head, lane, prio, due_at, attempts, spent, strikes,"
            "batch, bytes, accepted_at, expires_s, expires_at, first_sent_at, held, maybe_applied, overtaken, priority)"
            "VALUES (?1, 1, '', 0, 1, 0, 1, 1, ?3, 1, 0, 0, ?2, 1, ?3, 2e9 - ?3, 2e9, ?3, 0, 0, 0, 1)",
            (n + 1, number + n, at),
        )
    connection.execute(  # dead, and dropped by a person: its payload is gone
        "INSERT INTO callback (seq, platform, grp, state, live, head, lane, prio, due_at, attempts, spent, strikes,"
        "bytes, accepted_at, expires_s, expires_at, first_sent_at, held, maybe_applied, overtaken, priority)"
        "VALUES (9, 1, '', 2, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 9, 9, 0, 0, 0, 0, 1)"
    )
    connection.execute("UPDATE ledger SET accepted = 3, dead = 1")
    for number in (1, 2):  # from before records were chained
        connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (number, at, f'{{"who": "ann", "n": {number}}}'))
    connection.close()
    with pytest.raises(StoreUnusable, match="schema version 1; start the relay once on it"):
        open_reader(path)
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules())
    status = (await store.platform_status())["shop"]
    assert (status.oldest_due_at, status.dead) == (at, 0)
    assert len((await store.callbacks(Filter(dropped=True), cursor=None, limit=9))[0]) == 1
    for _ in range(2):
        await deliver(store, await claimed(store), clock)
    await post(store, note(b"new"))
    await requeue(store, await claimed(store), clock, after_s=60)
    assert (await store.platform_status())["shop"].oldest_due_at == clock.now()
    assert (await balanced(store))["shop"].delivered == 2
    links = await store.journal.chain(after=0, limit=9)
    assert [link.record["who"] for link in links] == ["ann", "ann", "relay"]
    assert links[-1].record["details"] == {"records": 2}  # says which records are older than the chain
    assert verify(Link(each.n, each.hash, record_text(each.record)) for each in links).fault is None
    await store.close()


async def test_status_of_a_backlog_reads_few_rows(path: Path, store: SqliteStore) -> None:
    """Since when a platform is late is found by seeks into indexes, however many callbacks wait."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {OLDEST_DUE}", (1,))]
    connection.close()
    assert not [step for step in plan if "TEMP B-TREE" in step or step.startswith("SCAN callback")], plan
    assert any("callback_put_back (platform=?)" in step for step in plan)
    assert any("batch_open (platform=?)" in step for step in plan)


async def test_lanes_are_hopped_over(path: Path, store: SqliteStore) -> None:
    """Neither how late a platform is nor which groups have something costs more because much waits in one lane."""
    await post(store, *(note(b"%d" % n) for n in range(5000)))
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    worked = 0

    def work() -> bool:
        nonlocal worked
        worked += 100
        return False

    connection.set_progress_handler(work, 100)
    (due_at,) = connection.execute(OLDEST_DUE, (1,)).fetchone()
    before_it = due_at - 1  # nothing is due yet, so that the lanes behind are looked at
    (found,) = connection.execute(groups._HEADS, (1, "", -1, None, 8, before_it)).fetchone()
    connection.close()
    assert json.loads(found) == [["", 1, pytest.approx(due_at, abs=1e-6)]]  # SQLite writes 17 digits of it
    assert worked < 2000  # instructions of SQLite's machine; a scan takes some per callback


async def test_retry_times_are_brought_forward_in_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction looks at more than a step, also of what came in one commit; each one that waits is met."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules())
    await post(store, *(note(b"%d" % n) for n in range(20)))
    for _ in range(8):
        await resend(store, await claimed(store, request(max_items=1)), clock, after_s=60)
    await requeue(store, await claimed(store, request(max_items=4)), clock, after_s=0)
    await requeue(store, await claimed(store, request(max_items=8)), clock, after_s=60)
    steps: list[int] = []

    def bound(found: Iterable[int]) -> object:
        steps.append(len(looked_at := list(found)))
        return numbers(looked_at)

    monkeypatch.setattr(retries, "_STEP", 3)
    monkeypatch.setattr(retries, "numbers", bound)
    assert await store.retry_now("shop") == 16
    assert steps == [3, 3, 2, 3, 3, 3, 3]
    assert len([await claimed(store, request(max_items=1)) for _ in range(20)]) == 20
    await store.close()


async def test_walks_over_what_waits_use_their_indexes(path: Path, store: SqliteStore) -> None:
    """A step begins where the last one ended and sorts nothing."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    for find, _ in (retries._FROZEN, retries._PUT_BACK):
        (step,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {find}", (1, 0.0, 0, 9))]
        assert re.search(r"USING INDEX \w+ \(platform=\? AND \S+>\?\)", step), step
    connection.close()


async def test_an_ordering_key_is_found_without_reading_the_rows(path: Path, store: SqliteStore) -> None:
    """Live callbacks by a seek, ended ones in an index that holds the keys."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    live, ended = (
        connection.execute(f"EXPLAIN QUERY PLAN {statement.format(keys='7')}").get[3]
        for statement in (ledger._LIVE_OF_KEY, ledger._ENDED_OF_KEY)
    )
    assert live == "SEARCH callback USING COVERING INDEX callback_key (key=?)"
    assert ended == "SEARCH callback USING COVERING INDEX callback_ended (state>?)"
    connection.close()


async def test_a_copy_walks_the_primary_keys(path: Path, store: SqliteStore) -> None:
    """A page begins where the last one ended and sorts nothing, however long the history is."""
    await post(store, note(b"1"))
    await store.close()
    source = await SqliteSource.open(path, None)
    pages: list[str] = []

    def ran(_: apsw.Cursor, statement: str, values: object) -> bool:
        if "?3" in statement:
            pages.append(statement)
        return True

    source._connection.exec_trace = ran
    for section in ("callbacks", "batches", "attempts"):
        await source.read(section, "shop", 0, 9)
    source._connection.exec_trace = None
    assert len(pages) == 3
    for page in pages:
        plan = [row[3] for row in source._connection.execute(f"EXPLAIN QUERY PLAN {page}", (1, 0, 9))]
        assert plan[0].endswith("USING INTEGER PRIMARY KEY (rowid>?)"), plan
        assert not [step for step in plan if "TEMP B-TREE" in step], plan
    await source.close()


async def test_waiting_matches_are_found_by_seeks(path: Path, store: SqliteStore) -> None:
    """A settle asks whether an operation waits for its batch, and a step for what is next, without reading the rest."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    for statement, values in {
        settle._OPEN_ATTEMPT: (1,),
        matches._FACTS: (1, 2),
        matches._OTHERS: (1, apsw.carray(array("q", [1]))),
        matches._LEFT: (1,),
        PROGRESS: (1,),
    }.items():
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        scans = [step for step in plan if step.startswith("SCAN")]
        assert {step.split()[1] for step in scans} <= {"i", "m", "CONSTANT", "(subquery-1)", "(subquery-3)"}, plan
    connection.close()


async def test_repeated_settle_lets_operations_go_on(store: SqliteStore) -> None:
    """A settle is repeated when its commit was answered by an error: the operation that waited hears of it then."""
    clock = FakeClock(store.clock.now())
    await post(store, note(b"1"))
    batch = await claimed(store)
    number = (await store.start_operation("drop", Filter(), expect_count=1)).id
    await store.step_operation(number, 10)
    await deliver(store, batch, clock)
    heard: list[str] = []
    store.watch_operations(lambda: heard.append("released"))
    await deliver(store, batch, clock)
    await until(lambda: heard == ["released"])
    assert (await store.step_operation(number, 10)).progress.skipped == {"state": 1}


async def test_other_files_are_refused(path: Path) -> None:
    """What is no database, or another program's, is named and not touched."""
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnusable, match=rf"{path.name} is not a database"):
        await SqliteStore.open(path)
    assert path.read_bytes() == b"not a database at all" * 100
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StoreUnusable, match="another program's database"):
        await SqliteStore.open(path)


async def test_unwritable_place_is_named(tmp_path: Path) -> None:
    """A place where no file can be made is named in the error."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnusable, match=r"file/relay\.db"):
        await SqliteStore.open(tmp_path / "file" / "relay.db")


class Told:
    """Keeps what a store tells of itself."""

    def __init__(self) -> None:
        self.facts: list[str] = []

    def store_committed(self, *, seconds: float, rows: int) -> None:
        """A commit."""
        assert (seconds > 0, rows > 0) == (True, True)
        self.facts.append("committed")

    def store_failed(self, *, error: BaseException) -> None:
        """A failure."""
        assert isinstance(error.__cause__, apsw.Error)
        assert "tried again every second" in str(error)
        self.facts.append("failed")

    def store_begun(self, *, path: str) -> None: ...

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None:
        """What was under way when the last process ended."""
        self.facts.append(f"{platform}: {requests} with {callbacks} cut off")

    def clock_ahead(self, *, seconds: float) -> None:
        """A clock that is doubted."""
        assert seconds > 86400
        self.facts.append("clock ahead")

    def store_recovered(self, *, seconds: float) -> None:
        """The end of it."""
        assert seconds > 0
        self.facts.append("recovered")


async def test_what_a_crash_cut_off_is_told(path: Path, tmp_path: Path) -> None:
    """How many requests of which platform, and how many callbacks in them; nothing after a stop that settled all."""
    store = await SqliteStore.open(path)
    await store.configure(rules("shop", "other"))
    await post(store, *(note(b"%d" % n) for n in range(5)), note(platform="other"))
    await claimed(store, request(max_items=3))
    await claimed(store, request(max_items=2))
    kept = tmp_path / "crashed.db"
    with (
        apsw.Connection(str(path)) as reader,
        apsw.Connection(str(kept)) as copy,
        copy.backup("main", reader, "main") as run,
    ):
        run.step()
    await store.close()
    told = Told()

    crashed = await SqliteStore.open(kept, events=told)
    await crashed.close()
    again = await SqliteStore.open(kept, events=told)
    await again.close()

    assert [fact for fact in told.facts if "cut off" in fact] == ["shop: 2 with 5 cut off"]


async def works_again(store: SqliteStore, disk: _FaultyVfs) -> None:
    """Let the disk work; the store finds out by itself and wakes its platforms."""
    woken: list[str] = []
    store.watch(lambda platform, count: woken.append(platform))
    disk.failing = False
    await until(lambda: "shop" in woken)


async def test_failed_fsync(path: Path, disk: _FaultyVfs) -> None:
    """When fsync fails nothing is acknowledged until a probe commits; then the store goes on and says so."""
    told = Told()
    store = await SqliteStore.open(path, events=told)
    await store.configure(rules())
    kept = await post(store, note(b"kept", idempotency_key="kept"))
    disk.failing = True
    with pytest.raises(StoreFailed, match="cannot commit"):
        await post(store, note(b"unknown", idempotency_key="unknown"))
    refusal = store.accept([note(b"refused at once")])
    assert isinstance(refusal.exception(), StoreFailed)
    with pytest.raises(StoreFailed):
        await store.ping()
    await works_again(store, disk)
    again = await post(store, note(b"unknown", idempotency_key="unknown"))
    assert await states(store, [*kept.ids, *again.ids]) == ["pending", "pending"]
    assert (await balanced(store))["shop"].accepted == 2
    await store.close()
    assert told.facts.index("failed") < told.facts.index("recovered") < len(told.facts) - 1
    assert told.facts.count("recovered") == 1


async def test_claim_lost_in_a_failed_commit(path: Path, disk: _FaultyVfs) -> None:
    """A claim answered by an error was sent by nobody: its callbacks go again, and it holds no slot for ever."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules(rate=Rate(1, 60.0)))
    await post(store, note(b"1"))
    disk.failing = True
    with pytest.raises(StoreFailed):
        await store.claim(request(max_items=1))
    await works_again(store, disk)
    assert payloads(await claimed(store, request(max_items=1))) == [b"1"]
    await store.close()


async def test_claim_that_took_effect_though_its_commit_failed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed before the error is no attempt of anybody: its batch goes again, as after a crash."""
    store = await SqliteStore.open(path, clock=FakeClock())
    await store.configure(rules())
    await post(store, note(b"1"))
    commit = Writer._run

    def commits_and_fails(writer: Writer, transaction: Transaction, units: list[Unit]) -> list[Finished]:
        commit(writer, transaction, units)
        monkeypatch.setattr(Writer, "_run", commit)
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(Writer, "_run", commits_and_fails)
    with pytest.raises(StoreFailed):
        await store.claim(request())
    await until(lambda: store._writer.failed is None)
    assert payloads(await claimed(store)) == [b"1"]
    await store.close()


async def test_the_log_is_copied_back_under_load_that_never_pauses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit after commit the write-ahead log begins anew at its bound, where no quiet moment does it."""
    monkeypatch.setattr(writer_module, "_CHECKPOINT_BUSY_PAGES", 64)
    monkeypatch.setattr(writer_module, "_CHECKPOINT_IDLE_PAGES", 1_000_000)
    store = await SqliteStore.open(path)
    await store.configure(rules())
    for _ in range(30):
        await post(store, *(note(b"x" * 4000) for _ in range(20)))
    assert Path(f"{path}-wal").stat().st_size < 400 * 4096  # of more than 600 pages
    await store.close()


async def test_settle_repeated_after_a_failed_commit(path: Path, disk: _FaultyVfs) -> None:
    """A settle that could not commit is repeated from memory and counts once; the batch is not cut off as crashed."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules())
    accepted = await post(store, note(b"1"))
    batch = await claimed(store)
    disk.failing = True
    with pytest.raises(StoreFailed):
        await deliver(store, batch, clock)
    await works_again(store, disk)
    await deliver(store, batch, clock)
    assert await states(store, accepted.ids) == ["delivered"]
    assert (await balanced(store))["shop"].delivered == 1
    await store.close()


async def test_receipts_go_on_after_a_disk_that_failed(path: Path, disk: _FaultyVfs) -> None:
    """The settle that failed leaves no receipt; repeated on the file opened anew it leaves one."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(told())
    accepted = await post(store, note(b"1"))
    batch = await claimed(store)
    disk.failing = True
    with pytest.raises(StoreFailed):
        await bury(store, batch, clock)
    await works_again(store, disk)
    assert await receipts(store) == []
    await bury(store, batch, clock)
    assert [each["id"] for each in await receipts(store)] == accepted.ids
    await store.close()


async def test_disk_full(store: SqliteStore) -> None:
    """A disk without room fails the post, leaves nothing half there, and later posts go through again."""
    await post(store, note(b"1"))
    pages = (await store.size()).used_bytes // 4096
    await store._writer.call(
        lambda transaction: transaction.execute(f"PRAGMA max_page_count = {pages + 40}").fetchall()
    )
    with pytest.raises(StoreFailed, match="full"):
        await post(store, *(note(b"x" * 4000) for _ in range(100)))
    async with asyncio.timeout(20):
        while True:
            try:
                await post(store, note(b"2"))
                break
            except StoreFailed:
                await asyncio.sleep(0.01)
    assert (await balanced(store))["shop"].pending == 2


async def test_max_size(path: Path) -> None:
    """Near its size the store gives up delivered callbacks early; full of pending ones it refuses, and still works."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(replace(rules(), max_size_bytes=2 * 1024 * 1024))
    big = request(max_items=1000, max_bytes=1 << 30)

    async def fill() -> None:
        for _ in range(20):
            await post(store, *(note(b"z" * 10_000) for _ in range(10)))

    old = await post(store, *(note(b"x" * 10_000) for _ in range(60)))
    await deliver(store, await claimed(store, big), clock)
    for _ in range(10):
        await post(store, *(note(b"y" * 10_000) for _ in range(10)))
    assert await store.callback(old.ids[0]) is None
    with pytest.raises(StoreFull, match=r"of 2097152 bytes.*raise store\.max_size"):
        await fill()
    await store.configure(replace(rules(), max_size_bytes=3 * 1024 * 1024))
    await post(store, note(b"room at once" * 5000))
    await store.configure(replace(rules(), max_size_bytes=2 * 1024 * 1024))
    await deliver(store, await claimed(store, big), clock)
    await post(store, *(note(b"again" * 2000) for _ in range(10)))
    await balanced(store)
    size = await store.size()
    assert size.used_bytes <= size.max_bytes == 2 * 1024 * 1024
    await store.close()


async def test_what_is_for_a_person_is_never_given_up_for_room(path: Path) -> None:
    """Dead and expired callbacks stay with their payloads in a store that is full; posts are refused instead."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(replace(rules(), max_size_bytes=2 * 1024 * 1024))
    dead = (await post(store, *(note(b"d" * 10_000) for _ in range(10)))).ids
    await bury(store, await claimed(store), clock)
    expired = (await post(store, *(note(b"e" * 10_000, expires_s=5.0) for _ in range(10)))).ids
    clock.advance(10.0)
    await store.expire()

    async def fill() -> None:
        while True:
            await post(store, *(note(b"z" * 10_000) for _ in range(10)))

    with pytest.raises(StoreFull):
        await fill()
    assert await states(store, dead) == ["dead"] * 10
    assert await states(store, expired) == ["expired"] * 10
    for callback_id, payload in ((dead[0], b"d" * 10_000), (expired[0], b"e" * 10_000)):
        view = await store.callback(callback_id, payload=True)
        assert view is not None
        assert view.payload == payload
    await balanced(store)
    await store.close()


async def test_one_bad_request_fails_alone(store: SqliteStore) -> None:
    """A request that breaks inside a group gets its error; the others of the group commit."""
    await post(store, note(b"1"), note(b"2"))
    batch = await claimed(store)
    clock = FakeClock(store.clock.now())
    wrong = settlement(batch, clock, delivered=seqs(batch)[:1])
    results = await asyncio.gather(
        store.accept([note(b"3")]),
        store.settle(wrong),
        store.claim(request()),
        store.ping(),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert [isinstance(result, BaseException) for result in results] == [False, True, False, False]
    await deliver(store, batch, clock)
    assert (await balanced(store))["shop"] == QueueTotals(accepted=3, delivered=2, pending=1)


async def test_slots_return_when_a_group_is_run_again(path: Path) -> None:
    """A claim in a group that another request breaks is made anew: its slot was given back, so it is not refused."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules(rate=Rate(2, 60.0)))
    await post(store, note(b"1"), note(b"2"))
    first = await claimed(store, request(max_items=1))
    wrong = settlement(first, clock)  # settles none of its items
    claim, settle = await asyncio.gather(store.claim(request(max_items=1)), store.settle(wrong), return_exceptions=True)
    assert isinstance(settle, ValueError)
    assert payloads(claim) == [b"2"]
    (quota,) = (await store.platform_status())["shop"].quotas
    assert quota.used == 2
    await store.close()


async def test_posts_of_a_group_share_the_room(path: Path) -> None:
    """Posts that come together are admitted one by one from what is left, not each from all of it."""
    store = await SqliteStore.open(path)
    await store.configure(replace(rules(), max_size_bytes=2 * 1024 * 1024))
    results = await asyncio.gather(*(store.accept([note(b"x" * 100_000)]) for _ in range(40)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, StoreFull)]
    size = await store.size()
    assert 5 < len(results) - len(refused) < 16
    assert size.used_bytes <= size.usable_bytes < size.max_bytes
    assert len({id(result) for result in results}) == 40
    await store.close()


async def test_full_is_told_until_there_is_room(path: Path) -> None:
    """A store is full while a post as small as the last one refused would be refused, and not any longer."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(replace(rules(), max_size_bytes=2 * 1024 * 1024))

    async def fill() -> None:
        while True:
            assert (await store.size()).full == 0
            await post(store, note(b"x" * 100_000))

    with pytest.raises(StoreFull):
        await fill()
    assert (await store.size()).full == 1
    await deliver(store, await claimed(store, request(max_items=1)), clock)
    assert (await store.size()).full == 0  # what was delivered goes when it is needed
    await post(store, note(b"x" * 50_000))
    await store.close()


async def test_dead_writer_is_seen(path: Path) -> None:
    """Should the writing thread ever end, whoever waits for it is told, and so is the daemon; nothing hangs."""
    store = await SqliteStore.open(path)
    ended = asyncio.create_task(store.ended())

    def ends(transaction: object) -> None:
        raise SystemExit(3)

    results = await asyncio.gather(
        store._writer.call(ends), store.accept([note(b"1")]), store.ping(), return_exceptions=True
    )
    assert all(isinstance(result, StoreFailed) for result in results)
    with pytest.raises(StoreEnded, match="thread ended"):
        await store.ping()
    with pytest.raises(StoreEnded, match="thread ended") as told:
        await ended
    assert isinstance(told.value.__cause__, SystemExit)
    await store.close()


async def test_checkpoint_fails_while_idle(path: Path, disk: _FaultyVfs) -> None:
    """A disk that fails while nobody posts costs nothing more than that: the store goes on when the disk does."""
    for turn in range(5):
        store = await SqliteStore.open(path, events=(told := Told()))
        await store.configure(rules())
        disk.armed = True  # the next checkpoint is the first to find the disk failing
        await post(store, *(note(b"x" * 4000) for _ in range(1200)))
        await until(lambda told=told: "failed" in told.facts)
        with pytest.raises(StoreFailed, match="cannot commit"):
            await store.ping()
        disk.failing = False
        await until(lambda told=told: "recovered" in told.facts)
        await post(store, note(b"after"))
        assert (await balanced(store))["shop"].accepted == (turn + 1) * 1201
        await store.close()


async def test_cancelled_requests_leave_nothing_open(store: SqliteStore) -> None:
    """A cancelled accept takes effect whole; no transaction stays open and the store goes on."""
    waiting = store.accept([note(b"1"), note(b"2")])
    waiting.cancel()
    await store.ping()
    assert (await balanced(store))["shop"].pending == 2


async def test_busy_loop_does_not_starve_the_writer(store: SqliteStore) -> None:
    """Groups commit in milliseconds, not seconds, beside a loop that always has something ready."""
    rounds = 0

    def spin() -> None:
        nonlocal rounds
        rounds += 1
        for _ in range(20_000):
            pass
        if rounds < 100_000 and not done:
            asyncio.get_running_loop().call_soon(spin)

    done = False
    asyncio.get_running_loop().call_soon(spin)
    async with asyncio.timeout(20):
        for _ in range(10):
            await post(store, *(note(b"x", key=str(n)) for n in range(200)))
    done = True
    assert rounds > 10


async def test_read_without_a_daemon(path: Path, store: SqliteStore) -> None:
    """The file of a daemon that is down, closed or not, can be read; and read beside a daemon too."""
    accepted = await post(store, note(b"body", key="k"))
    for _ in range(2):
        reader = open_reader(path)
        assert reader.totals()["shop"].pending == 1
        found = reader.callback(accepted.ids[0], payload=True)
        assert found is not None
        assert (found.key, found.payload) == ("k", b"body")
        assert reader.callbacks(Filter(key="k"), cursor=None, limit=5)[0][0].id == accepted.ids[0]
        reader.close()
        await store.close()
    with pytest.raises(StoreUnusable, match="does not exist"):
        open_reader(path.with_name("none.db"))


_LOOK = """
import resource, sys
from pathlib import Path
from relay.daemon.stores import open_reader
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print(open_reader("sqlite:" + sys.argv[1]).totals()["shop"].pending)
"""


async def test_read_where_nothing_can_be_written(path: Path, store: SqliteStore) -> None:
    """A store that was closed can be read without room for SQLite's side files, as on a full or read-only disk."""
    await post(store, note(b"1"))
    await store.close()
    looked = subprocess.run([sys.executable, "-c", _LOOK, str(path)], capture_output=True, text=True, timeout=60)
    assert (looked.stdout, looked.stderr) == ("1\n", "")


async def test_lists_by_state_page_through_their_index(store: SqliteStore) -> None:
    """Dead letters of one platform or of all come newest first, page by page, whatever else is in the file."""
    clock = FakeClock(store.clock.now())
    accepted = await post(store, *(note(b"%d" % n, event=("a", "b")[n % 2]) for n in range(9)))
    await post(store, note(b"pending"), note(b"elsewhere", platform="mall"))
    batch = await claimed(store, request(max_items=9))
    await bury(store, batch, clock)
    for platform in ("shop", None):
        dead = Filter(platform=platform, state="dead")
        found: list[str] = []
        cursor = None
        while True:
            page, cursor = await store.callbacks(dead, cursor=cursor, limit=4)
            found += [item.id for item in page]
            if cursor is None:
                break
        assert found == accepted.ids[::-1]
    some = Filter(state="dead", event="b")
    assert len((await store.callbacks(some, cursor=None, limit=50))[0]) == 4
    assert (await store.callbacks(Filter(platform="none", state="dead"), cursor=None, limit=5)) == ([], None)
    assert (await store.start_operation("retry", some, expect_count=4)).matched == 4


async def test_recount_agrees(path: Path) -> None:
    """What is counted from rows plus what was pruned equals the durable totals."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules("shop", "mall", keep_delivered_s=10.0))
    await post(store, *(note(b"%d" % n, platform=("shop", "mall")[n % 2]) for n in range(20)))
    await deliver(store, await claimed(store, request(max_items=4)), clock)
    clock.advance(20)
    while await store.prune():
        pass
    await deliver(store, await claimed(store, request("mall", max_items=3)), clock)
    totals = await balanced(store)
    await store.close()
    reader = open_reader(path)
    assert reader.recount() == totals == reader.totals()
    reader.close()


async def test_better_lane_passes_to_the_head(store: SqliteStore) -> None:
    """A key's head takes the best lane behind it, and what is behind the better one keeps its own."""
    rows = [note(b"%d" % n, key="k", lane=Lane.LOW) for n in range(3)]
    await post(store, *rows)
    await post(store, note(b"other", lane=Lane.NORMAL))
    await post(store, note(b"3", key="k", lane=Lane.HIGH), note(b"4", key="k", lane=Lane.LOW))
    clock = FakeClock(store.clock.now())
    sent = []
    one = request(max_items=1)
    for _ in range(6):
        batch = await claimed(store, one)
        sent += payloads(batch)
        await deliver(store, batch, clock)
    assert sent == [b"0", b"1", b"2", b"3", b"other", b"4"]


async def test_clock_continues(path: Path) -> None:
    """On the same boot the clock goes on; after one where the wall is behind, slots count from the start."""
    limited = rules(rate=Rate(1, 60.0))
    store = await SqliteStore.open(path)
    await store.configure(limited)
    await post(store, note(b"1"), note(b"2"))
    one = request(max_items=1)
    await deliver(store, await claimed(store, one), FakeClock(store.clock.now()))
    before = store.clock.now()
    await store.close()
    store = await SqliteStore.open(path)
    assert before <= store.clock.now() < before + 60
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE meta SET value = 'another' WHERE name = 'boot_id'")
    connection.execute("UPDATE meta SET value = value + 30 WHERE name = 'last_at'")
    connection.close()
    store = await SqliteStore.open(path)
    opened_at = store.clock.now()
    assert opened_at >= before + 30
    await store.configure(limited)
    wait = await refused(store, one)
    assert isinstance(wait, WaitUntil)
    assert wait.at == pytest.approx(opened_at + 60, abs=5)
    await store.close()


async def test_a_clock_that_is_far_ahead_at_a_boot_is_doubted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no time service had set it, for a day: it is told, and dead letters are not removed for their age."""
    monkeypatch.setattr(clocks, "is_synchronized", lambda: False)
    then = FakeClock(clocks.wall_s() - 200 * 86400)
    store = await SqliteStore.open(path, clock=then)
    await store.configure(rules())
    await post(store, note(b"1"), note(b"2"))
    await bury(store, await claimed(store, request(max_items=1)), then)
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO meta VALUES ('boot_id', 'another'), ('offset_s', 0.0)")
    for _ in range(2):  # a restart of the relay changes nothing
        store = await SqliteStore.open(path, events=(told := Told()))
        await store.configure(rules())
        assert told.facts[0] == "clock ahead"
        (said,) = await Readiness(store, []).check()
        assert said.startswith("clock_ahead: at the boot the clock was 200 days ahead of the last time in the store")
        await store.expire()
        assert not await store.prune()
        assert len((await store.callbacks(Filter(state="dead"), cursor=None, limit=9))[0]) == 1
        assert (await store.totals())["shop"].expired == 1
        await store.close()
    connection.execute("UPDATE meta SET value = value - 86400 WHERE name = 'leap_at'")
    connection.close()
    store = await SqliteStore.open(path)
    await store.configure(rules())
    assert await Readiness(store, []).check() == []
    await store.prune()
    assert (await store.callbacks(Filter(state="dead"), cursor=None, limit=9))[0] == []
    await store.close()


_CHILD = """
import asyncio, os, sys
from relay.core.model import Batch, NewCallback, Outcome, StoreRules, ClaimRequest
from relay.core.settlement import AttemptResult, Settlement
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.transaction import numbers

async def client(store, name):
    for n in range(10**9):
        rows = [NewCallback("shop", b"%d" % n, f"{name}-{n % 7}", None, 1, 9e4, f"{name}-{n}-{i}", None, None, "")
                for i in range(3)]
        accepted = await store.accept(rows)
        os.write(1, ("".join(id + "\\n" for id in accepted.ids)).encode())

async def deliver(store):
    turn = 0
    while True:
        turn += 1
        batch = await store.claim(ClaimRequest("shop", "", 50, 1 << 20, 2, 1, 0.0, turn))
        if isinstance(batch, Batch):
            result = AttemptResult(Outcome.OK, store.clock.now(), 0.01, 200)
            seqs = [item.seq for item in batch.items]
            await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, delivered=seqs))

async def main():
    store = await SqliteStore.open(sys.argv[1])
    await store.configure(StoreRules())
    await asyncio.gather(deliver(store), *(client(store, f"c{n}") for n in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [30, 2000])
async def test_kill_keeps_what_was_acknowledged(path: Path, lines: int) -> None:
    """Killed at any moment under load, the file is whole and holds every callback that was acknowledged."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().decode().strip() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [line.decode().strip() for line in child.stdout if line.endswith(b"\n")]
    child.wait()
    child.stdout.close()
    store = await SqliteStore.open(path)
    assert set(await states(store, acknowledged)) <= {"pending", "delivered"}
    totals = await balanced(store)
    assert totals["shop"].accepted >= len(acknowledged)
    await store.close()
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    reader = open_reader(path)
    assert reader.recount() == totals
    reader.close()


async def test_surveys_go_on_where_they_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A survey of many callbacks is read in parts, and each callback is in exactly one of them."""
    monkeypatch.setattr(survey, "_STEP_ROWS", 3)
    store = await SqliteStore.open(path, clock=FakeClock())
    await store.configure(rules())
    await post(store, *[note() for _ in range(8)])
    counts, below = [], None
    while True:
        step = await store.surveys.channels("platform", 0.0, late_before=0.0, below=below)
        counts.append(step.channels["shop"].pending)
        below = step.below
        if below is None:
            break
    await store.close()
    assert (counts, step.since) == ([3, 3, 2], 0.0)
