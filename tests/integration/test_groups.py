"""Groups through the pipeline and both stores: one shop's limit is not the other shops'."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from relay.core.clock import RelayClock, wall_s
from relay.core.errors import NoGroups
from relay.core.model import Filter, Lane, NewCallback, PlatformRules, Quota, Rate, StoreRules
from relay.core.secret import NO_SECRET
from relay.delivery.auth import FixedAuth
from relay.delivery.registry import Registry
from relay.delivery.sender import Request
from relay.delivery.terms import Terms
from relay.policy.gate.breaker import BreakerTerms
from relay.policy.settle.answer import Budget
from relay.store.base import Store
from relay.store.memory.backend import MemoryStore
from relay.store.sqlite.backend import SqliteStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.ledger import NO_TOTALS
from relay.views.live import LiveFacts
from relay.wire.answers.answer import Answer, Failure, Headers
from tests.compiled import compiled_envelope, compiled_rule

TERMS = Terms(
    platform="mall",
    url="http://platform.invalid/",
    method="POST",
    headers={},
    concurrency=3,
    timeout_s=5.0,
    max_items=4,
    max_bytes=1 << 20,
    linger_s=0.0,
    envelope=compiled_envelope("array"),
    codec="none",
    budget=Budget(times=2, base_s=0.02, cap_s=0.08),
    breaker=BreakerTerms(open_after=5, probe_every_s=0.1),
    grouped=True,
)
OK = Answer(200, Headers(), b"")
Script = Callable[[str], Awaitable[Answer | Failure]]


class Mall:
    """Plays a platform of many shops: keeps what arrived for whom and when, and answers as told."""

    def __init__(self) -> None:
        self.arrivals: defaultdict[str, list[float]] = defaultdict(list)
        self.items: defaultdict[str, list[int]] = defaultdict(list)
        self.order: list[str] = []
        self.script: Script | None = None

    async def send(self, request: Request) -> Answer | Failure:
        """Take one request; it must hold one shop."""
        items = json.loads(request.body)
        (shop,) = {item["shop"] for item in items}
        self.arrivals[shop].append(asyncio.get_running_loop().time())
        self.order.append(shop)
        await asyncio.sleep(0.001)
        answer = OK if self.script is None else await self.script(shop)
        if answer == OK:
            self.items[shop] += [item["n"] for item in items]
        return answer

    async def close(self) -> None:
        """Nothing is open."""


class Rig:
    """A store, a registry and the mall."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.mall = Mall()
        self.registry = self._registry()

    def _registry(self) -> Registry:
        registry = Registry(
            outbox=self.store,
            clock=self.store.clock,
            wall=wall_s,
            events=Events(log=make_logger(file=_Nowhere()), metrics=Metrics()),
            rng=random.Random(7),
            open_sender=lambda _terms: self.mall,
            authoriser=lambda _terms: FixedAuth(None, NO_SECRET),
        )
        self.store.watch(registry.changed)
        return registry

    async def start(self, terms: Terms = TERMS, *, quota: Quota | None = None) -> None:
        """Put the mall under delivery."""
        quotas = {quota.name: quota} if quota else {}
        await self.store.configure(StoreRules(quotas, {"mall": PlatformRules(tuple(quotas))}))
        await self.registry.start([terms])

    async def restart(self, terms: Terms = TERMS) -> None:
        """End the pipelines and begin anew from what the store kept."""
        await self.registry.stop(1.0)
        self.registry = self._registry()
        await self.registry.start([terms])

    async def post(self, shop: str, *numbers: int) -> None:
        """Accept callbacks of a shop; the number modulo 5 is the key."""
        rows = [
            NewCallback(
                "mall",
                json.dumps({"shop": shop, "n": number}).encode(),
                f"{shop}{number % 5}",
                None,
                Lane.NORMAL,
                3600.0,
                None,
                None,
                None,
                shop,
            )
            for number in numbers
        ]
        await self.store.accept(rows)

    async def delivered(self, count: int) -> None:
        """Wait until so many were delivered."""
        async with asyncio.timeout(20):
            while (await self.store.totals()).get("mall", NO_TOTALS).delivered < count:
                await asyncio.sleep(0.005)

    def view(self) -> LiveFacts:
        """What the pipeline tells of itself."""
        return self.registry.views()["mall"]


class _Nowhere:
    def write(self, line: bytes) -> int:
        return len(line)

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        return False


