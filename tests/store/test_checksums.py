"""A page that is not what was written to it: noticed at each reading, gone around, mended where one byte is wrong."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import apsw
import pytest
from relay.cli.main import run
from relay.core.errors import StoreDamaged, StoreUnusable
from relay.core.model import Filter, WaitUntil
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.checksums import HELD_REASON, PAGE_BYTES, mismatches
from relay.store.sqlite.file.copying import back_up
from relay.store.sqlite.file.mend import changed_bytes
from relay.store.sqlite.file.salvage import salvage
from relay.store.sqlite.file.write_ahead import lost_commits
from relay.store.sqlite.read.ledger import SqliteReader, open_reader
from relay.store.sqlite.write.apart.unreadable import claim_around_damage
from tests.clocks import FakeClock
from tests.faults.laboratory import flipped_bits
from tests.store.harness import balanced, claimed, deliver, note, operate, payloads, post, request, resend, rules, shown

COUNT = 60
T = TypeVar("T")
HELD = 5  # at least so many payloads lie on a page


class Told:
    """Keeps what a store tells of damage."""

    def __init__(self) -> None:
        self.damaged: list[StoreDamaged] = []
        self.heard: list[str] = []

    def store_damaged(self, *, error: StoreDamaged) -> None:
        self.damaged.append(error)

    def store_committed(self, *, seconds: float, rows: int) -> None: ...

    def store_failed(self, *, error: BaseException) -> None:
        raise AssertionError(error)

    def store_recovered(self, *, seconds: float) -> None: ...

    def seal_broken(self, *, platform: str, callbacks: object) -> None:
        raise AssertionError(callbacks)

    def callbacks_lost(self, *, platform: str, callbacks: object) -> None:
        raise AssertionError(callbacks)

    def spool_set_aside(self, *, posts: object) -> None: ...

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None: ...

    def clock_ahead(self, *, seconds: float) -> None: ...

    def store_begun(self, *, path: str) -> None:
        self.heard.append("begun")

    def store_exchanged(self, *, path: str) -> None:
        self.heard.append("exchanged")

    def server_replaced(self, *, platform: str, attempts: int) -> None:
        raise AssertionError(platform)


async def filled(path: Path, clock: FakeClock, *platforms: str, frozen: int = 0) -> dict[str, bytes]:
    """Make a store with callbacks for each platform in turn; return their payloads by id."""
    names = platforms or ("shop",)
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules(*names))
    found: dict[str, bytes] = {}
    for name in names:
        rows = [note(b'{"n":%d,"x":"%b"}' % (n, b"." * 500), platform=name) for n in range(COUNT)]
        found |= zip((await post(store, *rows)).ids, (row.payload for row in rows), strict=True)
    if frozen:
        await resend(store, await claimed(store, request(max_items=frozen)), clock, after_s=1)
    await store.close()
    return found


async def opened(path: Path, clock: FakeClock, *platforms: str) -> tuple[SqliteStore, Told]:
    """Open the store again, and what is told of it."""
    told = Told()
    store = await SqliteStore.open(path, clock=clock, events=told)
    await store.configure(rules(*(platforms or ("shop",))))
    return store, told


def leaves(path: Path, table: str) -> list[int]:
    """Return the pages of a table's leaves, from 1, in the order of their rows."""
    with closing(apsw.Connection(str(path))) as connection:
        found = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        return [int(page) for (page,) in connection.execute(found, (table,))]


