"""Backups: made while the store is used, looked through, and put back."""

import asyncio
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import apsw
import pytest
from relay.core.errors import StoreLocked, StoreUnusable
from relay.sealing.master_keys import GivenKeys, KeySource, MasterKey
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.copying import back_up, finish_exchange, looked_through, restore
from relay.store.sqlite.file.lock import FileLock
from tests.clocks import FakeClock
from tests.store.harness import balanced, claimed, deliver, note, payloads, post, rules, shown
from tests.store.test_checksums import Told
from tests.store.test_sealed_file import CANARIES, raw

KEY = GivenKeys(b"k" * 32)


async def opened(path: Path, clock: FakeClock, keys: KeySource | None = None) -> SqliteStore:
    """Open and configure."""
    store = await SqliteStore.open(path, clock=clock, keys=keys)
    await store.configure(rules())
    return store


async def test_a_copy_of_a_store_in_use(tmp_path: Path) -> None:
    """It holds one state of the store, is sound and private; the store goes on; back in its place it sends again."""
    clock, path, copy = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db"
    store = await opened(path, clock)
    ids = (await post(store, note(b"1", key="a"), note(b"2"))).ids
    facts = back_up(path, copy, None)
    assert (facts.pending, facts.sealed) == (2, False)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    await deliver(store, await claimed(store), clock)
    await post(store, note(b"3"))
    with pytest.raises(StoreLocked):
        restore(copy, path, None, aside=".old")
    await store.close()
    assert restore(copy, path, None, aside=".old") == (facts, tmp_path / "relay.db.old")
    again = await opened(path, clock)
    assert payloads(await claimed(again)) == [b"1", b"2"]
    assert (await shown(again, ids[0])).key == "a"
    assert (await balanced(again))["shop"].accepted == 2
    await again.close()
    former = await opened(tmp_path / "relay.db.old", clock)
    assert (await balanced(former))["shop"].delivered == 2
    await former.close()
    for number in (2, 3):  # in the same second
        assert restore(copy, path, None, aside=".old")[1] == tmp_path / f"relay.db.old-{number}"


