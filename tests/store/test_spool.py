"""Posts while the server is away: kept on the host, brought in once and in order, and shown as pending meanwhile."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from relay.core.errors import IdempotencyConflict, StoreAway, StoreFailed, StoreFull, StoreUnusable
from relay.core.model import Filter
from relay.daemon.readiness import Readiness
from relay.store.redis.server.link import ServerCall
from relay.store.redis.spool.closed_spool import aside_in, left_in
from relay.store.redis.spool.spool_file import SpoolFile, SpoolPost
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.store.redis.spool.waiting_posts import SpoolEntry, SpoolRow
from tests.store.edge_host import Host, drained, gone
from tests.store.harness import balanced, claimed, deliver, note, payloads, post, request, routed, rules, shown, states
from tests.store.valkey import ValkeyServer


async def test_posts_wait_and_drain_in_order(server: ValkeyServer, host: Host) -> None:
    """Answered 202 from the spool, they come behind what lay in the store, in their order, under the ids given out."""
    store = host.store
    await post(store, note(b"0", key="k"))
    server.kill()
    await gone(store)
    first = await post(store, note(b"1", key="k", idempotency_key="a"), note(b"x", platform="mall"))
    again = await post(store, *[note(b"1", key="k", idempotency_key="a")] * 2)
    assert (again.ids, again.duplicates) == (first.ids[:1] * 2, {0, 1})
    await post(store, note(b"2", key="k"))
    assert (await store.size()).spooled == 3
    assert (await shown(store, first.ids[0])).reason == "spooled"
    host.clock.advance(5)
    server.start()
    await drained(store)
    assert await states(store, first.ids) == ["pending", "pending"]
    assert (await shown(store, first.ids[0])).accepted_at == host.clock.now() - 5
    for body in (b"0", b"1", b"2"):
        batch = await claimed(store)
        assert payloads(batch) == [body]
        await deliver(store, batch, host.clock)
    (other,) = (await claimed(store, request("mall"))).items
    assert (other.payload, other.id) == (b"x", first.ids[1])
    listed, _ = await store.callbacks(Filter(ids=tuple(first.ids)), cursor=None, limit=9)
    assert sorted(each.id for each in listed) == sorted(first.ids)
    repeat = await post(store, note(b"1", key="k", idempotency_key="a"))
    assert (repeat.ids, repeat.duplicates) == (first.ids[:1], {0})
    assert {name: each.accepted for name, each in (await balanced(store)).items()} == {"shop": 3, "mall": 1}


async def test_an_id_of_a_spool_is_found_in_small_letters(server: ValkeyServer, host: Host) -> None:
    """As any id is, by who typed it in: while it waits here, in the store, in a filter, in a batch, and taken back."""
    store = host.store
    server.kill()
    await gone(store)
    ids = (await post(store, note(b"1", key="k"), note(b"2", key="k"))).ids
    typed = [each.lower() for each in ids]
    assert (await shown(store, typed[0])).reason == "spooled"
    server.start()
    await drained(store)
    assert (await shown(store, typed[0])).id == ids[0]
    listed, _ = await store.callbacks(Filter(ids=tuple(typed)), cursor=None, limit=9)
    assert sorted(each.id for each in listed) == sorted(ids)
    batch = await claimed(store)
    assert await store.batch_members(batch.id, limit=9) == list(ids[:1])
    assert (await store.cancel(typed[1])).ids == list(ids[1:])


async def test_what_was_accepted_elsewhere_is_not_sent_twice(
    server: ValkeyServer, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that another host accepted meanwhile: the spooled one ends superseded by it; with another body, dead."""
    store = host.store
    server.kill()
    await gone(store)
    mine = await post(store, note(b"1", idempotency_key="a"), note(b"2", idempotency_key="b"))
    route = await store.accept_posts([routed("shop", "mall", payload=b"3", idempotency_key="r")])
    other = Host(server, tmp_path, host._prefix, name="edge-2")

    async def not_yet() -> None:
        raise StoreAway("it has not looked yet")

    with monkeypatch.context() as patched:
        patched.setattr(store._spool, "_reach", not_yet)
        server.start()
        elsewhere = await other.start(alone=False)
        theirs = await post(elsewhere, note(b"1", idempotency_key="a"), note(b"other", idempotency_key="b"))
        routes = await elsewhere.accept_posts([routed("shop", "mall", payload=b"3", idempotency_key="r")])
    await elsewhere.close()
    await drained(store)
    assert await states(store, mine.ids) == ["superseded", "dead"]
    assert (await shown(store, mine.ids[0])).superseded_by == theirs.ids[0]
    assert (await shown(store, mine.ids[1])).reason == "idempotency_conflict"
    assert await states(store, list(route.ids[0].values())) == ["superseded"] * 2
    assert (await shown(store, route.ids[0]["mall"])).superseded_by == routes.ids[0]["mall"]
    assert sorted(payloads(await claimed(store))) == [b"1", b"3", b"other"]
    await balanced(store)


