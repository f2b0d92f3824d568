"""A store copied from a file to a server and back: what it holds, what it knows, and what it does next."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
import redis
from relay.config.reading.server_urls import parse_server_url
from relay.core.clock import wall_s
from relay.core.errors import IdempotencyConflict, StoreFailed, StoreUnusable
from relay.core.ids import encode_id
from relay.core.lending import LimitName, SlotWish
from relay.core.model import (
    AcceptedPosts,
    Filter,
    Lane,
    Outcome,
    PlatformRules,
    Quota,
    Rate,
    StoreRules,
    WaitUntil,
)
from relay.core.settlement import Ask
from relay.daemon.store_copy import copy_between
from relay.sealing.master_keys import GivenKeys, KeySource
from relay.store.base import Store
from relay.store.redis.backend import RedisStore
from relay.store.redis.sealed.data_keys import SharedDataKeys
from relay.store.redis.server.copied import COPYING
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.transfer.source import RedisSource
from relay.store.redis.transfer.target import RedisTarget
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.boot import clock_of
from relay.store.sqlite.read.ledger import open_reader
from relay.store.sqlite.transfer.source import SqliteSource
from relay.store.sqlite.transfer.target import SqliteTarget
from relay.store.transfer.copy_run import Copied, CopyMark, CopySource, CopyTarget, copy_store
from relay.store.transfer.hashes import HashWay
from relay.store.transfer.records import CopyOrigin, NumberedRecord
from tests import warm_start
from tests.clocks import FakeClock
from tests.store.edge_host import Host, drained
from tests.store.harness import (
    balanced,
    bury,
    claimed,
    deliver,
    hold,
    note,
    operate,
    payloads,
    post,
    refused,
    request,
    requeue,
    resend,
    routed,
    seqs,
    settlement,
    shown,
)
from tests.store.valkey import ValkeyServer

RULES = StoreRules(
    quotas={"shop": Quota("shop", (Rate(50, 60.0),))},
    platforms={
        "shop": PlatformRules(quotas=("shop",)),
        "blocked": PlatformRules(block_on_dead=True),
        "other": PlatformRules(),
        "new": PlatformRules(),
    },
)
_SOME = 100
SEALED = GivenKeys(b"k" * 32)


class Stores:
    """A file and a server, each opened as a source, a target or a store in use."""

    def __init__(self, server: ValkeyServer, directory: Path, clock: FakeClock, keys: KeySource | None = None) -> None:
        self.clock = clock
        self.keys = keys
        self.directory = directory
        self._server = server
        self.prefix = f"t{secrets.token_hex(4)}"

    async def file(self, name: str) -> Store:
        store = await SqliteStore.open(self.directory / name, clock=self.clock, keys=self.keys)
        await store.configure(RULES)
        return store

    def _redis(self) -> RedisStore:
        link = ServerLink.to(parse_server_url(self._server.url), Durable())
        return RedisStore(link, KeyNames(self.prefix), self.clock, source=self.keys)

    async def server(self) -> RedisStore:
        store = self._redis()
        await store.begin()
        await store.configure(RULES)
        return store

    def tear(self, mark: bytes) -> None:
        """Let a half copy on the server stand where it stood before."""
        self._server.ask("SET", f"{self.prefix}:{{:relay}}:{COPYING}", mark.decode())

    def ask(self, command: str, platform: str, suffix: str, *given: str) -> None:
        """Run a command on a key of a platform, as a host does that is not seen here."""
        self._server.ask(command, f"{self.prefix}:{{{platform}}}:{suffix}", *given)

    async def from_file(self, name: str) -> SqliteSource:
        return await SqliteSource.open(self.directory / name, self.keys)

    async def to_file(self, name: str) -> SqliteTarget:
        return await SqliteTarget.open(self.directory / name, self.keys)

    async def from_server(self) -> RedisSource:
        store = self._redis()
        await store.begin()
        tags = PlatformTags(store.link, store.keys)
        return await RedisSource.open(store, SharedDataKeys(store.link, store.keys, tags, self.keys), tags)

    def to_server(self) -> RedisTarget:
        link, keys = ServerLink.to(parse_server_url(self._server.url), Durable()), KeyNames(self.prefix)
        tags = PlatformTags(link, keys)
        return RedisTarget(link, keys, SharedDataKeys(link, keys, tags, self.keys), tags, self.clock)


async def copied(source: Any, target: Any, *, resume: bool = False) -> Copied:
    """Copy, and close both sides."""
    try:
        return await copy_store(source, target, resume=resume, told=lambda *_: None)
    finally:
        await source.close()
        await target.close()


@pytest.fixture
def stores(server: ValkeyServer, tmp_path: Path) -> Stores:
    """A file and a server."""
    return Stores(server, tmp_path, FakeClock())


async def filled(store: Store, clock: FakeClock) -> dict[str, str]:
    """Fill a store with one callback of every kind; return their ids by what they are."""
    ids: dict[str, str] = {}

    async def put(name: str, **given: Any) -> None:
        ids[name] = (await post(store, note(name.encode(), **given))).ids[0]
        clock.advance(2.0)

    for name in ("delivered", "dead", "held", "requeued"):
        await put(name, platform="other", key=name, idempotency_key=f"idem-{name}", event="paid")
    for settle in (deliver, bury, hold):
        await settle(store, await claimed(store, request("other", max_items=1)), clock)
    await requeue(store, await claimed(store, request("other", max_items=1)), clock, after_s=600.0)
    await put("behind the held", platform="other", key="held", lane=Lane.HIGH)
    await put("buried", platform="blocked", key="k")
    await bury(store, await claimed(store, request("blocked")), clock)
    await put("waits for it", platform="blocked", key="k")
    await put("again", key="again", idempotency_key="idem-again")
    await resend(store, await claimed(store), clock, after_s=300.0)
    await put("asked", key="asked")
    batch = await claimed(store)
    ask = Ask(seqs(batch), clock.now() + 400.0, "unknown")
    await store.settle(settlement(batch, clock, Outcome.CONFIRM, ask=ask))
    await put("in flight", key="order 1")
    ids["batch"] = (await claimed(store)).id
    await put("behind it", key="order 1")
    await put("grouped", group="east")
    await put("held back", key="stopped")
    await put("low", lane=Lane.LOW, expires_s=5000.0)
    await put("cancelled")
    await store.cancel(ids["cancelled"])
    await put("dropped", platform="other", key="dropped")
    await bury(store, await claimed(store, request("other", max_items=1)), clock, reason="rejected: 404")
    await operate(store, "drop", Filter(ids=(ids["dropped"],)))
    await operate(store, "drop", Filter(ids=(ids["delivered"],), key="delivered"))
    both = await store.accept_posts([routed("shop", "other", payload=b"both", idempotency_key="fan", event="e")])
    ids["fan shop"], ids["fan other"] = both.ids[0]["shop"], both.ids[0]["other"]
    await store.held_keys.hold("shop", "stopped", "asked to", deed=None)
    await store.set_gate("shop", {"paused": {"by": "me"}, "groups": {"east": {"until": 5.0}}})
    await store.audit(
        {"who": "me", "role": "admin", "from": "x", "action": "a", "target": "*", "reason": "", "details": {}}
    )
    lent = await store.lending.lend(SlotWish(LimitName("shop", ""), 2, 10.0, False))
    assert lent
    return ids


_VOLATILE = {"due_at", "in_flight", "batch", "attempt_count", "attempts", "maybe_applied"}


async def seen(store: Store, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return how each callback is shown."""
    found: dict[str, dict[str, Any]] = {}
    for name, callback_id in ids.items():
        if name != "batch":
            view = await shown(store, callback_id, payload=True)
            found[name] = {field: getattr(view, field) for field in view.__struct_fields__}
    return found


