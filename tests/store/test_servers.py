"""Servers that are not fit to hold callbacks, or stop being it: each is refused in words, or does what is stated."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.clock import wall_s
from relay.core.errors import StoreAway, StoreFull, StoreUnusable
from relay.store.redis.backend import RedisStore
from relay.store.redis.opening import make_store, reach
from relay.store.redis.server import link as link_module
from relay.store.redis.server.lineage import Lineage
from relay.store.redis.server.link import Durable, ServerCall, ServerLink
from relay.store.redis.server.scripts import script_of
from tests.store.harness import balanced, bury, claimed, deliver, note, operate, post, requeue, rules
from tests.store.valkey import Sentinel, ValkeyServer

Servers = Callable[..., ValkeyServer]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Start servers with settings of their own; all end with the test."""
    made: list[ValkeyServer] = []

    def start(**settings: str) -> ValkeyServer:
        made.append(ValkeyServer(tmp_path / f"server{len(made)}", **settings))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.kill()


def store_on(url: str, *, durable: Durable = Durable(), prefix: str = "relay") -> RedisStore:  # noqa: B008 - immutable
    """A store that has not reached its server yet."""
    return make_store(parse_server_url(url), prefix=prefix, durable=durable)


async def opened(url: str, **given: object) -> RedisStore:
    """A store that is ready."""
    store = store_on(url, **given)  # type: ignore[arg-type]
    await reach(store)
    await store.configure(rules())
    return store


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "set maxmemory-policy noeviction"),
        ({"appendonly": "no"}, "set appendonly yes"),
        ({"requirepass": "s3cret"}, "lets nobody in without its password"),
    ],
    ids=["eviction", "no aof", "password"],
)
async def test_what_could_lose_callbacks_is_refused(servers: Servers, settings: dict[str, str], said: str) -> None:
    """A server that evicts, has no append-only file, or asks for a password: an error that says what to set."""
    store = store_on(servers(**settings).url)
    with pytest.raises(StoreUnusable, match=said):
        await reach(store)
    await store.close()


@pytest.mark.parametrize(
    ("version", "settings", "said"),
    [
        ("6.0.16", {}, "6.2 is the oldest"),
        ("7.0.15", {"appendfsync": "everysec"}, "version 7.0.15 has no WAITAOF, and appendfsync is everysec: set"),
    ],
    ids=["too old", "no waitaof"],
)
async def test_an_old_server_is_refused(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, version: str, settings: dict[str, str], said: str
) -> None:
    """It lacks commands, or cannot say that it has written: an error names its version and what to do."""
    store = store_on(servers(**settings).url)
    info = store.link.info

    async def old(*sections: str) -> Mapping[str, object]:
        return {**await info(*sections), "valkey_version": version}

    monkeypatch.setattr(store.link, "info", old)
    with pytest.raises(StoreUnusable, match=said):
        await reach(store)
    await store.close()