async def test_posts_drain_together(server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one script takes, in their order: else what comes meanwhile is more than what drains."""
    store, sent = host.store, list[int]()
    send = store._spool._send

    async def noted(platform: str, rows: Sequence[SpoolRow]) -> list[int]:
        sent.append(len(rows))
        return await send(platform, rows)

    monkeypatch.setattr(store._spool, "_send", noted)
    server.kill()
    await gone(store)
    await asyncio.gather(*(post(store, note(b"%d" % n, key="k", idempotency_key=f"i{n}")) for n in range(150)))
    server.start()
    await drained(store)
    assert sent == [100, 50]
    assert (await balanced(store))["shop"].pending == 150
    for n in range(3):
        batch = await claimed(store)
        assert payloads(batch) == [b"%d" % n]
        await deliver(store, batch, host.clock)
    plan = store._file._connection.execute("EXPLAIN QUERY PLAN DELETE FROM known WHERE n = 1").fetchall()
    assert "known_n" in str(plan)  # else each one that drains reads all that waits


async def test_a_bug_while_draining_is_told_and_tried_again(
    server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however often it comes; posts are still kept meanwhile, and its end is told too."""
    store, told, mended = host.store, list[str](), False
    drain = store._spool._drain

    async def faulty(entries: Sequence[SpoolEntry]) -> Any:
        if not mended:
            raise ZeroDivisionError(str(len(entries)))
        return await drain(entries)

    monkeypatch.setattr(store._spool, "_drain", faulty)
    monkeypatch.setattr(store._spool, "_told_bug", lambda error: told.append(repr(error)))
    monkeypatch.setattr("relay.store.redis.spool.spooling._LOOK_S", 0.01)
    server.kill()
    await gone(store)
    await post(store, note(b"1", key="k"))
    server.start()
    async with asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.01)
    await post(store, note(b"2", key="k"))
    mended = True
    await drained(store)
    async with asyncio.timeout(20):
        while len(told) < 2:
            await asyncio.sleep(0.01)
    assert told == ["ZeroDivisionError('1')", "None"]
    batch = await claimed(store)
    assert payloads(batch) == [b"1"]
    await balanced(store)


