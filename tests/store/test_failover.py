"""A replica that misses the last writes takes the place of the primary: limits hold, and what was lost is counted."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import IdempotencyConflict, StoreAway
from relay.core.model import Batch, Quota, Rate, StoreRules, WaitUntil
from relay.store.redis import last_writes
from relay.store.redis.backend import RedisStore
from relay.store.redis.opening import reach
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.lineage import Lineage, goes_on
from relay.store.redis.server.link import Durable, ServerLink
from relay.store.redis.spool.spool_file import SpoolFile
from relay.store.redis.spool.spooling_store import SpoolingStore
from tests.clocks import FakeClock
from tests.store.edge_host import drained
from tests.store.harness import (
    balanced,
    claimed,
    deliver,
    note,
    payloads,
    post,
    refused,
    request,
    resend,
    rules,
    states,
)
from tests.store.pairs import Pair

_LIMITED = rules(rate=Rate(3, 60.0))


class Told:
    """Notes what hosts tell of a failover."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.anew: list[int] = []
        self.cut_off: list[tuple[str, int, int]] = []

    def store_committed(self, *, seconds: float, rows: int) -> None: ...

    def store_failed(self, *, error: BaseException) -> None: ...

    def store_recovered(self, *, seconds: float) -> None: ...

    def seal_broken(self, *, platform: str, callbacks: Sequence[str]) -> None: ...

    def callbacks_lost(self, *, platform: str, callbacks: Sequence[str]) -> None:
        self.lost += callbacks

    def spool_set_aside(self, *, posts: object) -> None: ...

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None:
        self.cut_off.append((platform, requests, callbacks))

    def clock_ahead(self, *, seconds: float) -> None: ...

    def store_begun(self, *, path: str) -> None: ...

    def store_exchanged(self, *, path: str) -> None: ...

    def server_replaced(self, *, platform: str, attempts: int) -> None:
        self.anew.append(attempts)


class Hosts:
    """Hosts that own ``shop`` one after the other."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.clock, self.told = pair, FakeClock(), Told()
        self._prefix = f"t{secrets.token_hex(4)}"
        self.made: list[RedisStore] = []

    async def owner(self, in_force: StoreRules = _LIMITED, *, parts: bool = False) -> RedisStore:
        """Return another host, which has taken the platform over; ``parts``: the replica has only its lease."""
        link = ServerLink.to(parse_server_url(self.pair.url), Durable())
        store = RedisStore(link, KeyNames(self._prefix), self.clock, alone=False, events=self.told)
        self.made.append(store)
        await store.begin()
        await store.configure(in_force)
        fence = f"{len(self.made)}.a"
        await link.do("HSET", store.keys.of("shop", "lease"), "token", fence)
        if parts:
            await self.pair.part()
        await store.own({"shop": fence}, silent_s={})
        return store

    async def edge(self, directory: Path) -> SpoolingStore:
        """Return a host with a spool, the only one of its store."""
        file = SpoolFile(directory / "spool.db", host="edge", max_bytes=1 << 20)
        link = ServerLink.to(parse_server_url(self.pair.url), Durable())
        store = SpoolingStore(link, KeyNames(self._prefix), self.clock, file, events=self.told)
        self.made.append(store)

        async def again() -> None:
            await reach(store)

        store.reach = again
        await reach(store)
        await store.configure(rules())
        return store


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    """Hosts over a primary and its replica."""
    pair = Pair(tmp_path)
    pair.start()
    await pair.listen()
    made = Hosts(pair)
    yield made
    for store in made.made:
        await store.close()
    pair.kill()


@pytest.mark.parametrize(
    ("now", "has_all"),
    [
        (Lineage("run1", "a:1", "x"), True),
        (Lineage("run2", "a:1", "y", "0" * 40), True),
        (Lineage("run2", "b:1", "y", "0" * 40), False),
        (Lineage("run2", "a:1", "y", "x"), False),
        (Lineage("run3", "a:1", "z", "y"), False),
    ],
    ids=["the same", "started again", "elsewhere", "promoted", "promoted after another one was"],
)
def test_what_a_server_has_of_another_ones_data(now: Lineage, has_all: bool) -> None:
    """A promoted replica knows whom it followed last, which need not be the server that is asked about."""
    assert goes_on(Lineage("run1", "a:1", "x").text, now, aof=True) is has_all


async def _again(store: RedisStore) -> Batch | WaitUntil:
    """Claim, as a pipeline does: until the store is there."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.claim(request(max_items=1))
            except StoreAway:
                await asyncio.sleep(0.02)