async def test_a_copy_is_on_the_disk_before_it_is_told_as_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and name are synced, of a backup and of a store that is put back: a power cut takes neither."""
    path, copy = tmp_path / "relay.db", tmp_path / "copies" / "copy.db"
    copy.parent.mkdir()
    store = await opened(path, FakeClock())
    await post(store, note(b"1"))
    await store.close()
    flushed: list[str] = []
    sync = os.fsync

    def noted(file: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    back_up(path, copy, None)
    assert {str(copy), str(copy.parent)} <= set(flushed)
    flushed.clear()
    restore(copy, path, None, aside=".old")
    assert {f"{path}.restoring", str(tmp_path)} <= set(flushed)


async def test_a_killed_store_keeps_its_log_when_it_is_put_aside(tmp_path: Path) -> None:
    """A write-ahead log that was left over goes with the file it belongs to, and never into the restored one."""
    clock, path, copy = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db"
    store = await opened(path, clock)
    await post(store, note(b"1"))
    back_up(path, copy, None)
    await post(store, note(b"2"))
    image = tmp_path / "killed.db"
    for ending in ("", "-wal"):
        Path(f"{image}{ending}").write_bytes(Path(f"{path}{ending}").read_bytes())
    await store.close()
    restore(copy, image, None, aside=".old")
    assert not Path(f"{image}-wal").exists()
    assert looked_through(image, None).pending == 1
    assert looked_through(Path(f"{image}.old"), None).pending == 2


async def test_a_copy_that_is_changed_on_its_way(tmp_path: Path) -> None:
    """It is changed before it is the store: where that fails the former store stays, and nothing is left beside it."""
    clock, path, copy = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db"
    store = await opened(path, clock)
    await post(store, note(b"1"), note(b"2"))
    back_up(path, copy, None)
    await post(store, note(b"3"))
    await store.close()
    before, there = raw(path), sorted(os.listdir(tmp_path))

    def changed(coming: Path) -> None:
        assert raw(path) == before
        connection = apsw.Connection(str(coming))
        connection.execute("DELETE FROM callback WHERE seq = (SELECT min(seq) FROM callback)")
        connection.close()

    def fails(coming: Path) -> None:
        for ending in ("-wal", "-shm", ".lock"):  # as a kill leaves them
            Path(f"{coming}{ending}").touch()
        raise StoreUnusable("the keys are away")

    with pytest.raises(StoreUnusable, match="keys are away"):
        restore(copy, path, None, aside=".old", change=fails)
    with pytest.raises(StoreUnusable, match="could not be emptied"):
        restore(copy, path, None, aside=".old", change=lambda coming: Path(f"{coming}-wal").write_bytes(b"x"))
    assert (raw(path), sorted(os.listdir(tmp_path))) == (before, there)
    Path(f"{path}.restoring-wal").write_bytes(b"of a restore that was killed")
    facts, former = restore(copy, path, None, aside=".old", change=changed)
    assert (facts.pending, former) == (1, tmp_path / "relay.db.old")
    assert looked_through(path, None).pending == 1
    assert sorted(os.listdir(tmp_path)) == sorted([*there, "relay.db.old"])


async def test_a_sealed_copy_is_sealed(tmp_path: Path) -> None:
    """Nothing planted is found in a backup of a sealed store; without its key it is not put back."""
    clock, path, copy = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db"
    store = await opened(path, clock, KEY)
    await post(store, *[note(canary, key=canary.decode()) for canary in CANARIES])
    assert back_up(path, copy, KEY).sealed
    await store.close()
    assert [canary for canary in CANARIES if canary in copy.read_bytes()] == []
    before = raw(path)
    with pytest.raises(StoreUnusable, match=MasterKey(b"k" * 32).id):
        restore(copy, path, GivenKeys(b"x" * 32), aside=".old")
    assert raw(path) == before
    restore(copy, path, KEY, aside=".old")
    again = await opened(path, clock, KEY)
    assert sorted(payloads(await claimed(again))) == sorted(CANARIES)
    await again.close()


async def test_no_file_is_overwritten_and_none_is_left(tmp_path: Path) -> None:
    """An existing file, a directory that is not there: refused; what lies there stays."""
    path = tmp_path / "relay.db"
    store = await opened(path, FakeClock())
    await store.close()
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(StoreUnusable, match="exists already"):
        back_up(path, there, None)
    assert there.read_text() == "mine"
    with pytest.raises(StoreUnusable, match="No such file"):
        back_up(path, tmp_path / "none" / "copy.db", None)
    with pytest.raises(StoreUnusable, match="does not exist"):
        back_up(tmp_path / "nothing.db", tmp_path / "copy.db", None)
    assert [name for name in os.listdir(tmp_path) if name.startswith(("copy", "none"))] == []


async def test_what_is_no_sound_copy_is_not_put_back(tmp_path: Path) -> None:
    """A damaged copy, another program's database and a text: named, and the store stays as it is."""
    clock, path, copy = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db"
    store = await opened(path, clock)
    await post(store, *[note(b"x" * 500, key=f"k{number}") for number in range(200)])
    back_up(path, copy, None)
    await store.close()
    before = raw(path)
    damaged = bytearray(copy.read_bytes())
    damaged[8192:12288] = os.urandom(4096)
    (tmp_path / "damaged.db").write_bytes(damaged)
    (tmp_path / "mixed.db").write_bytes(copy.read_bytes())
    mixed = apsw.Connection(
        str(tmp_path / "mixed.db")
    )  # an index lacks the rows it says it holds: all can be read still
    mixed.execute(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'IN (2, 3)', 'IN (0, 3)') "
        "WHERE name = 'callback_shelf'"
    )
    mixed.close()
    (tmp_path / "text.db").write_text("hello " * 1000)
    foreign = apsw.Connection(str(tmp_path / "foreign.db"))
    foreign.execute("CREATE TABLE t (a)")
    foreign.close()
    for name in ("damaged.db", "mixed.db", "text.db", "foreign.db"):
        with pytest.raises(StoreUnusable):
            restore(tmp_path / name, path, None, aside=".old")
    assert raw(path) == before


