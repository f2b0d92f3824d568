"""A sealed store file: nothing of a callback is readable in it, and what was tampered with is never sent."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from relay.core.errors import StoreUnusable
from relay.core.model import Filter, Outcome, State, WaitUntil
from relay.core.settlement import AttemptResult, Ending, Requeue, Settlement
from relay.sealing.master_keys import GivenKeys, MasterKey
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.sealed_values import UNREADABLE
from relay.store.sqlite.read.ledger import open_reader
from tests.clocks import FakeClock
from tests.store.harness import (
    balanced,
    claimed,
    deliver,
    note,
    operate,
    payloads,
    post,
    request,
    resend,
    rules,
    seqs,
    shown,
    states,
    until,
)

KEY, OTHER = b"k" * 32, b"x" * 32
CANARIES = (b"13812345678", b"110101199003074512", b"Zhang-Wei-Canary", b"order-canary-77", b"words-canary-5")


class Told:
    """Notes what the store tells; takes every event."""

    def __init__(self) -> None:
        self.broken: list[tuple[str, Sequence[str]]] = []

    def store_damaged(self, *, error: BaseException) -> None:
        raise AssertionError(error)

    def seal_broken(self, *, platform: str, callbacks: Sequence[str]) -> None:
        self.broken.append((platform, callbacks))

    def store_committed(self, *, seconds: float, rows: int) -> None:
        pass

    def store_failed(self, *, error: BaseException) -> None:
        pass

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None: ...

    def clock_ahead(self, *, seconds: float) -> None: ...

    def store_begun(self, *, path: str) -> None: ...

    def store_recovered(self, *, seconds: float) -> None:
        pass


@pytest.fixture
def told() -> Told:
    """What the store tells."""
    return Told()


@pytest.fixture
async def store(path: Path, clock: FakeClock, told: Told) -> AsyncIterator[SqliteStore]:
    """An open sealed store."""
    made = await SqliteStore.open(path, clock=clock, keys=GivenKeys(KEY), events=told)
    await made.configure(rules())
    yield made
    await made.close()


def raw(path: Path) -> bytes:
    """Return every byte of the store's files."""
    files = [path, *path.parent.glob(f"{path.name}-*")]
    return b"".join(file.read_bytes() for file in files)


def change(path: Path, sql: str, *values: object) -> None:
    """Tamper with the file, behind the store's back."""
    with apsw.Connection(str(path)) as connection:
        connection.set_busy_timeout(5000)
        connection.execute(sql, values)


def swap(path: Path) -> None:
    """Exchange the payloads of the two oldest callbacks."""
    with apsw.Connection(str(path)) as connection:
        connection.set_busy_timeout(5000)
        (first, one), (second, two) = connection.execute(
            "SELECT seq, body FROM payload ORDER BY seq LIMIT 2"
        ).fetchall()
        connection.executemany("UPDATE payload SET body = ? WHERE seq = ?", [(two, first), (one, second)])


async def reject(store: SqliteStore, clock: FakeClock, *, message: str, excerpt: str) -> None:
    """Have a platform refuse a batch with words of its own."""
    batch = await claimed(store)
    result = AttemptResult(Outcome.REJECT, clock.now(), 0.0, 400, "status 400", excerpt=excerpt)
    ending = Ending(seqs(batch), State.DEAD, "rejected", message=message)
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))


async def test_nothing_of_a_callback_is_readable(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    """Payload, ordering key, words, excerpt and an operation's filter stand nowhere in the file, and all are shown."""
    phone, card, name, key, words = (canary.decode() for canary in CANARIES)
    told = await post(store, note(f'{{"phone":"{phone}","card":"{card}"}}'.encode(), key=key))
    await reject(store, clock, message=f"{words} {name}", excerpt=f"<p>{phone} {words}</p>")
    done = await operate(store, "retry", Filter(key=key))
    found = raw(path)
    assert [canary for canary in CANARIES if canary in found] == []
    view = await shown(store, told.ids[0], payload=True)
    assert (view.key, view.payload) == (key, f'{{"phone":"{phone}","card":"{card}"}}'.encode())
    assert view.attempts[0].excerpt == f"<p>{phone} {words}</p>"
    assert (done.filter.key, done.matched) == (key, 1)
    errors = (await store.platform_status())["shop"].last_error
    assert errors is not None
    assert words in errors.excerpt
    await requeue_with(store, clock, message=words)
    assert (await shown(store, told.ids[0])).message == words
    assert words.encode() not in raw(path)


async def requeue_with(store: SqliteStore, clock: FakeClock, *, message: str) -> None:
    """Put a batch back for a reason in the platform's words."""
    batch = await claimed(store)
    result = AttemptResult(Outcome.THROTTLED, clock.now(), 0.0)
    again = Requeue(seqs(batch), clock.now() + 60, False, "throttled", message=message)
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, requeue=[again]))