async def test_a_living_owner_writes_its_last_attempts_anew(hosts: Hosts) -> None:
    """Claims and answers that were lost stand there again: no slot is used twice, also by the next owner, and nothing
    that was delivered goes again."""
    store = await hosts.owner()
    accepted = await post(store, *(note(b"%d" % n) for n in range(4)))
    await deliver(store, await claimed(store, request(max_items=1)), hosts.clock)
    await hosts.pair.part()
    delivered = await claimed(store, request(max_items=1))
    await deliver(store, delivered, hosts.clock)
    under_way = await claimed(store, request(max_items=1))
    await post(store, note(b"lost"))
    hosts.pair.fail_over()
    found = await _again(store)
    assert isinstance(found, WaitUntil)
    assert found.reason == "limit"
    assert hosts.told.anew == [2]
    await deliver(store, under_way, hosts.clock)
    assert await states(store, accepted.ids) == ["delivered"] * 3 + ["pending"]
    total = (await balanced(store))["shop"]
    assert (total.accepted, total.delivered, total.pending) == (4, 3, 1)
    other = await hosts.owner()
    assert (await refused(other)).reason == "limit"
    hosts.clock.advance(60.0)
    assert payloads(await claimed(other)) == [b"3"]


async def test_what_the_last_owner_left_under_way_is_told(hosts: Hosts) -> None:
    """How many requests, and how many callbacks in them; the owner after that has nothing to tell."""
    store = await hosts.owner(rules())
    await post(store, *(note(b"%d" % n) for n in range(7)))
    batches = [await claimed(store, request(max_items=size)) for size in (3, 2, 1)]
    await deliver(store, batches[2], hosts.clock)
    await hosts.owner(rules())
    await hosts.owner(rules())
    assert hosts.told.cut_off == [("shop", 2, 5)]


