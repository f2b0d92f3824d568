"""A sealed shared store: nothing of a callback is readable on the server, and what was changed is not sent."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import apsw
import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.core.errors import StoreAway, StoreFailed, StoreUnusable
from relay.core.model import Filter, Outcome, State
from relay.core.receipts import RECEIPTS
from relay.core.settlement import AttemptResult, Ending, Settlement
from relay.sealing.master_keys import GivenKeys, KeySource, MasterKey, MasterKeys
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.fields import ROW, pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink
from relay.store.redis.server.scripts import platform_script
from relay.store.redis.spool.spool_file import SpoolFile, SpoolPost
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.store.redis.write.bulk import BulkPart
from relay.store.redis.write.packing import PackedRow, packed_row
from tests.clocks import FakeClock
from tests.store.harness import (
    claimed,
    deliver,
    note,
    operate,
    payloads,
    post,
    refused,
    resend,
    routed,
    rules,
    seqs,
    shown,
    states,
)
from tests.store.receipting import told
from tests.store.valkey import ValkeyServer

_WORDS = (b"phone-13800138000", b"order-4711", b"line-of-li", b"once-4711", b"li-lives-here", b"the-answer-names-li")


class Told:
    """Notes which callbacks did not open."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def store_committed(self, *, seconds: float, rows: int) -> None: ...

    def store_failed(self, *, error: BaseException) -> None: ...

    def store_recovered(self, *, seconds: float) -> None: ...

    def callbacks_lost(self, *, platform: str, callbacks: Sequence[str]) -> None: ...

    def spool_set_aside(self, *, posts: object) -> None: ...

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None: ...

    def clock_ahead(self, *, seconds: float) -> None: ...

    def store_begun(self, *, path: str) -> None: ...

    def store_exchanged(self, *, path: str) -> None: ...

    def server_replaced(self, *, platform: str, attempts: int) -> None: ...

    def store_damaged(self, *, error: BaseException) -> None: ...

    def seal_broken(self, *, platform: str, callbacks: Sequence[str]) -> None:
        self.broken += callbacks


class Sealed:
    """Stores over one server under one prefix, sealed with a key."""

    def __init__(self, server: ValkeyServer) -> None:
        self.clock = FakeClock()
        self.told = Told()
        self.server = server
        self.prefix = f"t{secrets.token_hex(4)}"
        self._opened: list[RedisStore] = []

    def link(self) -> ServerLink:
        return ServerLink.to(parse_server_url(self.server.url), Durable())

    async def open(self, source: KeySource | None, **more: object) -> RedisStore:
        store = RedisStore(
            self.link(),
            KeyNames(self.prefix),
            self.clock,
            events=self.told,
            source=source,
            **more,  # type: ignore[arg-type]
        )
        self._opened.append(store)
        await store.begin()
        await store.configure(told("shop", "mall"))
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


ONE = GivenKeys(b"1" * 32)


@pytest.fixture
async def sealed(server: ValkeyServer) -> AsyncIterator[Sealed]:
    """Sealed stores on a clock that tests move."""
    made = Sealed(server)
    yield made
    await made.close()


def _files(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())


async def test_nothing_of_a_callback_is_readable(sealed: Sealed) -> None:
    """Payload, key, reference, idempotency key, words and excerpts of an answer, the filter of an operation."""
    store = await sealed.open(ONE)
    row = note(_WORDS[0], key=_WORDS[1].decode(), idempotency_key=_WORDS[3].decode())._replace(
        reference=_WORDS[2].decode()
    )
    (first, *_) = (await post(store, row, *(note(_WORDS[0], key=f"{_WORDS[1].decode()}-{n}") for n in range(120)))).ids
    await store.accept_posts([routed("shop", "mall", payload=_WORDS[0], idempotency_key=_WORDS[3].decode())])
    batch = await claimed(store)
    result = AttemptResult(Outcome.REJECT, sealed.clock.now(), 0.0, 400, "status 400", excerpt=_WORDS[5].decode())
    ending = Ending(seqs(batch), State.DEAD, "rejected", message=_WORDS[4].decode())
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))
    await operate(store, "retry", Filter(key=_WORDS[1].decode()))
    view = await shown(store, first, payload=True)
    assert (view.payload, view.key, view.reference) == (_WORDS[0], _WORDS[1].decode(), _WORDS[2].decode())
    assert view.attempts[0].excerpt == _WORDS[5].decode()
    assert (await store.platform_status())["shop"].last_error.excerpt == _WORDS[5].decode()  # type: ignore[union-attr]
    dead, _ = await store.callbacks(Filter(state="dead", platform="shop"), cursor=None, limit=1)
    assert dead[0].message == _WORDS[4].decode()
    kept = _files(sealed.server._directory)
    assert b"shop" in kept
    assert [word for word in _WORDS if word in kept] == []
    receipts, _ = await store.callbacks(Filter(platform=RECEIPTS, key=_WORDS[1].decode()), cursor=None, limit=9)
    told_of = await shown(store, receipts[-1].id, payload=True)
    assert isinstance(told_of.payload, bytes)
    assert _WORDS[3] in told_of.payload