def flip(path: Path, page: int, at: int) -> None:
    """Flip a bit of a page's byte."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES + at)
        (was,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes((was ^ 4,)))


def plain_copy(path: Path, copy: Path) -> None:
    """Write a store as an earlier relay made it: without room for checksums."""
    with closing(apsw.Connection(str(copy))) as target, closing(apsw.Connection(str(path))) as source:
        target.pragma("auto_vacuum", 2)
        target.execute("BEGIN")
        for (sql,) in source.execute("SELECT sql FROM sqlite_schema WHERE sql > '' AND name NOT LIKE 'sqlite%'"):
            target.execute(sql)
        for name in ("user_version", "application_id"):
            target.pragma(name, source.pragma(name))
        for (table,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'stop'"):
            for row in source.execute(f"SELECT * FROM {table}"):
                target.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
        target.execute("COMMIT")
    copy.chmod(0o600)


async def test_every_page_has_one(path: Path, clock: FakeClock) -> None:
    """From the first page to the last, also after what was deleted and written again."""
    await filled(path, clock)
    store, told = await opened(path, clock)
    await deliver(store, await claimed(store), clock)
    clock.advance(40 * 86400)
    while await store.prune():
        pass
    await post(store, *(note(b"x" * 9000) for _ in range(10)))
    await store.close()
    assert path.read_bytes()[20] == 8
    assert (list(mismatches(path)), told.damaged) == ([], [])
    flip(path, leaves(path, "payload")[0], 3000)
    assert len(list(mismatches(path))) == 1


async def test_bits_anywhere_are_noticed_or_harmless(tmp_path: Path) -> None:
    """The short form of ``python -m tests.faults.laboratory.flipped_bits``."""
    rng = random.Random(7)
    await flipped_bits.fill(tmp_path / "relay.db", rng)
    found = flipped_bits.shares(tmp_path / "relay.db", 40, rng)
    assert (found["silent"], found.total()) == (0, 40)
    assert found["noticed"] > 20


@pytest.mark.parametrize("frozen", [0, COUNT // 2])
async def test_payloads_of_a_damaged_page_are_held_and_the_others_go(path: Path, clock: FakeClock, frozen: int) -> None:
    """Loose ones and those of a batch that waits for its re-send; none is sent with a changed byte."""
    wanted = await filled(path, clock, frozen=frozen)
    flip(path, leaves(path, "payload")[1], 3000)
    clock.advance(2)
    store, told = await opened(path, clock)
    sent: dict[str, bytes] = {}
    waits = 0
    while len(sent) < COUNT - 10:
        got = await store.claim(request(max_items=20))
        if isinstance(got, WaitUntil):
            assert got.at <= clock.now()
            waits += 1
            continue
        sent |= {item.id: item.payload for item in got.items}
        await deliver(store, got, clock)
    held = [await shown(store, callback_id, payload=True) for callback_id in wanted if callback_id not in sent]
    assert all(payload == wanted[callback_id] for callback_id, payload in sent.items())
    assert {(view.state, view.held, view.reason) for view in held} == {("pending", True, HELD_REASON)}
    assert HELD <= len(held) <= 10
    assert all(view.payload is None for view in held)
    assert waits >= 1
    assert "with the daemon down: relay restore BACKUP" in str(told.damaged[0])
    assert (await post(store, note(b"later"))).ids
    assert payloads(await claimed(store)) == [b"later"]
    await balanced(store)
    await store.close()


async def test_other_platforms_go_on(path: Path, clock: FakeClock) -> None:
    """A page of callbacks cannot be read around: the platform waits for a person, and nobody else does."""
    names = ("shop", "between", "mall")  # a row that grows may move others to a neighbour's page
    await filled(path, clock, *names)
    flip(path, leaves(path, "callback")[0], 3000)
    store, told = await opened(path, clock, *names)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="a page does not match its checksum"):
            await store.claim(request())
    assert len((await claimed(store, request("mall"))).items) > HELD
    assert (await post(store, note(b"later"))).ids
    await store.ping()
    with pytest.raises(StoreDamaged):
        await store.callbacks(Filter(), cursor=None, limit=500)
    assert len(told.damaged) == 3
    await store.close()


@pytest.mark.parametrize(("table", "told"), [("callback", "the store is damaged"), ("meta", "is damaged")])
def test_commands_that_read_the_file_say_so(
    path: Path, clock: FakeClock, table: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the daemon down, in one line; ``relay doctor`` as a finding."""
    asyncio.run(filled(path, clock))
    flip(path, leaves(path, table)[0], 3000)
    file = path.with_name("relay.yaml")
    file.write_text(
        f"version: 1\nadmin: {{listen: 'unix:{path.parent}/a'}}\nstore: {{url: 'sqlite:{path}'}}\n"
        "platforms: {shop: {url: 'https://shop.example/'}}\n"
    )
    assert run(["ls", "-c", str(file)]) in (1, 4)
    *_, line = capsys.readouterr().err.splitlines()
    assert told in line
    assert "(a page does not match its checksum)" in line
    assert run(["doctor", "-c", str(file), "-o", "jsonl"]) == 1
    assert "a page does not match its checksum" in capsys.readouterr().out


