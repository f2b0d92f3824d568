"""Per-item results, poison items, payloads that cannot be sent, and read-backs, through a real store in memory."""

import asyncio
import io
import json
import math
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from urllib.parse import unquote

import pytest
from msgspec import structs
from relay.core.clock import RelayClock, wall_s
from relay.core.model import Lane, NewCallback, PlatformRules, Quota, Rate, StoreRules
from relay.core.secret import NO_SECRET
from relay.delivery.auth import FixedAuth
from relay.delivery.registry import Registry
from relay.delivery.sender import Request
from relay.delivery.terms import Asking, Terms
from relay.policy.gate.breaker import BreakerTerms
from relay.policy.settle.answer import Budget
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.callback_view import CallbackView
from relay.views.ledger import NO_TOTALS
from relay.wire.answers.answer import Answer, Failure, Headers
from relay.wire.payload.target import Target
from tests.compiled import compiled_envelope, compiled_results, compiled_rule

TERMS = Terms(
    platform="shop-a",
    url="http://platform.invalid/",
    method="POST",
    headers={"X-Shop": "7"},
    concurrency=1,
    timeout_s=5.0,
    max_items=100,
    max_bytes=1 << 20,
    linger_s=0.0,
    envelope=compiled_envelope("array"),
    codec="none",
    budget=Budget(times=2, base_s=0.02, cap_s=0.08),
    breaker=BreakerTerms(open_after=5, probe_every_s=0.1),
    rules=(),
)
EVENTS = compiled_envelope({"kind": "cloudevents", "source": "/shop", "type": "order"})
LOST = Failure("timeout", connected=True, detail="timeout after 5 s")
Script = Callable[[Request], Answer | Failure]


def answer(status: int, body: object = None) -> Answer:
    """An answer of the platform."""
    return Answer(status, Headers(), b"" if body is None else json.dumps(body).encode())


def numbers(request: Request) -> list[int]:
    """The numbers of the items in an array."""
    return [item["n"] for item in json.loads(request.body)]


class Side:
    """A store, a registry, and a platform that answers as scripted."""

    def __init__(self) -> None:
        clock = RelayClock(0.0)
        self.store = MemoryStore(clock=clock)
        self.requests: list[Request] = []
        self.script: Script = lambda _request: answer(200)
        self.log = io.BytesIO()
        self.metrics = Metrics()
        self.registry = Registry(
            outbox=self.store,
            clock=clock,
            wall=wall_s,
            events=Events(log=make_logger(file=self.log), metrics=self.metrics),
            rng=random.Random(7),
            open_sender=lambda _terms: self,
            authoriser=lambda _terms: FixedAuth(None, NO_SECRET),
        )
        self.store.watch(self.registry.changed)

    async def send(self, request: Request) -> Answer | Failure:
        """Take one request."""
        self.requests.append(request)
        await asyncio.sleep(0)
        return self.script(request)

    async def close(self) -> None:
        """End the session."""

    async def start(self, terms: Terms) -> None:
        """Put the platform under delivery, with a limit that only counts."""
        quota = Quota("q", (Rate(100_000, 60.0),))
        platforms = {"shop-a": PlatformRules(quotas=("q",))}
        await self.store.configure(StoreRules(quotas={"q": quota}, platforms=platforms))
        await self.registry.start([terms])

    async def post(self, *payloads: bytes, body_bytes: int | None = None) -> list[str]:
        """Accept payloads, each with its place as key, and return their ids."""
        rows = [
            NewCallback("shop-a", payload, f"k/{n}", None, Lane.NORMAL, 3600.0, None, None, None, "", body_bytes)
            for n, payload in enumerate(payloads)
        ]
        return (await self.store.accept(rows)).ids

    async def shown(self, callback_id: str) -> CallbackView:
        """One callback."""
        found = await self.store.callback(callback_id)
        assert found is not None
        return found

    async def until(self, **wanted: int) -> None:
        """Wait until the platform's totals are as wanted."""
        async with asyncio.timeout(20):
            while True:
                totals = (await self.store.totals()).get("shop-a", NO_TOTALS)
                held = (await self.store.platform_status())["shop-a"].held
                found = {**structs.asdict(totals), "held": held}
                if {name: found[name] for name in wanted} == wanted:
                    return
                await asyncio.sleep(0.005)

    async def slots_used(self) -> int:
        """Slots taken from the limit so far."""
        (quota,) = (await self.store.platform_status())["shop-a"].quotas
        used: int = quota.used
        return used


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    """A side that stops in the end."""
    made = Side()
    yield made
    await made.registry.stop(1.0)