async def test_new_posts_go_behind_those_that_drain(
    server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is back and the spool not empty yet: what comes for a platform waits behind it, others go at once."""
    store, go_on = host.store, asyncio.Event()
    drain = store._spool._drain

    async def slow(entries: Sequence[SpoolEntry]) -> Any:
        await go_on.wait()
        return await drain(entries)

    monkeypatch.setattr(store._spool, "_drain", slow)
    server.kill()
    await gone(store)
    await post(store, note(b"1", key="k"))
    server.start()
    async with asyncio.timeout(20):
        while store._spool.away:
            await asyncio.sleep(0.01)
    await post(store, note(b"2", key="k"))
    await store.accept_posts([routed("shop", payload=b"3")])
    await post(store, note(b"other", platform="mall"))
    assert store.spooled() == {"shop": 3}
    go_on.set()
    await drained(store)
    for body in (b"1", b"2"):
        batch = await claimed(store, request(max_items=1))
        assert payloads(batch) == [body]
        await deliver(store, batch, host.clock)
    await balanced(store)


async def test_each_comes_in_once(server: ValkeyServer, host: Host) -> None:
    """A crash between the store's commit and the spool's brings the same post again: it is known."""
    store = host.store
    server.kill()
    await gone(store)
    await post(store, note(b"1"))
    await store.accept_posts([routed("shop", payload=b"2", idempotency_key="r")])
    kept = await store._file.oldest()
    await store._spool.close()
    await store.link.close()
    server.start()
    await host.start()
    await drained(host.store)
    await host.store._spool._drain(kept)
    assert (await balanced(host.store))["shop"].accepted == 2
    assert sorted(payloads(await claimed(host.store))) == [b"1", b"2"]


async def test_a_routed_post_is_remembered_as_durably_as_its_rows(
    server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool forgets it then: a failover must not lose by what a repeat of it is known."""
    store = host.store
    server.kill()
    await gone(store)
    await store.accept_posts([routed("shop", payload=b"1", idempotency_key="r")])
    remembered: list[bool] = []
    run = store.link.run

    async def noted(calls: Sequence[ServerCall], *, durable: bool = False, **how: float) -> list[Any]:
        written = [call.args[1] for call in calls if call.args[0] == "HSETNX"]
        remembered.extend(durable for key in written if key in (store.keys.shared("posts"), store.keys.shared("postn")))
        return await run(calls, durable=durable, **how)

    monkeypatch.setattr(store.link, "run", noted)
    server.start()
    await drained(store)
    assert remembered == [True, True]
    again = await store.accept_posts([routed("shop", payload=b"1", idempotency_key="r")])
    assert again.duplicates == {0}


async def test_a_host_starts_while_the_store_is_away(server: ValkeyServer, host: Host, tmp_path: Path) -> None:
    """It takes posts at once, and goes on with the store when it is there."""
    await host.store.close()
    server.kill()
    store = await host.start()
    ready = Readiness(store, ())
    assert await ready.check() == ["spooling: 0 callbacks on this host until the store is back"]
    await post(store, note(b"1"))
    await store.close()
    store = await host.start()
    assert store.spooled() == {"shop": 1}
    server.start()
    await drained(store)
    async with asyncio.timeout(20):
        while (await store.totals())["shop"].pending != 1:
            await asyncio.sleep(0.01)
    assert payloads(await claimed(store)) == [b"1"]


async def test_the_store_is_lost_while_a_host_starts(server: ValkeyServer, host: Host) -> None:
    """The server answered, and is gone before the rules are in force: posts are taken until it is back."""
    store = host.store
    server.kill()
    await store.configure(rules("shop", "yard"))
    await post(store, note(b"1"), note(b"2", platform="yard"))
    assert store.spooled() == {"shop": 1, "yard": 1}
    server.start()
    await drained(store)
    assert payloads(await claimed(store, request("yard"))) == [b"2"]
    await balanced(store)


async def test_a_full_spool_refuses(server: ValkeyServer, host: Host) -> None:
    """What does not fit is refused whole, and says what to do; a conflict, also within a post, is told by its row."""
    server.kill()
    store = host.store
    await post(store, note(b"1", idempotency_key="a"))
    with pytest.raises(IdempotencyConflict) as caught:
        await post(store, note(b"new"), note(b"2", idempotency_key="a"))
    assert caught.value.index == 1
    with pytest.raises(IdempotencyConflict) as caught:
        await post(store, note(b"1", idempotency_key="b"), note(b"x"), note(b"2", idempotency_key="b"))
    assert caught.value.index == 2
    with pytest.raises(StoreFull, match=r"raise store\.spool\.max_size"):
        await post(store, note(b"x"), note(b"y" * (1 << 20)))
    assert store.spooled() == {"shop": 1}


async def test_without_a_key_a_lost_answer_is_no_acceptance(server: ValkeyServer, host: Host) -> None:
    """The server may hold it: a post without a key is refused then, and one with a key waits in the spool."""
    server.freeze()
    unclear = asyncio.gather(
        post(host.store, note(b"1")), post(host.store, note(b"2", idempotency_key="a")), return_exceptions=True
    )
    refused, kept = await unclear
    server.freeze(False)
    assert isinstance(refused, StoreAway)
    assert not isinstance(kept, BaseException)
    await drained(host.store)
    assert payloads(await claimed(host.store)).count(b"2") == 1
    await balanced(host.store)


async def test_a_spool_belongs_to_its_host(tmp_path: Path) -> None:
    """The file of another host, one in use, or another program's database is refused, and says what to do."""
    path = tmp_path / "spool.db"
    mine = SpoolFile(path, host="edge-1", max_bytes=1)
    with pytest.raises(StoreUnusable, match="cannot be used"):
        SpoolFile(path, host="edge-1", max_bytes=1)
    await mine.close()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreUnusable, match="set host: edge-1"):
        SpoolFile(path, host="edge-2", max_bytes=1)


