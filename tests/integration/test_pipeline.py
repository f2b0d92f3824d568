"""The life of a batch through a real store (in memory) with a platform that answers as scripted."""

import asyncio
import io
import json
import math
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from relay.core.clock import RelayClock, wall_s
from relay.core.errors import StoreFailed
from relay.core.model import Batch, Filter, Lane, NewCallback, PlatformRules, Quota, Rate, StoreRules
from relay.core.secret import NO_SECRET
from relay.core.settlement import Settlement
from relay.delivery.auth import FixedAuth
from relay.delivery.courier import unending
from relay.delivery.lasting import ALIKE
from relay.delivery.outgoing import prepare
from relay.delivery.registry import Registry
from relay.delivery.sender import Request
from relay.delivery.terms import Terms
from relay.policy.gate.breaker import BreakerTerms
from relay.policy.settle.answer import Budget
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.ledger import NO_TOTALS, QueueTotals
from relay.wire.answers.answer import Answer, Failure, Headers
from relay.wire.compress import decompress
from tests.compiled import compiled_envelope

TERMS = Terms(
    platform="shop-a",
    url="http://platform.invalid/",
    method="POST",
    headers={"X-Shop": "7"},
    concurrency=4,
    timeout_s=5.0,
    max_items=8,
    max_bytes=1 << 20,
    linger_s=0.0,
    envelope=compiled_envelope("array"),
    codec="gzip",
    budget=Budget(times=2, base_s=0.02, cap_s=0.08),
    breaker=BreakerTerms(open_after=5, probe_every_s=0.1),
    rules=(),
)
OK = Answer(200, Headers(), b"")
Script = Callable[[Request, list[dict[str, object]]], Awaitable[Answer | Failure]]


class Platform:
    """Plays the platform: keeps what arrives and answers as told."""

    def __init__(self) -> None:
        self.requests: list[tuple[Request, list[dict[str, object]]]] = []
        self.open = 0
        self.most_open = 0
        self.script: Script | None = None
        self.closed = False

    async def send(self, request: Request) -> Answer | Failure:
        """Take one request."""
        coding = request.headers.get("Content-Encoding")
        body = decompress(request.body, coding, 1 << 22) if coding else request.body
        items = json.loads(body)
        self.requests.append((request, items))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0.001)
            return OK if self.script is None else await self.script(request, items)
        finally:
            self.open -= 1

    async def close(self) -> None:
        """End the session."""
        self.closed = True

    @property
    def batches(self) -> list[list[object]]:
        """The numbers of the items of each request."""
        return [[item["n"] for item in items] for _, items in self.requests]


class Rig:
    """A store, a registry and the scripted platform."""

    def __init__(self, claim_until: Callable[[str], float] = unending) -> None:
        self.until = math.inf  # for a test of ``claim_until``
        self.clock = clock = RelayClock(0.0)
        self.log = io.BytesIO()
        self.store = MemoryStore(clock=clock)
        self.platform = Platform()
        self.events = Events(log=make_logger(file=self.log), metrics=Metrics())
        self.registry = Registry(
            outbox=self.store,
            clock=clock,
            wall=wall_s,
            events=self.events,
            rng=random.Random(7),
            open_sender=lambda _terms: self.platform,
            authoriser=lambda _terms: FixedAuth(None, NO_SECRET),
            claim_until=claim_until,
        )
        self.store.watch(self.registry.changed)

    async def start(self, terms: Terms = TERMS, *, rate: Rate | None = None) -> None:
        """Put one platform under delivery."""
        quota = {"q": Quota("q", (rate,))} if rate else {}
        rules = StoreRules(quotas=quota, platforms={"shop-a": PlatformRules(quotas=tuple(quota))})
        await self.store.configure(rules)
        await self.registry.start([terms])

    async def post(self, *numbers: int, keyed: bool = True) -> None:
        """Accept one callback per number; the key is the number modulo 10."""
        await self.store.accept(
            [
                NewCallback(
                    "shop-a",
                    json.dumps({"n": number, "pad": "x" * 300}).encode(),
                    str(number % 10) if keyed else None,
                    None,
                    Lane.NORMAL,
                    3600.0,
                    None,
                    None,
                    None,
                    "",
                )
                for number in numbers
            ]
        )

    async def totals(self) -> QueueTotals:
        """The platform's ledger."""
        return (await self.store.totals()).get("shop-a", NO_TOTALS)

    async def settled(self, count: int) -> QueueTotals:
        """Wait until ``count`` callbacks have ended."""
        async with asyncio.timeout(20):
            while True:
                totals = await self.totals()
                if totals.accepted - totals.pending >= count:
                    return totals
                await asyncio.sleep(0.005)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig()
    yield made
    await made.registry.stop(1.0)
    assert made.platform.closed