def payload(number: int) -> bytes:
    """A payload with a number."""
    return b'{"n":%d}' % number


@pytest.mark.parametrize("poison", [0, 37, 99])
async def test_poison_item_costs_few_requests_and_nobody_else(side: Side, poison: int) -> None:
    """One bad item of 100, without results: 2*ceil(log2 100)+1 requests at most, 99 delivered without a retry."""
    side.script = lambda request: answer(422 if poison in numbers(request) else 200)
    ids = await side.post(*map(payload, range(100)))
    await side.start(TERMS)
    await side.until(delivered=99, dead=1)

    assert len(side.requests) <= 2 * math.ceil(math.log2(100)) + 1
    shown = [await side.shown(callback_id) for callback_id in ids]
    assert {found.spent for found in shown} == {0}
    assert [n for n, found in enumerate(shown) if found.state == "dead"] == [poison]
    good = [n for request in side.requests if poison not in numbers(request) for n in numbers(request)]
    assert sorted(good) == [n for n in range(100) if n != poison]


async def test_results_settle_good_items_and_retry_bad_ones(side: Side) -> None:
    """Of 20 items one is dead with the platform's words, one is retried alone, the others are delivered once."""
    seen: set[int] = set()

    def partly(request: Request) -> Answer:
        failed = []
        for place, number in enumerate(numbers(request)):
            if number == 3:
                failed.append({"index": place, "message": "no such order", "code": 9})
            elif number == 5 and number not in seen:
                failed.append({"index": place, "message": "locked", "code": 7})
        seen.update(numbers(request))
        return answer(400, {"failed_records": failed}) if failed else answer(200, {"failed_records": []})

    side.script = partly
    stated = {
        "shape": "by_index",
        "at": "failed_records",
        "index": "index",
        "failed_if": "message",
        "classify": [{"path": "code", "in": [7], "as": "retry"}],
    }
    ids = await side.post(*map(payload, range(20)))
    await side.start(replace(TERMS, results=compiled_results(stated)))
    await side.until(delivered=19, dead=1)

    assert [numbers(request) for request in side.requests] == [list(range(20)), [5]]
    dead, again, good = [await side.shown(ids[number]) for number in (3, 5, 0)]
    assert (dead.state, dead.reason, dead.message) == ("dead", "rejected: results", "no such order")
    assert (again.state, again.spent, again.message) == ("delivered", 1, "")
    assert (good.spent, good.attempt_count) == (0, 1)
    assert not any(b"no such order" in line for line in side.log.getvalue().splitlines())


async def test_results_answers_may_be_long(side: Side) -> None:
    """Where results are read, more of the answer is."""
    await side.post(payload(1))
    await side.start(replace(TERMS, results=compiled_results({"shape": "by_index", "at": "e", "index": "i"})))
    await side.until(delivered=1)
    assert side.requests[0].answer_bytes > 1 << 20


async def test_payloads_that_cannot_be_sent_die_alone(side: Side) -> None:
    """What another configuration accepted and this one cannot send is dead and says so; nothing of it is sent."""
    ids = await side.post(payload(0), b"no json", payload(2), b'{"m":1}', b"1],[2", payload(5))
    terms = replace(TERMS, envelope=compiled_envelope({"kind": "object", "items_at": "o", "item": {"n": "n"}}))
    await side.start(terms)
    await side.until(delivered=3, dead=3)

    assert [json.loads(request.body) for request in side.requests] == [{"o": [{"n": 0}, {"n": 2}, {"n": 5}]}]
    shown = [await side.shown(callback_id) for callback_id in ids]
    assert [found.reason for found in shown if found.state == "dead"] == [
        "unbuildable: not valid JSON",
        "unbuildable: n is missing",
        "unbuildable: not valid JSON",
    ]
    assert shown[1].attempts[0].outcome == "unsent"
    assert {found.spent for found in shown} == {0}
    assert b'reason="unbuildable"' in side.metrics.render()
    assert not any(b"pipeline_failed" in line for line in side.log.getvalue().splitlines())


