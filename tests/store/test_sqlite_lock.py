"""Whose the store's files are: one daemon per file by whatever name, and nothing changed that is somebody else's."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest
from relay.core.errors import StoreEnded, StoreFailed, StoreLocked, StoreUnusable
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.lock import FileLock
from tests.store.harness import note, post, rules, until

_HOLD = """
import sys
from pathlib import Path
from relay.store.sqlite.file.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store lies."""
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "relay.db"


@pytest.fixture
def owner(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store."""
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.stdin.close()
    child.wait(60)
    child.stdout.close()


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """An open store."""
    made = await SqliteStore.open(path)
    await made.configure(rules())
    yield made
    await made.close()


def alias(path: Path, kind: str) -> Path:
    """Return another way to the same file."""
    beside = path.parent.parent
    if kind == "symbolic link":
        (beside / "alias.db").symlink_to(path)
    elif kind == "symbolic link to a directory":
        (beside / "elsewhere").symlink_to(path.parent)
        return beside / "elsewhere" / path.name
    elif kind == "chain of links":
        (beside / "first.db").symlink_to("state/relay.db")
        (beside / "alias.db").symlink_to("first.db")
    elif kind == "hard link":
        os.link(path, beside / "alias.db")
    elif kind == "dots":
        return beside / "state" / ".." / "state" / path.name
    elif kind == "lock file removed":
        path.with_name("relay.db.lock").unlink()
        return path
    elif kind == "file put in its place":
        apsw.Connection(str(beside / "new.db")).close()
        (beside / "new.db").rename(path)
        return path
    return beside / "alias.db"


@pytest.mark.parametrize(
    "kind",
    [
        *("symbolic link", "symbolic link to a directory", "chain of links", "hard link", "dots"),
        *("lock file removed", "file put in its place"),
    ],
)
async def test_second_daemon_by_another_name(path: Path, owner: subprocess.Popen[str], kind: str) -> None:
    """Whatever name a second daemon is given for the file, it is refused and told the first one's process id."""
    with pytest.raises(StoreLocked, match=rf"in use by another relay, process {owner.pid};"):
        await SqliteStore.open(alias(path, kind))


async def test_a_link_is_followed(path: Path) -> None:
    """A store named by a symbolic link is the file behind it, with its WAL and lock beside that."""
    link = path.parent.parent / "link.db"
    link.symlink_to(path)
    store = await SqliteStore.open(link)
    await store.close()
    assert path.exists()
    assert {file.name for file in link.parent.iterdir()} == {"state", "link.db"}


async def test_several_names_are_refused(path: Path) -> None:
    """A file with two names is not opened: what was accepted under one could not be seen under the other."""
    await (await SqliteStore.open(path)).close()
    os.link(path, path.with_name("copy.db"))
    with pytest.raises(StoreUnusable, match=r"2 names \(hard links\).*remove the other names"):
        await SqliteStore.open(path)


def foreign_file(path: Path, kind: str) -> None:
    """Put something there that is not the relay's."""
    if kind == "database":
        connection = apsw.Connection(str(path))
        connection.execute("CREATE TABLE other (x)")
        connection.close()
    elif kind == "database in WAL mode":
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        connection.execute("CREATE TABLE other (x)")
        connection.close()
    elif kind == "empty database":
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        connection.close()
    elif kind == "text":
        path.write_text("not a database\n" * 40)
    elif kind == "short text":
        path.write_text("notes\n")
    path.chmod(0o664)


@pytest.mark.parametrize("kind", ["database", "database in WAL mode", "empty database", "text", "short text"])
async def test_foreign_files_are_left_alone(path: Path, kind: str) -> None:
    """What is refused keeps its mode, its bytes and its times, and no file appears beside it."""
    foreign_file(path, kind)
    before, content = path.stat(), path.read_bytes()
    with pytest.raises(StoreUnusable, match=r"another program's database|is not a database"):
        await SqliteStore.open(path)
    after = path.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode, before.st_mtime_ns, before.st_ctime_ns,
    )  # fmt: skip
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "other content", "pipe", "directory"])
async def test_foreign_lock_files_are_left_alone(path: Path, kind: str) -> None:
    """Something else in the place of the lock file is named and neither followed nor overwritten."""
    victim, lock = path.with_name("victim"), path.with_name("relay.db.lock")
    victim.write_text("precious" if kind != "hard link" else "4711\n")
    before = victim.read_text()
    if kind == "symbolic link":
        lock.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, lock)
    elif kind == "other content":
        victim.rename(lock)
        victim = lock
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(StoreUnusable, match=r"relay\.db\.lock"):
        await SqliteStore.open(path)
    assert victim.read_text() == before