async def test_delivers_in_order_per_key(rig: Rig) -> None:
    """A hundred callbacks of ten keys arrive once each, in order per key, at most 8 in a batch, compressed."""
    await rig.start()
    await rig.post(*range(100))

    assert (await rig.settled(100)).delivered == 100
    flat = [n for batch in rig.platform.batches for n in batch]
    assert sorted(flat) == list(range(100))  # type: ignore[type-var]
    for key in range(10):
        mine = [n for n in flat if n % 10 == key]  # type: ignore[operator]
        assert mine == sorted(mine)  # type: ignore[type-var]
    assert max(map(len, rig.platform.batches)) <= 8
    request, _ = rig.platform.requests[0]
    assert request.headers["X-Shop"] == "7"
    assert request.headers["Relay-Attempt"] == "1"


async def test_concurrency_is_a_bound(rig: Rig) -> None:
    """Never more than ``concurrency`` requests are open."""
    await rig.start(replace(TERMS, concurrency=2, max_items=1))
    await rig.post(*range(40), keyed=False)
    await rig.settled(40)

    assert rig.platform.most_open == 2


async def test_timeout_sends_the_same_batch_again(rig: Rig) -> None:
    """After an ambiguous failure the same membership goes again under the same id, as attempt 2."""

    async def once(request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        late = request.headers["Relay-Attempt"] == "1"
        return Failure("timeout", connected=True, detail="timeout after 5 s") if late else OK

    rig.platform.script = once
    await rig.start()
    await rig.post(1, 2, 3)
    assert (await rig.settled(3)).delivered == 3

    (first, _), (second, _) = rig.platform.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert second.headers["Relay-Attempt"] == "2"
    assert rig.platform.batches == [[1, 2, 3], [1, 2, 3]]


async def test_budget_ends_in_a_dead_letter_with_its_attempts(rig: Rig) -> None:
    """Two re-sends after the first attempt, then dead, with reason, attempts and ``maybe_applied``."""

    async def fail_one(_request: Request, items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(500, Headers(), b"boom") if items[0]["n"] == 1 else OK

    rig.platform.script = fail_one
    await rig.start(replace(TERMS, max_items=1))
    await rig.post(1)
    async with asyncio.timeout(20):
        while len(rig.platform.requests) < 2:
            await asyncio.sleep(0.005)
    await rig.post(2)  # accepted meanwhile: so it is the item, not an outage
    totals = await rig.settled(2)

    assert (totals.dead, totals.delivered) == (1, 1)
    items, _ = await rig.store.callbacks(_dead(), cursor=None, limit=10)
    found = await rig.store.callback(items[0].id)
    assert found is not None
    assert [attempt.status for attempt in found.attempts] == [500, 500, 500]
    assert found.maybe_applied
    assert "500" in found.reason


async def test_retry_after_stops_the_platform(rig: Rig) -> None:
    """A 429 with Retry-After stops all keys until then; other keys go first after it; nobody is charged."""
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []

    async def limited(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        arrivals.append(loop.time())
        return Answer(429, Headers([("Retry-After", "1")]), b"") if len(arrivals) == 1 else OK

    rig.platform.script = limited
    await rig.start(replace(TERMS, max_items=1))
    await rig.post(1)
    async with asyncio.timeout(20):
        while not arrivals:
            await asyncio.sleep(0.001)
    await rig.post(2, 3)
    await rig.settled(3)

    assert arrivals[1] - arrivals[0] >= 1.0
    assert rig.platform.batches[1] == [2]


async def test_nothing_left_holds_the_platform(rig: Rig) -> None:
    """An accepted answer with nothing left for a while: waits it out instead of being refused, and says so."""
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []

    async def last_one(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        arrivals.append(loop.time())
        left = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-After", "2")]
        return Answer(200, Headers(left), b"") if len(arrivals) == 1 else OK

    rig.platform.script = last_one
    await rig.start(replace(TERMS, max_items=1))
    await rig.post(1)
    assert (await rig.settled(1)).delivered == 1
    await rig.post(2, 3)
    view = rig.registry.views()["shop-a"]
    await rig.settled(3)

    assert arrivals[1] - arrivals[0] >= 2.0
    assert view.throttle_reason == "the platform says nothing is left"
    assert not view.broken
    assert b"breaker_opened" not in rig.log.getvalue()


async def test_large_payloads_are_looked_into_beside_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a request takes a search of its payloads, a large batch is built by another thread, a small one here."""
    built_by: list[tuple[int, bool]] = []

    def watched(batch: Batch, **named: Any) -> Any:
        built_by.append((len(batch.items), threading.current_thread() is threading.main_thread()))
        return prepare(batch, **named)

    monkeypatch.setattr("relay.delivery.courier.prepare", watched)
    monkeypatch.setattr(Terms, "searches", property(lambda _: True))
    await rig.start(replace(TERMS, concurrency=1, max_items=300))
    await rig.post(*range(5), keyed=False)
    await rig.settled(5)
    await rig.post(*range(300), keyed=False)
    await rig.settled(305)
    assert built_by == [(5, True), (300, False)]


async def test_plain_after_415(rig: Rig) -> None:
    """415 to a compressed body: the same batch goes plain, and so does everything after it."""

    async def plain_only(request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(415, Headers(), b"") if "Content-Encoding" in request.headers else OK

    rig.platform.script = plain_only
    await rig.start(replace(TERMS, concurrency=1))
    await rig.post(*range(8))
    await rig.settled(8)
    await rig.post(*range(8, 16))
    await rig.settled(16)

    codings = [request.headers.get("Content-Encoding") for request, _ in rig.platform.requests]
    assert codings == ["gzip", None, None]


@pytest.mark.parametrize("status", [400, 406, 422, 500, 501])
async def test_compression_is_not_charged_to_callbacks(rig: Rig, status: int) -> None:
    """An endpoint that cannot read compressed bodies and never says 415: one more request, nothing charged or dead."""

    async def plain_only(request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(status, Headers(), b"") if "Content-Encoding" in request.headers else OK

    rig.platform.script = plain_only
    await rig.start(replace(TERMS, concurrency=1, budget=Budget(times=0, base_s=0.02, cap_s=0.08)))
    await rig.post(*range(8))
    await rig.settled(8)
    await rig.post(*range(8, 16))
    totals = await rig.settled(16)

    codings = [request.headers.get("Content-Encoding") for request, _ in rig.platform.requests]
    assert codings == ["gzip", None, None]
    assert (totals.delivered, totals.dead) == (16, 0)
    first, second, _ = [request.headers["Idempotency-Key"] for request, _ in rig.platform.requests]
    assert first == second
    assert rig.log.getvalue().count(b"plain_remembered") == 1


async def test_a_bad_callback_does_not_end_compression(rig: Rig) -> None:
    """Refused compressed and plain alike: it was the callback. The others go compressed, and soon nothing is tried."""

    async def picky(_request: Request, items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(400, Headers(), b"bad") if any(item["n"] in (5, 13) for item in items) else OK

    rig.platform.script = picky
    await rig.start(replace(TERMS, concurrency=1))
    await rig.post(*range(8))
    await rig.settled(8)
    tried = len(rig.platform.requests)
    await rig.post(*range(8, 16))
    totals = await rig.settled(16)

    assert (totals.delivered, totals.dead) == (14, 2)
    assert len(rig.platform.requests) - tried <= 7
    request, _ = rig.platform.requests[tried]
    assert request.headers["Content-Encoding"] == "gzip"


async def test_poison_item_dies_alone(rig: Rig) -> None:
    """One poison item among 8: bisected in at most 2*ceil(log2 8)+1 requests, the others delivered uncharged.

    One more goes before, as nothing compressed was accepted yet: the batch without its compression.
    """

    async def picky(_request: Request, items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(400, Headers(), b"bad") if any(item["n"] == 5 for item in items) else OK

    rig.platform.script = picky
    await rig.start(replace(TERMS, concurrency=1))
    await rig.post(*range(8))
    totals = await rig.settled(8)

    assert (totals.delivered, totals.dead) == (7, 1)
    assert len(rig.platform.requests) <= 8


async def test_outage_keeps_everything(rig: Rig) -> None:
    """A platform that refuses connections for a while costs nothing: all is delivered when it is back."""
    down = True

    async def refuse(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        return Failure("refused", connected=False) if down else OK

    rig.platform.script = refuse
    await rig.start()
    await rig.post(*range(20))
    async with asyncio.timeout(20):
        while not rig.registry.views()["shop-a"].broken or len(rig.platform.requests) < 7:
            await asyncio.sleep(0.005)
    down = False

    assert (await rig.settled(20)).delivered == 20
    assert rig.platform.most_open >= 1


async def test_window_is_strict_under_the_pipeline(rig: Rig) -> None:
    """With 5 requests per 0.3 s, no six arrivals lie within 0.3 s."""
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []

    async def note(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        arrivals.append(loop.time())
        await asyncio.sleep(random.Random(len(arrivals)).uniform(0, 0.05))
        return OK

    rig.platform.script = note
    await rig.start(replace(TERMS, max_items=1), rate=Rate(5, 0.3))
    await rig.post(*range(30), keyed=False)
    await rig.settled(30)

    assert min(later - earlier for earlier, later in zip(arrivals, arrivals[5:], strict=False)) >= 0.3


async def test_pause_holds_and_resume_sends(rig: Rig) -> None:
    """A paused platform claims nothing, also after a restart of its pipeline; resume sends."""
    await rig.start()
    await rig.registry.pause("shop-a", "stock-taking", until=None)
    await rig.post(1, 2)
    await rig.registry.replace([replace(TERMS, max_items=4)], 1.0)
    view = rig.registry.views()["shop-a"]
    assert (view.paused, view.pause_reason) == (True, "stock-taking")
    assert rig.platform.requests == []

    await rig.registry.resume("shop-a")

    assert (await rig.settled(2)).delivered == 2


async def test_a_pause_for_a_time_ends_by_itself(rig: Rig) -> None:
    """Nothing goes before its time, and then everything without anybody asking."""
    sent_at: list[float] = []

    async def note(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        sent_at.append(rig.clock.now())
        return OK

    rig.platform.script = note
    await rig.start()
    until = rig.clock.now() + 0.5
    await rig.registry.pause("shop-a", "stock-taking", until=until)
    assert rig.registry.views()["shop-a"].paused_until == until
    await rig.post(1, 2)
    await rig.registry.replace([replace(TERMS, max_items=4)], 1.0)

    assert (await rig.settled(2)).delivered == 2
    assert min(sent_at) >= until
    assert not rig.registry.views()["shop-a"].paused


async def test_resume_ends_a_stop(rig: Rig) -> None:
    """What is due goes at once, and then what was refused, which need not wait out its retry time."""

    async def busy(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(429, Headers([("Retry-After", "60")]), b"")

    rig.platform.script = busy
    await rig.start(replace(TERMS, max_items=1, concurrency=1))
    await rig.post(1, 2, 3)
    while not rig.registry.views()["shop-a"].throttled_until:
        await asyncio.sleep(0.005)
    rig.platform.script = None

    assert await rig.registry.resume("shop-a") == 1

    assert (await rig.settled(3)).delivered == 3
    assert rig.platform.batches == [[1], [2], [3], [1]]


@pytest.mark.parametrize(("open_after", "paused"), [(2, False), (5, False), (5, True)])
async def test_resume_brings_retry_times_forward(rig: Rig, open_after: int, paused: bool) -> None:
    """With the breaker open, without a stop or after a pause: the same batches go again at once under their ids."""

    async def broken(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        return Answer(500, Headers(), b"")

    rig.platform.script = broken
    budget, breaker = Budget(times=2, base_s=600.0, cap_s=600.0), BreakerTerms(open_after, probe_every_s=600.0)
    await rig.start(replace(TERMS, max_items=1, concurrency=1, budget=budget, breaker=breaker))
    await rig.post(1, 2)
    async with asyncio.timeout(20):
        while len(rig.platform.requests) < 2 or rig.registry.views()["shop-a"].in_flight:
            await asyncio.sleep(0.005)
    assert rig.registry.views()["shop-a"].breaker_open is (open_after == 2)
    if paused:
        await rig.registry.pause("shop-a", "their outage", until=None)
    rig.platform.script = None

    assert await rig.registry.resume("shop-a") == 2

    assert (await rig.settled(2)).delivered == 2
    sent = [
        (request.headers["Idempotency-Key"], request.headers["Relay-Attempt"]) for request, _ in rig.platform.requests
    ]
    (first, _), (second, _) = sent[:2]
    assert sent == [(first, "1"), (second, "1"), (first, "2"), (second, "2")]


async def test_bug_in_one_delivery_loses_nothing(rig: Rig) -> None:
    """An exception of our own is settled as a crash, told, and the batch goes again."""
    calls = 0

    async def buggy(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return OK

    rig.platform.script = buggy
    await rig.start()
    await rig.post(1, 2)

    assert (await rig.settled(2)).delivered == 2
    assert any(b"pipeline_failed" in line and b"ZeroDivisionError" in line for line in rig.log.getvalue().splitlines())


async def test_a_pipeline_that_fails_alike_three_times_stands_still(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so in status and log, sends nothing more, keeps its queue, and goes on when an operator resumes it."""
    monkeypatch.setattr("relay.delivery.lasting._FIRST_S", 0.001)
    calls = 0

    async def buggy(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    rig.platform.script = buggy
    await rig.start(replace(TERMS, max_items=1, concurrency=1, budget=Budget(times=9, base_s=0.001, cap_s=0.001)))
    await rig.post(1, 2)
    async with asyncio.timeout(20):
        while not (view := rig.registry.views()["shop-a"]).breaker_reason.startswith("stopped"):
            await asyncio.sleep(0.005)
    assert (view.broken, view.probe_at, calls) == (True, None, ALIKE)
    assert "relay resume shop-a" in view.breaker_reason
    assert sum(b"pipeline_stopped" in line for line in rig.log.getvalue().splitlines()) == 1

    rig.platform.script = None
    await rig.registry.resume("shop-a")

    assert (await rig.settled(2)).delivered == 2
    assert not rig.registry.views()["shop-a"].broken


async def test_settle_is_repeated_not_the_request(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store cannot commit a settle, it is tried again; the platform is not asked twice."""
    settle = rig.store.settle
    failures = 0

    async def failing(settlement: Settlement) -> None:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise StoreFailed("disk gone")
        await settle(settlement)

    monkeypatch.setattr(rig.store, "settle", failing)
    await rig.start()
    await rig.post(1)

    assert (await rig.settled(1)).delivered == 1
    assert len(rig.platform.requests) == 1
    assert failures == 2


async def test_stop_lets_requests_finish(rig: Rig) -> None:
    """Stopping waits for the request under way and settles it; nothing more is claimed."""
    release = asyncio.Event()

    async def slow(_request: Request, _items: list[dict[str, object]]) -> Answer | Failure:
        await release.wait()
        return OK

    rig.platform.script = slow
    await rig.start(replace(TERMS, concurrency=1, max_items=1))
    await rig.post(1, 2)
    async with asyncio.timeout(20):
        while not rig.platform.requests:
            await asyncio.sleep(0.001)
    (running,) = rig.registry._running.values()
    stopping = asyncio.create_task(rig.registry.stop(60.0))
    await asyncio.wait([running.task], timeout=20)  # it claims nothing more from here on
    assert not stopping.done()
    release.set()

    assert await stopping == 0
    totals = await rig.totals()
    assert (totals.delivered, totals.pending) == (1, 1)


def _dead() -> Filter:
    return Filter(platform="shop-a", state="dead")