async def history(store: Store) -> Any:
    """Return gates, operations and audit records."""
    from relay.views.past.journal import JournalFilter

    chain = await store.journal.chain(after=0, limit=100)
    operations = await store.journal.operations(JournalFilter(), cursor=None, limit=10)
    return (
        await store.gates(),
        [(each.action, each.filter, each.done, each.skipped, each.failed) for each in operations.items],
        chain,
    )


async def goes_on(store: Store, ids: dict[str, str], clock: FakeClock) -> None:
    """See that a copied store knows its posts and sends what it must, in order, under the same batch id."""
    again = await post(store, note(b"dead", platform="other", key="dead", idempotency_key="idem-dead", event="paid"))
    assert (again.ids, again.duplicates) == ([ids["dead"]], frozenset({0}))
    with pytest.raises(IdempotencyConflict):
        await post(store, note(b"else", platform="other", key="dead", idempotency_key="idem-dead", event="paid"))
    fan: AcceptedPosts = await store.accept_posts(
        [routed("shop", "other", payload=b"both", idempotency_key="fan", event="e")]
    )
    assert fan.ids == [{"shop": ids["fan shop"], "other": ids["fan other"]}]
    clock.advance(1000.0)
    assert (await store.expire()).ended == []
    sent: dict[str, Sequence[bytes]] = {}
    confirmed = []
    for _ in range(12):
        got = await store.claim(replace(request(max_items=1), group=None))
        if isinstance(got, WaitUntil):
            break
        sent[got.id] = payloads(got)
        confirmed += payloads(got) if got.confirm else []
        await deliver(store, got, clock)
    assert sent[ids["batch"]] == [b"in flight"]
    assert (await seen(store, ids))["in flight"]["attempt_count"] == 2
    order = [payload for each in sent.values() for payload in each]
    assert sorted(order) == sorted([b"in flight", b"behind it", b"again", b"asked", b"low", b"both", b"grouped"])
    assert order.index(b"in flight") < order.index(b"behind it")
    assert confirmed == [b"asked"]
    other = await claimed(store, request("other"))
    assert sorted(payloads(other)) == sorted([b"requeued", b"both"])
    await deliver(store, other, clock)
    await refused(store, request("blocked"))
    await operate(store, "retry", Filter(platform="blocked"))
    assert payloads(await claimed(store, request("blocked"))) == [b"buried"]
    await operate(store, "resolve", Filter(ids=(ids["held"],)), verdict="retry")
    assert payloads(await claimed(store, request("other"))) == [b"held"]
    assert await store.held_keys.release("shop", "stopped")
    clock.advance(60.0)
    assert payloads(await claimed(store)) == [b"held back"]
    await balanced(store)


