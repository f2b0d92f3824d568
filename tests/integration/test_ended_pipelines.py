"""A pipeline ends while the relay goes on, for a reload or a hand-over: nothing that it had waits for a restart."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from relay.core.errors import StoreFailed
from relay.core.model import Batch, ClaimRequest, Filter, WaitUntil
from relay.core.raw import Kept
from relay.core.settlement import Settlement
from relay.delivery import pipeline
from relay.delivery.sender import Request
from relay.wire.answers.answer import Answer
from test_pipeline import OK, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig()
    yield made
    await made.registry.stop(1.0)


class Hanging:
    """Takes the first request and never answers it; every later one at once."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def __call__(self, _request: Request, _items: list[dict[str, object]]) -> Answer:
        if not self.begun.is_set():
            self.begun.set()
            await asyncio.Event().wait()
        return OK


async def _reload(rig: Rig, within_s: float) -> None:
    """Put a file in force that changes the platform."""
    terms = (rig.registry._terms["shop-a"],)
    await rig.registry.replace([replace(each, max_items=each.max_items + 1) for each in terms], within_s)


async def test_a_request_that_a_reload_cut_off_goes_again(rig: Rig) -> None:
    """At once, under its id, as the second attempt; its callback is not charged for it."""
    rig.platform.script = Hanging()
    await rig.start()
    await rig.post(1)
    await rig.platform.script.begun.wait()
    await _reload(rig, 0.01)
    assert (await rig.settled(1)).delivered == 1
    first, again = (request.headers["Idempotency-Key"] for request, _ in rig.platform.requests)
    assert first == again
    ((listed,), _) = await rig.store.callbacks(Filter(), cursor=None, limit=5)
    shown = await rig.store.callback(listed.id)
    assert shown is not None
    assert (shown.attempt_count, shown.spent) == (2, 0)
    assert [each.outcome for each in shown.attempts] == ["crash", "ok"]


async def test_what_was_cut_off_is_settled_when_the_store_is_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reload does not wait for that."""
    rig.platform.script = Hanging()
    await rig.start()
    await rig.post(1)
    await rig.platform.script.begun.wait()
    settle, failed = rig.store.settle, asyncio.Event()

    async def fails(_settlement: Settlement) -> None:
        failed.set()
        raise StoreFailed("the disk is away")

    monkeypatch.setattr(rig.store, "settle", fails)
    await _reload(rig, 0.01)
    assert failed.is_set()
    monkeypatch.setattr(rig.store, "settle", settle)
    assert (await rig.settled(1)).delivered == 1


@pytest.mark.parametrize("rounds", range(6))
async def test_what_was_being_claimed_when_a_reload_came_is_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """The store commits the claim although nobody waits for it any more; whichever comes first."""
    claim, asked, goes_on = rig.store.claim, asyncio.Event(), asyncio.Event()

    async def slow(request: ClaimRequest) -> Batch | WaitUntil:
        found = await claim(request)
        if isinstance(found, Batch):
            asked.set()
            await goes_on.wait()
        return found

    monkeypatch.setattr(rig.store, "claim", slow)
    await rig.start()
    await rig.post(1)
    await asked.wait()
    reloading = asyncio.create_task(_reload(rig, 5.0))
    for _ in range(rounds):
        await asyncio.sleep(0)
    goes_on.set()
    await reloading
    assert (await rig.settled(1)).delivered == 1
    assert len(rig.platform.requests) == 1


async def test_what_is_claimed_after_a_reload_has_given_up_waiting_is_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store hangs for longer than a reload waits, and then commits the claim that nobody waits for."""
    claim, asked, goes_on = rig.store.claim, asyncio.Event(), asyncio.Event()

    async def hangs(request: ClaimRequest) -> Batch | WaitUntil:
        asked.set()
        await goes_on.wait()
        return await claim(request)

    await rig.post(1)
    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "claim", hangs)
        await rig.start()
        await asked.wait()
    monkeypatch.setattr(pipeline, "_SETTLE_AGAIN_S", 0.01)
    await _reload(rig, 0.01)
    goes_on.set()
    assert (await rig.settled(1)).delivered == 1


async def test_a_reload_while_the_store_is_away_ends_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and what runs goes on when the store is back."""

    async def away() -> Mapping[str, Kept]:
        raise StoreFailed("gone")

    await rig.start()
    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "gates", away)
        with pytest.raises(StoreFailed):
            await _reload(rig, 1.0)
    await rig.post(1)
    assert (await rig.settled(1)).delivered == 1