@pytest.mark.parametrize("bad", [b"1,2", b"]", b"", b'{"n":1}{"n":2}'])
async def test_no_payload_breaks_an_array(side: Side, bad: bytes) -> None:
    """What is no JSON never reaches an array, not even what would look like other items there."""
    await side.post(payload(0), bad, payload(1))
    await side.start(TERMS)
    await side.until(delivered=2, dead=1)
    assert [numbers(request) for request in side.requests] == [[0, 1]]


async def test_results_by_id_without_the_id(side: Side) -> None:
    """A callback that no answer could name is dead and says so."""
    ids = await side.post(b'{"n":0,"ref":"a"}', payload(1))
    await side.start(replace(TERMS, results=compiled_results({"shape": "by_id", "at": "e", "id": "ref"})))
    await side.until(delivered=1, dead=1)
    assert (await side.shown(ids[1])).reason == "unbuildable: results.item_id ref is missing"


async def test_bodies_keep_within_max_bytes_after_a_reload(side: Side) -> None:
    """Callbacks measured under another envelope are parted again and again until the body fits."""
    long = b'{"n":1,"pad":"%b"}' % (b"%" * 200)
    await side.post(*[long] * 40, body_bytes=10)
    await side.start(replace(TERMS, max_bytes=4000, envelope=compiled_envelope({"kind": "form", "items_at": "list"})))
    await side.until(delivered=40)
    assert max(len(request.body) for request in side.requests) <= 4000


async def test_urls_with_fields(side: Side) -> None:
    """Each callback goes to its own URL; one without the field is dead."""
    terms = replace(
        TERMS,
        max_items=1,
        envelope=compiled_envelope("single"),
        target=Target(method="PUT", url="http://platform.invalid/{n}/ship?key={key}"),
    )
    await side.post(payload(7), b'{"m":1}', b"text")
    await side.start(terms)
    await side.until(delivered=1, dead=2)
    assert [(one.method, one.url) for one in side.requests] == [("PUT", "http://platform.invalid/7/ship?key=k%2F0")]


def asking(*, ambiguous: bool = True) -> Asking:
    """A read-back that knows shipped, unknown and refused orders."""
    rules = [
        {"status": 404, "as": "retry"},
        {"path": "status", "in": ["shipped"], "as": "ok"},
        {"path": "status", "in": ["refused"], "as": "reject"},
    ]
    return Asking(
        target=Target(method="GET", url="http://platform.invalid/orders/{key}"),
        headers={"X-Shop": "7"},
        body=None,
        rules=tuple(map(compiled_rule, rules)),
        ambiguous=ambiguous,
    )


class Orders:
    """A platform that keeps orders by key, and can be asked for them."""

    def __init__(self) -> None:
        self.shipped: dict[str, int] = {}
        self.asked: list[str] = []
        self.answers: list[Answer | Failure] = []  # to the next posts, whether they are applied or not
        self.applies: list[bool] = []

    def __call__(self, request: Request) -> Answer | Failure:
        """Answer a post or a read-back."""
        if request.method == "GET":
            key = unquote(request.url.rpartition("/")[2])
            self.asked.append(key)
            return answer(200, {"status": "shipped"}) if key in self.shipped else answer(404)
        applies = self.applies.pop(0) if self.applies else True
        for item in json.loads(request.body) if applies else ():
            key = f"k/{item['n']}"
            self.shipped[key] = self.shipped.get(key, 0) + 1
        return self.answers.pop(0) if self.answers else answer(200, {"code": 0})


RULES = (compiled_rule({"path": "code", "in": [0], "as": "ok"}),)


