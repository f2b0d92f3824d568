"""Posts while the server is away: kept on the host, brought in once and in order, and shown as pending meanwhile."""

import asyncio
import threading
from pathlib import Path

import pytest
from relay.core.errors import IdempotencyConflict, StoreAway, StoreFull, StoreUnusable
from relay.core.model import Filter
from relay.store.redis.spool.spool_file import SpoolFile, SpoolPost
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


async def test_what_was_accepted_elsewhere_is_not_sent_twice(server: ValkeyServer, host: Host, tmp_path: Path) -> None:
    """A key that another host accepted meanwhile: the spooled one ends superseded by it; with another body, dead."""
    store = host.store
    server.kill()
    await gone(store)
    mine = await post(store, note(b"1", idempotency_key="a"), note(b"2", idempotency_key="b"))
    route = await store.accept_posts([routed("shop", "mall", payload=b"3", idempotency_key="r")])
    server.start()
    other = Host(server, tmp_path, host._prefix, name="edge-2")
    store._spool.away = True  # it has not looked yet
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


async def test_each_comes_in_once(server: ValkeyServer, host: Host) -> None:
    """A crash between the store's commit and the spool's brings the same post again: it is known."""
    store = host.store
    server.kill()
    await gone(store)
    await post(store, note(b"1"))
    await store.accept_posts([routed("shop", payload=b"2", idempotency_key="r")])
    kept = [await store._file.first()]
    await store._spool.close()
    await store.link.close()
    server.start()
    await host.start()
    await drained(host.store)
    for entry in kept:
        assert entry is not None
        await host.store._spool._drain(entry)
    assert (await balanced(host.store))["shop"].accepted == 2
    assert sorted(payloads(await claimed(host.store))) == [b"1", b"2"]


async def test_a_host_starts_while_the_store_is_away(server: ValkeyServer, host: Host, tmp_path: Path) -> None:
    """It takes posts at once, and goes on with the store when it is there."""
    await host.store.close()
    server.kill()
    store = await host.start()
    await post(store, note(b"1"))
    await store.close()
    store = await host.start()
    assert store.spooled() == {"shop": 1}
    server.start()
    await drained(store)
    async with asyncio.timeout(5):
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


async def test_room_is_counted_while_posts_come_and_go(tmp_path: Path) -> None:
    """A post that is kept while another one leaves counts: the spool does not outgrow its bound bit by bit."""
    file = SpoolFile(tmp_path / "spool.db", host="edge-1", max_bytes=1 << 20)
    await file.add([_kept("a")], 1.0)
    size = file.used_bytes
    entry = await file.first()
    assert entry is not None
    held = threading.Event()
    file._thread.submit(held.wait)
    both = [asyncio.create_task(file.remove(entry)), asyncio.create_task(file.add([_kept("b")], 1.0))]
    await asyncio.sleep(0)
    held.set()
    file._thread.submit(lambda: None).result()  # both are done in the thread before the loop hears of either
    await asyncio.gather(*both)
    assert (file.used_bytes, file.waiting) == (size, {"shop": 1})
    await file.close()
