"""A post is accepted once, under one id, wherever the server is lost between the first byte and the answer."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from relay.core.errors import StoreAway
from relay.core.model import Filter, NewCallback
from relay.store.redis.server.link import ServerCall
from relay.store.redis.server.scripts import script_of
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.store.redis.write.bulk import BulkPart
from relay.store.redis.write.packing import packed_row
from tests.store.edge_host import Host, drained, gone
from tests.store.harness import balanced, claimed, note, payloads, post, routed, states
from tests.store.valkey import ValkeyServer


def _bulk(*platforms: str) -> list[NewCallback]:
    """A post of 150 rows, in turn for each platform."""
    return [
        note(b"%d" % n, platform=platforms[n % len(platforms)], key=str(n % 20), idempotency_key=f"a#{n}")
        for n in range(150)
    ]


async def _placed(store: SpoolingStore, platforms: tuple[str, ...]) -> None:
    """Wait until no bulk is on its way into the queue any more."""
    async with asyncio.timeout(20):
        while True:
            try:
                if not any([await store.link.do("HLEN", store.keys.of(name, "stg")) for name in platforms]):
                    return
            except StoreAway:
                pass
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("platforms", [("shop",), ("shop", "mall")])
async def test_a_bulk_is_accepted_once_it_is_decided(
    server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch, platforms: tuple[str, ...]
) -> None:
    """The server is killed before the bulk takes its place: the ids are given out all the same, and it does later."""
    store, rows = host.store, _bulk(*platforms)
    with monkeypatch.context() as patched:
        place = store._inbox.bulks._place

        async def cut_off(bulk: str, platform: str) -> None:
            server.kill()
            await place(bulk, platform)

        patched.setattr(store._inbox.bulks, "_place", cut_off)
        first = await post(store, *rows)
    assert store.spooled() == {}
    server.start()
    await _placed(store, platforms)
    assert set(await states(store, first.ids)) == {"pending"}
    again = await post(store, *rows)
    await drained(store)
    assert (again.ids, len(again.duplicates)) == (first.ids, 150)
    assert sum(each.accepted for each in (await balanced(store)).values()) == 150


async def test_a_bulk_without_an_answer_is_the_one_in_the_spool(
    server: ValkeyServer, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is killed after it took the bulk, before it said so: the spool's ids are the only ones."""
    store, rows = host.store, _bulk("shop")
    with monkeypatch.context() as patched:
        flip = store._inbox.bulks._flip

        async def unheard(*args: object, **given: object) -> dict[str, int]:
            await flip(*args, **given)  # type: ignore[arg-type]
            server.kill()
            raise StoreAway("no answer")

        patched.setattr(store._inbox.bulks, "_flip", unheard)
        first = await post(store, *rows)
    assert store.spooled() == {"shop": 150}
    server.start()
    await drained(store)
    assert set(await states(store, first.ids)) == {"pending"}
    listed, _ = await store.callbacks(Filter(), cursor=None, limit=500)
    assert sorted(each.id for each in listed) == sorted(first.ids)
    assert (await post(store, *rows)).ids == first.ids
    assert (await balanced(store))["shop"].accepted == 150


async def test_what_drained_is_known_by_its_id(server: ValkeyServer, host: Host) -> None:
    """A repeat is answered with the id that the spool gave out, small, as a bulk, and routed; it can be taken back."""
    store = host.store
    server.kill()
    await gone(store)
    first = await post(store, *_bulk("shop"))
    routes = [routed("shop", "mall", payload=b"r", key="r", idempotency_key="r")]
    route = await store.accept_posts(routes)
    with pytest.raises(StoreAway, match="waits in the spool"):
        await store.cancel(first.ids[0])
    server.start()
    await drained(store)
    assert (await post(store, _bulk("shop")[7])).ids == first.ids[7:8]
    assert (await post(store, *_bulk("shop"))).ids == first.ids
    assert (await store.accept_posts(routes)).ids == route.ids
    assert (await store.cancel(first.ids[149])).ids == first.ids[149:]
    assert set((await store.cancel_key("shop", "7")).ids) == set(first.ids[7:150:20])
    await balanced(store)