def _kept(*names: str, digest: str = "d") -> SpoolPost:
    """A post of one row for each name, which it is known by."""
    return SpoolPost([("shop", [name], b"") for name in names], [(name, digest, n) for n, name in enumerate(names)])


async def test_a_repeat_is_answered_with_its_own_id(tmp_path: Path) -> None:
    """Also when its first came among rows of which some were known: the id is not its neighbour's."""
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=1 << 20)
    ((first,),) = await file.add([_kept("a")], 1.0)
    (found,) = await file.add([_kept("a", "b", "c")], 1.0)
    assert found[0] == (first[0], True)
    for place, name in enumerate("abc"):
        assert await file.add([_kept(name)], 1.0) == [[(found[place][0], True)]]
    await file.close()


async def test_a_conflict_names_the_routed_post(tmp_path: Path) -> None:
    """The index is that of the post, however many rows those before it have."""
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=1 << 20)
    row = ("shop", ["row"], b"")
    await file.add([SpoolPost([row], [("/k", "d", -1)], "k", "d")], 1.0)
    with pytest.raises(IdempotencyConflict) as conflict:
        await file.add([SpoolPost([row, row], []), SpoolPost([row], [("/k", "other", -1)], "k", "other")], 1.0)
    assert conflict.value.index == 1
    await file.close()