async def test_the_secret_of_the_hashes_is_sealed(path: Path, clock: FakeClock) -> None:
    """Who has the file alone cannot try phone numbers on its hashes; a store that was plain keeps its hashes."""
    plain = await SqliteStore.open(path, clock=clock)
    await plain.configure(rules())
    await post(plain, note(b"1", key="a", idempotency_key="once"))
    await plain.close()
    secret = apsw.Connection(str(path)).execute("SELECT value FROM meta WHERE name = 'secret'").get
    sealed = await SqliteStore.open(path, clock=clock, keys=GivenKeys(KEY))
    await sealed.configure(rules())
    again = await post(sealed, note(b"1", key="a", idempotency_key="once"))
    assert again.duplicates == {0}
    await sealed.close()
    assert secret not in path.read_bytes()


async def test_a_swapped_payload_is_held_and_never_sent(store: SqliteStore, path: Path, told: Told) -> None:
    """Of two rows whose payloads were exchanged neither is sent; the third is. Both are told, held and counted."""
    ids = (await post(store, note(b"1", key="a"), note(b"2", key="b"), note(b"3", key="c"))).ids
    swap(path)
    first = await store.claim(request())
    assert isinstance(first, WaitUntil)
    batch = await claimed(store)
    assert payloads(batch) == [b"3"]
    for callback_id in ids[:2]:
        view = await shown(store, callback_id, payload=True)
        assert (view.state, view.held, view.reason) == ("pending", True, "sealed: does not open")
        assert view.payload is None
        assert view.key == UNREADABLE
    await until(lambda: told.broken == [("shop", ids[:2])])
    assert (await balanced(store))["shop"].pending == 3


async def test_a_plain_payload_in_a_sealed_store_is_not_sent(store: SqliteStore, path: Path, told: Told) -> None:
    """Somebody writes a payload of their own and says that it is not sealed: it is held as what does not open."""
    (callback_id, other) = (await post(store, note(b"1", key="a"), note(b"2"))).ids
    change(path, "UPDATE payload SET body = ?, sealed = 0 WHERE seq = (SELECT min(seq) FROM payload)", b'{"forged":1}')
    assert isinstance(await store.claim(request()), WaitUntil)
    assert payloads(await claimed(store)) == [b"2"]
    assert (await shown(store, callback_id)).held
    await until(lambda: told.broken == [("shop", [callback_id])])
    assert (await shown(store, other)).in_flight


async def test_one_that_breaks_while_its_batch_is_frozen_leaves_it(
    store: SqliteStore, path: Path, clock: FakeClock, told: Told
) -> None:
    """A batch waits for its re-send; one of its payloads is changed: the others go again, in a batch of their own."""
    ids = (await post(store, note(b"1"), note(b"2"), note(b"3"))).ids
    first = await claimed(store)
    await resend(store, first, clock, after_s=1.0)
    change(path, "UPDATE payload SET body = body || x'00' WHERE seq = ?", seqs(first)[1])
    clock.advance(2.0)
    await store.claim(request())
    again = await claimed(store)
    assert payloads(again) == [b"1", b"3"]
    assert again.id != first.id
    assert (await shown(store, ids[1])).held
    await deliver(store, again, clock)
    assert await states(store, ids) == ["delivered", "pending", "delivered"]
    await until(lambda: told.broken == [("shop", [ids[1]])])