async def test_a_drain_that_must_wait_does_nothing(host: Host) -> None:
    """One row's key is held by a bulk under way: the rows before it do not count as brought in."""
    store = host.store
    bulks = store._inbox.bulks
    part = BulkPart("shop")
    part.add(packed_row(host.store.keys, note(b"held", idempotency_key="held")), b"held", 0)
    await bulks._stage("bulk", part)
    file = store._file
    store._spool.away = True
    given = await post(store, note(b"1"), note(b"held", idempotency_key="held"))
    draining = asyncio.create_task(store._spool._drain(await file.oldest()))
    await asyncio.sleep(0)
    while not await store.link.do("HEXISTS", store.keys.of("shop", "stg"), "bulk"):
        await asyncio.sleep(0.01)
    await asyncio.wait([draining], timeout=0.2)
    assert not draining.done()
    await bulks._unstage("bulk", ["shop"])
    await draining
    store._spool.away = False
    await drained(store)
    assert await states(store, given.ids) == ["pending"] * 2
    assert (await balanced(store))["shop"].accepted == 2
    assert sorted(payloads(await claimed(store))) == [b"1", b"held"]


async def test_a_bulk_that_was_taken_back_does_not_go_on(host: Host) -> None:
    """Its host was frozen and another one took its first chunks back: the rest of it is nothing."""
    bulks = host.store._inbox.bulks
    run = bulks._link.run
    staged: list[ServerCall] = []

    async def swept(calls: Sequence[ServerCall], **given: Any) -> list[Any]:
        answers = await run(calls, **given)
        if calls[0].script == bulks._script("stage"):
            staged.append(calls[0])
            if len(staged) == 1:
                await bulks._unstage("bulk", ["shop"])
        return answers

    part = BulkPart("shop")
    for n in range(1050):  # more chunks than one script stages
        part.add(packed_row(host.store.keys, note(b"%d" % n)), b"%d" % n, n)
    bulks._link.run = swept  # type: ignore[method-assign]
    with pytest.raises(StoreAway, match="given up"):
        await bulks._once("bulk", [part], None)
    bulks._link.run = run  # type: ignore[method-assign]
    assert len(staged) == 2
    assert "shop" not in await balanced(host.store) or (await balanced(host.store))["shop"].accepted == 0


async def test_what_was_accepted_is_not_taken_back(host: Host) -> None:
    """The flip of a bulk arrives after somebody looked whether it had: it is finished then."""
    bulks = host.store._inbox.bulks
    part = BulkPart("shop")
    part.add(packed_row(host.store.keys, note(b"1")), b"1", 0)
    await bulks._stage("bulk", part)
    look = bulks._link.do

    async def late(*command: object) -> object:
        answer = await look(*command)
        if command[0] == "HGET" and str(command[1]).endswith("stc"):
            await bulks._flip("bulk", ["shop"], {"shop": 1}, visible=True)
        return answer

    bulks._link.do = late  # type: ignore[method-assign]
    await bulks._close("shop", "bulk")
    bulks._link.do = look  # type: ignore[method-assign]
    assert (await balanced(host.store))["shop"].accepted == 1
    assert payloads(await claimed(host.store)) == [b"1"]


async def test_a_pipeline_that_ran_in_part_was_sent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has forgotten one script and is lost before it can be told: what else was in the pipeline has run."""
    link = host.store.link
    unknown = ServerCall(script_of(f"return '{secrets.token_hex(4)}'"), (), ())
    await link.one(unknown)
    await link.do("SCRIPT", "FLUSH")
    pipeline: Callable[..., object] = link._pipeline
    runs: list[int] = []

    async def once(*args: object) -> object:
        runs.append(1)
        if len(runs) > 1:
            raise StoreAway("gone", sent=False)
        return await pipeline(*args)  # type: ignore[misc]

    monkeypatch.setattr(link, "_pipeline", once)
    with pytest.raises(StoreAway) as away:
        await link.run([ServerCall(None, (), ("PING",)), unknown])
    assert away.value.sent
