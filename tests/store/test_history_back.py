"""An operation that names what lies in the history file of the host that is asked: it comes back for it."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from relay.core.errors import CountMismatch, InHistory, StoreFailed
from relay.core.model import Filter
from relay.sealing.master_keys import GivenKeys
from relay.store.redis.moved import returning
from relay.store.transfer.history_file import Given
from relay.views.operation_view import OperationOptions
from tests.store.edge_host import Host
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
    shown,
    states,
)
from tests.store.valkey import ValkeyServer

KEPT = replace(rules("shop", "mall"), keep_delivered_s=60.0, keep_dead_s=120.0, keep_history_s=1e7)
DAY_S = 86400.0


@pytest.fixture(params=["plain", "sealed"])
async def keeper(server: ValkeyServer, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    """A host that keeps a history, on a store in plain and on a sealed one."""
    keys = GivenKeys(b"1" * 32) if request.param == "sealed" else None
    made = Host(server, tmp_path, f"t{secrets.token_hex(4)}", keys=keys)
    await made.start(wanted=KEPT)
    yield made
    await made.store.close()


async def _pruned(host: Host, after_s: float) -> None:
    host.clock.advance(after_s)
    while await host.store.prune():
        pass


async def _dead(host: Host, key: str | None = None) -> str:
    """Return one that was tried twice, died, and moved."""
    (made,) = (await post(host.store, note(b"the payload", key=key, event="paid"))).ids
    await resend(host.store, await claimed(host.store), host.clock, after_s=1)
    host.clock.advance(1)
    await bury(host.store, await claimed(host.store), host.clock)
    await _pruned(host, 121)
    assert (await shown(host.store, made)).history == "edge-1"
    return made


async def test_it_is_sent_again(keeper: Host) -> None:
    """Under its id, with its key and all its attempts, which the server had forgotten; it moves again."""
    store = keeper.store
    made = await _dead(keeper, "k")
    await _pruned(keeper, 2 * DAY_S)
    assert (await operate(store, "retry", Filter(ids=(made,)))).done == 1
    pending = await shown(store, made, payload=True)
    assert (pending.state, pending.key, pending.payload, len(pending.attempts)) == ("pending", "k", b"the payload", 2)
    assert (await balanced(store))["shop"].pending == 1
    batch = await claimed(store)
    assert [item.id for item in batch.items] == [made]
    await deliver(store, batch, keeper.clock)
    await _pruned(keeper, 61)
    found = await shown(store, made, payload=True)
    assert (found.history, found.state, len(found.attempts), found.payload) == (
        "edge-1", "delivered", 3, b"the payload",
    )  # fmt: skip
    page, _ = await store.callbacks(Filter(), cursor=None, limit=9)
    assert [each.id for each in page] == [made]
    assert store.history_file is not None
    assert store.history_file.held.callbacks == 1
    totals = (await balanced(store))["shop"]
    assert (totals.accepted, totals.delivered, totals.dead) == (1, 1, 0)


async def test_not_behind_a_newer_one(keeper: Host) -> None:
    """Where a newer callback of its key was delivered, it needs a word, wherever that lies."""
    store = keeper.store
    made = await _dead(keeper, "k")
    await post(store, note(b"newer", key="k"))
    await deliver(store, await claimed(store), keeper.clock)
    await _pruned(keeper, 61)
    with pytest.raises(InHistory, match="out of order"):
        await operate(store, "retry", Filter(ids=(made,)))
    assert await states(store, [made]) == ["dead"]
    assert (await operate(store, "retry", Filter(ids=(made,)), reorder=True)).done == 1
    assert await states(store, [made]) == ["pending"]


async def test_it_is_dropped_or_sent_as_a_new_one(keeper: Host) -> None:
    """``drop`` deletes the payload, in the file too; ``resend`` of a delivered one queues a new callback."""
    store = keeper.store
    made = await _dead(keeper)
    assert (await operate(store, "drop", Filter(ids=(made,)))).done == 1
    await _pruned(keeper, 700)
    found = await shown(store, made, payload=True)
    assert (found.history, found.payload) == ("edge-1", None)
    (sent,) = (await post(store, note(b"sent", key="s"))).ids
    await deliver(store, await claimed(store), keeper.clock)
    await _pruned(keeper, 61)
    done = await operate(store, "resend", Filter(platform="shop", ids=(sent,)), run="20261130")
    assert done.done == 1
    (item,) = (await claimed(store)).items
    assert (item.payload, item.key, item.id == sent) == (b"sent", "s", False)
    await balanced(store)


async def test_what_was_only_counted_goes_back(keeper: Host) -> None:
    """It is on the server for some minutes, as it was, and then in the file again."""
    store = keeper.store
    made = await _dead(keeper, "k")
    before = await shown(store, made, payload=True)
    with pytest.raises(CountMismatch):
        await store.start_operation("retry", Filter(ids=(made,)), options=OperationOptions(), expect_count=9)
    await _pruned(keeper, 60)
    found = await shown(store, made, payload=True)
    assert found.history != "edge-1"
    found.history = before.history
    assert found == before
    await _pruned(keeper, 600)
    assert await shown(store, made, payload=True) == before
    await balanced(store)


async def test_what_it_is_not_about_stays(keeper: Host) -> None:
    """A retry names a delivered one: nothing matches, as on the server."""
    store = keeper.store
    (made,) = (await post(store, note(b"1"))).ids
    await deliver(store, await claimed(store), keeper.clock)
    await _pruned(keeper, 61)
    assert (await operate(store, "retry", Filter(ids=(made,)))).matched == 0
    assert (await shown(store, made)).history == "edge-1"


async def _cut_off(host: Host) -> None:
    """Prune, and be killed between the copy and the deletion."""
    run, store = host.store.link.run, host.store

    async def cut(calls: object, **more: object) -> object:
        if any(call.script is not None and "copied" in call.script.text for call in calls):  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return await run(calls, **more)  # type: ignore[arg-type]

    store.link.run = cut  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        await store.prune()
    store.link.run = run  # type: ignore[method-assign]


async def test_a_copy_that_may_be_old_stays(keeper: Host, server: ValkeyServer, tmp_path: Path) -> None:
    """Cut off before the deletion, and another host went on with it: what was delivered there is not dead here."""
    (made,) = (await post(keeper.store, note(b"1"))).ids
    await bury(keeper.store, await claimed(keeper.store), keeper.clock)
    keeper.clock.advance(121)
    await _cut_off(keeper)
    await keeper.store.close()
    other = Host(server, tmp_path, keeper._prefix, name="edge-2", keys=keeper.keys)
    other.clock = keeper.clock
    await other.start(wanted=KEPT)
    assert (await operate(other.store, "retry", Filter(ids=(made,)))).done == 1
    await deliver(other.store, await claimed(other.store), other.clock)
    await _pruned(other, 61)
    assert (await shown(other.store, made)).history == "edge-2"
    await other.store.close()
    store = await keeper.start(wanted=KEPT)
    with pytest.raises(InHistory, match="may have changed"):
        await operate(store, "retry", Filter(ids=(made,)))
    await _pruned(keeper, 1)
    with pytest.raises(InHistory, match="may have changed"):
        await operate(store, "retry", Filter(ids=(made,)))
    assert (await balanced(store))["shop"].delivered == 1


async def test_what_stays_on_the_server_leaves_the_file(keeper: Host) -> None:
    """Cut off before the deletion and started again, it is there once; what is deleted then can be sent again."""
    (made,) = (await post(keeper.store, note(b"1"))).ids
    await bury(keeper.store, await claimed(keeper.store), keeper.clock)
    keeper.clock.advance(121)
    await _cut_off(keeper)
    await keeper.store.close()
    store = await keeper.start(wanted=replace(KEPT, keep_dead_s=1e6))
    await _pruned(keeper, 1)
    assert store.history_file is not None
    assert await store.history_file.callback(made) is None
    await store.configure(KEPT)
    await _pruned(keeper, 1)
    assert (await shown(store, made)).history == "edge-1"
    assert store.history_file.unsure == frozenset()
    assert (await operate(store, "retry", Filter(ids=(made,)))).done == 1


async def test_a_file_out_of_a_backup_is_no_news(keeper: Host) -> None:
    """It has a callback as dead that came back and was delivered since."""
    store = keeper.store
    made = await _dead(keeper)
    await store.close()
    files = {path: path.read_bytes() for path in keeper.history_path.parent.glob("*.history*") if path.is_file()}
    store = await keeper.start(wanted=KEPT)
    assert (await operate(store, "retry", Filter(ids=(made,)))).done == 1
    await deliver(store, await claimed(store), keeper.clock)
    await _pruned(keeper, 61)
    await store.close()
    for path in keeper.history_path.parent.glob("*.history*"):
        path.unlink()
    for path, whole in files.items():
        path.write_bytes(whole)
    store = await keeper.start(wanted=KEPT)
    assert await states(store, [made]) == ["dead"]
    with pytest.raises(InHistory, match="may have changed"):
        await operate(store, "retry", Filter(ids=(made,)))
    assert (await balanced(store))["shop"].delivered == 1


async def test_what_another_host_forgets_does_not_come_back(keeper: Host, server: ValkeyServer, tmp_path: Path) -> None:
    """While it does, and afterwards, also where the file was not told of it yet, which is done once a minute."""
    made = await _dead(keeper, "k")
    other = Host(server, tmp_path, keeper._prefix, name="edge-2", keys=keeper.keys)
    await other.start(wanted=KEPT)
    await post(other.store, note(b"1", key="k"))
    await bury(other.store, await claimed(other.store), other.clock)
    begun = await other.store.start_operation("forget", Filter(key="k"), options=OperationOptions(), expect_count=None)
    with pytest.raises(StoreFailed, match="being forgotten"):
        await operate(keeper.store, "retry", Filter(ids=(made,)))
    while (await other.store.step_operation(begun.id, 2)).progress.state == "running":
        pass
    await operate(keeper.store, "retry", Filter(ids=(made,)))
    found = await shown(keeper.store, made, payload=True)
    assert (found.state, found.key, found.payload) == ("dead", None, None)
    await other.store.close()


async def test_many_come_back_in_steps(keeper: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a request that names ten thousand does not hold all their payloads at once."""
    store = keeper.store
    ids = (await post(store, *(note(b"1", key=f"k{n}") for n in range(5)))).ids
    for _ in ids:
        await bury(store, await claimed(store, request(max_items=1)), keeper.clock)
    await _pruned(keeper, 121)
    assert store.history_file is not None
    given, asked = store.history_file.given, []

    async def counted(some: Sequence[str]) -> list[Given]:
        asked.append(len(some))
        return await given(some)

    monkeypatch.setattr(store.history_file, "given", counted)
    monkeypatch.setattr(returning, "_TOGETHER", 2)
    assert (await operate(store, "retry", Filter(ids=tuple(ids)))).done == 5
    assert max(asked) == 2