async def test_a_swapped_payload_is_held_and_never_sent(sealed: Sealed) -> None:
    """Two payloads are exchanged on the server: both are held, told of, and the other goes; so are plain ones."""
    store = await sealed.open(ONE)
    ids = (await post(store, *(note(b"%d" % n, key=f"k{n}") for n in range(5)))).ids
    bodies, rows = store.keys.of("shop", "b"), store.keys.of("shop", "r")
    a, b, c, d, _ = (found[1] for callback in ids if (found := store._tags.find(callback)))
    row = unpack(await store.link.do("HGET", rows, d))
    row[ROW.index("SEALED")] = 0
    await store.link.do("HSET", rows, d, pack(row))
    swapped = await store.link.do("HMGET", bodies, a, b)
    await store.link.do("HSET", bodies, a, swapped[1], b, swapped[0], c, b"2", d, b"3")
    assert (await refused(store)).reason == "retry"
    assert payloads(await claimed(store)) == [b"4"]
    assert sorted(sealed.told.broken) == sorted(ids[:4])
    views = [await shown(store, each) for each in ids[:4]]
    assert [(view.held, view.reason) for view in views] == [(True, "sealed: does not open")] * 4
    await operate(store, "resolve", Filter(ids=(ids[0],)), verdict="dead")
    assert await states(store, ids[:1]) == ["dead"]


async def test_one_that_breaks_in_a_frozen_batch_leaves_it(sealed: Sealed) -> None:
    """A batch waits for its re-send: the broken one is held, the others go again together, under their own batch."""
    store = await sealed.open(ONE)
    ids = (await post(store, note(b"1"), note(b"2"), note(b"3"))).ids
    await resend(store, await claimed(store), sealed.clock, after_s=1.0)
    found = store._tags.find(ids[1])
    assert found is not None
    await store.link.do("HSET", store.keys.of("shop", "b"), found[1], b"x" * 40)
    sealed.clock.advance(1.0)
    assert (await refused(store)).reason == "retry"
    batch = await claimed(store)
    assert payloads(batch) == [b"1", b"3"]
    assert all(item.maybe_applied for item in batch.items)


async def test_hosts_open_what_another_sealed(sealed: Sealed) -> None:
    """Each host makes data keys of its own; the other reads them when it meets one."""
    first, other = await sealed.open(ONE), await sealed.open(ONE)
    (one,) = (await post(first, note(b"1", key="k"))).ids
    (two,) = (await post(other, note(b"2", key="k"))).ids
    assert [(await shown(host, each, payload=True)).payload for host in (first, other) for each in (one, two)] == [
        b"1", b"2", b"1", b"2",
    ]  # fmt: skip
    assert len((await other.callbacks(Filter(key="k", platform="shop"), cursor=None, limit=9))[0]) == 2


