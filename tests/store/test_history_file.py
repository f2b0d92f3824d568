"""What is pruned on the server goes on in a file of the host: found there, counted once, gone after its time."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from relay.core.errors import StoreFailed, StoreFull, StoreUnusable
from relay.core.model import Cancelled, Filter, NewCallback, Outcome, State, StoreRules
from relay.core.settlement import AttemptResult, Ending, Settlement
from relay.sealing.master_keys import GivenKeys
from relay.store.redis.spool.spooling_store import SpoolingStore
from relay.store.sqlite.file.lock import FileLock
from relay.store.sqlite.moved.history_file import SqliteHistoryFile
from relay.store.sqlite.read.ledger import open_reader
from tests.store.edge_host import Host, gone
from tests.store.harness import (
    balanced,
    bury,
    claimed,
    deliver,
    note,
    operate,
    post,
    request,
    resend,
    rules,
    seqs,
    shown,
    states,
)
from tests.store.test_sealed_server import Renewing
from tests.store.valkey import ValkeyServer

_SECRETS = (b"phone-13800138000", b"order-4711", b"line-of-li", b"the-answer-names-li")
KEPT = replace(rules("shop", "mall"), keep_delivered_s=60.0, keep_dead_s=120.0, keep_history_s=3600.0)
ONE, TWO = b"1" * 32, b"2" * 32


@pytest.fixture
async def keeper(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Host]:
    """A host that keeps a history."""
    made = Host(server, tmp_path, f"t{secrets.token_hex(4)}")
    await made.start(wanted=KEPT)
    yield made
    await made.store.close()


@pytest.fixture
async def sealed(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Host]:
    """One whose store is sealed."""
    made = Host(server, tmp_path, f"t{secrets.token_hex(4)}", keys=GivenKeys(ONE))
    await made.start(wanted=KEPT)
    yield made
    await made.store.close()


async def _pruned(host: Host, after_s: float) -> None:
    host.clock.advance(after_s)
    while await host.store.prune():
        pass


async def _delivered(host: Host, *rows: NewCallback) -> list[str]:
    """Post and deliver rows of one platform."""
    ids = list((await post(host.store, *rows)).ids)
    while "pending" in await states(host.store, ids):
        await deliver(host.store, await claimed(host.store, request(rows[0].platform)), host.clock)
    return ids


async def _listed(store: SpoolingStore, wanted: Filter | None = None, *, limit: int = 2) -> list[str]:
    """Return the ids of a list, read page by page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.callbacks(wanted or Filter(), cursor=cursor, limit=limit)
        found += [each.id for each in page]
        if cursor is None:
            return found


def _server_rows(host: Host, server: ValkeyServer, platform: str = "shop") -> int:
    return int(server.ask("HLEN", f"{host._prefix}:{{{platform}}}:r")[1:])


async def test_what_is_pruned_is_found_in_the_file(server: ValkeyServer, keeper: Host) -> None:
    """Row, payload and attempts are as they were on the server, which has nothing of it left; totals stay."""
    store = keeper.store
    made = note(b'{"n":1}', key="k", event="paid")._replace(reference="line", traceparent="00-trace")
    (first,) = (await post(store, made)).ids
    await resend(store, await claimed(store), keeper.clock, after_s=1)
    keeper.clock.advance(1)
    await deliver(store, await claimed(store), keeper.clock)
    (dead,) = (await post(store, note(b"2", key="k"))).ids
    batch = await claimed(store)
    result = AttemptResult(Outcome.REJECT, keeper.clock.now(), 0.5, 400, "status 400", excerpt="the answer")
    ending = Ending(seqs(batch), State.DEAD, "rejected", message="the words", code="77")
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))
    before = [await shown(store, each, payload=True) for each in (first, dead)]
    totals = await balanced(store)
    await _pruned(keeper, 61)
    assert _server_rows(keeper, server) == 1
    await _pruned(keeper, 60)
    assert _server_rows(keeper, server) == 0
    for each in before:
        found = await shown(store, each.id, payload=True)
        assert found.history == "edge-1"
        found.history = each.history
        assert found == each
    assert len(before[0].attempts) == 2
    assert await balanced(store) == totals
    assert store.history_file is not None
    assert store.history_file.held.callbacks == 2
    assert await store.batch_members(before[1].batch or "", limit=9) == [dead]
    assert keeper.history_path.stat().st_mode & 0o777 == 0o600