async def test_what_waits_is_found_without_reading_all_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each repeat of a post asks for it; the one thread of the file opens the post that it lies in, and no other."""
    path = tmp_path / "spool.db"
    file = SpoolFile(path, host="edge-1", max_bytes=1 << 20)
    given = [await file.add([SpoolPost([("shop", [n], b"%d" % n)] * 2, [])], 1000.0 + n) for n in range(20)]
    ids = [told for ((first, second),) in given for told in (first[0], second[0])]
    file._connection.execute("UPDATE entry SET first = NULL WHERE n < 5")  # kept by an earlier relay
    await file.close()
    file = SpoolFile(path, host="edge-1", max_bytes=1 << 20)
    opened: list[int] = []
    whole = file.seal.open
    monkeypatch.setattr(file.seal, "open", lambda number, *kept: opened.append(number) or whole(number, *kept))
    found = [await file.find(told) for told in ids]
    assert [row.id for row, _ in found] == ids
    assert [at for _, at in found] == [1000.0 + n for n in range(20) for _ in range(2)]
    assert opened == [n + 1 for n in range(20) for _ in range(2)]
    first, *_ = await file.oldest()
    await file.remove([first])
    assert [await file.find(told) for told in ids[:2]] == [None, None]
    assert await file.find(ids[2])
    await file.close()


async def test_posts_that_come_together_are_synced_together(tmp_path: Path) -> None:
    """All that waits for the thread is one transaction; what is refused takes no other with it, and no room."""
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=300)
    await file.add([_kept("a")], 1.0)
    held, commits = threading.Event(), list[int]()
    file._thread.submit(held.wait)
    file._connection.set_commit_hook(lambda: commits.append(1) or False)
    large = SpoolPost([("shop", ["large"], b"x" * 300)], [])
    posts = ([_kept("b")], [_kept("c"), _kept("a", digest="other")], [_kept("d"), large], [_kept("e")], [_kept("b")])
    adding = [asyncio.create_task(file.add(each, 1.0)) for each in posts]
    await asyncio.sleep(0)
    held.set()
    first, conflict, full, other, again = await asyncio.gather(*adding, return_exceptions=True)
    assert isinstance(conflict, IdempotencyConflict)
    assert isinstance(full, StoreFull)
    assert isinstance(first, list)
    assert isinstance(other, list)
    assert again == [[(first[0][0][0], True)]]
    assert commits == [1]
    assert file.waiting == {"shop": 3}
    assert [row.packed for entry in await file.oldest() for row in entry.rows] == [["a"], ["b"], ["e"]]
    assert file.used_bytes == file._connection.execute("SELECT sum(bytes) FROM entry").get
    file._connection.set_commit_hook(lambda: True)  # the disk takes nothing
    with pytest.raises(StoreFailed, match="cannot be written"):
        await file.add([_kept("f")], 1.0)
    assert file.waiting == {"shop": 3}
    file._connection.set_commit_hook(None)
    await file.close()


async def test_room_is_counted_while_posts_come_and_go(tmp_path: Path) -> None:
    """A post that is kept while another one leaves counts: the spool does not outgrow its bound bit by bit."""
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=1 << 20)
    await file.add([_kept("a")], 1.0)
    size = file.used_bytes
    waits = await file.oldest()
    held = threading.Event()
    file._thread.submit(held.wait)
    both = [asyncio.create_task(file.remove(waits)), asyncio.create_task(file.add([_kept("b")], 1.0))]
    await asyncio.sleep(0)
    held.set()
    file._thread.submit(lambda: None).result()  # both are done in the thread before the loop hears of either
    await asyncio.gather(*both)
    assert (file.used_bytes, file.waiting) == (size, {"shop": 1})
    await file.close()


def _spoil(path: Path, *changes: str) -> None:
    """Change what lies in a spool that is closed, behind its back."""
    with closing(apsw.Connection(str(path))) as connection:
        for change in changes:
            connection.execute(change)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE entry SET packed = CAST(substr(packed, 1, 9) || x'00' || substr(packed, 11) AS BLOB)", "its checksum"),
        ("UPDATE entry SET packed = x'c1', sum = NULL", "MessagePack"),
        ("UPDATE entry SET packed = x'9301a10193', sum = NULL", ""),
    ],
    ids=["changed", "no post", "half a post"],
)
async def test_a_post_that_cannot_be_brought_in_holds_up_no_other(
    server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch, change: str, why: str
) -> None:
    """It is kept and told, at each start; those behind it drain in order, and a repeat is accepted like a new post."""
    told: list[dict[int, str]] = []
    monkeypatch.setattr(SpoolingStore, "_told_aside", lambda _store, posts: told.append(dict(posts)))
    server.kill()
    store = host.store
    await gone(store)
    for body in (b"1", b"2", b"3"):
        await post(store, note(body, key="k", idempotency_key=body.decode()))
    await store.close()
    _spoil(host._path, f"{change} WHERE n = 2")
    store = await host.start()
    assert store.spooled() == {"shop": 2}
    (again,) = (await post(store, note(b"2", key="k", idempotency_key="2"))).ids
    ((number, reason),) = told[0].items()
    assert (number, why in reason) == (2, True)
    assert (await store.size()).set_aside == 1
    server.start()
    await drained(store)
    sent = []
    for _ in range(3):
        batch = await claimed(store)
        sent += [(item.id, item.payload) for item in batch.items]
        await deliver(store, batch, host.clock)
    assert [body for _, body in sent] == [b"1", b"3", b"2"]
    assert sent[-1][0] == again
    assert ((await store.size()).spooled, (await store.size()).set_aside) == (0, 1)
    assert len(told) == 1
    await balanced(store)
    await store.close()
    assert (left_in(host._path), aside_in(host._path)) == (0, {2: reason})


async def test_a_damaged_page_of_the_spool_holds_up_no_other(tmp_path: Path) -> None:
    """SQLite cannot read on from there; the posts behind are found by their numbers."""
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=1 << 20)
    for n in range(60):
        await file.add([SpoolPost([("shop", [f"{n}"], b"x" * 500)], [])], 1.0)
    await file.close()
    with closing(apsw.Connection(str(tmp_path / "spool.db"))) as connection:
        found = "SELECT pageno, ncell FROM dbstat WHERE name = 'entry' AND pagetype = 'leaf' ORDER BY path"
        page, many = list(connection.execute(found))[2]
    with (tmp_path / "spool.db").open("r+b") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(b"\xff" * 4096)
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=1 << 20)
    assert (file.waiting["shop"], len(file.aside.posts)) == (60 - many, many)
    drained_ones = []
    while entries := await file.oldest():
        drained_ones += [int(row.packed[0]) for entry in entries for row in entry.rows]
        await file.remove(entries)
    assert drained_ones == sorted(drained_ones)
    assert len(drained_ones) == 60 - many
    await file.add([_kept("later")], 2.0)
    assert [entry.rows[0].packed for entry in await file.oldest()] == [["later"]]
    await file.close()