@pytest.fixture(params=["memory", "sqlite"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig over either store, stopped in the end."""
    store: Store
    if request.param == "memory":
        store = MemoryStore(clock=RelayClock(0.0))
    else:
        store = await SqliteStore.open(tmp_path / "relay.db")
    made = Rig(store)
    yield made
    await made.registry.stop(1.0)
    await store.close()


async def test_one_shop_throttled_the_others_go_on(rig: Rig) -> None:
    """Of three shops one answers 429 with Retry-After: its callbacks wait that long, those of the others do not."""

    async def limited(shop: str) -> Answer | Failure:
        if shop == "b" and len(rig.mall.arrivals["b"]) == 1:
            return Answer(429, Headers([("Retry-After", "4")]), b"")
        return OK

    rig.mall.script = limited
    await rig.start(replace(TERMS, concurrency=1))
    for shop in "abc":
        await rig.post(shop, *range(10))
    await rig.delivered(20)

    assert (len(rig.mall.items["a"]), rig.mall.items["b"], len(rig.mall.items["c"])) == (10, [], 10)
    (stopped,) = rig.view().stopped_groups
    assert (stopped.group, stopped.reason) == ("b", "429 Too Many Requests")
    assert not rig.view().throttled_until
    await rig.post("a", *range(10, 15))  # and they go on at once when they come while only b waits
    await rig.delivered(25)
    assert rig.mall.items["b"] == []
    await rig.delivered(35)
    first, second, *_ = rig.mall.arrivals["b"]
    assert second - first >= 4.0
    for shop, numbers in rig.mall.items.items():
        assert sorted(numbers) == list(range(15 if shop == "a" else 10))
        for key in range(5):
            mine = [number for number in numbers if number % 5 == key]
            assert mine == sorted(mine)
    assert rig.view().stopped_groups == ()


async def test_scope_platform_stops_all_shops(rig: Rig) -> None:
    """With a rule that says ``scope: platform`` one shop's throttle stops them all."""

    async def limited(_shop: str) -> Answer | Failure:
        return Answer(429, Headers([("Retry-After", "1")]), b"") if len(rig.mall.order) == 1 else OK

    rig.mall.script = limited
    rule = compiled_rule({"status": 429, "as": "throttled", "scope": "platform"})
    okay = compiled_rule({"status": 200, "as": "ok"})
    await rig.start(replace(TERMS, concurrency=1, rules=(rule, okay)))
    for shop in "abc":
        await rig.post(shop, 1, 2)
    await rig.delivered(6)
    times = sorted(at for arrived in rig.mall.arrivals.values() for at in arrived)
    assert times[1] - times[0] >= 1.0


async def test_stop_of_a_shop_survives_a_restart(rig: Rig) -> None:
    """What a shop asked for holds over a restart, and its end lets one request go first."""
    open_b, most_b = 0, 0

    async def limited(shop: str) -> Answer | Failure:
        nonlocal open_b, most_b
        if shop != "b":
            return OK
        if len(rig.mall.arrivals["b"]) == 1:
            return Answer(429, Headers([("Retry-After", "4")]), b"")
        open_b += 1
        most_b = max(most_b, open_b) if len(rig.mall.items["b"]) == 0 else most_b
        await asyncio.sleep(0.02)
        open_b -= 1
        return OK

    rig.mall.script = limited
    terms = replace(TERMS, max_items=1, budget=Budget(times=2, base_s=0.02, cap_s=60.0))  # remembered for that long
    await rig.start(terms)
    await rig.post("b", 1)
    async with asyncio.timeout(20):
        while not rig.view().stopped_groups:
            await asyncio.sleep(0.001)
    await rig.registry.stop(1.0)
    assert list((await rig.store.gates())["mall"]["groups"]) == ["b"]
    await rig.restart(terms)
    await rig.post("b", 2, 3, 4)
    await rig.post("a", 1)
    await rig.delivered(1)
    assert rig.mall.items["b"] == []
    await rig.delivered(5)
    first, second, *_ = rig.mall.arrivals["b"]
    assert second - first >= 4.0
    assert most_b == 1
    await rig.registry.stop(1.0)
    assert "groups" not in (await rig.store.gates())["mall"]


async def test_resume_tries_what_a_shop_refused(rig: Rig) -> None:
    """Also where the answer is not committed yet when the operator asks: its callbacks are tried again at once."""

    async def limited(_shop: str) -> Answer | Failure:
        return Answer(429, Headers([("Retry-After", "600")]), b"")

    rig.mall.script = limited
    await rig.start()
    await rig.post("b", 1, 2)
    async with asyncio.timeout(20):
        while not rig.view().stopped_groups:
            await asyncio.sleep(0)
    rig.mall.script = None
    assert await rig.registry.resume("mall") == 2
    await rig.delivered(2)
    assert rig.mall.items["b"] == [1, 2]


async def test_a_shop_is_paused_by_an_operator(rig: Rig) -> None:
    """It alone, also over a restart, until it is resumed or its time is over; a flush does not send it."""
    await rig.start()
    await rig.registry.pause_group("mall", "b", "moving", until=None)
    await rig.post("b", 1, 2)
    await rig.post("a", 1)
    await rig.delivered(1)
    await rig.registry.flush("mall", "b")
    await rig.restart()
    (paused,) = rig.view().paused_groups
    assert (paused.group, paused.reason, paused.until) == ("b", "moving", None)
    await rig.post("a", 2)
    await rig.delivered(2)
    assert rig.mall.items["b"] == []
    await rig.registry.pause_group("mall", "b", "moving on", until=rig.store.clock.now() + 1.5)
    assert rig.view().paused_groups[0].since == paused.since
    await rig.delivered(4)
    await rig.registry.pause_group("mall", "b", "", until=None)
    await rig.post("b", 3)
    await rig.registry.resume_group("mall", "b")
    await rig.delivered(5)
    assert rig.view().paused_groups == ()


async def test_a_shop_has_a_limit_of_an_operator(rig: Rig) -> None:
    """Beside all others, over a restart, until it is taken off; other shops are not held."""
    await rig.start(replace(TERMS, max_items=1))
    await rig.registry.limit_group("mall", "b", [Rate(2, 600.0)], until=None, reason="asked for")
    await rig.post("b", *range(4))
    await rig.post("a", *range(4))
    await rig.delivered(6)
    assert (len(rig.mall.items["a"]), len(rig.mall.items["b"])) == (4, 2)
    await rig.restart(replace(TERMS, max_items=1))
    await rig.post("a", 5)
    await rig.delivered(7)
    (quota,) = (await rig.store.platform_status())["mall"].quotas
    assert (quota.quota, quota.used, quota.limit) == ("operator:mall/b", 2, 2)
    await rig.registry.limit_group("mall", "b", [], until=None, reason="")
    await rig.delivered(9)


async def test_one_shop_is_flushed(rig: Rig) -> None:
    """What it has goes without waiting for fuller batches; the others wait on."""
    await rig.start(replace(TERMS, linger_s=3600.0))
    await rig.post("a", 1)
    await rig.post("b", 1)
    async with asyncio.timeout(20):
        while rig.view().waits_for != "linger":
            await asyncio.sleep(0.001)
    await rig.registry.flush("mall", "b")
    await rig.delivered(1)
    async with asyncio.timeout(20):
        while rig.view().waits_for != "linger":
            await asyncio.sleep(0.001)
    assert (rig.mall.items["a"], rig.mall.items["b"]) == ([], [1])


async def test_a_platform_without_groups_takes_no_such_order(rig: Rig) -> None:
    """It would hold nothing."""
    await rig.start(replace(TERMS, grouped=False))
    with pytest.raises(NoGroups, match="mall has no groups"):
        await rig.registry.pause_group("mall", "b", "", until=None)
    with pytest.raises(NoGroups):
        await rig.registry.flush("mall", "b")


async def test_windows_per_shop_are_strict(rig: Rig) -> None:
    """With 3 requests per 0.4 s for each shop no four of one lie within it, and each shop uses its own."""
    await rig.start(replace(TERMS, max_items=1, concurrency=4), quota=Quota("q", (Rate(3, 0.4),), per_group=True))
    for shop in "abcd":
        await rig.post(shop, *range(9))
    await rig.delivered(36)
    for times in rig.mall.arrivals.values():
        assert min(later - earlier for earlier, later in zip(times, times[3:], strict=False)) >= 0.4
    begun, ended = zip(*((times[0], times[-1]) for times in rig.mall.arrivals.values()), strict=True)
    assert max(begun) < min(ended), "one shop waited for another one's slots"


async def test_turns_are_fair_under_one_limit(rig: Rig) -> None:
    """Under a shared limit a shop with a long queue does not keep the others waiting."""
    await rig.start(replace(TERMS, max_items=1, concurrency=1), quota=Quota("q", (Rate(4, 0.2),)))
    await rig.registry.pause("mall", "until all is there", until=None)
    await rig.post("a", *range(40))
    await rig.post("b", *range(4))
    await rig.post("c", *range(4))
    await rig.registry.resume("mall")
    async with asyncio.timeout(20):
        while len(rig.mall.items["b"]) < 4 or len(rig.mall.items["c"]) < 4:
            await asyncio.sleep(0.005)
    last = max(place for place, shop in enumerate(rig.mall.order) if shop != "a")
    assert rig.mall.order[:last].count("a") <= 8


async def test_without_groups_what_was_grouped_goes(rig: Rig) -> None:
    """After a reload without ``group`` what was accepted with one still goes, and the other way round."""
    await rig.start(replace(TERMS, grouped=False))
    await rig.post("a", 1)
    await rig.post("", 2)
    await rig.post("b", 3)
    await rig.delivered(3)
    assert set(rig.mall.order) == {"a", "", "b"}
    items, _ = await rig.store.callbacks(Filter(state="delivered"), cursor=None, limit=10)
    assert {item.group for item in items} == {"a", "", "b"}