async def test_a_sealed_post_is_one_script(sealed: Sealed) -> None:
    """Its number is guessed; where others have gone beyond, numbers are reserved, and their order holds."""
    store, other = await sealed.open(ONE), await sealed.open(ONE)
    await post(store, note(b"0", key="k"))
    await store.link.do("SCRIPT", "LOAD", platform_script("number").text)  # else its first call comes twice

    async def scripts() -> int:
        stats = await store.link.info("commandstats")
        return sum(int(stats[name]["calls"]) for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats)

    before = await scripts()
    ids = list((await post(store, note(b"1", key="k"))).ids)
    assert await scripts() == before + 1
    ids += (await post(other, note(b"2", key="k"))).ids  # at the same moment
    for number in (3, 4):
        ids += (await post(store, note(b"%d" % number, key="k"))).ids
    assert await scripts() == before + 9  # twice a wrong guess, a reservation and the post; then no guess
    assert [(await shown(other, each, payload=True)).payload for each in ids] == [b"1", b"2", b"3", b"4"]
    assert sorted(ids) == ids


async def test_a_store_is_sealed_by_all_or_none(sealed: Sealed) -> None:
    """Without its key, with another one, or half way through the life of a store no host opens it."""
    plain = await sealed.open(None)
    store = await sealed.open(ONE)
    await post(store, note(b"1", key="k"))
    with pytest.raises(StoreFailed, match="PLAIN"):
        await post(plain, note(b"2"))
    assert (await store.totals())["shop"].accepted == 1
    for source in (None, GivenKeys(b"2" * 32)):
        with pytest.raises(StoreUnusable, match="sealed with the key"):
            await sealed.open(source)
    sealed.prefix = f"{sealed.prefix}x"
    await post(await sealed.open(None), note())
    with pytest.raises(StoreUnusable, match=r"set another store\.prefix"):
        await sealed.open(ONE)


async def test_a_rotation(sealed: Sealed) -> None:
    """The new key wraps all data keys; then the old one may go; no callback is touched."""
    store = await sealed.open(ONE)
    ids = (await post(store, note(b"1", key="k"))).ids
    both = GivenKeys(b"2" * 32, [b"1" * 32])
    await store.sealing.use(both)
    with pytest.raises(StoreUnusable):
        await store.sealing.use(GivenKeys(b"3" * 32))
    done = await store.sealing.rotate()
    view = await store.sealing.status()
    assert [(each.in_force, each.data_keys) for each in view.keys] == [(True, done.data_keys), (False, 0)]
    again = await sealed.open(GivenKeys(b"2" * 32))
    assert (await shown(again, ids[0], payload=True)).payload == b"1"


async def test_a_rotation_over_two_hosts(sealed: Sealed) -> None:
    """Both have both keys, one rotates, both give the old one up: each opens what the other seals at every moment."""
    first, other = await sealed.open(ONE), await sealed.open(ONE)
    both, new = GivenKeys(b"2" * 32, [b"1" * 32]), GivenKeys(b"2" * 32)
    ids = list((await post(first, note(b"0", key="k"))).ids)

    async def all_open() -> None:
        for host in (first, other):
            ids.extend((await post(host, note(b"%d" % len(ids), key="k"))).ids)
        for host in (first, other):
            assert [(await shown(host, each, payload=True)).payload for each in ids] == [
                b"%d" % number for number in range(len(ids))
            ]

    for host in (first, other):
        await host.sealing.use(both)
        await all_open()
    await first.sealing.rotate()
    sealed.clock.advance(86400.0)
    await all_open()
    for host in (first, other):
        await host.sealing.use(new)
        await all_open()
    assert [key.data_keys for key in (await other.sealing.status()).keys] == [5]


class Renewing:
    """Makes a new master key whenever it is asked with nothing kept, and knows those it made; a ``KeySource``."""

    renews = True

    def __init__(self) -> None:
        self.made: dict[str, MasterKey] = {}

    def keys(self, kept: str | None) -> tuple[MasterKeys, str | None]:
        """Return the keys in ``kept``, or a new one."""
        if kept is not None:
            newest, *former = (self.made[line] for line in kept.splitlines())
            return MasterKeys(newest, former), None
        made = MasterKey(secrets.token_bytes(32))
        self.made[made.id] = made
        return MasterKeys(made), made.id


async def test_a_service_that_renews_keys_serves_all_hosts(sealed: Sealed) -> None:
    """Two hosts begin at once, one rotates, days go by: each opens what the other seals; so does a third."""
    source = Renewing()
    first, other = await asyncio.gather(sealed.open(source), sealed.open(source))
    ids: list[str] = []
    for rotates in (False, True, True):
        if rotates:
            await first.sealing.rotate()
        for host in (other, first):
            sealed.clock.advance(86400.0)
            ids.extend((await post(host, note(b"%d" % len(ids), key="k"))).ids)
    for host in (first, other, await sealed.open(source)):
        found = [(await shown(host, each, payload=True)).payload for each in ids]
        assert found == [b"%d" % number for number in range(len(ids))]
    assert [key.in_force for key in (await first.sealing.status()).keys] == [True]


