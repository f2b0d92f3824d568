"""How fast what has ended moves off the server: few syncs, few calls, no long waits between, platforms in turn."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from relay.core.errors import StoreAway
from relay.core.model import Filter
from tests.store.edge_host import Host
from tests.store.harness import bury, claimed, deliver, note, post, request, rules
from tests.store.valkey import ValkeyServer

KEPT = replace(rules("shop", "mall"), keep_delivered_s=60.0, keep_dead_s=60.0, keep_history_s=3600.0)


@pytest.fixture
async def keeper(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Host]:
    """A host that keeps a history."""
    made = Host(server, tmp_path, f"t{secrets.token_hex(4)}")
    await made.start(wanted=KEPT)
    yield made
    await made.store.close()


def _counted(target: Any, name: str) -> list[int]:
    """Return a list that gets longer with each call of a method."""
    calls: list[int] = []
    run: Callable[..., Awaitable[Any]] = getattr(target, name)

    async def counts(*args: Any, **more: Any) -> Any:
        calls.append(len(calls))
        return await run(*args, **more)

    setattr(target, name, counts)
    return calls


async def _delivered(host: Host, many: int, platform: str = "shop", payload: bytes = b"{}") -> None:
    await post(host.store, *(note(payload, platform=platform) for _ in range(many)))
    while many > 0:
        batch = await claimed(host.store, request(platform, max_items=500, max_bytes=1 << 26))
        await deliver(host.store, batch, host.clock)
        many -= len(batch.items)


async def _held(host: Host, platform: str) -> int:
    assert host.store.history_file is not None
    page, _ = await host.store.history_file.callbacks(Filter(platform=platform), cursor=None, limit=5000)
    return len(page)


async def test_a_step_moves_a_thousand_by_one_commit(keeper: Host, server: ValkeyServer) -> None:
    """A commit is a sync of the file; on the server no script deletes more than 200."""
    await _delivered(keeper, 1000)
    keeper.clock.advance(61)
    commits = _counted(keeper.store.history_file, "_write")
    assert await keeper.store.prune()
    assert await _held(keeper, "shop") == 1000
    assert server.ask("HLEN", f"{keeper._prefix}:{{shop}}:r") == b":0\r\n"
    assert len(commits) <= 4  # the rows; the duties of the file itself


async def test_large_payloads_move_without_a_rest(keeper: Host) -> None:
    """A step ends at 4 MiB, and says that there is more: else the next came a minute later."""
    for _ in range(5):
        await _delivered(keeper, 4, payload=b"x" * (300 << 10))
    keeper.clock.advance(61)
    assert await keeper.store.prune()
    moved = await _held(keeper, "shop")
    assert 13 <= moved < 20
    while await keeper.store.prune():
        pass
    assert await _held(keeper, "shop") == 20


async def test_each_platform_has_its_turn(keeper: Host) -> None:
    """One that has very much does not keep another one waiting."""
    await _delivered(keeper, 1500, "shop")
    await _delivered(keeper, 10, "mall")
    keeper.clock.advance(61)
    assert await keeper.store.prune()
    assert await _held(keeper, "mall") == 10
    assert await _held(keeper, "shop") == 500


async def test_no_call_for_each_callback(keeper: Host) -> None:
    """Dead ones with an ordering key, and superseded ones, are read together too."""
    store = keeper.store
    await store.configure(
        replace(KEPT, platforms={**KEPT.platforms, "shop": replace(KEPT.platforms["shop"], coalesce=True)})
    )
    await post(store, *(note(b"1", key=f"k{n}", platform="mall") for n in range(100)))
    await bury(store, await claimed(store, request("mall")), keeper.clock)
    for _ in range(2):
        await post(store, *(note(b"1", key=f"k{n}") for n in range(100)))
    keeper.clock.advance(61)
    calls = _counted(store.link, "run")
    await store.prune()
    assert (await _held(keeper, "mall"), await _held(keeper, "shop")) == (100, 100)
    assert len(calls) < 40


async def test_who_takes_a_platform_is_told(keeper: Host) -> None:
    """What is overdue there is looked at then, and not a minute later."""
    heard: list[str] = []
    keeper.store.watch_taken(lambda: heard.append("taken"))
    keeper.store.disown(("shop",))
    await keeper.store.own({"shop": ""}, silent_s={})
    assert heard == ["taken"]


async def test_a_server_that_is_lost_in_mid_move(keeper: Host) -> None:
    """What it was seen to delete is sure; of the rest it is asked when it is back, and what it has moves again."""
    store = keeper.store
    await _delivered(keeper, 1000)
    keeper.clock.advance(61)
    run, pipelines = store.link.run, 0

    async def lost(calls: Any, **more: Any) -> Any:
        nonlocal pipelines
        if any(call.script is not None and "copied" in call.script.text for call in calls):
            pipelines += 1
            if pipelines == 2:
                raise StoreAway("lost", sent=False)
        return await run(calls, **more)

    store.link.run = lost  # type: ignore[method-assign]
    with pytest.raises(StoreAway):
        await store.prune()
    assert store.history_file is not None
    assert len(store.history_file.unsure) == 200
    while await store.prune():
        pass
    assert store.history_file.unsure == frozenset()
    assert await _held(keeper, "shop") == 1000
