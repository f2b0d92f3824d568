"""Large posts are packed by the writing thread, small ones on the loop; what is stored is the same."""

import asyncio
import gc
import threading
from pathlib import Path

import pytest
from relay.core.model import Lane, NewCallback, RoutedPost
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.write import rows as packing
from tests.clocks import FakeClock


async def test_many_rows_do_not_hold_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 rows are packed in another thread, alone or routed; a repeat is known, another body under a key refused."""
    packed_by: list[str] = []
    pack = packing.pack

    def watched(*args: object, **named: object) -> None:
        packed_by.append(threading.current_thread().name)
        pack(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "pack", watched)
    store = await SqliteStore.open(tmp_path / "relay.db", clock=FakeClock())
    try:
        rows = [
            NewCallback("p", b"%d" % n, str(n), None, Lane.NORMAL, 60.0, f"k{n}", None, None, "") for n in range(5000)
        ]
        accepted = await store.accept(rows)
        assert len(set(accepted.ids)) == 5000
        assert (await store.accept(rows)).ids == accepted.ids
        assert {name.split()[0] for name in packed_by} == {"store-writer"}
        await store.accept(rows[:1])
        assert packed_by[-1] == threading.current_thread().name
        posts = [RoutedPost((row._replace(idempotency_key=None),), row.payload, None, None, None, None) for row in rows]
        routed = await store.accept_posts(posts)
        assert len(routed.ids) == 5000
        totals = await store.totals()
        assert totals["p"].accepted == totals["p"].pending == 10_000
    finally:
        await asyncio.wait_for(store.close(), 20)


async def test_rows_are_freed_as_they_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and what they are packed to are never all in memory at once: packed, nothing keeps the rows."""
    left: list[int] = []
    pack = packing.pack

    def watched(*args: object, **named: object) -> None:
        pack(*args, **named)  # type: ignore[arg-type]
        left.append(sum(type(each) is NewCallback for each in gc.get_objects()))

    monkeypatch.setattr(packing, "pack", watched)
    store = await SqliteStore.open(tmp_path / "relay.db", clock=FakeClock())
    try:
        gc.collect()  # what other tests left in cycles
        before = sum(type(each) is NewCallback for each in gc.get_objects())
        accepted = await store.accept(
            [NewCallback("p", b"%d" % n, None, None, Lane.NORMAL, 60.0, None, None, None, "") for n in range(5000)]
        )
        assert len(accepted.ids) == 5000
        assert left[0] <= before
    finally:
        await asyncio.wait_for(store.close(), 20)