async def test_lists_go_on_into_the_file(keeper: Host) -> None:
    """Behind the rows on the server come those of the file, newest first, with every filter; each once."""
    store = keeper.store
    old = await _delivered(keeper, *(note(b"1", key=f"k{n % 2}") for n in range(3)))
    keeper.clock.advance(1)
    others = await _delivered(keeper, note(b"1", platform="mall", key="k0", event="paid"))
    await _pruned(keeper, 61)
    new = list((await post(store, *(note(b"2", key="k0") for _ in range(3)))).ids)
    in_file = [*others, *reversed(old)]
    for limit in (1, 2, 3, 4, 50):
        assert await _listed(store, limit=limit) == [*reversed(new), *in_file], limit
    assert await _listed(store, Filter(platform="mall")) == others
    assert await _listed(store, Filter(key="k0")) == [*reversed(new), *others, old[2], old[0]]
    assert await _listed(store, Filter(event="paid")) == others
    assert await _listed(store, Filter(state="delivered")) == in_file
    assert await _listed(store, Filter(state="pending")) == [*reversed(new)]
    assert await _listed(store, Filter(ids=(old[1], new[1]))) == [new[1], old[1]]
    assert await _listed(store, Filter(reason="none")) == []


async def test_a_crash_between_leaves_it_in_both(server: ValkeyServer, keeper: Host) -> None:
    """Until it is deleted there, the server's counts: the list has it once, and what was retried meanwhile shows."""
    store = keeper.store
    await post(store, note(b"1"), note(b"2"))
    await bury(store, await claimed(store), keeper.clock)
    ids = await _listed(store)
    run, store.link.run = store.link.run, None  # type: ignore[method-assign, assignment]

    async def cut_off(calls: object, **more: object) -> object:
        if any(getattr(call.script, "text", "").find("copied") >= 0 for call in calls):  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return await run(calls, **more)  # type: ignore[arg-type]

    store.link.run = cut_off  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        await _pruned(keeper, 121)
    store.link.run = run  # type: ignore[method-assign]
    assert store.history_file is not None
    assert store.history_file.held.callbacks == 2
    assert await _listed(store) == ids
    await operate(store, "retry", Filter(ids=(ids[0],)))
    assert await states(store, ids) == ["pending", "dead"]
    await _pruned(keeper, 0)
    assert _server_rows(keeper, server) == 1
    await deliver(store, await claimed(store), keeper.clock)
    await _pruned(keeper, 61)
    assert await states(store, ids) == ["delivered", "dead"]
    assert await _listed(store) == ids
    assert store.history_file.held.callbacks == 2
    await balanced(store)


async def test_what_changes_while_it_is_copied_stays(keeper: Host) -> None:
    """A row that is not as it was read is not deleted on the server: it is copied again as it is then."""
    store = keeper.store
    (first,) = (await post(store, note(b"1"))).ids
    await bury(store, await claimed(store), keeper.clock)
    assert store.history_file is not None
    take = store.history_file.take

    async def late(*args: object) -> None:
        await take(*args)  # type: ignore[arg-type]
        await operate(store, "drop", Filter(ids=(first,)))

    store.history_file.take = late  # type: ignore[method-assign, assignment]
    await _pruned(keeper, 121)
    store.history_file.take = take  # type: ignore[method-assign]
    assert (await shown(store, first)).history != "edge-1"
    await _pruned(keeper, 1)
    found = await shown(store, first, payload=True)
    assert (found.history, found.payload) == ("edge-1", None)


