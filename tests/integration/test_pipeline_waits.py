"""What a pipeline waits for, what it says of that, and what ends the wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from relay.core.clock import wall_s
from relay.core.model import Rate, WaitUntil
from relay.delivery.sender import Request
from relay.policy.hours import SendingHours
from relay.views.live import LiveFacts
from relay.wire.answers.answer import Answer, Failure, Headers
from relay.wire.signing.draft import Draft
from tests.integration.test_pipeline import OK, TERMS, Rig

HOUR_S = 3600.0


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig()
    yield made
    await made.registry.stop(1.0)


async def view(rig: Rig, holds: Callable[[LiveFacts], bool]) -> LiveFacts:
    """Wait until what the pipeline says of itself holds; return it."""
    async with asyncio.timeout(20):
        while not holds(found := rig.registry.views()["shop-a"]):
            await asyncio.sleep(0.002)
    return found


async def test_a_partial_batch_lingers_until_it_is_full(rig: Rig) -> None:
    """Three of eight wait for more; with five more they go together at once."""
    await rig.start(replace(TERMS, linger_s=HOUR_S))
    await rig.post(1, 2, 3, keyed=False)
    found = await view(rig, lambda found: found.waits_for == "linger")
    assert found.waits_until is not None
    assert rig.platform.requests == []

    await rig.post(4, 5, 6, 7, 8, keyed=False)

    assert (await rig.settled(8)).delivered == 8
    assert [len(batch) for batch in rig.platform.batches] == [8]


async def test_flush_sends_what_lingers_once(rig: Rig) -> None:
    """What is queued goes without waiting for more; what comes later lingers again."""
    await rig.start(replace(TERMS, linger_s=HOUR_S))
    await rig.post(1, 2, keyed=False)
    await view(rig, lambda found: found.waits_for == "linger")

    await rig.registry.flush("shop-a")

    assert (await rig.settled(2)).delivered == 2
    await view(rig, lambda found: found.waits_for == "idle")  # it is over once nothing is left to claim
    await rig.post(3, keyed=False)
    await view(rig, lambda found: found.waits_for == "linger")
    assert rig.platform.batches == [[1, 2]]


async def test_flush_of_nothing_is_over_when_there_was_nothing(rig: Rig) -> None:
    """It does not lie in wait for the next callback of the day."""
    await rig.start(replace(TERMS, linger_s=HOUR_S))
    await view(rig, lambda found: found.waits_for == "idle")
    await rig.registry.flush("shop-a")
    for _ in range(20):
        await asyncio.sleep(0)
    await view(rig, lambda found: found.waits_for == "idle")
    await rig.post(1, keyed=False)
    await view(rig, lambda found: found.waits_for == "linger")
    assert rig.platform.requests == []


async def test_flush_goes_past_the_pace_but_not_past_the_limit(rig: Rig) -> None:
    """Two a minute: the first goes, the second is paced until it is flushed, the third waits for a slot."""
    await rig.start(replace(TERMS, max_items=2), rate=Rate(2, HOUR_S / 60))
    await rig.post(1, keyed=False)
    await rig.settled(1)
    await rig.post(2, keyed=False)
    await view(rig, lambda found: found.waits_for == "pace")
    await rig.registry.flush("shop-a")
    await rig.settled(2)
    await rig.post(3, 4, keyed=False)
    await rig.registry.flush("shop-a")

    found = await view(rig, lambda found: found.waits_for == "limit")

    assert found.limited_until == found.waits_until
    assert 0 < (found.limited_since or 0) <= rig.clock.now()
    await rig.registry.flush("shop-a")
    for _ in range(20):
        await asyncio.sleep(0)
    again = await view(rig, lambda found: found.waits_for == "limit")
    assert again.limited_since == found.limited_since  # another look at the same limit is no new beginning
    assert len(rig.platform.requests) == 2


async def test_what_is_under_way_is_counted(rig: Rig) -> None:
    """Two of two allowed: the third waits for an answer, and goes when one comes."""
    gate = asyncio.Event()

    async def hold(_request: Request, _items: object) -> Answer | Failure:
        await gate.wait()
        return OK

    rig.platform.script = hold
    await rig.start(replace(TERMS, concurrency=2, max_items=1))
    gate.set()
    await rig.post(*range(8), keyed=False)  # from one request at a time it works up to what is allowed
    await rig.settled(8)
    gate.clear()
    await rig.post(8, 9, 10, keyed=False)

    found = await view(rig, lambda found: found.in_flight == 2)
    assert (found.allowed, (await rig.totals()).pending) == (2, 3)
    await view(rig, lambda found: found.waits_for == "concurrency")

    gate.set()
    assert (await rig.settled(11)).delivered == 11
    assert (await view(rig, lambda found: found.in_flight == 0)).waits_for in ("idle", "")


async def test_the_last_error_is_shown(rig: Rig) -> None:
    """In our words, until the next one; what went well does not wipe it out."""
    answers = iter([Answer(500, Headers(), b"boom"), OK])

    async def fails_once(_request: Request, _items: object) -> Answer | Failure:
        return next(answers)

    rig.platform.script = fails_once
    await rig.start(replace(TERMS, max_items=1))
    await rig.post(1)
    await rig.settled(1)
    assert "500" in str(rig.registry.views()["shop-a"].last_error)


async def test_a_throttle_is_shown_until_it_ends(rig: Rig) -> None:
    """Until when and why; it is no breaker."""

    async def refuse(_request: Request, _items: object) -> Answer | Failure:
        return Answer(429, Headers([("Retry-After", "600")]), b"")

    rig.platform.script = refuse
    await rig.start(replace(TERMS, max_items=1))
    await rig.post(1)

    found = await view(rig, lambda found: found.waits_for == "throttled")

    assert "429" in found.throttle_reason
    assert (found.broken, found.breaker_open, found.paused, found.allowed) == (False, False, False, 1)
    assert found.waits_until == found.throttled_until


async def test_outside_its_hours_nothing_is_claimed(rig: Rig) -> None:
    """Not even by a flush; it says until when and what its hours are, and a reload that opens it lets it go."""
    opens = (datetime.fromtimestamp(wall_s(), UTC) + timedelta(hours=2)).time().replace(microsecond=0)
    closes = (datetime.fromtimestamp(wall_s(), UTC) + timedelta(hours=3)).time().replace(microsecond=0)
    hours = SendingHours(opens, closes, UTC)
    await rig.start(replace(TERMS, hours=hours))
    await rig.post(1, 2, keyed=False)
    await rig.registry.flush("shop-a")
    found = await view(rig, lambda found: found.waits_for == "hours")
    assert found.hours == str(hours)
    assert (found.opens_at or 0) - rig.clock.now() == pytest.approx(2 * HOUR_S, abs=30)
    assert rig.platform.requests == []
    await rig.registry.replace([TERMS], 1.0)
    await rig.settled(2)


async def test_a_question_that_gets_no_slot_lets_the_deliveries_go_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store is asked whether a question may go, nothing else may be under way; after that it may."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def reserve(_platform: str) -> WaitUntil:
        asked.set()
        await answer.wait()
        return WaitUntil(rig.clock.now(), "limit")

    monkeypatch.setattr(rig.store, "reserve", reserve)
    await rig.start(replace(TERMS, concurrency=1))
    pipeline = rig.registry.find("shop-a")
    assert pipeline is not None
    question = pipeline.ask(lambda number: Draft(number, "GET", TERMS.url, {}, b""), answer_bytes=1)
    asking = asyncio.create_task(question)
    await asked.wait()
    await rig.post(1)
    await view(rig, lambda found: found.waits_for == "concurrency")

    answer.set()

    assert isinstance(await asking, WaitUntil)
    assert (await rig.settled(1)).delivered == 1
