"""A log that was changed after a crash: told, kept as it is, and what comes before it is saved."""

import asyncio
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from relay.core.errors import StoreUnusable
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file import write_ahead
from relay.store.sqlite.file.copying import back_up
from relay.store.sqlite.file.salvage import salvage
from relay.store.sqlite.read.ledger import open_reader
from relay.store.sqlite.transfer.source import SqliteSource
from tests.clocks import FakeClock
from tests.store.harness import balanced, note, post, rules

FRAME = 24 + 4096
COMMITS = 8


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """A store whose relay was killed: its file is empty yet, and all lies in the log, a commit for each callback."""
    running, path = tmp_path / "running.db", tmp_path / "relay.db"
    store = await SqliteStore.open(running, clock=FakeClock())
    await store.configure(rules())
    for number in range(COMMITS):
        await post(store, note(b"%d" % number))
    for ending in ("", "-wal"):
        Path(f"{path}{ending}").write_bytes(Path(f"{running}{ending}").read_bytes())
    await store.close()
    path.chmod(0o600)
    return path


def log_of(path: Path) -> Path:
    """Return the write-ahead log beside a store."""
    return path.with_name(path.name + "-wal")


def ends(log: bytes) -> list[int]:
    """Return where the last frame of each commit begins."""
    starts = range(32, len(log) - FRAME + 1, FRAME)
    return [at for at in starts if log[at : at + 4] != bytes(4) and log[at + 4 : at + 8] != bytes(4)]


def flip(log: Path, at: int, bit: int = 4) -> None:
    """Flip a bit of a byte."""
    changed = bytearray(log.read_bytes())
    changed[at] ^= bit
    log.write_bytes(changed)


async def test_a_sound_log(killed: Path) -> None:
    """All of it is read after a kill, and nothing told."""
    assert open_reader(killed).damage() == []
    store = await SqliteStore.open(killed, clock=FakeClock())
    assert (await balanced(store))["shop"].pending == COMMITS
    await store.close()


@pytest.mark.parametrize("at", [3, 10, 14, 19, 22, 500, 4000], ids=lambda at: f"byte {at} of a frame")
async def test_a_changed_frame(killed: Path, at: int) -> None:
    """The relay does not start on it, and the log stays as it is; salvage says how much is gone."""
    log = log_of(killed)
    last = ends(log.read_bytes())
    flip(log, last[-5] + at)
    before = log.read_bytes()
    assert open_reader(killed).damage() == ["the write-ahead log: 5 commits in it can no longer be read"]
    with pytest.raises(StoreUnusable, match=r"relay\.db-wal is damaged: 5 commits in it can no longer be read"):
        await SqliteStore.open(killed, clock=FakeClock())
    with pytest.raises(StoreUnusable, match="5 commits in it can no longer be read"):
        back_up(killed, killed.with_name("copy.db"), None)
    assert not killed.with_name("copy.db").exists()
    with pytest.raises(StoreUnusable, match="5 commits in it can no longer be read"):
        SqliteSource(killed, None)
    assert log.read_bytes() == before

    told = salvage(killed, aside=".damaged")

    assert told.left_out == 5
    assert (killed.parent / "relay.db.damaged-wal").read_bytes() == before
    store = await SqliteStore.open(killed, clock=FakeClock())
    assert (await balanced(store))["shop"].pending == COMMITS - 5
    await store.close()


@pytest.mark.parametrize(("at", "bit"), [(2, 4), (3, 1), (9, 4), (17, 4), (22, 4), (30, 4)])
async def test_a_changed_head(killed: Path, at: int, bit: int) -> None:
    """SQLite takes the whole log for none then; the lowest bit of the fourth byte tells the order of bytes."""
    flip(log_of(killed), at, bit)
    with pytest.raises(StoreUnusable, match=r"is damaged: \d+ commits in it"):
        await SqliteStore.open(killed, clock=FakeClock())


@pytest.mark.parametrize("cut", ["torn", "short", "stale"])
async def test_a_commit_that_was_cut_off(killed: Path, cut: str) -> None:
    """That is what a crash leaves, and no damage: nobody was told of that commit."""
    log = log_of(killed)
    whole = log.read_bytes()
    *_, before, last = ends(whole)
    changed = bytearray(whole)
    if cut == "torn":
        changed[before + FRAME + 100] ^= 1  # a part of its first frame is not there, its last one is
    elif cut == "short":
        del changed[last + 100 :]
    else:
        changed[before + FRAME : last] = bytes(last - before - FRAME)
    log.write_bytes(changed)
    assert open_reader(killed).damage() == []
    store = await SqliteStore.open(killed, clock=FakeClock())
    assert (await balanced(store))["shop"].pending == COMMITS - 1
    await store.close()


async def test_a_log_that_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-written frame looks like a wrong one: ``relay doctor`` beside a busy daemon tells of none."""
    path = tmp_path / "relay.db"
    store = await SqliteStore.open(path, clock=FakeClock())
    await store.configure(rules())
    await post(store, note(b"first"))
    loop, left_out = asyncio.get_running_loop(), write_ahead._left_out
    found: list[int] = []

    def busy(_: BinaryIO, valid: int) -> int:
        for _ in range(3):
            asyncio.run_coroutine_threadsafe(post(store, note(b"meanwhile")), loop).result()
        log = bytearray(log_of(path).read_bytes())
        page = 32 + valid * FRAME + 24
        log[page : page + 2048] = bytes(2048)
        found.append(left_out(BytesIO(log), valid))
        return found[-1]

    monkeypatch.setattr(write_ahead, "_left_out", busy)
    reader = open_reader(path)
    assert await asyncio.to_thread(reader.damage) == []
    assert found[0] > 0
    reader.close()
    await store.close()