async def test_a_batch_whose_callbacks_move_one_by_one(keeper: Host) -> None:
    """What they share is written once: each shows the request once, and the batch all that lie in the file."""
    store = keeper.store
    ids = (await post(store, note(b"1"), note(b"2"))).ids
    batch = await claimed(store)
    result = AttemptResult(Outcome.OK, keeper.clock.now(), 0.1, 200, "")
    first, second = seqs(batch)
    ending = Ending([second], State.DEAD, "rejected")
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, delivered=[first], endings=[ending]))
    await _pruned(keeper, 61)
    await _pruned(keeper, 60)
    for each in ids:
        found = await shown(store, each)
        assert (found.history, len(found.attempts)) == ("edge-1", 1)
    assert store.history_file is not None
    assert await store.history_file.batch_members(found.batch or "", limit=9) == list(ids)


async def test_it_leaves_the_file_after_its_time(keeper: Host) -> None:
    """Counted from its end; what is over that time already is not copied at all."""
    store = keeper.store
    first = await _delivered(keeper, note(b"1"))
    await _pruned(keeper, 61)
    assert await states(store, first) == ["delivered"]
    second = await _delivered(keeper, note(b"2"))
    assert store.history_file is not None
    store.history_file.take = None  # type: ignore[method-assign, assignment]
    await _pruned(keeper, 3600)
    for each in (*first, *second):
        assert await store.callback(each) is None
    assert store.history_file.held.callbacks == 0
    connection = open_reader(keeper.history_path)._connection
    left = [
        connection.execute(f"SELECT count(*) FROM {table}").get for table in ("alias", "batch", "attempt", "weight")
    ]
    assert left == [0, 0, 0, 0]
    connection.close()
    assert (await balanced(store))["shop"].delivered == 2


async def test_an_operation_that_does_not_name_it_passes_it_over(keeper: Host) -> None:
    """It acts on what lies on the server; what has moved cannot be taken back either, for it has ended."""
    store = keeper.store
    (old,) = await _delivered(keeper, note(b"1"))
    await post(store, note(b"2"))
    await bury(store, await claimed(store), keeper.clock)
    await _pruned(keeper, 61)
    assert (await operate(store, "retry")).done == 1
    assert await store.cancel(old) == Cancelled(why="final")


async def test_it_is_shown_while_the_server_is_away(server: ValkeyServer, keeper: Host) -> None:
    """The file is of this host; also one that starts meanwhile shows it."""
    (old,) = await _delivered(keeper, note(b"1", key="k"))
    await _pruned(keeper, 61)
    server.kill()
    await gone(keeper.store)
    assert (await shown(keeper.store, old)).key == "k"
    await keeper.store.close()
    await keeper.start(wanted=KEPT)
    assert (await shown(keeper.store, old)).key == "k"
    server.start()


async def test_a_file_that_cannot_be_written_keeps_it_on_the_server(server: ValkeyServer, keeper: Host) -> None:
    """Nothing is deleted there until it lies in the file; the store says so once, and goes on by itself."""
    store = keeper.store
    told: list[Exception | None] = []
    assert store._kept_here is not None
    store._kept_here._told = told.append
    await _delivered(keeper, note(b"1"))
    file = store._kept_here.file
    write, full = file._write, StoreFull("no room")  # type: ignore[attr-defined]

    async def fails(run: object) -> None:
        raise full

    file._write = fails  # type: ignore[attr-defined]
    await _pruned(keeper, 61)
    await _pruned(keeper, 1)
    assert (_server_rows(keeper, server), told) == (1, [full])
    file._write = write  # type: ignore[attr-defined]
    await _pruned(keeper, 1)
    await _pruned(keeper, 1)
    assert (_server_rows(keeper, server), told) == (0, [full, None])


