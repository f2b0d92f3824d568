"""One damaged page of a store stops what needs it, and nothing else: expiry, pruning, totals, room, readiness."""

import asyncio
import math
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from relay.core.errors import StoreDamaged, StoreFull
from relay.core.model import Rate, StoreRules
from relay.store.sqlite.backend import SqliteStore
from tests.clocks import FakeClock
from tests.store.harness import claimed, deliver, note, payloads, post, refused, request, resend, rules
from tests.store.test_checksums import Told, flip, leaves

DAY_S = 86400.0
_INDEXES = {"callback": ("callback_ended",), "attempt": ("attempt_batch",)}
_ALL = {"INDEXED BY callback_ended": "WHERE state > 0"}
COUNT = 100  # callbacks of a platform
NAMES = ("shop", "between", "mall")  # a row that grows may move others to a neighbour's page


def marked(number: int, name: str) -> bytes:
    """Return a payload that is large enough for a page to hold few."""
    return b'{"n":"%s-%d","x":"%b"}' % (name.encode(), number, b"." * 500)


async def opened(path: Path, clock: FakeClock, wanted: StoreRules | None = None) -> tuple[SqliteStore, Told]:
    """Open a store, and what is told of it."""
    told = Told()
    store = await SqliteStore.open(path, clock=clock, events=told)
    await store.configure(wanted or rules(*NAMES))
    return store, told


async def filled(path: Path, clock: FakeClock, *, delivered: bool, items: int = 4) -> None:
    """Make a store with as many callbacks for each platform, one platform after the other."""
    store, _ = await opened(path, clock)
    for name in NAMES:
        keyed = [note(marked(n, name), platform=name, idempotency_key=f"{n}") for n in range(COUNT)]
        await post(store, *keyed)
        clock.advance(60)
        while delivered and (await store.totals())[name].pending:
            await deliver(store, await claimed(store, request(name, max_items=items)), clock)
            clock.advance(1)
    await store.close()


def spoiled(path: Path, page: int) -> int:
    """Return how many rows, or entries of an index, a page takes along at most.

    To those that lie on it come some of its neighbours: what changes there may have to be shared out with it.
    """
    with closing(apsw.Connection(str(path))) as connection:
        return 2 * int(connection.execute("SELECT ncell FROM dbstat WHERE pageno = ?", (page,)).get)


