"""Groups through a store: windows per group hold, none starves, both stores decide alike."""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay.core.model import Batch, Lane, Outcome, PlatformRules, Quota, Rate, StoreRules, WaitUntil
from relay.core.settlement import Requeue, Resend
from relay.policy.batching import lane_order, scattered
from relay.store.base import Store
from relay.store.memory.backend import MemoryStore
from relay.store.sqlite.backend import SqliteStore
from relay.views.ledger import NO_TOTALS
from tests.clocks import FakeClock
from tests.store.harness import balanced, note, request, seqs, settlement

OWN, ALL = Rate(2, 8.0), Rate(5, 4.0)
RULES = StoreRules(
    quotas={"own": Quota("own", (OWN,), per_group=True), "all": Quota("all", (ALL,))},
    platforms={"shop": PlatformRules(("own", "all"))},
)
GROUPS = ["", "a", "b", "c", "d"]


class Shops:
    """One platform of several groups: accepts, claims and settles as the dice say, and writes down what it got."""

    def __init__(self, seed: int, store: Store, clock: FakeClock) -> None:
        self.dice = random.Random(seed)
        self.clock = clock
        self.store = store
        self.open: list[Batch] = []
        self.closed: dict[str, float] = {}
        self.resuming: dict[str, bool] = {}
        self.sent: list[tuple[float, str]] = []
        self.story: list[object] = []
        self.turn = 0

    async def accept(self) -> None:
        rows = [
            note(
                b"x" * self.dice.randrange(40),
                key=self.dice.choice([None, "k", "l"]),
                lane=self.dice.choice([Lane.HIGH, Lane.NORMAL, Lane.LOW]),
                expires_s=self.dice.choice([9.0, 900.0]),
                group=self.dice.choice(GROUPS),
            )
            for _ in range(self.dice.randrange(1, 6))
        ]
        await self.store.accept(rows)

    async def claim(self) -> WaitUntil | None:
        self.turn += 1
        now = self.clock.now()
        wanted = replace(request(max_items=3, turn=self.turn), group=None, closed=self.closed, resuming=self.resuming)
        got = await self.store.claim(wanted)
        if isinstance(got, WaitUntil):
            assert got.at > now
            self.story.append((got.at, got.reason, got.missing))
            return got
        assert self.closed.get(got.group, 0.0) <= now
        self.story.append((got.group, got.id[:12], seqs(got)))
        self.sent.append((now, got.group))
        self.open.append(got)
        return None

    async def answer(self) -> None:
        if not self.open:
            return
        batch = self.open.pop(self.dice.randrange(len(self.open)))
        own, again_at = seqs(batch), self.clock.now() + self.dice.choice([0.0, 1.0, 5.0])
        what = self.dice.choice(["ok", "ok", "throttled", "resend", "split"])
        parts: dict[str, object] = {"delivered": own}
        if what == "throttled":
            parts = {"requeue": [Requeue(own, again_at, False, "busy")]}
            if batch.group:
                self.closed[batch.group] = again_at
                self.resuming[batch.group] = self.dice.random() < 0.5
        elif what == "resend":
            parts = {"resend": Resend(again_at, True, "timeout")}
        elif what == "split" and len(own) > 1:
            parts = {"split": [own[:1], own[1:]]}
        else:
            self.resuming.pop(batch.group, None)
        await self.store.settle(settlement(batch, self.clock, Outcome.OK if what == "ok" else Outcome.RETRY, **parts))

    async def expire(self) -> None:
        await self.store.expire()

    async def run(self, steps: int) -> list[object]:
        await self.store.configure(RULES)
        doing = [self.accept, self.claim, self.claim, self.claim, self.answer, self.answer, self.expire]
        for _ in range(steps):
            await self.dice.choice(doing)()
            self.clock.advance(self.dice.choice([0.0, 0.0, 0.125, 1.0]))
        await balanced(self.store)
        return self.story

    async def drain(self) -> None:
        """With the answers good and no stop, everything ends in the windows that it needs and a few."""
        self.closed, self.resuming = {}, {}
        while self.open:
            batch = self.open.pop()
            await self.store.settle(settlement(batch, self.clock, delivered=seqs(batch)))
        pending = (await self.store.totals()).get("shop", NO_TOTALS).pending
        patience = self.clock.now() + 30 + (pending / OWN.limit + 2) * OWN.window_s
        await self.store.expire()
        while (wait := await self.claim()) is None or wait.reason != "idle":
            if wait is not None:
                self.clock.advance_to(wait.at)
            while self.open:
                batch = self.open.pop()
                await self.store.settle(settlement(batch, self.clock, delivered=seqs(batch)))
            assert self.clock.now() < patience
            await self.store.expire()
        assert sum(figures.pending for figures in (await balanced(self.store)).values()) == 0


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_windows_hold_and_all_ends(seed: int, steps: int) -> None:
    """Whatever the history: each group within its window, all within theirs, and nothing waits for ever."""

    async def scenario() -> list[tuple[float, str]]:
        clock = FakeClock()
        shops = Shops(seed, MemoryStore(clock=clock), clock)
        await shops.run(steps)
        await shops.drain()
        return shops.sent

    sent = asyncio.run(scenario())
    by_group = defaultdict(list)
    for at, group in sent:
        by_group[group].append(at)
    for times, rate in [*((times, OWN) for times in by_group.values()), ([at for at, _ in sent], ALL)]:
        for end in times:
            assert sum(end - rate.window_s < at <= end for at in times) <= rate.limit