_RESTORE_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
from relay.store.sqlite.file.copying import restore
folder = Path(sys.argv[1])
for steps in range(int(sys.argv[2])):
    if not (pid := os.fork()):
        done = 0
        def step(event, args):
            global done
            if event == "os.rename" or event == "os.remove" and "restoring" not in str(args[0]):
                done += 1
                if done > steps:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(step)
        restore(folder / "copy.db", folder / str(steps) / "relay.db", None, aside=".old")
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
"""


async def test_a_restore_that_is_killed_at_any_step_is_finished_or_undone(tmp_path: Path) -> None:
    """The next start has the former store or the backup, whole, and neither is lost; it says what it found."""
    clock, path, copy, cases = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db", 6
    store = await opened(path, clock)
    await post(store, note(b"1"))
    back_up(path, copy, None)
    await post(store, note(b"2"))  # in the log only
    for case in range(cases):
        (tmp_path / str(case)).mkdir()
        for ending in ("", "-wal"):
            (tmp_path / str(case) / f"relay.db{ending}").write_bytes(Path(f"{path}{ending}").read_bytes())
    await store.close()
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _RESTORE_UNTIL_KILLED, tmp_path, str(cases)],
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["9"] * (cases - 1) + ["0"], ran.stderr
    found = []
    for case in range(cases):
        folder = tmp_path / str(case)
        if not (folder / "relay.db").exists():
            with pytest.raises(StoreUnusable, match="the next start of the relay finishes it"):
                looked_through(folder / "relay.db", None)
        told = Told()
        again = await SqliteStore.open(folder / "relay.db", clock=clock, events=told)
        await again.configure(rules())
        pending = (await balanced(again))["shop"].pending
        await again.close()
        former = looked_through(folder / "relay.db.old", None).pending if (folder / "relay.db.old").exists() else None
        found.append((pending, former, told.heard))
        assert not list(folder.glob("*.exchange"))
    untouched, finished = (2, None, []), (1, 2, ["exchanged"])
    assert found == [untouched, *[finished] * (cases - 2), (1, 2, [])]


async def test_a_step_that_fails_is_done_by_the_next_start(tmp_path: Path) -> None:
    """The file that will be the store stays; one that was put in between is never overwritten."""
    clock, path, copy = FakeClock(), tmp_path / "relay.db", tmp_path / "copy.db"
    store = await opened(path, clock)
    await post(store, note(b"1"))
    back_up(path, copy, None)
    await post(store, note(b"2"))
    await store.close()
    renamed, steps = os.rename, iter((False, True))

    def fails(source: Path, target: Path) -> None:
        if next(steps):
            raise OSError(errno.EIO, "Input/output error")
        renamed(source, target)

    with patch("os.rename", fails), pytest.raises(OSError, match="Input/output"):
        restore(copy, path, None, aside=".old")
    path.write_bytes(copy.read_bytes())
    path.chmod(0o600)
    with pytest.raises(StoreUnusable, match=r"was put there while it was being replaced: move it away"):
        await opened(path, clock)
    path.unlink()
    finish_exchange(path)
    assert (looked_through(path, None).pending, looked_through(Path(f"{path}.old"), None).pending) == (1, 2)


@pytest.mark.parametrize(
    ("there", "told"), [("former", "or rename .*relay.db.old, then remove"), ("", "cannot be read")]
)
def test_what_an_exchange_lacks_is_told(tmp_path: Path, there: str, told: str) -> None:
    """No empty store is begun where the file that was to be the store is gone, or the plan cannot be read."""
    path = tmp_path / "relay.db"
    (tmp_path / "relay.db.old").touch()
    plan = b'{"coming":"relay.db.restoring","former":"relay.db.old"}' if there else b"?"
    (tmp_path / "relay.db.exchange").write_bytes(plan)
    with pytest.raises(StoreUnusable, match=told):
        FileLock(path)
    assert not path.exists()


async def test_no_store_is_begun_beside_the_log_of_another(tmp_path: Path) -> None:
    """SQLite would delete it. A new store is told as one."""
    clock, path = FakeClock(), tmp_path / "relay.db"
    store = await opened(path, clock)
    await post(store, note(b"1"))
    image = tmp_path / "killed.db"
    log = Path(f"{image}-wal")
    log.write_bytes(Path(f"{path}-wal").read_bytes())
    await store.close()
    for empty in (False, True):
        if empty:
            image.touch(mode=0o600)
        with pytest.raises(
            StoreUnusable, match=r"killed\.db is gone or empty, and .*killed\.db-wal holds commits of it"
        ):
            await opened(image, clock)
        assert log.stat().st_size > 0
    log.unlink()
    told = Told()
    for _ in range(2):
        await (await SqliteStore.open(image, clock=clock, events=told)).close()
    assert told.heard == ["begun"]