async def test_forgetting_reaches_the_file(keeper: Host, server: ValkeyServer, tmp_path: Path) -> None:
    """Of a key and of a time; also what another host has, as soon as that looks. The operation tells of how many."""
    store = keeper.store
    other = Host(server, tmp_path, keeper._prefix, name="edge-2")
    other.clock = keeper.clock
    await other.start(alone=False, wanted=KEPT)
    mine = await _delivered(keeper, note(_SECRETS[0], key=_SECRETS[1].decode()), note(_SECRETS[0], key="stays"))
    await _pruned(keeper, 61)
    theirs = await _delivered(keeper, note(_SECRETS[0], key=_SECRETS[1].decode()))
    store.disown(("shop",))  # as if it had been handed over
    await other.store.own({"shop": ""}, silent_s={})
    await _pruned(other, 61)
    assert (await other.store.callback(mine[0]), await store.callback(theirs[0])) == (None, None)
    assert (await operate(store, "forget", Filter(key="nobody"))).history == 0
    done = await operate(store, "forget", Filter(key=_SECRETS[1].decode()))
    assert (done.matched, done.history) == (0, 1)
    erased, stays = await shown(store, mine[0], payload=True), await shown(store, mine[1], payload=True)
    assert (erased.payload, erased.key, stays.payload, stays.key) == (None, None, _SECRETS[0], "stays")
    assert (await shown(other.store, theirs[0], payload=True)).payload is not None
    await _pruned(other, 1)
    assert (await shown(other.store, theirs[0], payload=True)).payload is None
    again = await store.operation(done.id)
    assert again is not None
    assert again.history == 2
    files = b"".join(file.read_bytes() for file in tmp_path.glob("edge-*.db.history*"))
    assert _SECRETS[1] not in files
    await operate(store, "forget", Filter(until=keeper.clock.now() + 1))
    assert (await shown(store, mine[1], payload=True)).payload is None
    assert await balanced(store) == await balanced(other.store)
    await other.store.close()


async def test_a_sealed_store_has_a_sealed_file(sealed: Host, tmp_path: Path) -> None:
    """Nothing of a person is readable in it; ordering keys are found; a wrong key opens nothing."""
    store = sealed.store
    row = note(_SECRETS[0], key=_SECRETS[1].decode())._replace(reference=_SECRETS[2].decode())
    (first,) = (await post(store, row)).ids
    batch = await claimed(store)
    result = AttemptResult(Outcome.REJECT, sealed.clock.now(), 0.5, 400, "no", excerpt=_SECRETS[3].decode())
    ending = Ending(seqs(batch), State.DEAD, "rejected", message=_SECRETS[2].decode())
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))
    before = await shown(store, first, payload=True)
    await _pruned(sealed, 121)
    found = await shown(store, first, payload=True)
    assert (found.history, found.payload, found.key, found.reference) == (
        "edge-1", _SECRETS[0], _SECRETS[1].decode(), _SECRETS[2].decode(),
    )  # fmt: skip
    assert found.attempts == before.attempts
    assert await _listed(store, Filter(key=_SECRETS[1].decode())) == [first]
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert [word for word in _SECRETS if word in files] == []
    await store.close()
    await sealed.start(wanted=KEPT)
    assert await _listed(sealed.store, Filter(key=_SECRETS[1].decode())) == [first]
    await operate(sealed.store, "forget", Filter(key=_SECRETS[1].decode()))
    assert (await shown(sealed.store, first, payload=True)).payload is None
    await sealed.store.close()
    sealed.keys = GivenKeys(TWO)
    with pytest.raises(StoreUnusable, match="is sealed with the key"):
        await sealed.start(wanted=KEPT)
    sealed.keys = GivenKeys(ONE)
    await sealed.start(wanted=KEPT)


async def test_other_keys_wrap_the_file_too(sealed: Host) -> None:
    """With a reload the data keys of the file are wrapped by the key in force: the former one may go."""
    store = sealed.store
    (first,) = await _delivered(sealed, note(b"1"))
    await _pruned(sealed, 61)
    await store.sealing.use(GivenKeys(TWO, [ONE]))
    assert isinstance(store.history_file, SqliteHistoryFile)
    used = (await store.history_file.sealing.status()).keys
    assert [(key.in_force, key.data_keys > 0) for key in used] == [(True, True), (False, False)]
    await store.sealing.rotate()
    await store.close()
    sealed.keys = GivenKeys(TWO)
    await sealed.start(wanted=KEPT)
    assert (await shown(sealed.store, first, payload=True)).payload == b"1"