@pytest.mark.parametrize("seed", range(12))
async def test_stores_decide_alike(seed: int, tmp_path: Path) -> None:
    """The same history gives the same batches, waits and totals in memory and in SQLite."""
    stories, totals = [], []
    for path in (None, tmp_path / "relay.db"):
        clock = FakeClock()
        store = MemoryStore(clock=clock) if path is None else await SqliteStore.open(path, clock=clock)
        shops = Shops(seed, store, clock)
        stories.append(
            [told if len(told) == 3 and told[1] in _REASONS else (told[0], told[2]) for told in await shops.run(150)]
        )
        totals.append(await store.totals())
        await store.close()
    assert stories[0] == stories[1]
    assert totals[0] == totals[1]


_REASONS = ("idle", "limit", "pace", "linger", "retry", "throttled", "share")


@settings(max_examples=25)
@given(st.integers(2, 12), st.lists(st.integers(1, 60), min_size=2, max_size=12), st.integers(1, 3))
def test_no_group_starves(limit: int, backlogs: list[int], concurrency: int) -> None:
    """While a group waits, every other gets one batch at the most between two of its own; no slot is wasted."""

    async def scenario() -> None:
        clock = FakeClock()
        store = MemoryStore(clock=clock)
        quota = Quota("q", (Rate(limit, 10.0),))
        await store.configure(StoreRules(quotas={"q": quota}, platforms={"shop": PlatformRules(("q",))}))
        left = {f"g{n}": count for n, count in enumerate(backlogs)}
        await store.accept([note(group=group) for group, count in left.items() for _ in range(count)])
        since: dict[str, Counter[str]] = {group: Counter() for group in left}
        total, began_at = sum(left.values()), clock.now()
        while any(left.values()):
            got = await store.claim(replace(request(max_items=1), group=None))
            if isinstance(got, WaitUntil):
                clock.advance_to(got.at)
                continue
            left[got.group] -= 1
            since[got.group].clear()
            for group, count in left.items():
                if count and group != got.group:
                    since[group][got.group] += 1
                    assert since[group][got.group] <= 1
            await store.settle(settlement(got, clock, delivered=seqs(got)))
        assert clock.now() - began_at <= (total - 1) // limit * 10.0

    asyncio.run(scenario())


def test_every_group_meets_every_leader() -> None:
    """However many groups share the count of batches, each meets each lane's lead about as often as the others."""
    leaders = Counter(lane_order(turn)[0] for turn in range(10))
    for groups in (*range(1, 130), 250, 500, 610, 987, 1000, 1024, 4096):
        met = Counter(lane_order(scattered(3 + round_ * groups))[0] for round_ in range(400))
        for lane, share in leaders.items():
            assert met[lane] >= 400 * share / 10 / 3, (groups, lane)