def left_in(path: Path, table: str) -> int:
    """Count the rows of a table, by whatever of it is sound."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        for found_by in ("NOT INDEXED", *(f"INDEXED BY {index}" for index in _INDEXES.get(table, ()))):
            try:
                return int(connection.execute(f"SELECT count(*) FROM {table} {found_by} {_ALL.get(found_by, '')}").get)
            except apsw.Error:
                continue
    raise AssertionError(table)


@pytest.mark.parametrize("table", ["callback", "callback_expiry", "payload"])
async def test_expiry_goes_on(path: Path, clock: FakeClock, table: str) -> None:
    """What lies on the page stays pending, also where it is the first to expire; all others end, and it is told."""
    await filled(path, clock, delivered=False)
    page = leaves(path, table)[0]
    most = 0 if table == "payload" else spoiled(path, page)
    flip(path, page, 3000)
    store, told = await opened(path, clock)
    clock.advance(2 * DAY_S)
    ended: Counter[str] = Counter()
    while (done := await store.expire()).more:
        ended.update({each.platform: each.callbacks for each in done.ended})
    ended.update({each.platform: each.callbacks for each in done.ended})
    assert ended["mall"] == COUNT
    assert 0 <= len(NAMES) * COUNT - ended.total() <= most
    assert done.next_at == math.inf
    assert bool(told.damaged) == bool(most)
    await post(store, note(b"later", platform="mall", expires_s=60))
    clock.advance(61)
    assert [each.platform for each in (await store.expire()).ended] == ["mall"]
    await store.close()


async def test_batches_that_wait_expire_around_damage(path: Path, clock: FakeClock) -> None:
    """One whose callbacks lie on the page stays; those of other platforms end with all their items."""
    store, _ = await opened(path, clock)
    for name in NAMES:
        await post(store, *(note(marked(n, name), platform=name, expires_s=3600) for n in range(COUNT)))
        await resend(store, await claimed(store, request(name, max_items=40)), clock, after_s=7200)
    await store.close()
    flip(path, leaves(path, "callback")[0], 3000)
    store, told = await opened(path, clock)
    clock.advance(2 * DAY_S)
    for _ in range(3):
        await store.expire()
    left = {name: total.pending for name, total in (await store.totals()).items()}
    assert left["mall"] == 0
    assert 0 < left["shop"] < COUNT
    assert told.damaged
    await store.close()


@pytest.mark.parametrize(
    "table", ["callback", "payload", "idempotency", "batch", "attempt", "sample", "callback_ended", "attempt_batch"]
)
async def test_pruning_goes_on(path: Path, clock: FakeClock, table: str) -> None:
    """Rows that need the page stay, and all others go, of every kind; so does what ends later."""
    await filled(path, clock, delivered=True)
    page = leaves(path, table)[0]
    most = spoiled(path, page)
    flip(path, page, 3000)
    store, told = await opened(path, clock)
    clock.advance(400 * DAY_S)
    for _ in range(3):  # batches go after their callbacks
        while await store.prune():
            pass
    assert told.damaged
    await store.close()
    assert left_in(path, "callback") <= (0 if table in ("batch", "attempt", "sample", "attempt_batch") else most)
    assert left_in(path, "attempt") <= (0 if table == "sample" else most)


async def test_room_is_made_around_damage(path: Path, clock: FakeClock) -> None:
    """Delivered rows on the page cannot go early; after a few refusals others go, and posts are accepted again."""
    await filled(path, clock, delivered=True)
    flip(path, leaves(path, "payload")[0], 3000)
    store, told = await opened(path, clock, rules(*NAMES, max_size_bytes=path.stat().st_size))
    refused = 0
    for number in range(60):
        try:
            await post(store, note(marked(number, "later")))
        except (StoreDamaged, StoreFull):
            refused += 1
    assert told.damaged
    assert 0 < refused < 20
    assert (await store.totals())["shop"].pending == 60 - refused
    await store.close()


async def test_totals_of_one_platform_hold_up_no_other(path: Path, clock: FakeClock) -> None:
    """With 400 platforms they lie on two pages: who needs the damaged one is answered so, in one group with others."""
    names = tuple(f"p{number}" for number in range(400))
    store, _ = await opened(path, clock, rules(*names))
    await post(store, *(note(platform=name) for name in names))
    await store.close()
    flip(path, leaves(path, "ledger")[0], 3000)
    store, told = await opened(path, clock, rules(*names))
    answers = await asyncio.gather(
        *(post(store, note(b"later", platform=name)) for name in (names[0], names[-1], names[1], names[-2])),
        return_exceptions=True,
    )
    assert [isinstance(answer, StoreDamaged) for answer in answers] == [True, False, True, False]
    assert payloads(await claimed(store, request(names[-1]))) == [b"{}", b"later"]
    with pytest.raises(StoreDamaged):  # what came of it could not be recorded
        await store.claim(request(names[0]))
    await store.ping()
    assert told.damaged
    await store.close()


async def test_a_damaged_history_holds_up_nothing(path: Path, clock: FakeClock) -> None:
    """The minute is left out of it, at the start and while the relay runs."""
    await filled(path, clock, delivered=False)
    for page in leaves(path, "sample"):
        flip(path, page, 3000)
    store, told = await opened(path, clock)
    for _ in range(3):
        clock.advance(60)
        assert (await post(store, note())).ids
    assert told.damaged
    await store.close()


@pytest.mark.parametrize(("table", "ready"), [("payload", False), ("ledger", False), ("idempotency", True)])
async def test_readiness_tells_that_no_post_can_be_accepted(
    path: Path, clock: FakeClock, table: str, ready: bool
) -> None:
    """Where the page is one that each post needs; else the store commits, and the alert tells of the damage."""
    await filled(path, clock, delivered=True)
    flip(path, leaves(path, table)[-1], 3000)
    store, _ = await opened(path, clock)
    ping = store.ping()
    if ready:
        await ping
        assert (await post(store, note())).ids
    else:
        with pytest.raises(StoreDamaged, match="relay restore BACKUP"):
            await ping
        with pytest.raises(StoreDamaged):
            await post(store, note())
    await store.close()


async def test_a_start_goes_around_requests_that_cannot_be_read(path: Path, clock: FakeClock) -> None:
    """Who made them sends nothing for one window, as if every slot were used; others go on, and posts are accepted."""
    await filled(path, clock, delivered=True, items=2)
    flip(path, leaves(path, "attempt")[0], 3000)
    limited = rules(*NAMES, rate=Rate(1000, 600.0))
    store, told = await opened(path, clock, limited)
    await post(store, *(note(platform=name) for name in NAMES))
    assert told.damaged
    assert (await refused(store, request("shop"))).at == clock.now() + 600
    assert len((await claimed(store, request("mall"))).items) == 1
    await store.configure(rules(*NAMES, rate=Rate(9, 60.0)))  # by a reload too
    assert (await refused(store, request("shop"))).at == clock.now() + 60
    clock.advance(60)
    assert len((await claimed(store, request("shop"))).items) == 1
    await store.close()