@pytest.mark.parametrize("keys", [None, SEALED], ids=["plain", "sealed"])
async def test_from_a_file_to_a_server_and_back(server: ValkeyServer, tmp_path: Path, keys: KeySource | None) -> None:
    """Everything is shown as before under its id, the ledgers are equal, and each store goes on where the other was."""
    stores = Stores(server, tmp_path, FakeClock(), keys)
    store = await stores.file("relay.db")
    ids = await filled(store, stores.clock)
    before, told = await seen(store, ids), await history(store)
    await store.close()
    there = await copied(await stores.from_file("relay.db"), stores.to_server())
    assert there.differences == []
    assert there.source["shop"].under_way == 1
    shared = await stores.server()
    on_server = await seen(shared, ids)
    assert _settled(on_server) == _settled(before)
    assert await history(shared) == told
    await post(shared, note(b"new", platform="new", key="k"))
    under_way = await claimed(shared, request("new"))
    await shared.close()
    back = await copied(await stores.from_server(), await stores.to_file("back.db"))
    assert (back.differences, back.source["new"].under_way) == ([], 1)
    file = await stores.file("back.db")
    assert _settled(await seen(file, ids)) == _settled(before)
    assert await history(file) == told
    await goes_on(file, ids, stores.clock)
    again = await claimed(file, request("new"))
    assert (again.id, payloads(again)) == (under_way.id, [b"new"])
    await file.close()
    reader = open_reader(stores.directory / "back.db", keys=stores.keys)
    totals, recount = reader.ledger_and_recount()
    reader.close()
    assert {name: recount[name] for name in totals} == totals
    shared = await stores.server()
    await goes_on(shared, ids, stores.clock)
    await shared.close()


