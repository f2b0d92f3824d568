"""A damaged store: what can be read is saved, the rest is told, and nothing is replaced in silence."""

import errno
import os
import random
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from relay.core.errors import StoreUnusable
from relay.core.model import Batch
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file import salvage as module
from relay.store.sqlite.file.checksums import make_room
from relay.store.sqlite.file.salvage import DAMAGED, salvage
from relay.store.sqlite.read.ledger import open_reader
from tests.clocks import FakeClock
from tests.store.harness import balanced, bury, claimed, deliver, note, post, request, rules

PAGE = 4096
COUNT = 400


async def filled(path: Path) -> dict[str, bytes]:
    """Make a store with callbacks in every state, and return their payloads by id."""
    clock = FakeClock()
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules())
    rows = [note(b'{"n":%d,"x":"%b"}' % (n, b"." * 600), key=f"k{n % 40}") for n in range(COUNT)]
    ids = (await post(store, *rows)).ids
    await deliver(store, await claimed(store, request(max_items=30)), clock)
    await bury(store, await claimed(store, request(max_items=20)), clock)
    await claimed(store, request(max_items=10))  # under way when the file is damaged
    await store.close()
    return dict(zip(ids, (row.payload for row in rows), strict=True))


def pages_of(path: Path, table: str) -> list[int]:
    """Return the pages of a table's leaves, from 0."""
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)).fetchall()
    connection.close()
    return [int(page) - 1 for (page,) in found]


def destroy(path: Path, page: int) -> None:
    """Make a page unreadable."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xff" * 64)


async def opened(path: Path) -> SqliteStore:
    """Open what was salvaged."""
    store = await SqliteStore.open(path, clock=FakeClock())
    await store.configure(rules())
    return store


@pytest.mark.parametrize("table", ["callback", "payload", "batch", "attempt", "idempotency", "ledger", "audit"])
async def test_one_page_is_lost_and_no_more(table: str, tmp_path: Path) -> None:
    """What is on other pages is there with its payload, in an order that can be sent; what is gone is counted."""
    path = tmp_path / "relay.db"
    payloads = await filled(path)
    page = random.Random(table).choice(pages_of(path, table))
    destroy(path, page)

    told = salvage(path, aside=".damaged")

    assert told.former == tmp_path / "relay.db.damaged"
    assert told.former.read_bytes()[page * PAGE : page * PAGE + 64] == b"\xff" * 64
    assert (table in {gap.table for gap in told.gaps}) or told.rows[table] == 0
    reader = open_reader(path)
    assert reader.damage() == []
    totals, recount = reader.ledger_and_recount()
    assert totals == recount
    reader.close()
    store = await opened(path)
    found = {callback_id: await store.callback(callback_id, payload=True) for callback_id in payloads}
    missing = [callback_id for callback_id, view in found.items() if view is None]
    assert len(missing) == told.lost.get("shop", 0)
    assert len(missing) < 60
    assert bool(missing) == (table == "callback")
    unsendable = 0
    for view in found.values():
        if view is not None and view.reason == DAMAGED:
            unsendable += 1
            assert view.state == "dead"
    assert unsendable == told.unsendable
    assert bool(unsendable) == (table == "payload")
    while isinstance(batch := await store.claim(request(max_items=50)), Batch):
        assert all(item.payload == payloads[item.id] for item in batch.items)
        await deliver(store, batch, FakeClock())
    assert (await balanced(store))["shop"].pending == 0
    await store.close()


async def test_a_text_that_is_none_any_more(tmp_path: Path) -> None:
    """Bytes of a text that no page's structure depends on: its row is lost, and no other."""
    path = tmp_path / "relay.db"
    await filled(path)
    with apsw.Connection(str(path)) as connection:
        connection.execute(
            "UPDATE callback SET key_text = CAST(x'ff' AS TEXT) WHERE seq = (SELECT max(seq) FROM callback)"
        )
    connection.close()
    told = salvage(path, aside=".damaged")
    assert (told.lost, told.rows["callback"], {gap.table for gap in told.gaps}) == (
        {"shop": 1},
        COUNT - 1,
        {"callback"},
    )


async def test_a_store_whose_names_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    """Without its own secrets nothing in it has a meaning: only a backup helps, and the file stays as it is."""
    path = tmp_path / "relay.db"
    await filled(path)
    connection = apsw.Connection(str(path))
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'").fetchone() or (0,)
    connection.close()
    destroy(path, root - 1)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=r"meta.*backup"):
        salvage(path, aside=".damaged")
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir() if "salvaged" in file.name) == []


async def test_a_disk_that_is_full_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is not taken for unreadable, also where there is room again: it is said at once."""
    path = tmp_path / "relay.db"
    await filled(path)
    before, read = path.read_bytes(), module._Table._read

    def little_room(target: apsw.Connection) -> None:
        make_room(target)
        target.pragma("max_page_count", 60)

    def room_again(table: module._Table, low: int, high: int, direction: str) -> int | None:
        found = read(table, low, high, direction)
        if found is not None:  # it could not be read on
            table._target.pragma("max_page_count", 1 << 20)
        return found

    monkeypatch.setattr(module, "make_room", little_room)
    monkeypatch.setattr(module._Table, "_read", room_again)
    with pytest.raises(StoreUnusable, match="No space left on device"):
        salvage(path, aside=".damaged")
    monkeypatch.setattr(module, "mended_copy", no_room)
    with pytest.raises(StoreUnusable, match="No space left on device"):
        salvage(path, aside=".damaged")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "salvaged" in file.name] == []


def no_room(*_: Path) -> None:
    """Stand in for a copy on a disk that is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("seed", range(6))
async def test_damage_anywhere(seed: int, tmp_path: Path) -> None:
    """A page anywhere but the first: what comes out is sound and adds up, or it is said that only a backup helps."""
    path = tmp_path / "relay.db"
    payloads = await filled(path)
    destroy(path, random.Random(seed).randrange(1, path.stat().st_size // PAGE))
    with suppress(StoreUnusable):
        salvage(path, aside=".damaged")
    if not (tmp_path / "relay.db.damaged").exists():
        return  # only a backup helps, and the file is where it was
    store = await opened(path)
    for callback_id, payload in payloads.items():
        view = await store.callback(callback_id, payload=True)
        assert view is None or view.reason == DAMAGED or view.payload in (payload, payload.decode())
    await balanced(store)
    await store.close()
