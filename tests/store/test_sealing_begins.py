"""Sealing is switched on for a store that has callbacks, keys are exchanged, and all goes on meanwhile."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from relay.core.errors import NotSealed, StoreUnusable
from relay.core.model import Filter, NewCallback, Outcome, State
from relay.core.settlement import AttemptResult, Ending, Settlement
from relay.sealing.codec import Column
from relay.sealing.master_keys import GivenKeys, KeySource, MasterKey, MasterKeys
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.file.unlocking import Unlocked, rewrap, take_over
from relay.store.sqlite.keeping.key_changes import SqliteSealing
from relay.views.callback_view import CallbackView
from tests.clocks import FakeClock
from tests.store.harness import balanced, claimed, note, operate, payloads, post, rules, seqs, shown
from tests.store.test_sealed_file import raw

KEY, NEXT = b"k" * 32, b"n" * 32
CANARIES = (
    b"payload-canary-1",
    b"key-canary-22",
    b"words-canary-3",
    b"excerpt-canary-4",
    b"dropped-canary-5",
    b"reference-canary-7",
)
PENDING = 450  # more than two steps


async def opened(path: Path, clock: FakeClock, keys: KeySource | None = None) -> SqliteStore:
    """Open and configure."""
    store = await SqliteStore.open(path, clock=clock, keys=keys)
    await store.configure(rules())
    return store


async def reject(store: SqliteStore, clock: FakeClock) -> None:
    """Have everything that is due refused, in the platform's words."""
    batch = await claimed(store)
    result = AttemptResult(Outcome.REJECT, clock.now(), 0.0, 400, "status 400", excerpt="excerpt-canary-4")
    ending = Ending(seqs(batch), State.DEAD, "rejected", message="words-canary-3")
    await store.settle(Settlement(batch.number, batch.attempt_id, "shop", result, endings=[ending]))


@pytest.fixture
async def plain(path: Path, clock: FakeClock) -> AsyncIterator[SqliteStore]:
    """An open store with dead, dropped and pending callbacks, all in plain."""
    store = await opened(path, clock)
    await post(store, note(b"payload-canary-1", key="key-canary-22"), note(b"{}", key="dropped-canary-5"))
    await reject(store, clock)
    await operate(store, "drop", Filter(key="dropped-canary-5"))
    await operate(store, "retry", Filter(key="no-key-canary-22"))
    referred = note(b"{}", key="other", idempotency_key="idem-canary-6")._replace(reference="reference-canary-7")
    await post(store, referred)
    rows: list[NewCallback] = [note(b"payload-canary-1", key=f"key-canary-22-{number}") for number in range(PENDING)]
    await post(store, *rows)
    yield store
    await store.close()


async def everything(store: SqliteStore) -> list[CallbackView]:
    """Return all that is shown of every callback."""
    found: list[CallbackView] = []
    cursor = None
    while True:
        page, cursor = await store.callbacks(Filter(), cursor=cursor, limit=200)
        found += [await shown(store, item.id, payload=True) for item in page]
        if cursor is None:
            return found


async def seal_all(store: SqliteStore) -> int:
    """Take every step; return how many there were."""
    steps = 0
    while await store.sealing.step():
        steps += 1
    return steps


async def test_what_is_there_is_sealed_in_steps(plain: SqliteStore, path: Path, clock: FakeClock) -> None:
    """Switched on while it runs: nothing changes for who looks, progress is told, and no plain text is left."""
    before = await everything(plain)
    assert all(canary in raw(path) for canary in CANARIES)
    await plain.sealing.use(GivenKeys(KEY))
    told = await plain.sealing.status()
    assert (told.state, told.to_seal, told.sealed) == ("sealing", PENDING + 3, 0)
    await plain.sealing.step()
    told = await plain.sealing.status()
    assert (told.state, told.to_seal, told.sealed) == ("sealing", PENDING + 3 - 200, 200)
    assert await everything(plain) == before
    assert await seal_all(plain) >= 4
    told = await plain.sealing.status()
    assert (told.state, told.to_seal) == ("sealed", 0)
    assert [(key.id, key.in_force) for key in told.keys] == [(MasterKey(KEY).id, True)]
    assert await everything(plain) == before
    assert [canary for canary in CANARIES if canary in raw(path)] == []
    assert [one.filter.key for one in [await plain.operation(2)] if one is not None] == ["no-key-canary-22"]
    await balanced(plain)


async def test_all_goes_on_while_it_is_sealed(plain: SqliteStore, clock: FakeClock) -> None:
    """Half sealed, a batch holds both kinds; new callbacks are sealed at once and keep the order of their key."""
    await plain.sealing.use(GivenKeys(KEY))
    await plain.sealing.step()
    await post(plain, note(b"second", key="key-canary-22-0"))
    batch = await claimed(plain)
    assert set(payloads(batch)) == {b"payload-canary-1", b"{}"}
    assert {item.key for item in batch.items} == {"other", *(f"key-canary-22-{number}" for number in range(99))}
    await seal_all(plain)
    page, _ = await plain.callbacks(Filter(key="key-canary-22-0"), cursor=None, limit=5)
    assert [item.in_flight for item in page] == [False, True]