async def test_what_ended_meanwhile_is_not_held(path: Path, clock: FakeClock) -> None:
    """Pages are looked through between two commits; a callback that is cancelled there stays cancelled."""
    wanted = await filled(path, clock)
    flip(path, leaves(path, "payload")[0], 3000)
    store, _ = await opened(path, clock)
    first = next(iter(wanted))
    reads = store._read

    async def cancelled_meanwhile(read: Callable[[SqliteReader], T]) -> T:
        await store.cancel(first)
        return await reads(read)

    claims = {"claims": store._claims, "write": store._write, "read": cancelled_meanwhile}
    assert isinstance(await claim_around_damage(request(), **claims), WaitUntil)
    (view,), _ = await store.callbacks(Filter(ids=(first,)), cursor=None, limit=1)
    assert (view.state, view.held, view.reason) == ("superseded", False, "cancelled")
    await store.close()


async def test_a_damaged_store_makes_no_backup(path: Path, clock: FakeClock) -> None:
    """No copy is left that looks like one."""
    await filled(path, clock)
    flip(path, leaves(path, "payload")[0], 3000)
    assert open_reader(path).damage() == ["a page does not match its checksum"]
    with pytest.raises(StoreUnusable, match=r"is damaged \(a page does not match its checksum\)"):
        back_up(path, path.with_name("copy.db"), None)
    assert not path.with_name("copy.db").exists()


async def test_a_store_of_an_earlier_relay_gets_them_by_its_backup(path: Path, clock: FakeClock) -> None:
    """Until then it works without."""
    await filled(path, clock)
    older, copy = path.with_name("older.db"), path.with_name("copy.db")
    plain_copy(path, older)
    store, _ = await opened(older, clock)
    assert len((await claimed(store)).items) == COUNT
    await store.close()
    assert older.read_bytes()[20] == 0
    assert changed_bytes(older) == []
    back_up(older, copy, None)
    assert (copy.read_bytes()[20], list(mismatches(copy))) == (8, [])


@pytest.mark.parametrize("changed", [0, 12, 255])
async def test_checksums_do_not_go_off_unseen(path: Path, clock: FakeClock, changed: int) -> None:
    """One byte of the file says that it has them. A start, a look and a backup notice its change; salvage mends it."""
    wanted = await filled(path, clock)
    before = path.read_bytes()
    path.write_bytes(before[:20] + bytes((changed,)) + before[21:])
    refused = r"relay\.db is damaged: byte 20 of it was changed"
    with pytest.raises(StoreUnusable, match=refused):
        await SqliteStore.open(path, clock=clock)
    for look in (open_reader, lambda file: back_up(file, file.with_name("copy.db"), None)):
        with pytest.raises(StoreUnusable, match=refused):
            look(path)
    assert path.read_bytes()[20] == changed
    told = salvage(path, aside=".damaged")
    assert [(one.page, one.at, one.right) for one in told.mended] == [(1, 20, 8)]
    store, damage = await opened(path, clock)
    assert payloads(await claimed(store)) == list(wanted.values())
    assert (path.read_bytes()[20], damage.damaged) == (8, [])
    await store.close()


@contextmanager
def without_the_layer() -> Iterator[None]:
    """Let it be an apsw that came without ``cksumvfs``."""
    apsw.set_default_vfs("unix")
    try:
        yield
    finally:
        apsw.set_default_vfs("cksmvfs")


async def test_without_the_layer(path: Path, clock: FakeClock) -> None:
    """What has checksums is not written without them; a new store is made without."""
    await filled(path, clock)
    with without_the_layer():
        with pytest.raises(StoreUnusable, match="came without cksumvfs"):
            await SqliteStore.open(path, clock=clock)
        await (await SqliteStore.open(path.with_name("new.db"), clock=clock)).close()
    assert path.with_name("new.db").read_bytes()[20] == 0