async def test_read_back_decides_what_nobody_recognised(side: Side) -> None:
    """After an unknown body each callback is asked about: applied ones are delivered, others sent again."""
    orders = Orders()
    orders.answers, orders.applies = [answer(200, {"maintenance": True})], [False]
    orders.shipped["k/1"] = 1
    side.script = orders
    ids = await side.post(payload(0), payload(1))
    await side.start(replace(TERMS, rules=RULES, asking=asking(ambiguous=False)))
    await side.until(delivered=2)

    assert sorted(orders.asked) == ["k/0", "k/1"]
    assert orders.shipped == {"k/0": 1, "k/1": 1}
    assert [request.method for request in side.requests].count("POST") == 2
    assert await side.slots_used() == len(side.requests) == 4
    one = await side.shown(ids[1])
    assert [attempt.outcome for attempt in one.attempts] == ["confirm", "ok"]
    assert one.reason == "read back: status=shipped"
    assert (await side.shown(ids[0])).spent == 1
    get = next(request for request in side.requests if request.method == "GET")
    assert (get.body, dict(get.headers)) == (b"", {"X-Shop": "7"})


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("count", [1, 3])
async def test_read_back_decides_what_may_have_been_applied(side: Side, applied: bool, count: int) -> None:
    """After a timeout nothing is sent blindly again: applied is delivered with one post, not applied is sent."""
    orders = Orders()
    orders.answers, orders.applies = [LOST], [applied]
    side.script = orders
    await side.post(*map(payload, range(count)))
    await side.start(replace(TERMS, rules=RULES, asking=asking()))
    await side.until(delivered=count)

    assert sorted(orders.asked) == [f"k/{n}" for n in range(count)]
    assert orders.shipped == {f"k/{n}": 1 for n in range(count)}
    posts = [numbers(request) for request in side.requests if request.method == "POST"]
    assert len(posts) == 1 if applied else sorted(n for post in posts[1:] for n in post) == list(range(count))


async def test_read_back_that_decides_nothing_leaves_it_to_a_person(side: Side) -> None:
    """An answer the rules do not know, or no rule's status, holds the callback; nothing is sent again."""
    side.script = lambda request: answer(200, {"odd": 1}) if request.method == "POST" else answer(410)
    await side.post(payload(0))
    await side.start(replace(TERMS, rules=RULES, asking=asking()))
    await side.until(held=1)
    assert [request.method for request in side.requests] == ["POST", "GET"]


async def test_read_back_that_cannot_be_built_leaves_it_to_a_person(side: Side) -> None:
    """A callback without the field the question needs is held, not asked about for ever."""
    side.script = lambda _request: answer(200, {"odd": 1})
    target = Target(method="GET", url="http://platform.invalid/{order_id}")
    await side.post(payload(0))
    await side.start(replace(TERMS, rules=RULES, asking=replace(asking(), target=target)))
    await side.until(held=1)
    assert len(side.requests) == 1


async def test_read_backs_without_their_configuration_are_held(side: Side) -> None:
    """A reload that takes `confirm` away leaves what was to be asked to a person."""
    answers = iter([answer(200, {"odd": 1})])
    side.script = lambda _request: next(answers)
    ids = await side.post(payload(0))
    terms = replace(TERMS, rules=RULES, asking=asking(), budget=Budget(times=2, base_s=3.0, cap_s=3.0))
    await side.start(terms)
    async with asyncio.timeout(20):
        while (await side.shown(ids[0])).attempt_count < 1 or (await side.shown(ids[0])).in_flight:
            await asyncio.sleep(0.005)
    await side.registry.replace([replace(terms, asking=None, method="PUT")], 1.0)
    await side.until(held=1)
    assert len(side.requests) == 1


async def test_times_in_a_request_are_wall_time(side: Side) -> None:
    """The relay's clock began in 1970: what a platform is told of the time of acceptance is the wall clock's of now."""
    await side.start(replace(TERMS, envelope=EVENTS))
    await side.post(b"{}")
    await side.until(delivered=1)

    (event,) = json.loads(side.requests[0].body)
    assert abs(datetime.fromisoformat(event["time"]).timestamp() - wall_s()) < 60