async def test_a_server_that_loads_its_data_is_away(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads its append-only file it says that it has none; it is asked again, not refused."""
    store = store_on(servers().url)
    info = store.link.info

    async def loading(*sections: str) -> Mapping[str, object]:
        return {**await info(*sections), "loading": "1", "aof_enabled": "0"}

    monkeypatch.setattr(store.link, "info", loading)
    with pytest.raises(StoreAway, match="loading"):
        await reach(store)
    await store.close()


async def test_times_are_on_the_clock_of_the_store(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose own clock is an hour off stores the same times as the others.

    After a failover to a server whose clock is behind, a host that starts begins at the newest time that is stored.
    """
    url = servers().url
    right = await opened(url)
    monkeypatch.setattr("relay.store.redis.opening.wall_s", lambda: wall_s() - 3600.0)
    wrong = await opened(url)
    accepted = await post(wrong, note(b"1"))
    view = await right.callback(accepted.ids[0])
    assert view is not None
    assert abs(float(view.accepted_at) - right.clock.now()) < 60.0
    ahead = right.clock.now() + 3600.0
    await right.link.do("HSET", right.keys.of("shop", "m"), "number", str(int(ahead * 1e6)))
    late = await opened(url)
    assert late.clock.now() >= ahead
    for store in (right, wrong, late):
        await store.close()


async def test_the_password_stands_in_the_url(servers: Servers) -> None:
    """With the right one the server is used; a wrong one is an error that does not show it."""
    url = servers(requirepass="s3cret").url
    store = await opened(url.replace("//", "//:s3cret@"))
    await post(store, note(b"1"))
    await store.close()
    wrong = store_on(url.replace("//", "//:wr0ng@"))
    with pytest.raises(StoreUnusable) as caught:
        await reach(wrong)
    assert "wr0ng" not in str(caught.value)
    await wrong.close()


async def test_without_aof_when_that_is_asked_for(servers: Servers) -> None:
    """With ``durability: {aof: false}`` nothing is waited for; the fault is told and is no reason to refuse."""
    store = store_on(servers(appendonly="no").url, durable=Durable(aof=False))
    facts = await reach(store)
    assert [fault.fatal for fault in facts.faults] == [False]
    await store.configure(rules())
    await post(store, note(b"1"))
    await store.close()


async def test_replicas_that_are_not_there(servers: Servers) -> None:
    """The counts that WAITAOF answers are compared: a post that no replica has is not answered as accepted."""
    store = await opened(servers().url, durable=Durable(replicas=1, timeout_s=0.1))
    with pytest.raises(StoreAway, match="asks for 1 and 1"):
        await post(store, note(b"1", idempotency_key="a"))
    await store.close()


@pytest.mark.parametrize(
    ("there", "waited_for", "said"),
    [(0, 1, "posts are answered 503"), (1, 1, ""), (2, 1, "answered 202"), (1, 0, "has 1 replica and"), (0, 0, "")],
)
async def test_replicas_that_may_be_behind_are_told(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, there: int, waited_for: int, said: str
) -> None:
    """Fewer replicas are waited for than can take the server's place: what a failover may lose is said."""
    store = store_on(servers().url, durable=Durable(replicas=waited_for))
    info = store.link.info

    async def with_replicas(*sections: str) -> Mapping[str, object]:
        return {**await info(*sections), "connected_slaves": str(there)}

    monkeypatch.setattr(store.link, "info", with_replicas)
    told = [fault.text for fault in (await reach(store)).faults]
    assert [said in text for text in told] == ([True] if said else [])
    await store.close()


@pytest.mark.parametrize(("seen", "waited_for", "lacks"), [(2, 2, False), (2, 1, True), (1, 1, False), (0, 0, True)])
def test_a_replica_that_nobody_waited_for_may_lack_something(seen: int, waited_for: int, lacks: bool) -> None:
    """Only where all are waited for, any of them has everything when it takes the primary's place."""
    link = ServerLink.to(parse_server_url("redis://a:1/0"), Durable(replicas=waited_for))
    link.replicas_seen = seen
    promoted = Lineage("run2", "b:1", "y", "x")
    assert link.may_lack(Lineage("run1", "a:1", "x").text, promoted) is lacks


async def test_calls_keep_their_order_where_the_server_knows_only_some_scripts(servers: Servers) -> None:
    """Another host has brought one of them: it does not overtake the one before it, which the server is given now."""
    url = servers().url
    first, second = (script_of(f"return redis.call('RPUSH', KEYS[1], '{word}')") for word in ("first", "second"))
    calls = [ServerCall(script, ("list",), ()) for script in (first, second)]
    for some in (calls[1:], calls):
        link = ServerLink.to(parse_server_url(url), Durable())
        await link.run(some)
        await link.run([calls[1]])
        found = await link.do("LRANGE", "list", 0, -1)
        loads = (await link.info("commandstats"))["cmdstat_script|load"]
        await link.close()
    assert found == [b"second"] * 2 + [b"first", b"second", b"second"]
    assert loads["calls"] == 3  # once over each link


async def test_a_replica_that_is_there_and_then_the_primary(servers: Servers) -> None:
    """With its replica the post is accepted and lies there too; a server that turned replica takes no posts."""
    primary = servers(**{"repl-diskless-sync-delay": "0"})
    replica = servers(replicaof=f"127.0.0.1 {primary.port}")
    primary.until_replica_follows()
    store = await opened(primary.url, durable=Durable(replicas=1, timeout_s=20.0))
    accepted = await post(store, note(b"1"))
    await store.link.do("REPLICAOF", "127.0.0.1", str(replica.port))
    with pytest.raises(StoreAway):
        await post(store, note(b"2", idempotency_key="a"))
    await store.close()
    other = store_on(replica.url)
    await other.link.do("REPLICAOF", "NO", "ONE")
    await reach(other)
    assert await other.callback(accepted.ids[0]) is not None
    await other.close()


async def test_keys_of_somebody_else(servers: Servers) -> None:
    """A prefix under which others keep keys is refused, and nothing is written there; another prefix is taken."""
    url = servers().url
    stranger = store_on(url)
    await stranger.link.do("SET", "relay:session:1", "theirs")
    with pytest.raises(StoreUnusable, match=r"set another store\.prefix"):
        await reach(stranger)
    assert await stranger.link.do("DBSIZE") == 1
    await stranger.close()
    store = await opened(url, prefix="relay2")
    await store.close()


async def test_a_store_of_a_newer_version(servers: Servers) -> None:
    """It is refused and stays as it is."""
    url = servers().url
    store = await opened(url)
    await store.link.do("SET", store.keys.shared("schema"), "99")
    await store.close()
    older = store_on(url)
    with pytest.raises(StoreUnusable, match="is of version 99"):
        await reach(older)
    await older.close()


async def test_a_server_without_room(servers: Servers) -> None:
    """At ``maxmemory`` posts are refused as full; claims, settles, operations and pruning go on and make room."""
    server = servers()
    store = await opened(server.url)
    clock = store.clock
    await post(store, *(note(b"%d" % n + b"x" * 2000) for n in range(50)))
    info = await store.link.info("memory")
    # Less than is used now: the buffers of its connections shrink while nothing comes.
    await store.link.do("CONFIG", "SET", "maxmemory", str(int(info["used_memory"]) // 2))
    with pytest.raises(StoreFull, match="maxmemory"):
        await post(store, note(b"y" * 2000))
    with pytest.raises(StoreFull, match="maxmemory"):
        await post(store, *(note(b"z" * 2000) for _ in range(300)))
    assert (await store.size()).full
    batch = await claimed(store)
    await deliver(store, batch, clock)  # type: ignore[arg-type]
    assert (await balanced(store))["shop"].delivered == 50
    await store.configure(rules(keep_delivered_s=0.0))
    while await store.prune():
        pass
    await store.link.do("CONFIG", "SET", "maxmemory", str(int(info["used_memory"]) + (1 << 20)))
    await post(store, note(b"y" * 2000))
    await store.close()


async def test_a_bulk_that_found_no_room_leaves_none_taken(servers: Servers) -> None:
    """What of it was staged goes at once: else small posts are refused for as long as somebody repeats a large one."""
    server = servers()
    store = await opened(server.url)
    used = int((await store.link.info("memory"))["used_memory"])
    await store.link.do("CONFIG", "SET", "maxmemory", str(used + 3_000_000))
    for _ in range(2):
        with pytest.raises(StoreFull, match="maxmemory"):
            await post(store, *(note(b"z" * 1000) for _ in range(6000)))  # staged in several steps
        assert await store.link.do("HLEN", store.keys.of("shop", "stg")) == 0
        await post(store, note(b"small"))
    assert (await balanced(store))["shop"].accepted == 2
    await store.close()


LOOP = "local n = 0 for i = 1, 300000 do n = n + i end return n"
"""A few milliseconds of Lua: how long it takes at most says how long this machine makes a server wait."""


async def test_two_scripts_never_take_long(servers: Servers) -> None:
    """Bulks, claims of 500, settles, operations and expiry are cut so that no script holds the server up."""
    server = servers(**{"slowlog-log-slower-than": "0", "slowlog-max-len": "5000"})
    store = await opened(server.url)
    clock = store.clock
    await post(store, *(note(b"x" * 300, key=f"k{n}", idempotency_key=f"i{n}") for n in range(2000)))
    for end in (deliver, bury):
        await end(store, await claimed(store, _whole()), clock)  # type: ignore[arg-type]
    await requeue(store, await claimed(store, _whole()), clock, after_s=60)  # type: ignore[arg-type]
    await operate(store, "retry")
    for _ in range(20):
        await store.link.do("EVAL", LOOP, "0")
    took = {b"EVAL": [0], b"EVALSHA": [0]}
    logged = await store.link.one(ServerCall(None, (), ("SLOWLOG", "GET", "-1")), within_s=60.0)
    for _, _, microseconds, words, *_ in logged:
        took.setdefault(words[0], []).append(microseconds)
    assert len(took[b"EVALSHA"]) > 20
    assert max(took[b"EVALSHA"]) <= max(100_000, 20 * max(took[b"EVAL"]))
    await store.close()


def _whole() -> "object":
    from tests.store.harness import request

    return request(max_items=500, max_bytes=1 << 30)


async def test_a_lost_reply_is_not_sent_again(servers: Servers) -> None:
    """The client sends a script once, whatever becomes of its answer; the claim finds its batch again."""
    server = servers()
    store = await opened(server.url)
    accepted = await post(store, note(b"1"), note(b"2"))
    asked = asyncio.create_task(store.claim(_whole()))  # type: ignore[arg-type]
    while not store._outbox._claiming["shop"].locked():
        await asyncio.sleep(0)
    server.freeze()
    await asyncio.sleep(0)
    await asyncio.wait((asked,), timeout=0.2)
    server.freeze(False)
    batch = await asked
    assert [item.id for item in batch.items] == accepted.ids  # type: ignore[union-attr]
    count = await store.link.one(ServerCall(None, (), ("HLEN", store.keys.of("shop", "at"))))
    assert count == 1
    await store.close()


@pytest.mark.timeout(120)
async def test_a_failover_loses_nothing_that_was_answered(servers: Servers, tmp_path: Path) -> None:
    """With sentinels and ``replicas: 1``: the replica has every accepted post when the primary ends, and takes more.

    A store that is closed leaves no connection open, to the sentinel neither.
    """
    primary = servers(**{"repl-diskless-sync-delay": "0"})
    replica = servers(replicaof=f"127.0.0.1 {primary.port}")
    primary.until_replica_follows()
    sentinel = Sentinel(tmp_path / "sentinel", primary, down_after_ms=2000)  # a busy machine may keep it waiting
    sentinel.start()
    try:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        store = await opened(url, durable=Durable(replicas=1, timeout_s=20.0))
        accepted = await post(store, *(note(b"%d" % n, idempotency_key=f"i{n}") for n in range(20)))
        assert store.link.address == f"127.0.0.1:{primary.port}"
        while str((await store.link.info("replication"))["connected_slaves"]) != "1":
            await asyncio.sleep(0.05)
        asked = ServerLink.to(parse_server_url(sentinel.url), Durable())
        while not await asked.do("SENTINEL", "REPLICAS", "main"):
            await asyncio.sleep(0.05)
        primary.kill()
        store.link.durable = store.link.durable._replace(replicas=0)  # none is left
        while True:
            try:
                again = await post(store, note(b"0", idempotency_key="i0"), note(b"more", idempotency_key="more"))
                break
            except StoreAway:
                await asyncio.sleep(0.1)
        assert store.link.address == f"127.0.0.1:{replica.port}"
        assert (again.ids[0], again.duplicates) == (accepted.ids[0], {0})
        assert (await balanced(store))["shop"].pending == 21
        await store.close()
        async with asyncio.timeout(20):
            while int((await asked.info("clients"))["connected_clients"]) > 1:  # who asks is one
                await asyncio.sleep(0.05)
        await asked.close()
    finally:
        sentinel.kill()


async def test_more_calls_than_connections_take_turns(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers is not away, however much is asked at once; of one that does not, nobody sent in vain."""
    monkeypatch.setattr(link_module, "_MOST", 4)
    server = servers()
    link = ServerLink.to(parse_server_url(server.url), Durable())
    assert await asyncio.gather(*(link.do("PING") for _ in range(40))) == [True] * 40
    server.freeze()
    # Those that wait for their turn give up before the others do, who would pass it on.
    calls = (link.run([ServerCall(None, (), ("PING",))], within_s=within_s) for within_s in [0.8] * 4 + [0.2] * 2)
    away = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, StoreAway) and each.sent for each in away] == [True] * 4 + [False] * 2
    server.freeze(False)
    assert await link.do("PING")
    assert link._turns._value == 4
    await link.close()