@pytest.mark.parametrize("table", ["payload", "callback", "idempotency", "meta", "platform"])
async def test_one_wrong_byte_is_put_right(path: Path, clock: FakeClock, table: str) -> None:
    """Salvage loses nothing then, and says which byte it was."""
    wanted = await filled(path, clock)
    page = leaves(path, table)[0]
    flip(path, page, 3001)
    told = salvage(path, aside=".damaged")
    assert (told.gaps, told.lost, told.unsendable) == ([], {}, 0)
    assert [(one.page, one.at, one.found ^ one.right) for one in told.mended] == [(page, 3001, 4)]
    assert sorted(file.name for file in path.parent.iterdir() if "mended" in file.name) == []
    store, damage = await opened(path, clock)
    assert payloads(await claimed(store)) == list(wanted.values())
    assert damage.damaged == []
    await store.close()


async def test_nobody_else_reads_what_a_salvage_works_on(path: Path, clock: FakeClock) -> None:
    """What it makes beside the store has payloads in plain; what a killed one left is made anew."""
    await filled(path, clock)
    path.with_name("relay.db.mended").touch(mode=0o644)
    path.with_name("relay.db-wal").write_bytes(b"")
    flip(path, leaves(path, "payload")[0], 3001)
    modes: dict[str, int] = {}

    def looked(connection: apsw.Connection) -> int:
        modes.update((file.name, file.stat().st_mode & 0o077) for file in path.parent.iterdir())
        return lost_commits(connection)

    with patch("relay.store.sqlite.file.salvage.lost_commits", looked):
        salvage(path, aside=".damaged")
    assert {"relay.db.mended", "relay.db.mended-wal", "relay.db.salvaged"} <= modes.keys()
    assert set(modes.values()) == {0}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_was_held_is_sent_after_a_salvage(path: Path, clock: FakeClock) -> None:
    """Its payload was put right; it stays held until a person says that it shall be sent."""
    wanted = await filled(path, clock)
    flip(path, leaves(path, "payload")[0], 3001)
    store, _ = await opened(path, clock)
    assert isinstance(await store.claim(request()), WaitUntil)
    await store.close()
    assert salvage(path, aside=".damaged").unsendable == 0
    store, _ = await opened(path, clock)
    sent = payloads(batch := await claimed(store))
    await deliver(store, batch, clock)
    assert HELD <= COUNT - len(sent) <= 10
    await operate(store, "resolve", Filter(reason=HELD_REASON), verdict="retry")
    sent += payloads(await claimed(store))
    assert sorted(sent) == sorted(wanted.values())
    await store.close()


async def test_what_a_kill_left_in_the_log_is_salvaged_too(path: Path, clock: FakeClock) -> None:
    """The copy that is put right takes the write-ahead log along."""
    await filled(path, clock)
    store, _ = await opened(path, clock)
    (late,) = (await post(store, note(b"late"))).ids
    killed = path.with_name("killed.db")
    for ending in ("", "-wal"):
        killed.with_name(killed.name + ending).write_bytes(path.with_name(path.name + ending).read_bytes())
    await store.close()
    killed.chmod(0o600)
    flip(killed, leaves(path, "payload")[0], 3001)
    assert len(salvage(killed, aside=".damaged").mended) == 1
    store, _ = await opened(killed, clock)
    assert (await shown(store, late, payload=True)).payload == b"late"
    await store.close()


async def test_no_byte_is_put_right_wrongly(path: Path, clock: FakeClock) -> None:
    """Three of four bytes can be told; the highest byte of a word may fit several places, and is left then."""
    await filled(path, clock)
    whole, rng = path.read_bytes(), random.Random(3)
    right = 0
    for _ in range(120):
        at = rng.randrange(PAGE_BYTES, len(whole))
        changed = bytearray(whole)
        changed[at] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        found = [((one.page - 1) * PAGE_BYTES + one.at, one.found, one.right) for one in changed_bytes(path)]
        assert found in ([], [(at, changed[at], whole[at])])
        right += len(found)
    assert right >= 80
    changed[at + (1 if at % PAGE_BYTES < PAGE_BYTES - 1 else -1)] ^= 1
    path.write_bytes(changed)
    assert changed_bytes(path) == []