async def test_wide_permissions_end(path: Path) -> None:
    """A store that came with wider permissions, as from a backup, is private once it is opened; its side files too."""
    store = await SqliteStore.open(path)
    await store.configure(rules())
    await post(store, note(b"1"))
    kept = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    await store.close()
    for name, content in kept.items():  # as a crash leaves them, copied by somebody careless
        path.with_name(name).write_bytes(content)
        path.with_name(name).chmod(0o666)
    store = await SqliteStore.open(path)
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == dict.fromkeys(
        ("relay.db", "relay.db-wal", "relay.db-shm", "relay.db.lock"), 0o600
    )
    assert (await store.totals())["shop"].pending == 1
    await store.close()


@pytest.mark.parametrize("kind", ["moved away", "replaced"])
async def test_file_that_goes_while_it_is_open(path: Path, store: SqliteStore, kind: str) -> None:
    """Nothing is acknowledged into a file that a restart would not find; put back, the store goes on by itself."""
    away = path.with_name("away.db")
    path.rename(away)
    if kind == "replaced":
        path.write_bytes(b"")
    with pytest.raises(StoreFailed, match="the file is gone" if kind == "moved away" else "another file lies"):
        await store.ping()
    with pytest.raises(StoreFailed):
        await post(store, note(b"1"))
    assert path.exists() == (kind == "replaced")
    away.rename(path)

    async def works() -> None:
        while True:
            try:
                await store.ping()
            except StoreFailed:
                await asyncio.sleep(0.01)
            else:
                return

    await asyncio.wait_for(works(), 20)
    await post(store, note(b"2"))


async def test_posts_notice_within_a_second(path: Path, store: SqliteStore) -> None:
    """Nobody need ask: posts themselves find out, about once a second, that the file is gone."""
    failed = False
    path.rename(path.with_name("away.db"))

    async def keep_posting() -> None:
        nonlocal failed
        while not failed:
            try:
                await post(store, note(b"1"))
            except StoreFailed:
                failed = True

    posting = asyncio.create_task(keep_posting())
    await until(lambda: failed)
    await posting
    path.with_name("away.db").rename(path)


def test_nothing_is_held_after_a_refusal(path: Path) -> None:
    """A start that was refused leaves no descriptor open and no lock taken."""
    foreign_file(path, "text")
    with pytest.raises(StoreUnusable):
        FileLock(path)
    kept_open = [os.path.realpath(each.path) for each in os.scandir("/proc/self/fd")]  # not how many: others may close
    assert not [name for name in kept_open if name.startswith(str(path.parent))]
    path.unlink()
    lock = FileLock(path)
    lock.release()


@pytest.mark.parametrize("kind", ["deleted", "replaced"])
async def test_a_wal_that_goes_loses_nothing(path: Path, kind: str) -> None:
    """What was accepted into a deleted -wal would be gone after a crash: it is copied back, and the relay ends."""
    store = await SqliteStore.open(path)
    await store.configure(rules())
    await post(store, note(b"0"))
    wal = path.with_name(f"{path.name}-wal")
    wal.unlink()
    if kind == "replaced":
        wal.write_bytes(b"")
    accepted = 1

    async def keep_posting() -> None:
        nonlocal accepted
        while True:
            await post(store, note(b"1"))
            accepted += 1

    with pytest.raises(StoreEnded, match="-wal was deleted or replaced"):
        await asyncio.wait_for(keep_posting(), 20)
    with pytest.raises(StoreEnded):
        await store.ended()
    crashed = path.with_name("crashed.db")
    crashed.write_bytes(path.read_bytes())  # as a kill -9 leaves it: the database alone
    assert apsw.Connection(str(crashed)).execute("SELECT count(*) FROM callback").get == accepted
    await store.close()