async def test_a_service_that_renews_keys_renews_those_of_the_file(server: ValkeyServer, tmp_path: Path) -> None:
    """A rotation wraps its data keys with a key of their own that is new too, and everything opens after a start."""
    made = Host(server, tmp_path, f"t{secrets.token_hex(4)}", keys=Renewing())
    store = await made.start(wanted=KEPT)
    (first,) = await _delivered(made, note(b"1"))
    await _pruned(made, 61)
    assert isinstance(store.history_file, SqliteHistoryFile)
    before = (await store.history_file.sealing.status()).keys[0].id
    await store.sealing.rotate()
    assert (await store.history_file.sealing.status()).keys[0].id != before
    await store.close()
    await made.start(wanted=KEPT)
    assert (await shown(made.store, first, payload=True)).payload == b"1"
    await made.store.close()


async def test_a_file_belongs_to_its_store(sealed: Host, server: ValkeyServer, tmp_path: Path) -> None:
    """Of another store, whose hashes are others, it is not used: not shown, not changed, and nothing goes into it."""
    (first,) = await _delivered(sealed, note(b"1"))
    await _pruned(sealed, 61)
    await sealed.store.close()
    prefix, sealed._prefix = sealed._prefix, f"t{secrets.token_hex(4)}"
    store = await sealed.start(wanted=KEPT)
    assert "holds the history of another store" in (await store.size()).history_fails
    await _delivered(sealed, note(b"2"))
    await _pruned(sealed, 61)
    assert (_server_rows(sealed, server), await store.callback(first)) == (1, None)
    await store.close()
    sealed._prefix = prefix
    await sealed.start(wanted=KEPT)
    assert (await shown(sealed.store, first, payload=True)).payload == b"1"


@pytest.mark.parametrize("broken", ["header", "directory", "locked"])
async def test_a_host_starts_without_its_file(server: ValkeyServer, keeper: Host, broken: str) -> None:
    """It accepts, sends and says why what ended stays on the server; once the file is mended it moves on by itself."""
    path = keeper.history_path
    (old,) = await _delivered(keeper, note(b"1"))
    await _pruned(keeper, 61)
    await keeper.store.close()
    away = path.with_name("away")
    path.rename(away)
    if broken == "header":
        path.write_bytes(b"no database" * 1000)
    elif broken == "directory":
        path.mkdir()
    else:
        away.rename(path)
        lock = FileLock(path)
    store = await keeper.start(wanted=KEPT)
    told = (await store.size()).history_fails
    assert (path.name in told, "store.url" in told) == (True, False)
    (new,) = await _delivered(keeper, note(b"2"))
    await _pruned(keeper, 61)
    assert (_server_rows(keeper, server), await states(store, [new])) == (1, ["delivered"])
    assert await _listed(store) == [new]
    if broken == "locked":
        lock.release()
    else:
        path.rename(path.with_name("broken"))
        away.rename(path)
    await _pruned(keeper, 1)
    assert (_server_rows(keeper, server), (await store.size()).history_fails) == (0, "")
    assert await _listed(store) == [new, old]


async def test_a_mended_file_is_opened_once(keeper: Host) -> None:
    """However many want it at that moment: none of them tells that it is locked."""
    await keeper.store.close()
    lock = FileLock(keeper.history_path)
    store = await keeper.start(wanted=KEPT)
    assert (await store.size()).history_fails
    lock.release()
    assert store._kept_here is not None
    await asyncio.gather(store._kept_here.catch_up(), store._kept_here.step(), store._kept_here.catch_up())
    assert (await store.size()).history_fails == ""


async def test_a_page_of_what_is_on_the_server_needs_no_file(keeper: Host) -> None:
    """Where the file cannot be read, that page is shown, and the next one says why it is not."""
    store = keeper.store
    await _delivered(keeper, note(b"1"))
    await _pruned(keeper, 61)
    new = await _delivered(keeper, note(b"2"))
    assert store.history_file is not None

    async def fails(*args: object, **more: object) -> None:
        raise StoreFailed("a damaged page")

    store.history_file.callbacks = fails  # type: ignore[method-assign, assignment]
    page, cursor = await store.callbacks(Filter(), cursor=None, limit=10)
    assert [each.id for each in page] == new
    with pytest.raises(StoreFailed, match="damaged"):
        await store.callbacks(Filter(), cursor=cursor, limit=10)


def test_rules_keep_no_history_unless_it_is_asked_for() -> None:
    """As before there was one."""
    assert StoreRules().keep_history_s is None