async def test_a_person_ends_what_does_not_open(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    """A held callback that does not open can be resolved as dead; tried again, it is held again."""
    await post(store, note(b"1"))
    change(path, "UPDATE payload SET body = zeroblob(60)")
    assert isinstance(await store.claim(request()), WaitUntil)
    await operate(store, "resolve", verdict="retry")
    assert isinstance(await store.claim(request()), WaitUntil)
    assert (await store.platform_status())["shop"].held == 1
    await operate(store, "resolve", verdict="dead")
    assert (await balanced(store))["shop"].dead == 1


async def test_search_by_key_goes_by_hash(store: SqliteStore) -> None:
    """A list by ordering key finds its callbacks on every platform, and no others."""
    await post(store, note(b"1", key="a"), note(b"2", key="b"), note(b"3", key="a", platform="other"))
    page, _ = await store.callbacks(Filter(key="a"), cursor=None, limit=10)
    assert [(item.platform, item.key) for item in page] == [("other", "a"), ("shop", "a")]
    page, _ = await store.callbacks(Filter(key="a", platform="shop"), cursor=None, limit=10)
    assert [item.key for item in page] == ["a"]
    assert await store.callbacks(Filter(key="c"), cursor=None, limit=10) == ([], None)


async def test_a_dropped_dead_letter_keeps_its_key(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    """The payload goes, the ordering key stays and is sealed by itself."""
    (callback_id,) = (await post(store, note(b"1", key="order-canary-77"))).ids
    await reject(store, clock, message="", excerpt="")
    await operate(store, "drop")
    view = await shown(store, callback_id)
    assert (view.key, view.payload_deleted) == ("order-canary-77", True)
    assert b"order-canary-77" not in raw(path)


async def closed(path: Path, clock: FakeClock, *, rows: int = 1) -> bytes:
    """Leave a sealed store with some callbacks; return what it is."""
    store = await SqliteStore.open(path, clock=clock, keys=GivenKeys(KEY))
    await store.configure(rules())
    if rows:
        await post(store, *[note(b"{}", key=f"k{number}") for number in range(rows)])
    await store.close()
    return path.read_bytes()


@pytest.mark.parametrize("keys", [None, GivenKeys(OTHER), GivenKeys(OTHER, [b"y" * 32])])
async def test_without_its_key_a_store_is_not_touched(path: Path, clock: FakeClock, keys: GivenKeys | None) -> None:
    """A missing or wrong key: the store does not open, the message names the key's id, the file stays as it is."""
    before = await closed(path, clock)
    with pytest.raises(StoreUnusable, match=MasterKey(KEY).id):
        await SqliteStore.open(path, clock=clock, keys=keys)
    assert path.read_bytes() == before


async def test_without_its_key_a_killed_store_is_not_touched(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    """The write-ahead log that a kill left is not copied into the database either."""
    await post(store, note(b"{}", key="a"))
    image = tmp_path / "image.db"
    for ending in ("", "-wal"):
        Path(f"{image}{ending}").write_bytes(Path(f"{path}{ending}").read_bytes())
    before = [Path(f"{image}{ending}").read_bytes() for ending in ("", "-wal")]
    with pytest.raises(StoreUnusable, match=MasterKey(KEY).id):
        await SqliteStore.open(image, keys=GivenKeys(OTHER))
    assert [Path(f"{image}{ending}").read_bytes() for ending in ("", "-wal")] == before
    again = await SqliteStore.open(image, keys=GivenKeys(KEY))
    assert (await again.totals())["shop"].pending == 1
    await again.close()


async def test_an_empty_store_needs_its_key_no_more(path: Path, clock: FakeClock) -> None:
    """Sealing can be switched off when no callback is left: then nothing sealed is lost."""
    await closed(path, clock, rows=0)
    store = await SqliteStore.open(path, clock=clock)
    await store.configure(rules())
    await post(store, note(b"plain", key="a"))
    page, _ = await store.callbacks(Filter(key="a"), cursor=None, limit=10)
    assert len(page) == 1
    await store.close()
    assert b"plain" in path.read_bytes()


async def test_a_look_at_the_file_shows_what_its_keys_open(path: Path, clock: FakeClock) -> None:
    """A command reads a sealed file with the key, and without it sees everything but what is sealed."""
    await closed(path, clock)
    reader = open_reader(path, keys=GivenKeys(KEY))
    assert [item.key for item in reader.callbacks(Filter(key="k0"), cursor=None, limit=5)[0]] == ["k0"]
    assert [sent.body for sent in reader.sent("shop")] == [b"{}"]
    reader.close()
    blind = open_reader(path)
    assert [item.key for item in blind.callbacks(Filter(), cursor=None, limit=5)[0]] == [UNREADABLE]
    assert [sent.body for sent in blind.sent("shop")] == [None]
    assert blind.totals()["shop"].pending == 1
    with pytest.raises(StoreUnusable, match=r"privacy\.encrypt\.key"):
        blind.callbacks(Filter(key="k0"), cursor=None, limit=5)
    blind.close()
    with pytest.raises(StoreUnusable, match=MasterKey(KEY).id):
        open_reader(path, keys=GivenKeys(OTHER))


async def test_what_is_forgotten_leaves_the_file(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    """The sealed bytes of an order are in the database and its WAL before, and in neither after; others stay."""
    await post(store, *[note(b"x" * size, key=f"k{size}") for size in (10, 200, 3000, 9000)] * 30)
    look = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    bodies: list[Any] = look.execute("SELECT length(body), body FROM payload").fetchall()
    look.close()
    gone = [body for size, body in bodies if 200 <= size < 300 or size >= 9000]
    assert len(gone) == 60
    assert all(body[-48:] in raw(path) for body in gone)
    for key in ("k200", "k9000"):
        assert (await operate(store, "forget", Filter(key=key))).done == 30
    after = raw(path)
    assert [body for body in gone if body[-48:] in after] == []
    assert sum(body[-48:] in after for _, body in bodies) == 60


async def test_forgetting_days_destroys_their_keys(store: SqliteStore, clock: FakeClock) -> None:
    """With everything before a date its data keys go, so that no copy of the rows opens; later days keep theirs."""
    await post(store, note(b"old", key="a"))
    clock.advance(3 * 86400.0)
    (new,) = (await post(store, note(b"new", key="b"))).ids
    assert (await store.sealing.status()).data_keys == 3  # the store's own too
    await operate(store, "forget", Filter(until=clock.now() - 86400.0))
    assert (await store.sealing.status()).data_keys == 2
    assert (await shown(store, new, payload=True)).payload == b"new"
    await store.sealing.use(GivenKeys(OTHER, [KEY]))
    assert (await store.sealing.rotate()).data_keys == 2  # a rotation does not bring them back
    assert (await store.sealing.status()).data_keys == 2
    await post(store, note(b"more", key="c"))
    assert (await balanced(store))["shop"].pending == 2


async def test_what_comes_after_the_wish_stays_readable(store: SqliteStore, clock: FakeClock) -> None:
    """All "before" a day still to come: what is posted while a request under way holds it up opens and is sent."""
    await post(store, note(b"old", key="a"))
    batch = await claimed(store)
    progress = await store.start_operation("forget", Filter(until=clock.now() + 400 * 86400.0), expect_count=None)
    assert (await store.step_operation(progress.id, 10)).progress.waiting == 1
    (new,) = (await post(store, note(b"new", key="b"))).ids
    await deliver(store, batch, clock)
    assert (await store.step_operation(progress.id, 10)).progress.finished_at is not None
    assert (await shown(store, new, payload=True)).payload == b"new"
    assert payloads(await claimed(store)) == [b"new"]


async def test_days_of_a_platform_that_is_not_there(store: SqliteStore, clock: FakeClock) -> None:
    """A platform with a slip in its name means no other platform's data keys."""
    (callback_id,) = (await post(store, note(b"1", key="a"))).ids
    clock.advance(3 * 86400.0)
    done = await operate(store, "forget", Filter(platform="shpo", until=clock.now()))
    assert (done.matched, (await store.sealing.status()).data_keys) == (0, 2)
    assert (await shown(store, callback_id, payload=True)).payload == b"1"


async def test_data_keys_go_with_the_last_of_their_day(path: Path, clock: FakeClock) -> None:
    """Delivered callbacks and their batches are pruned; then the key of their day is deleted, the others stay."""
    store = await SqliteStore.open(path, clock=clock, keys=GivenKeys(KEY))
    await store.configure(rules(keep_delivered_s=86400.0))
    await post(store, note(b"old"))
    await deliver(store, await claimed(store), clock)
    clock.advance(4 * 86400.0)
    (new,) = (await post(store, note(b"new"))).ids
    assert (await store.sealing.status()).data_keys == 3
    while await store.prune():
        pass
    await store.prune()
    assert (await store.sealing.status()).data_keys == 2
    assert (await shown(store, new, payload=True)).payload == b"new"
    await store.close()