async def test_what_was_too_much_to_keep_counts_for_the_next_owner(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner keeps so many bytes of its last writes. What it cannot write anew it has in its own slots; for another
    owner the windows count as full."""
    monkeypatch.setattr(last_writes, "_MOST_BYTES", 1)
    store = await hosts.owner()
    await post(store, *(note(b"%d" % n) for n in range(4)))
    await hosts.pair.part()
    for _ in range(2):
        await deliver(store, await claimed(store, request(max_items=1)), hosts.clock)
    assert store._owned.last.size < 1000
    hosts.pair.fail_over()
    assert isinstance(await _again(store), Batch)
    found = await _again(store)
    assert isinstance(found, WaitUntil)
    assert found.reason == "limit"
    assert (await refused(await hosts.owner())).at == hosts.clock.now() + 60.0
    store.disown(["shop"])
    assert store._owned.last.size == 0


async def test_a_clock_that_jumps_takes_no_write_away(hosts: Hosts) -> None:
    """The new primary's clock is two minutes ahead, and hosts take its time: what was delivered does not go again."""
    store = await hosts.owner(rules())
    await post(store, *(note(b"%d" % n) for n in range(3)))
    await hosts.pair.part()
    await deliver(store, await claimed(store, request(max_items=1)), hosts.clock)
    under_way = await claimed(store, request(max_items=1))
    hosts.clock.advance(120.0)
    hosts.pair.fail_over()
    async with asyncio.timeout(30):
        while store._outbox.open:
            with suppress(StoreAway):
                await deliver(store, under_way, hosts.clock)
    found = await _again(store)
    assert isinstance(found, Batch)
    assert payloads(found) == [b"2"]


async def test_nothing_is_claimed_while_nobody_knows_which_server_has_the_platform(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is in a cluster where another call has just found a node gone: the last writes are not there yet."""
    store = await hosts.owner(rules())
    await post(store, note(b"1"), note(b"2"))
    await hosts.pair.part()
    await deliver(store, await claimed(store, request(max_items=1)), hosts.clock)
    before = store.link.lineage_at("")
    hosts.pair.fail_over()
    while store.link._lineage == before:
        with suppress(StoreAway):
            await store.link.do("PING")
    with monkeypatch.context() as unknown:
        unknown.setattr(store.link, "lineage_at", lambda _key: Lineage())
        with pytest.raises(StoreAway):
            await store.claim(request(max_items=1))
    found = await _again(store)
    assert isinstance(found, Batch)
    assert payloads(found) == [b"2"]


async def test_no_window_counts_as_full_where_it_is_not_known_which_server_answers(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster another call may have found a node gone: the take is tried again, and nothing was lost."""
    store = await hosts.owner()
    await post(store, note(b"1"))
    with monkeypatch.context() as unknown:
        unknown.setattr(ServerLink, "lineage_at", lambda _link, _key: Lineage())
        with pytest.raises(StoreAway):
            await hosts.owner()
    assert payloads(await claimed(await hosts.owner())) == [b"1"]


async def test_what_a_failover_lost_of_what_was_accepted_is_told(hosts: Hosts) -> None:
    """The host that answered 202 names them, single ones and those of a bulk; what is there, or was refused, is not."""
    store = await hosts.owner()
    await post(store, *(note(b"%d" % n) for n in range(3)))
    await hosts.pair.part()
    one = await post(store, note(b"lost", idempotency_key="i"))
    with pytest.raises(IdempotencyConflict):
        await post(store, note(b"refused"), note(b"another", idempotency_key="i"))
    many = await post(store, *(note(b"%d" % n) for n in range(150)))
    hosts.pair.fail_over()
    store.heard("")
    async with asyncio.timeout(30):
        while not hosts.told.lost:
            await asyncio.sleep(0.02)
    assert sorted(hosts.told.lost) == sorted((*one.ids, *many.ids))
    assert (await balanced(store))["shop"].pending == 3
    await store._parts.last_accepted.look()
    assert len(hosts.told.lost) == 151


async def test_a_large_post_is_not_accepted_where_the_server_was_replaced_meanwhile(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flip was lost, and what it staged: nothing is placed at the new server, so nothing is answered 202."""
    store = await hosts.owner()
    await hosts.pair.part()
    place = store._inbox.bulks._place

    async def replaced(bulk: str, platform: str) -> None:
        hosts.pair.fail_over()
        monkeypatch.setattr(store._inbox.bulks, "_place", place)
        async with asyncio.timeout(30):
            while True:
                try:
                    return await place(bulk, platform)
                except StoreAway:
                    await asyncio.sleep(0.02)

    monkeypatch.setattr(store._inbox.bulks, "_place", replaced)
    with pytest.raises(StoreAway):
        await post(store, *(note(b"%d" % n) for n in range(150)))
    assert "shop" not in await balanced(store)


async def test_what_came_through_a_spool_is_named_by_the_id_that_was_told(hosts: Hosts, tmp_path: Path) -> None:
    """Whoever has to post it again knows that id alone."""
    store = await hosts.edge(tmp_path)
    await hosts.pair.part()
    store._spool.went_away()
    (told,) = (await post(store, note(b"spooled"))).ids
    await drained(store)
    hosts.pair.fail_over()
    store.heard("")
    async with asyncio.timeout(30):
        while not hosts.told.lost:
            await asyncio.sleep(0.02)
    assert hosts.told.lost == [told]


async def test_what_a_failover_lost_while_a_spool_drains_comes_in_again(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server took some, and is replaced before the spool forgets them: nothing is lost, and nothing told as lost."""
    store = await hosts.edge(tmp_path)
    await hosts.pair.part()
    drain = store._spool._drain

    async def replaced(entries: Any) -> Any:
        drained = await drain(entries)
        monkeypatch.setattr(store._spool, "_drain", drain)
        hosts.pair.fail_over()
        async with asyncio.timeout(30):
            while not store._parts.last_accepted.lacks("shop", drained[0].server):
                with suppress(StoreAway):
                    await store.link.do("PING")
        return drained

    monkeypatch.setattr(store._spool, "_drain", replaced)
    store._spool.went_away()
    ids = (await post(store, note(b"1"), note(b"2"))).ids
    await drained(store)
    assert await states(store, ids) == ["pending", "pending"]
    await store._parts.last_accepted.look()
    assert hosts.told.lost == []


async def test_an_attempt_whose_callbacks_are_lost_still_counts(hosts: Hosts) -> None:
    """The request was sent, so its slot is used, though the store knows nothing of what it carried."""
    store = await hosts.owner()
    await hosts.pair.part()
    await post(store, *(note(b"%d" % n) for n in range(3)))
    batches = [await claimed(store, request(max_items=1)) for _ in range(3)]
    await deliver(store, batches[0], hosts.clock)
    hosts.pair.fail_over()
    assert isinstance(await _again(store), WaitUntil)
    assert hosts.told.anew == [3]
    await deliver(store, batches[1], hosts.clock)
    await resend(store, batches[2], hosts.clock, after_s=0.0)
    await post(store, note(b"next"))
    other = await hosts.owner()
    assert (await refused(other)).reason == "limit"
    assert (await balanced(other))["shop"].pending == 1
    assert (await other.platform_status())["shop"].in_flight == 0


async def test_where_the_owner_is_gone_too_windows_count_as_full(hosts: Hosts) -> None:
    """For one window nothing goes, whoever owns it: nobody knows what was sent. Then all goes on."""
    store = await hosts.owner()
    await post(store, *(note(b"%d" % n) for n in range(5)))
    await hosts.pair.part()
    await claimed(store, request(max_items=1))
    hosts.pair.fail_over()
    for _ in range(2):  # the second one finds it noted
        other = await hosts.owner()
        found = await refused(other)
        assert (found.reason, found.at) == ("limit", hosts.clock.now() + 60.0)
        (use,) = (await other.platform_status())["shop"].quotas
        assert (use.used, use.limit, use.unknown, use.free_at) == (3, 3, True, hosts.clock.now() + 60.0)
    await other.configure(rules(rate=Rate(5, 60.0)))
    assert (await refused(other)).reason == "limit"
    hosts.clock.advance(60.0)
    assert not (await other.platform_status())["shop"].quotas[0].unknown
    assert len(payloads(await claimed(other))) == 5


async def test_a_long_window_that_counts_as_full_can_be_left_out(hosts: Hosts) -> None:
    """Whoever knows what was sent takes the day's rate out of the file: the minute's goes on after a minute."""
    minute, day = Rate(2, 60.0), Rate(1000, 86_400.0)
    long = replace(rules(rate=minute), quotas={"shop": Quota("shop", (minute, day))})
    store = await hosts.owner(long)
    await post(store, *(note(b"%d" % n) for n in range(5)))
    await hosts.pair.part()
    await claimed(store, request(max_items=1))
    hosts.pair.fail_over()
    other = await hosts.owner(long)
    assert (await refused(other)).at == hosts.clock.now() + day.window_s
    hosts.clock.advance(60.0)
    of_minute, of_day = (await other.platform_status())["shop"].quotas
    assert (bool(of_minute.unknown), of_minute.used, of_day.unknown, of_day.used) == (False, 0, True, 1000)
    assert (await refused(other)).reason == "limit"
    await other.configure(replace(long, quotas={"shop": Quota("shop", (minute,))}))
    await claimed(other, request(max_items=1))


async def test_what_a_take_over_ended_is_ended_again(hosts: Hosts) -> None:
    """The failover loses what the new owner did with the former one's attempts: their batches go again all the same."""
    first = await hosts.owner(rules())
    await post(first, *(note(b"%d" % n) for n in range(25)))
    for _ in range(25):
        await claimed(first, request(max_items=1))
    other = await hosts.owner(rules(), parts=True)
    hosts.pair.fail_over()
    again = [await _again(other) for _ in range(25)]
    assert {bytes(payloads(batch)[0]) for batch in again if isinstance(batch, Batch)} == {b"%d" % n for n in range(25)}
    for batch in again:
        assert isinstance(batch, Batch)
        await deliver(other, batch, hosts.clock)
    assert (await balanced(other))["shop"].delivered == 25
    assert (await other.platform_status())["shop"].in_flight == 0


async def test_what_went_again_after_a_take_over_does_not_go_a_third_time(hosts: Hosts) -> None:
    """What the new owner did is written anew in its order: the former owner's attempt ends before the next begins."""
    first = await hosts.owner(rules())
    await post(first, note(b"1"))
    await claimed(first)
    other = await hosts.owner(rules(), parts=True)
    await deliver(other, await claimed(other), hosts.clock)
    hosts.pair.fail_over()
    found = await _again(other)
    assert isinstance(found, WaitUntil)
    assert found.reason == "idle"
    assert (await balanced(other))["shop"].delivered == 1


async def test_what_is_under_way_since_a_take_over_stays_so(hosts: Hosts) -> None:
    """The replica has the take-over and the claim after it: written anew, the take-over does not end that claim."""
    first = await hosts.owner(rules())
    await post(first, note(b"1"), note(b"2"))
    await claimed(first, request(max_items=1))
    other = await hosts.owner(rules())
    await claimed(other, request(max_items=1))
    under_way = await claimed(other, request(max_items=1))
    await hosts.pair.part()
    hosts.pair.fail_over()
    found = await _again(other)
    assert isinstance(found, WaitUntil)
    assert found.reason == "idle"
    assert (await other.platform_status())["shop"].in_flight == 2
    await deliver(other, under_way, hosts.clock)
    assert (await balanced(other))["shop"].delivered == 1


async def test_a_server_that_was_started_again_has_all(hosts: Hosts) -> None:
    """Its append-only file had every write: windows are what is recorded, for the owner and for the next one."""
    store = await hosts.owner()
    await post(store, *(note(b"%d" % n) for n in range(5)))
    await claimed(store, request(max_items=1))
    hosts.pair.primary.restart()
    assert isinstance(await _again(store), Batch)
    assert hosts.told.anew == []
    other = await hosts.owner()
    await deliver(other, await claimed(other, request(max_items=1)), hosts.clock)
    hosts.pair.primary.restart()
    assert (await refused(await hosts.owner())).reason == "limit"
    assert hosts.told.lost == []


async def test_what_was_planned_at_the_former_server_is_looked_at_again(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim is on its way when another server answers, which never had some of its callbacks: only the others go."""
    store = await hosts.owner(rules())
    await post(store, note(b"1"))
    await hosts.pair.part()
    await post(store, note(b"lost"))
    carry_out = store._outbox._carry_out

    async def replaced(plan: Any) -> Any:
        hosts.pair.fail_over()
        monkeypatch.setattr(store._outbox, "_carry_out", carry_out)
        return await carry_out(plan)

    monkeypatch.setattr(store._outbox, "_carry_out", replaced)
    async with asyncio.timeout(30):
        while True:
            try:
                batch = await claimed(store)
                break
            except StoreAway:
                await asyncio.sleep(0.02)
    assert payloads(batch) == [b"1"]
    await deliver(store, batch, hosts.clock)
    assert (await balanced(store))["shop"].delivered == 1
    assert (await store.platform_status())["shop"].in_flight == 0