async def test_two_hosts_rotate(sealed: Sealed) -> None:
    """In turns, then both at once: what the service gave is kept for both, and everything opens after."""
    source = Renewing()
    first, other = await sealed.open(source), await sealed.open(source)
    ids = [(await post(host, note(b"1", key="k"))).ids[0] for host in (first, other)]
    for host in (first, other, first):
        await host.sealing.rotate()
    for host in (first, other):
        sealed.clock.advance(86400.0)
        ids += (await post(host, note(b"1", key="k"))).ids
    made = {done.key for done in await asyncio.gather(first.sealing.rotate(), other.sealing.rotate())}
    kept = await first._parts.data_keys._kept_for_source()
    assert kept is not None
    assert set(kept.splitlines()[:2]) == made
    for host in (first, other, await sealed.open(source)):
        assert {(await shown(host, each, payload=True)).payload for each in ids} == {b"1"}


async def test_a_rotation_that_is_cut_off(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host ends after its new master key was made and before data keys are wrapped with it: everything opens."""
    source = Renewing()
    store = await sealed.open(source)
    ids = (await post(store, note(b"1", key="k"))).ids
    monkeypatch.setattr(store._parts.data_keys, "keep_anew", away)
    with pytest.raises(StoreAway):
        await store.sealing.rotate()
    again = await sealed.open(source)
    assert (await shown(again, ids[0], payload=True)).payload == b"1"


async def test_from_a_given_key_to_a_service_by_a_restart(sealed: Sealed) -> None:
    """What the service wants kept is kept before anything is sealed with its key."""
    await post(await sealed.open(ONE), note(b"1"))

    class After(Renewing):
        def keys(self, kept: str | None) -> tuple[MasterKeys, str | None]:
            found, keep = super().keys(kept)
            return MasterKeys(found.current, [MasterKey(b"1" * 32)]), keep

    source = After()
    store = await sealed.open(source)
    sealed.clock.advance(86400.0)
    ids = (await post(store, note(b"2"))).ids
    again = await sealed.open(source)
    assert (await shown(again, ids[0], payload=True)).payload == b"2"


async def test_a_forgotten_day_stays_forgotten_when_another_host_rotates(sealed: Sealed) -> None:
    """A data key that one host destroyed is not written again by the other, which still has it."""
    store, other = await sealed.open(ONE), await sealed.open(ONE)
    await post(other, note(b"1", key="k"))
    codec = other._parts.data_keys.codec
    assert codec is not None
    anew = list(codec.kept)
    sealed.clock.advance(3 * 86400.0)
    await operate(store, "forget", Filter(until=sealed.clock.now() - 86400.0))
    await other._parts.data_keys.keep_anew(anew)
    assert {key.id for key in await other._parts.data_keys.kept()} & {key.id for key in anew} == {anew[0].id}


async def test_what_comes_after_the_wish_stays_readable(sealed: Sealed) -> None:
    """All "before" a day still to come: what another host accepts after the wish opens."""
    store, other = await sealed.open(ONE), await sealed.open(ONE)
    await post(other, note(b"1", key="k"))
    await operate(store, "forget", Filter(until=sealed.clock.now() + 400 * 86400.0))
    (new,) = (await post(other, note(b"2", key="k"))).ids
    assert (await shown(await sealed.open(ONE), new, payload=True)).payload == b"2"


async def test_around_midnight(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows numbered before midnight and accepted after it: forgetting the day means those it sealed, and no others."""
    store, clock = await sealed.open(ONE), sealed.clock
    clock.advance(86400.0 - clock.now() % 86400.0 - 0.0001)  # a hundred numbers are left of this day
    seal = store._parts.seals.seal

    async def slowly(platform: str, rows: Sequence[PackedRow], bodies: list[bytes]) -> None:
        await seal(platform, rows, bodies)
        clock.advance(0.01)

    monkeypatch.setattr(store._parts.seals, "seal", slowly)
    ids = (await post(store, *(note(b"%d" % n) for n in range(120)))).ids
    midnight = clock.now() // 86400.0 * 86400.0
    clock.advance(86400.0)
    done = await operate(store, "forget", Filter(until=midnight))
    assert 90 <= done.matched <= 110
    edge = range(done.matched - 2, done.matched + 2)
    left = [(await shown(store, ids[n], payload=True)).payload for n in edge]
    assert left == [None, None, b"%d" % edge[2], b"%d" % edge[3]]


async def test_forgetting_days_of_which_nothing_is_kept(sealed: Sealed) -> None:
    """Their callbacks were pruned; a copy of the server may still hold them, so their data keys go."""
    store = await sealed.open(ONE)
    keys = store._parts.data_keys
    assert keys.codec is not None
    number = await keys.number_of("shop")
    await keys.ready(keys.codec, number, sealed.clock.now(), 1)
    sealed.clock.advance(3 * 86400.0)
    assert number in {key.platform for key in await keys.kept()}
    await operate(store, "forget", Filter(until=sealed.clock.now() - 86400.0))
    assert number not in {key.platform for key in await keys.kept()}


async def test_forgetting_days_destroys_their_keys(sealed: Sealed) -> None:
    """The data keys of days that are forgotten as a whole are gone, and those of days with nothing left."""
    store = await sealed.open(ONE)
    await post(store, note(b"1", key="k"))
    (copy,) = await store.link.do("HVALS", store.keys.of("shop", "b"))
    sealed.clock.advance(3 * 86400.0)
    new = (await post(store, note(b"2", key="k"))).ids
    await operate(store, "forget", Filter(until=sealed.clock.now() - 86400.0))
    codec = store._parts.data_keys.codec
    assert codec is not None
    assert not codec.knows([copy])
    assert (await shown(store, new[0], payload=True)).payload == b"2"
    await deliver(store, await claimed(store), sealed.clock)
    assert (await store.sealing.status()).data_keys == 3  # the store's own, and today's of both platforms
    for days in (100, 1):
        sealed.clock.advance(days * 86400.0)
        while await store.prune():
            pass
    assert (await store.sealing.status()).data_keys == 2


async def test_a_resend_is_sealed_anew(sealed: Sealed) -> None:
    """A comparison sends a callback again: the payload is bound to the new row, once for a run."""
    store = await sealed.open(ONE)
    ids = (await post(store, note(b"1", key="k"), note(b"2"))).ids
    await deliver(store, await claimed(store), sealed.clock)
    done = await operate(store, "resend", Filter(ids=tuple(ids)), run="r1")
    assert (done.done, done.skipped) == (2, {})
    again = await operate(store, "resend", Filter(ids=tuple(ids)), run="r1")
    assert again.skipped == {"resent": 2}
    assert sorted(payloads(await claimed(store))) == [b"1", b"2"]


async def test_the_spool_is_sealed(sealed: Sealed, tmp_path: Path) -> None:
    """Posts that wait on a host are unreadable there, and drain; also by a host that starts while the store is away."""
    path, host_keys = tmp_path / "spool.db", ONE

    async def spooling(*, there: bool) -> SpoolingStore:
        file = SpoolFile(path, host="edge", max_bytes=1 << 20, keys=host_keys)
        store = SpoolingStore(sealed.link(), KeyNames(sealed.prefix), sealed.clock, file, source=host_keys)
        sealed._opened.append(store)
        await store.configure(rules("shop"))
        if there:
            await store.begin()
            await store.configure(rules("shop"))
        else:
            store.begin_away()
        return store

    store = await spooling(there=False)
    with pytest.raises(StoreAway, match="has not reached it yet"):
        await post(store, note(_WORDS[0]))
    await store.close()
    store = await spooling(there=True)
    await store.close()
    store = await spooling(there=False)
    store._spool._reach = away  # type: ignore[assignment]
    row = note(_WORDS[0], key=_WORDS[1].decode(), idempotency_key=_WORDS[3].decode())
    (first,) = (await post(store, row)).ids
    assert (await post(store, row)).ids == [first]
    assert (await shown(store, first)).key == _WORDS[1].decode()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert [word for word in _WORDS if word in kept] == []
    await store.close()
    with pytest.raises(StoreUnusable, match="sealed with the key"):
        SpoolFile(path, host="edge", max_bytes=1 << 20)
    host_keys = GivenKeys(b"1" * 32)
    store = await spooling(there=True)
    async with asyncio.timeout(20):
        while store.spooled():
            await asyncio.sleep(0.01)
    view = await shown(store, first, payload=True)
    assert (view.payload, view.key) == (_WORDS[0], _WORDS[1].decode())
    assert [word for word in _WORDS if word in _files(sealed.server._directory)] == []


async def test_a_spooled_post_that_waits_for_a_bulk_is_sealed_too(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk that is not decided yet has its key: tried again, it goes to the server sealed, and opens."""
    file = SpoolFile(tmp_path / "spool.db", host="edge", max_bytes=1 << 20, keys=ONE)
    store = SpoolingStore(sealed.link(), KeyNames(sealed.prefix), sealed.clock, file, source=ONE)
    sealed._opened.append(store)
    await store.begin()
    await store.configure(rules("shop"))
    bulks, part, once = store._inbox.bulks, BulkPart("shop"), _WORDS[3].decode()
    part.add(packed_row(store.keys, note(b"bulk", idempotency_key=once)), b"bulk", 0)
    await bulks._stage("bulk", part)
    waited: list[bool] = []

    async def wait(_platforms: object) -> None:
        waited.append(await bulks._unstage("bulk", ["shop"]))

    monkeypatch.setattr(bulks, "wait_for_key", wait)
    store._spool.away = True
    (told,) = (await post(store, note(_WORDS[0], key=_WORDS[1].decode(), idempotency_key=once))).ids
    async with asyncio.timeout(20):
        while store.spooled():
            await asyncio.sleep(0.01)
    assert waited == [True]
    view = await shown(store, told, payload=True)
    assert (view.payload, view.key, view.held) == (_WORDS[0], _WORDS[1].decode(), False)
    assert [word for word in _WORDS if word in _files(sealed.server._directory)] == []


async def test_a_plain_post_in_a_sealed_spool_is_not_taken(tmp_path: Path) -> None:
    """What waited when sealing began is sealed then; what is put there in plain later is set aside."""
    path = tmp_path / "spool.db"
    file = SpoolFile(path, host="edge", max_bytes=1 << 20)
    await file.add([SpoolPost([("shop", ["a"], _WORDS[0])], [])], 1.0)
    await file.close()
    file = SpoolFile(path, host="edge", max_bytes=1 << 20, keys=ONE)
    first, *_ = await file.oldest()
    assert first is not None
    assert first.rows[0].body == _WORDS[0]
    assert _WORDS[0] not in _files(tmp_path)
    await file.close()
    with apsw.Connection(str(path)) as connection:
        connection.execute(
            "INSERT INTO entry (n, at, routed, packed, bytes) VALUES (9, 1.0, 0, ?, 1)", (pack(["", "", []]),)
        )
    connection.close()
    file = SpoolFile(path, host="edge", max_bytes=1 << 20, keys=ONE)
    assert "post 9 in the spool does not open" in file.aside.posts[9]
    assert [entry.n for entry in await file.oldest()] == [1]
    await file.close()


async def test_a_spool_whose_sealing_does_not_begin_stays_in_plain(tmp_path: Path) -> None:
    """The disk is full when sealing begins: no post is sealed with a data key that the file does not keep."""
    path = tmp_path / "spool.db"
    file = SpoolFile(path, host="edge", max_bytes=1 << 20)
    await file.add([SpoolPost([("shop", ["a"], _WORDS[0])], [])], 1.0)
    file._connection.execute("CREATE TRIGGER full BEFORE UPDATE ON entry BEGIN SELECT RAISE(FAIL, 'full'); END")
    with pytest.raises(apsw.Error):
        file.seal.use(ONE)
    assert not file.seal.on
    await file.close()
    file = SpoolFile(path, host="edge", max_bytes=1 << 20)
    assert await file.oldest()
    await file.close()


async def away(*_: object, **__: object) -> None:
    """Stand in for a store that is away."""
    raise StoreAway("away")