def _settled(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Leave out what a take-over changes in what was under way."""
    return {
        name: {field: value for field, value in view.items() if name != "in flight" or field not in _VOLATILE}
        for name, view in found.items()
    }


class Cut(Exception):
    """Ends a copy in the middle."""


class CutTarget:
    """A target that is lost after so many chunks. With ``tear`` the last one lies there without its mark."""

    def __init__(self, target: CopyTarget, chunks: int, tear: Callable[[bytes], object] = lambda _: None) -> None:
        self._target = target
        self._left = chunks
        self._tear = tear
        self._marks: list[bytes] = []
        self.begin, self.finish, self.tally = target.begin, target.finish, target.tally

    async def take(self, section: str, platform: str, records: Sequence[NumberedRecord], mark: Any) -> None:
        self._left -= 1
        if self._left < 0:
            for before in self._marks[-2:-1]:
                self._tear(before)
            raise Cut
        self._marks.append(msgspec.json.encode(mark))
        await self._target.take(section, platform, records, mark)

    async def close(self) -> None:
        await self._target.close()


async def test_a_copy_goes_on_where_it_was_cut_off(stores: Stores) -> None:
    """Cut again and again and resumed, it ends with equal ledgers, both ways; a half one is no store."""
    store = await stores.file("relay.db")
    ids = await filled(store, stores.clock)
    await store.close()
    for chunks in range(40):
        target = CutTarget(stores.to_server(), 1 + chunks, stores.tear)
        try:
            done = await copied(await stores.from_file("relay.db"), target, resume=chunks > 0)
        except Cut:
            continue
        break
    assert done.differences == []
    source: CopySource
    for chunks in range(40):
        cut = CutTarget(await stores.to_file("back.db"), 1 + chunks)
        source = await stores.from_server()
        try:
            done = await copied(source, cut, resume=chunks > 0)
        except Cut:
            with pytest.raises(StoreUnusable, match="half a copy"):
                await stores.file("back.db")
            with pytest.raises(StoreUnusable, match="--resume"):
                await copied(await stores.from_server(), await stores.to_file("back.db"))
            continue
        break
    assert done.differences == []
    for again in (stores.to_server(), await stores.to_file("back.db")):  # killed before it could compare
        origin = await stores.from_server() if isinstance(again, SqliteTarget) else await stores.from_file("relay.db")
        assert (await copied(origin, again, resume=True)).differences == []
    server = await stores.server()
    await goes_on(server, ids, stores.clock)
    await server.close()


async def test_what_is_refused(stores: Stores) -> None:
    """A target that is not empty, a source in use or with an open operation, and one that changed since."""
    store = await stores.file("relay.db")
    await post(store, *(note(b"%d" % number) for number in range(3)))
    operation = await store.start_operation("drop", Filter(), expect_count=None)
    await store.close()
    with pytest.raises(StoreUnusable, match=f"operation {operation.id} is not finished"):
        await copied(await stores.from_file("relay.db"), stores.to_server())
    store = await stores.file("relay.db")
    await store.step_operation(operation.id, 10)
    await store.close()
    with pytest.raises(Cut):
        await copied(await stores.from_file("relay.db"), CutTarget(stores.to_server(), 1))
    server = stores._redis()
    assert await server.link.do("EXISTS", server.keys.shared(COPYING))
    await server.close()
    store = await stores.file("relay.db")
    await post(store, note(b"new"))
    await store.close()
    with pytest.raises(StoreUnusable, match="changed since"):
        await copied(await stores.from_file("relay.db"), stores.to_server(), resume=True)
    done = await copied(await stores.from_file("relay.db"), await stores.to_file("relay2.db"))
    assert done.differences == []
    with pytest.raises(StoreUnusable, match="not empty"):
        await copied(await stores.from_file("relay.db"), await stores.to_file("relay2.db"))


@pytest.mark.parametrize(
    ("command", "platform", "suffix", "given", "why"),
    [
        ("HSET", ":hosts", "hosts", ("edge-9", 'process\n{"spooled": 3}\n1.0'), "spool of the host edge-9 holds 3"),
        ("HSET", "shop", "stg", ("bulk", "1.0"), "posts that are on their way into it"),
        ("ZADD", "shop", "rc", ("1", "7"), "receipts that are not queued yet"),
        ("HSET", "shop", "si", ("7", "x"), "an answer that is not settled to its end"),
    ],
)
async def test_a_server_that_is_not_at_rest_is_no_source(
    stores: Stores, command: str, platform: str, suffix: str, given: Sequence[str], why: str
) -> None:
    """What a host that is gone has not brought to its end would not be carried; it is said which host finishes it."""
    await (await stores.server()).close()
    source = await stores.from_server()
    assert await source.origin()
    stores.ask(command, platform, suffix, *given)
    with pytest.raises(StoreUnusable, match=f"{why}.*start"):
        await source.origin()
    await source.close()


async def test_a_server_without_a_store_is_no_source_and_one_with_other_keys_no_target(
    server: ValkeyServer, stores: Stores, tmp_path: Path
) -> None:
    """A wrong database is told, and not copied as an empty store; nothing is written there. Strangers stay alone."""
    empty, used = f"{server.url[:-1]}2", f"{server.url[:-1]}3"
    with pytest.raises(StoreUnusable, match="no relay's store"):
        await copy_between(empty, f"sqlite:{tmp_path / 'to.db'}", None, resume=False, told=lambda *_: None)
    with redis.Redis(port=server.port, db=2) as client:
        assert client.dbsize() == 0
    store = await stores.file("relay.db")
    await post(store, note(b"1"))
    await store.close()
    with redis.Redis(port=server.port, db=3) as client:
        client.set("relay:sessions", "of somebody else")
        with pytest.raises(StoreUnusable, match="relay:sessions"):
            await copy_between(f"sqlite:{tmp_path / 'relay.db'}", used, None, resume=False, told=lambda *_: None)
        assert client.keys() == [b"relay:sessions"]


async def test_a_source_that_changes_meanwhile_makes_no_store(stores: Stores) -> None:
    """A host came, sent something and went while the copy ran: what was carried is half of the one and of the other."""
    store = await stores.server()
    await post(store, note(b"1"))

    def changed(section: str, _platform: str, _count: int) -> None:
        if section == "callbacks":
            stores.ask("HINCRBY", "shop", "m", "delivered", "1")

    source, target = await stores.from_server(), await stores.to_file("to.db")
    with pytest.raises(StoreUnusable, match="changed since"):
        await copy_store(source, target, resume=False, told=changed)
    await source.close()
    await target.close()
    with pytest.raises(StoreUnusable, match="half a copy"):
        await stores.file("to.db")
    await store.close()


async def test_a_copied_file_goes_on_from_the_time_of_its_source(tmp_path: Path) -> None:
    """A server's clock is ahead of this host's: what was sent would lie in the future of its windows, and hold them."""
    now = wall_s() + 3600.0
    target = await SqliteTarget.open(tmp_path / "to.db", None)
    way = HashWay("file", b"s" * 16)
    origin = CopyOrigin(identity="x", now=now, way=way, numbered=True, sealed=False, platforms=("shop",))
    assert await target.begin(origin, resume=False) is None
    await target.finish(origin)
    await target.close()
    with apsw.Connection(str(tmp_path / "to.db")) as connection:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
    connection.close()
    assert now <= clock_of(meta).now() < now + 60.0
    assert meta["last_at"] == now


async def test_a_callback_that_was_tried_often_keeps_its_last_batches(stores: Stores) -> None:
    """A server knows all of them, a file the last twenty: their attempts are shown."""
    store = await stores.file("relay.db")
    await post(store, note(b"1"))
    await store.close()
    source, target = await stores.from_file("relay.db"), await stores.to_file("to.db")
    origin = await source.origin()
    await target.begin(origin, resume=False)
    (record,) = await source.read("callbacks", "shop", 0, 1)
    batches = [f"b{encode_id(number, 1)}" for number in range(1, 26)]
    many = msgspec.structs.replace(record, batches=batches)
    await target.take("callbacks", "shop", [many], CopyMark(identity=origin.identity))
    trail = target._execute("SELECT trail FROM callback").get
    assert trail == " ".join(map(str, range(6, 26)))
    await source.close()
    await target.close()


async def test_a_key_in_the_filter_of_an_operation_stays_sealed(server: ValkeyServer, tmp_path: Path) -> None:
    """It is a person's as much as that of a callback; the copied operation shows it to who may see it."""
    stores = Stores(server, tmp_path, FakeClock(), SEALED)
    store = await stores.file("relay.db")
    await post(store, note(b"1", key="order-4711"))
    await operate(store, "drop", Filter(key="order-4711"))
    await store.close()
    await copied(await stores.from_file("relay.db"), await stores.to_file("to.db"))
    assert not any(b"order-4711" in file.read_bytes() for file in tmp_path.glob("to.db*"))
    store = await stores.file("to.db")
    _, ((_, wanted, *_),), _ = await history(store)
    assert wanted.key == "order-4711"
    await store.close()


async def test_a_chunk_of_audit_records_that_was_torn_is_not_there_twice(stores: Stores) -> None:
    """The server ended after some of a chunk lay in the list, and before it was counted: the chain stays whole."""
    store = await stores.file("relay.db")
    for action in ("a", "b", "c"):
        await store.audit({"who": "me", "role": "admin", "from": "x", "action": action, "target": "*", "reason": ""})
    await store.close()
    source, target = await stores.from_file("relay.db"), stores.to_server()
    origin = await source.origin()
    mark = CopyMark(identity=origin.identity)
    await target.begin(origin, resume=False)
    records: Sequence[Any] = await source.read("audit", "", 0, 10)
    entries, torn = target._keys.shared("audit"), records[1]
    await target.take("audit", "", records[:1], mark)
    await target._write([("RPUSH", entries, pack([torn.when, torn.hash, torn.text]))])
    await target.take("audit", "", records[1:], mark)
    kept = await target._ask([("LRANGE", entries, 0, -1)])
    assert [unpack(each)[1] for each in kept[0]] == [record.hash for record in records]
    await source.close()
    await target.close()


async def test_what_is_urgent_behind_its_key_stays_urgent(stores: Stores) -> None:
    """In a copied file too the first of a key goes in the best lane of those behind it."""
    store = await stores.file("relay.db")
    for name, lane, key in (("first", Lane.LOW, "k"), ("other", Lane.NORMAL, None), ("urgent", Lane.HIGH, "k")):
        await post(store, note(name.encode(), key=key, lane=lane))
    await store.close()
    await copied(await stores.from_file("relay.db"), await stores.to_file("to.db"))
    store = await stores.file("to.db")
    for name in (b"first", b"urgent", b"other"):
        batch = await claimed(store, request(max_items=1))
        assert payloads(batch) == [name]
        await deliver(store, batch, stores.clock)
    await store.close()


async def test_a_copy_goes_on_after_the_disk_was_full(stores: Stores) -> None:
    """It says so in words, and where there is room again ``--resume`` does the rest."""
    store = await stores.file("relay.db")
    await post(store, *(note(b"x" * 5000) for _ in range(300)))
    await store.close()
    target = await stores.to_file("to.db")
    target._connection.pragma("max_page_count", 250)
    with pytest.raises(StoreFailed, match=r"to\.db cannot be written: the disk is full"):
        await copied(await stores.from_file("relay.db"), target)
    done = await copied(await stores.from_file("relay.db"), await stores.to_file("to.db"), resume=True)
    assert done.differences == []
    assert done.target["shop"].payloads == 300


async def test_numbers_are_listed_once_for_a_copy(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many parts follow: a list for each part would take the square of their number."""
    store = await stores.server()
    for each in range(3):
        await store.accept_posts([routed("shop", "other", payload=b"1", idempotency_key=f"p{each}")])
        await store.lending.lend(SlotWish(LimitName("shop", ""), 1, 10.0, False))
        await operate(store, "drop", Filter(ids=("none",)))
        stores.clock.advance(60.0)
    await store.close()
    monkeypatch.setattr("relay.store.transfer.copy_run.STEP", 1)
    source = await stores.from_server()
    asked: list[str] = []
    do = source._do

    async def counted(*command: Any) -> Any:
        asked.append(command[0])
        return await do(*command)

    monkeypatch.setattr(source, "_do", counted)
    done = await copied(source, await stores.to_file("to.db"))
    assert done.differences == []
    names = len(RULES.platforms)
    assert asked.count("HKEYS") == 1 + 3 * names
    assert asked.count("ZRANGE") == names + 1  # minutes, of all together too
    assert asked.count("HGETALL") == names * (3 + 2 * 2)  # keys held back, gates, lent slots; minutes, as above


async def test_a_spool_knows_how_a_copied_store_hashes(server: ValkeyServer, stores: Stores) -> None:
    """A repeat that a host took in while it started without the server ends superseded by the copied first one."""
    new = note(b"a", platform="shop", key="k", idempotency_key="i")
    store = await stores.file("relay.db")
    (first,) = (await post(store, new)).ids
    await store.close()
    await copied(await stores.from_file("relay.db"), stores.to_server())
    host = Host(server, stores.directory, stores.prefix)
    await host.start()
    await host.store.close()
    server.kill()
    await host.start()
    (again,) = (await post(host.store, new)).ids
    server.start()
    await drained(host.store)
    view = await shown(host.store, again)
    assert (view.state, view.superseded_by) == ("superseded", first)
    await host.store.close()


async def test_the_command_is_killed_and_goes_on(server: ValkeyServer, tmp_path: Path) -> None:
    """Killed in the middle and run again with --resume, both ways: exit 0, equal ledgers, nothing twice."""
    clock = FakeClock()
    url, file, back = f"{server.url[:-1]}1", tmp_path / "relay.db", tmp_path / "back.db"
    store = await SqliteStore.open(file, clock=clock)
    await store.configure(RULES)
    rows = [note(b"%d" % each, key=f"o{each % 200}", idempotency_key=f"i{each}") for each in range(800)]
    await store.accept(rows)
    await deliver(store, await claimed(store), clock)
    await store.close()
    for source, target in ((f"sqlite:{file}", url), (url, f"sqlite:{back}")):
        command = ("store", "copy", "--from", source, "--to", target)
        copy = back if target != url else None
        while not await _killed(command, tmp_path, lambda copy=copy: _carried(server, copy)):
            _remove(server, copy)
        ended = await warm_start.run(*command, "--resume", "-o", "json", cwd=tmp_path)
        assert ended.code == 0, ended.err
        told = json.loads(ended.out)
        assert told["differences"] == []
        assert (told["from"]["shop"]["pending"], told["to"]["shop"]["keys"]) == (700, 800)
    again = await SqliteStore.open(back, clock=clock)
    assert (await balanced(again))["shop"].pending == 700
    await again.close()


async def _killed(command: Sequence[str], directory: Path, carried: Callable[[], bool]) -> bool:
    """Kill the command when some callbacks have come to the target; on a busy machine it may be done by then."""
    with (directory / "told").open("wb") as output:
        begun = warm_start.start(*command, output=output, env=os.environ, cwd=directory)
    while begun.poll() is None and not carried():
        await asyncio.sleep(0.005)
    begun.send_signal(signal.SIGKILL)
    return await begun.end() == -signal.SIGKILL


def _remove(server: ValkeyServer, file: Path | None) -> None:
    """Remove a copy."""
    if file is None:
        with redis.Redis(port=server.port, db=1) as client:
            client.flushdb()
        return
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()


def _carried(server: ValkeyServer, file: Path | None) -> bool:
    """Say whether some callbacks have come to the target: the server, or ``file``."""
    if file is None:
        with redis.Redis(port=server.port, db=1) as client:
            return int(str(client.hlen("relay:{shop}:r"))) > _SOME
    try:
        connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
        many: int = connection.execute("SELECT count(*) FROM callback").get
        connection.close()
    except apsw.Error:
        return False
    return many > _SOME