async def test_a_restart_goes_on_where_it_was(plain: SqliteStore, path: Path, clock: FakeClock) -> None:
    """The key comes with a restart; another restart in the middle loses no step."""
    before = await everything(plain)
    await plain.close()
    first = await opened(path, clock, GivenKeys(KEY))
    await first.sealing.step()
    await first.close()
    second = await opened(path, clock, GivenKeys(KEY))
    assert (await second.sealing.status()).sealed == 200
    await seal_all(second)
    assert await everything(second) == before
    await second.close()
    assert [canary for canary in CANARIES if canary in raw(path)] == []


async def test_it_is_not_switched_off(plain: SqliteStore, clock: FakeClock) -> None:
    """With sealed callbacks a configuration without keys, or with others, is refused and changes nothing."""
    await plain.sealing.use(GivenKeys(KEY))
    for other in (None, GivenKeys(NEXT)):
        with pytest.raises(StoreUnusable, match=MasterKey(KEY).id):
            await plain.sealing.use(other)
    await post(plain, note(b"new"))
    assert (await plain.sealing.status()).keys[0].id == MasterKey(KEY).id


async def test_a_rotation(plain: SqliteStore, path: Path, clock: FakeClock) -> None:
    """The new key in force, the old one behind it, then the data keys wrapped anew: the old one is needed no more."""
    await plain.sealing.use(GivenKeys(KEY))
    await seal_all(plain)
    before = await everything(plain)
    await plain.sealing.use(GivenKeys(NEXT, [KEY]))
    told = await plain.sealing.status()
    assert [(key.id, key.data_keys > 0) for key in told.keys] == [
        (MasterKey(NEXT).id, False),
        (MasterKey(KEY).id, True),
    ]
    rotated = await plain.sealing.rotate()
    assert (rotated.key, rotated.data_keys) == (MasterKey(NEXT).id, told.data_keys)
    assert (await plain.sealing.rotate()).data_keys == 0
    await plain.sealing.use(GivenKeys(NEXT))
    await plain.close()
    again = await opened(path, clock, GivenKeys(NEXT))
    assert await everything(again) == before
    await again.close()


class Service:
    """A service that makes a key whenever it is asked with nothing kept; the one before it was given."""

    renews = True

    def __init__(self) -> None:
        self.made: list[MasterKeys] = []

    def keys(self, kept: str | None) -> tuple[MasterKeys, str | None]:
        """Return the key in ``kept``, or a new one."""
        if kept is not None:
            return self.made[int(kept)], None
        before = [MasterKey(KEY), *(each.current for each in self.made)]
        self.made.append(MasterKeys(MasterKey(bytes([len(self.made)]) * 32), before))
        return self.made[-1], str(len(self.made) - 1)


async def test_a_rotation_asks_the_source_in_force(plain: SqliteStore) -> None:
    """After a reload that names a service in the place of a given key, it makes the next key."""
    await plain.sealing.use(GivenKeys(KEY))
    await seal_all(plain)
    service = Service()
    await plain.sealing.use(service)
    rotated = await plain.sealing.rotate()
    assert len(service.made) == 2
    assert rotated.key == service.made[-1].current.id
    await plain.close()


async def test_a_rotation_counts_for_the_rest_of_its_group(plain: SqliteStore, path: Path, clock: FakeClock) -> None:
    """Data keys made before and after it in the same commit are wrapped with the new key; one undone leaves the old."""
    await plain.sealing.use(GivenKeys(KEY))
    sealing = plain.sealing
    assert isinstance(sealing, SqliteSealing)
    seals, found = sealing._seals, Unlocked(*GivenKeys(NEXT, [KEY]).keys(None))

    def rotate_among_others(transaction: Transaction, first: int = 7) -> None:
        seals.text(Column.MESSAGE, first, 0, 1, "before")  # a platform's first words of a day make a data key
        take_over(transaction, seals, found)
        rewrap(transaction, seals, found.masters)
        seals.text(Column.MESSAGE, first + 1, 0, 1, "after")
        seals.save(transaction)

    def fails(transaction: Transaction) -> None:
        rotate_among_others(transaction, first=1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sealing._write(fails)
    assert [(key.id, key.data_keys) for key in (await sealing.status()).keys] == [(MasterKey(KEY).id, 1)]
    await sealing._write(rotate_among_others)
    uses = [key.data_keys for key in (await sealing.status()).keys]
    assert uses == [4, 0]  # one of them is left of the commit that failed
    await plain.close()
    again = await SqliteStore.open(path, clock=clock, keys=GivenKeys(NEXT))
    assert [key.data_keys for key in (await again.sealing.status()).keys] == [4]
    await again.close()


async def test_a_plain_store_has_no_keys_to_rotate(plain: SqliteStore) -> None:
    """A rotation of nothing says so; a reload without keys is none of its business."""
    await plain.sealing.use(None)
    assert (await plain.sealing.status()).state == "off"
    assert not await plain.sealing.step()
    with pytest.raises(NotSealed):
        await plain.sealing.rotate()
