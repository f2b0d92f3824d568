"""Where several hosts share a store, a pipeline runs only while its platform is ours, and no first byte goes late."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from peer_side import Peer, platform, post
from relay.core.errors import StoreAway
from relay.core.model import Outcome
from relay.core.raw import Kept
from relay.delivery import courier
from relay.delivery.sender import HttpSender, Request
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.classify import classify
from test_pipeline import OK, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig(claim_until=lambda _platform: made.until)
    made.until = -math.inf
    yield made
    await made.registry.stop(1.0)


async def test_nothing_runs_for_a_platform_of_another_host(rig: Rig) -> None:
    """Until the platform is opened here nothing is claimed; afterwards what waits is sent."""
    await rig.start()
    await rig.post(1, 2)
    assert rig.registry.views() == {}

    rig.until = math.inf
    await rig.registry.open(["shop-a"])

    assert (await rig.settled(2)).delivered == 2


async def test_platforms_opened_together_read_the_gates_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes over hundreds asks for their gates once or twice; one asked for in vain is opened later."""
    await rig.start()
    rig.until = math.inf
    read, times = rig.store.gates, list[int]()

    async def counted() -> Mapping[str, Kept]:
        times.append(1)
        await asyncio.sleep(0)
        if len(times) == 1:
            raise StoreAway("gone")
        return await read()

    monkeypatch.setattr(rig.store, "gates", counted)
    opened = await asyncio.gather(*(rig.registry.open(["shop-a"]) for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in opened] == [StoreAway, *[type(None)] * 19]
    assert len(times) == 2
    assert rig.registry.runs("shop-a")


async def test_a_host_starts_while_the_store_is_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is its own yet, so nothing is asked: posts go to the spool meanwhile."""

    async def away() -> Mapping[str, Kept]:
        raise StoreAway("gone")

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "gates", away)
        await rig.start()
    await rig.post(1)
    rig.until = math.inf
    await rig.registry.open(["shop-a"])
    assert (await rig.settled(1)).delivered == 1


async def test_claims_stop_when_the_lease_runs_out_and_go_on_when_it_is_renewed(rig: Rig) -> None:
    """Past the time until which it may claim, the pipeline waits as owner-less; a renewal lets it go on."""
    rig.until = math.inf
    await rig.start()
    rig.until = rig.clock.now() - 1
    await rig.post(1)
    async with asyncio.timeout(20):
        while rig.registry.views()["shop-a"].waits_for != "owner":
            await asyncio.sleep(0.005)
    assert not rig.platform.requests

    rig.until = rig.clock.now() + 60

    assert (await rig.settled(1)).delivered == 1


async def test_what_is_on_the_wire_is_cut_off_when_the_lease_is_lost(rig: Rig) -> None:
    """An abort ends the request and settles nothing: its batch goes again under its next owner."""
    begun = asyncio.Event()

    async def hangs(_request: Request, _items: list[dict[str, object]]) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        return OK

    rig.platform.script = hangs
    rig.until = math.inf
    await rig.start()
    await rig.post(1)
    await begun.wait()

    assert await rig.registry.abort(["shop-a"]) == 1
    assert rig.platform.open == 0
    assert (await rig.totals()).pending == 1
    assert rig.registry.views() == {}


async def test_no_first_byte_goes_late() -> None:
    """A request that may no longer go when its connection stands is not sent at all, with a body and without."""

    async def answers(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.answer("200 OK")

    async with platform(answers) as server:
        sender = HttpSender(concurrency=1, user_agent="callback-relay/test")
        for body in (b"{}", b""):
            late = await sender.send(replace(post(server.url, body=body), may_go=lambda: False))
            assert isinstance(late, Failure)
            assert (late.kind, late.connected) == ("late", False)
            verdict = classify(late, rules=(), compressed=False, items=1, wall=0.0)
            assert (verdict.outcome, verdict.ambiguous) == (Outcome.UNSENT, False)
        looks = iter([True, False])  # a freeze between the look before the head and the writing of it
        late = await sender.send(replace(post(server.url), may_go=lambda: next(looks)))
        assert isinstance(late, Failure)
        assert late.kind == "late"
        assert isinstance(await sender.send(post(server.url)), Answer)
        await sender.close()

    assert len(server.requests) == 1


async def test_no_request_goes_long_after_its_claim(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes over reckons with that, so it holds also for an owner whose lease is renewed all the time."""
    within_s = 0.05
    monkeypatch.setattr(courier, "SEND_WITHIN_S", within_s)
    rig.until = rig.clock.now() + 3600.0
    late: list[bool] = []

    async def held_up(request: Request, _items: list[dict[str, object]]) -> Answer:
        await asyncio.sleep(within_s + 0.01)
        late.append(request.may_go())
        return OK

    rig.platform.script = held_up
    await rig.start()
    await rig.post(1)
    await rig.settled(1)
    assert late == [False]
