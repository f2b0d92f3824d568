"""Any history of answers through the memory store: order per key, bounds, conservation, and an end."""

import asyncio
import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from relay.core.model import Batch, Filter, Lane, Outcome, PlatformRules, Quota, Rate, State, StoreRules, WaitUntil
from relay.core.settlement import Ending, Requeue, Resend
from relay.store.memory.backend import MemoryStore
from relay.views.ledger import NO_TOTALS
from relay.views.operation_view import PLAIN, OperationOptions
from tests.clocks import FakeClock
from tests.store.harness import balanced, note, request, seqs, settlement

RATE = Rate(5, 8.0)
RETRY = OperationOptions(verdict="retry")
RULES = StoreRules(quotas={"shop": Quota("shop", (RATE,))}, platforms={"shop": PlatformRules(("shop",))})


class Relay:
    """One platform that accepts, claims and settles as the dice say, and checks what arrives."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.open: list[Batch] = []
        self.sent_at: list[float] = []
        self.first_seen: defaultdict[str, list[int]] = defaultdict(list)
        self.seen: set[int] = set()
        self.retried = False
        self.endings: list[int] = []  # operations that may wait for batches
        self.ended: set[str] = set()  # what these mean: retried before its first request it may come after a newer one
        self.turn = 0
        self.faults = True

    async def accept(self) -> None:
        keys = [None, "a", "b", "c"]
        lanes = [Lane.HIGH, Lane.NORMAL, Lane.NORMAL, Lane.LOW]
        rows = [
            note(b"x" * self.dice.randrange(60), key=self.dice.choice(keys), lane=self.dice.choice(lanes))
            for _ in range(self.dice.randrange(1, 6))
        ]
        await self.store.accept(rows)

    async def claim(self) -> WaitUntil | None:
        self.turn += 1
        wanted = request(max_items=4, max_bytes=120, turn=self.turn, probe=self.dice.random() < 0.1)
        got = await self.store.claim(wanted)
        if isinstance(got, WaitUntil):
            assert got.at > self.clock.now()
            return got
        now = self.clock.now()
        self.sent_at.append(now)
        self.open.append(got)
        sizes = [len(item.payload) for item in got.items]
        assert 1 <= len(sizes) <= 4
        assert 2 + sum(sizes) + len(sizes) <= 120 or len(sizes) == 1
        keys = [item.key for item in got.items if item.key is not None]
        assert len(keys) == len(set(keys))
        elsewhere = {item.key for batch in self.open[:-1] for item in batch.items if item.key is not None}
        assert not elsewhere & set(keys)
        for item in got.items:
            if item.key is not None and item.seq not in self.seen and item.id not in self.ended:
                self.first_seen[item.key].append(item.seq)
            self.seen.add(item.seq)
        return None

    async def answer(self) -> None:
        if not self.open:
            return
        batch = self.open.pop(self.dice.randrange(len(self.open)))
        own = seqs(batch)
        again_at = self.clock.now() + self.dice.choice([0.0, 1.0, 5.0])
        what = self.dice.choice(["ok", "ok", "requeue", "resend", "split", "dead", "mixed", "held"])
        if not self.faults or what == "ok":
            parts = {"delivered": own}
        elif what == "requeue":
            parts = {"requeue": [Requeue(own, again_at, self.dice.random() < 0.5, "busy")]}
        elif what == "resend":
            parts = {"resend": Resend(again_at, True, "timeout")}
        elif what == "split" and len(own) > 1:
            parts = {"split": [own[:1], own[1:]]}
        elif what == "mixed":
            parts = {"delivered": own[::2], "requeue": [Requeue(own[1::2], again_at, True, "busy")]}
        elif what == "held":
            parts = {"held": own}
        else:
            parts = {"endings": [Ending(own, State.DEAD, "bad")]}
        outcome = Outcome.OK if what == "ok" else Outcome.RETRY
        await self.store.settle(settlement(batch, self.clock, outcome, **parts))

    async def operate(self) -> None:
        action = self.dice.choice(["resolve", "retry"])
        options = RETRY if action == "resolve" else PLAIN
        progress = await self.store.start_operation(action, Filter(), options=options, expect_count=None)
        while progress.state == "running":
            progress = (await self.store.step_operation(progress.id, 5)).progress

    async def end(self) -> None:
        """Let a person end some of what is pending; it is stepped at times, and at the end."""
        for number in self.endings:
            await self.store.step_operation(number, self.dice.randrange(1, 4))
        page, _ = await self.store.callbacks(Filter(state="pending"), cursor=None, limit=50)
        some = tuple(found.id for found in page if self.dice.random() < 0.2)
        if some:
            action = self.dice.choice(["drop", "expire"])
            started = await self.store.start_operation(action, Filter(ids=some), expect_count=len(some))
            self.endings.append(started.id)
            self.ended.update(some)

    async def run(self, steps: int) -> None:
        await self.store.configure(RULES)
        doing = [self.accept, self.claim, self.claim, self.claim, self.answer, self.answer, self.operate, self.end]
        for _ in range(steps):
            await self.dice.choice(doing)()
            self.clock.advance(self.dice.choice([0.0, 0.0, 0.125, 1.0]))
            await balanced(self.store)
        await self.drain()

    async def drain(self) -> None:
        """Let faults stop; everything must come to an end in as many windows as its batches need, and a few."""
        self.faults = False
        while self.open:
            await self.answer()
        progress = await self.store.start_operation("resolve", Filter(), options=RETRY, expect_count=None)
        while progress.state == "running":
            progress = (await self.store.step_operation(progress.id, 5)).progress
        pending = (await balanced(self.store)).get("shop", NO_TOTALS).pending
        patience = self.clock.now() + 30 + (pending / RATE.limit + 2) * RATE.window_s
        while (wait := await self.claim()) is None or wait.reason != "idle":
            if wait is not None:
                self.clock.advance_to(wait.at)
            while self.open:
                await self.answer()
            assert self.clock.now() < patience
        assert sum(figures.pending for figures in (await balanced(self.store)).values()) == 0
        for number in self.endings:
            progress = (await self.store.step_operation(number, 1000)).progress
            assert (progress.state, progress.waiting) == ("done", 0)
            assert progress.done + sum(progress.skipped.values()) == progress.matched


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_any_history(seed: int, steps: int) -> None:
    """First arrivals follow acceptance per key, one of a key is out at a time, bounds and totals hold, all ends."""
    relay = Relay(seed)
    asyncio.run(relay.run(steps))
    for arrived in relay.first_seen.values():
        assert arrived == sorted(arrived)
    for end in relay.sent_at:
        assert sum(end - RATE.window_s < at <= end for at in relay.sent_at) <= RATE.limit


def test_no_lane_starves() -> None:
    """Under a backlog in every lane, and re-sends, each lane gets one batch in ten at least."""

    async def scenario() -> None:
        clock = FakeClock()
        store = MemoryStore(clock=clock)
        await store.configure(StoreRules())
        lanes = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
        await store.accept([note(lane.name.encode(), lane=lane) for lane in lanes for _ in range(300)])
        await store.accept([note(b"RETRY", lane=Lane.RETRY), note(b"RETRY", lane=Lane.RETRY)])
        led: list[bytes] = []
        for turn in range(200):
            got = await store.claim(request(max_items=1, turn=turn))
            assert isinstance(got, Batch)
            led.append(got.items[0].payload)
            if led[-1] == b"RETRY":
                again = settlement(got, clock, Outcome.RETRY, resend=Resend(clock.now(), False, "x"))
                await store.settle(again)
            else:
                await store.settle(settlement(got, clock, delivered=seqs(got)))
        for start in range(190):
            assert set(led[start : start + 10]) == {b"HIGH", b"NORMAL", b"RETRY", b"LOW"}

    asyncio.run(scenario())


def test_fresh_work_keeps_its_turns_beside_resends() -> None:
    """A trickle of fresh callbacks is not kept waiting for the pace by a queue of due re-sends."""

    async def scenario() -> None:
        clock = FakeClock()
        store = MemoryStore(clock=clock)
        await store.configure(
            StoreRules(quotas={"q": Quota("q", (Rate(100, 60.0),))}, platforms={"shop": PlatformRules(("q",))})
        )
        await store.accept([note(b"old") for _ in range(80)])
        whole = await store.claim(request())
        assert isinstance(whole, Batch)
        await store.settle(settlement(whole, clock, Outcome.SPLIT, split=[[seq] for seq in seqs(whole)]))
        await store.accept([note(b"fresh")])
        for turn in range(10):
            got = await store.claim(request(turn=turn))
            assert isinstance(got, Batch)
            if got.items[0].payload == b"fresh":
                return
            await store.settle(settlement(got, clock, delivered=seqs(got)))
        raise AssertionError("ten re-sends went before it")

    asyncio.run(scenario())
