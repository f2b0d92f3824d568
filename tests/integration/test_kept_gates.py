"""What a restart must know of a platform is in the store as soon as it is true: pause, stops, what was learned."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from relay.core.model import Rate
from relay.delivery.sender import Request
from relay.policy.gate.breaker import BreakerTerms
from relay.wire.answers.answer import Answer, Failure, Headers
from tests.integration.test_pipeline import OK, TERMS, Rig

SINGLES = replace(TERMS, max_items=1, concurrency=1)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig()
    yield made
    await made.registry.stop(1.0)


async def kept(rig: Rig) -> dict[str, Any]:
    """What stands in the store."""
    return (await rig.store.gates()).get("shop-a", {})


async def test_a_pause_and_its_end_are_kept(rig: Rig) -> None:
    """Each is in the store when the operator is told that it is done: a crash right after changes nothing."""
    await rig.start(SINGLES)

    await rig.registry.pause("shop-a", "stock-taking", until=None)
    assert ((await kept(rig))["paused"], (await kept(rig))["pause_reason"]) == (True, "stock-taking")

    await rig.registry.resume("shop-a")
    assert ((await kept(rig))["paused"], (await kept(rig))["pause_reason"]) == (False, "")


async def test_the_end_of_a_stop_is_kept(rig: Rig) -> None:
    """A stop that an operator ended is over in the store too."""

    async def refuse(_request: Request, _items: object) -> Answer | Failure:
        return Answer(429, Headers([("Retry-After", "600")]), b"")

    rig.platform.script = refuse
    await rig.start(SINGLES)
    await rig.post(1)
    async with asyncio.timeout(20):
        while not (await kept(rig)).get("throttled"):
            await asyncio.sleep(0.002)
    stopped_until = (await kept(rig))["stopped_until"]
    rig.platform.script = None

    await rig.registry.resume("shop-a")

    assert (await kept(rig))["stopped_until"] < stopped_until - 500
    assert (await rig.settled(1)).delivered == 1


async def test_a_settle_keeps_what_was_learned(rig: Rig) -> None:
    """An answer that changes the gate is kept together with the limits that hold, not in their place."""
    answers = iter([Answer(500, Headers(), b""), OK])

    async def fail_once(_request: Request, _items: object) -> Answer | Failure:
        return next(answers)

    rig.platform.script = fail_once
    await rig.start(SINGLES)
    await rig.registry.limit("shop-a", [Rate(50, 60.0)], until=None, reason="sale")
    before = (await kept(rig))["learned"]
    assert before["operator"]["rates"] == [[50, 60.0]]

    await rig.post(1)
    assert (await rig.settled(1)).delivered == 1

    after = await kept(rig)
    assert after["last_accepted_at"] > 0.0
    assert after["learned"]["operator"] == before["operator"]


async def test_a_declared_limit_is_kept_with_the_answer_that_told_it(rig: Rig) -> None:
    """The gate did not change, but what is known of limits did: a restart knows it."""
    policy = [("RateLimit-Policy", '"default";q=40;w=60')]

    async def declares(_request: Request, _items: object) -> Answer | Failure:
        return Answer(200, Headers(policy if len(rig.platform.requests) == 2 else []), b"")

    rig.platform.script = declares
    await rig.start(SINGLES)
    await rig.post(1)
    await rig.settled(1)
    assert not (await kept(rig))["learned"]["declared"]
    await rig.post(2)
    await rig.settled(2)

    assert (await kept(rig))["learned"]["declared"] == [[40, 60.0]]


async def test_a_platform_that_is_gone_sends_nothing(rig: Rig) -> None:
    """After a reload without it, what is posted for it stays where it is, and its connections are closed."""
    await rig.start(SINGLES)
    await rig.post(1)
    await rig.settled(1)

    await rig.registry.replace([], 1.0)

    assert rig.registry.views() == {}
    assert rig.platform.closed
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "pipeline shop-a"]


async def test_what_a_stranger_declares_is_no_limit(rig: Rig) -> None:
    """A 500 comes from whatever stands in front of the platform: its headers speak of another's limits."""
    policy = [("RateLimit-Policy", '"default";q=40;w=60')]
    answers = iter([Answer(500, Headers(policy), b""), OK])

    async def stranger(_request: Request, _items: object) -> Answer | Failure:
        return next(answers)

    rig.platform.script = stranger
    await rig.start(SINGLES)
    await rig.post(1)
    assert (await rig.settled(1)).delivered == 1

    assert not (await kept(rig))["learned"]["declared"]


async def test_a_stop_is_bounded(rig: Rig) -> None:
    """A request that hangs is cut off when its time is over, and counted; it does not hold up the stop."""
    under_way, let_go = asyncio.Event(), asyncio.Event()

    async def hangs(_request: Request, _items: object) -> Answer | Failure:
        under_way.set()
        await let_go.wait()
        return OK

    rig.platform.script = hangs
    await rig.start(SINGLES)
    await rig.post(1)
    await asyncio.wait_for(under_way.wait(), 20)

    try:
        assert await asyncio.wait_for(rig.registry.stop(0.01), 20) == 1
        assert (await rig.totals()).pending == 1
    finally:
        let_go.set()  # so that a stop that waits for ever does not hold up this one


async def test_a_reload_of_its_settings_keeps_what_is_known_of_a_platform(rig: Rig) -> None:
    """Pause, breaker and limits outlast another timeout; another destination has limits of its own."""
    await rig.start(SINGLES)
    await rig.registry.pause("shop-a", "stock-taking", until=None)
    await rig.registry.limit("shop-a", [Rate(50, 60.0)], until=None, reason="sale")

    await rig.registry.replace([replace(SINGLES, timeout_s=7.0)], 1.0)
    view = rig.registry.views()["shop-a"]
    assert (view.paused, view.pause_reason) == (True, "stock-taking")
    assert view.learned_limit.source == "operator"

    await rig.registry.replace([replace(SINGLES, url="http://other.invalid/")], 1.0)
    view = rig.registry.views()["shop-a"]
    assert view.paused
    assert view.learned_limit.source == "none"


async def test_resume_asks_behind_an_open_breaker_at_once(rig: Rig) -> None:
    """The next probe is ten minutes away; the operator knows that the platform was mended."""
    rig.platform.script = _down
    terms = replace(SINGLES, breaker=BreakerTerms(open_after=1, probe_every_s=600.0))
    await rig.start(terms)
    await rig.post(1)
    async with asyncio.timeout(20):
        while not rig.registry.views()["shop-a"].breaker_open:
            await asyncio.sleep(0.002)
    rig.platform.script = None

    await rig.registry.resume("shop-a")

    assert (await rig.settled(1)).delivered == 1
    assert not (await kept(rig))["breaker"]["open"]


async def _down(_request: Request, _items: object) -> Answer | Failure:
    return Failure("refused", connected=False)
