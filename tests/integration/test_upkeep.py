"""The side duties over the memory store; time is fake where it decides and short where it passes."""

import asyncio
import contextlib
import functools
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, ParamSpec

import pytest
import structlog
from relay.core.errors import StoreDamaged, StoreEnded, StoreFailed
from relay.core.model import Batch, ClaimRequest, Ended, Expired, Filter, Lane, NewCallback, Outcome, State
from relay.core.settlement import AttemptResult, Requeue, Settlement
from relay.simulate.virtual import VirtualLoop
from relay.store.base import Reroute, Stepped, no_route
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep import alarm
from relay.upkeep.expiry import Expiry
from relay.upkeep.operations import OperationRunner
from relay.upkeep.stepwise import Stepwise
from relay.upkeep.watchdog import Watchdog
from relay.views.operation_view import OperationOptions


class LoopClock:
    """The loop's time, which a test can push forward."""

    def __init__(self) -> None:
        self.pushed_s = 1_790_000_000.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.pushed_s


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """Everything said through events."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def events(log: list[dict[str, Any]]) -> Events:
    """Events that are captured."""
    return Events(log=structlog.get_logger(), metrics=Metrics())


_Given = ParamSpec("_Given")


def in_virtual_time(test: Callable[_Given, Coroutine[Any, Any, None]]) -> Callable[_Given, None]:
    """Run a test on a loop whose clock leaps: nothing waits, and what is not to happen in a minute can be seen."""

    @functools.wraps(test)
    def run(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


@contextlib.asynccontextmanager
async def running(duty: Any) -> Any:
    """Run a side duty until the block ends; it must end by cancellation only."""
    task = asyncio.create_task(duty.run())
    try:
        yield duty
    finally:
        assert not task.done(), task
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.005)


async def accept(store: MemoryStore, count: int = 1, *, expires_s: float = 3600.0) -> list[str]:
    """Accept callbacks."""
    row = NewCallback("shop-a", b"{}", None, None, Lane.NORMAL, expires_s, None, None, None, "")
    return (await store.accept([row] * count)).ids


async def bury(store: MemoryStore, count: int) -> None:
    """Accept callbacks and make dead letters of them."""
    await accept(store, count)
    wanted = Filter(state="pending")
    started = await store.start_operation("drop", wanted, expect_count=count)
    await store.step_operation(started.id, count)


class Counting:
    """A store whose calls are counted, and which fails as often as it is told."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.calls: list[tuple[Any, ...]] = []
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        async def called(*given: Any) -> Any:
            self.calls.append((name, *given))
            if self.failures:
                self.failures -= 1
                raise StoreFailed("disk full")
            return await method(*given)

        return called


async def test_callbacks_expire_when_their_time_is_over(events: Events) -> None:
    """At the time itself, without asking in between; a nudge tells of an earlier one."""
    clock = LoopClock()
    store = Counting(MemoryStore(clock=clock))
    await accept(store.store, expires_s=30.0)
    expiry = Expiry(ledger=store, clock=clock, events=events)

    async def expired(count: int) -> bool:
        return (await store.store.totals())["shop-a"].expired == count

    async with running(expiry):
        await until(lambda: _true(len(store.calls) == 1))
        await accept(store.store, expires_s=0.05)
        expiry.nudge(clock.now() + 0.05)
        await until(lambda: expired(1))
        calls = len(store.calls)
        clock.pushed_s += 30
        expiry.nudge(0.0)
        await until(lambda: expired(2))

    assert calls <= 3
    assert len(store.calls) <= 5


async def test_what_expires_is_told_a_line_per_platform(events: Events, log: list[dict[str, Any]]) -> None:
    """Callbacks that run out of time in the queue are told as those of an answer are; more than a step holds, too."""
    clock = LoopClock()
    store = MemoryStore(clock=clock)
    steps = [
        Expired([Ended("shop-a", State.EXPIRED, "expired", 500)], True, math.inf),
        Expired([Ended("shop-a", State.EXPIRED, "expired", 3)], False, math.inf),
    ]

    class Store:
        async def expire(self) -> Expired:
            return steps.pop(0) if steps else await store.expire()

    expiry = Expiry(ledger=Store(), clock=clock, events=events)
    async with running(expiry):
        await until(lambda: _true(not steps))
        await accept(store, 2, expires_s=0.01)
        expiry.nudge(0.0)
        await until(lambda: _true(len(log) == 3))

    assert log == [
        {"event": "expired", "log_level": "warning", "platform": "shop-a", "count": count, "reason": "expired"}
        for count in (500, 3, 2)
    ]


async def test_what_an_operation_ends_is_told_and_counted(log: list[dict[str, Any]]) -> None:
    """A dropped callback is a dead letter with its reason in log and metric; one expired by a person an expired one."""
    metrics = Metrics()
    events = Events(log=structlog.get_logger(), metrics=metrics)
    store = MemoryStore(clock=LoopClock())
    async with running(OperationRunner(ledger=store, clock=store.clock, events=events, reroute=no_route)) as duty:
        for action in ("drop", "expire"):
            await accept(store, 600)
            wanted = Filter(state="pending")
            started = await store.start_operation(action, wanted, expect_count=600)
            duty.nudge()
            await until(lambda number=started.id: _finished(store, number))
        await until(lambda: _true(len(log) == 6))

    told = [(line["event"], line["count"], line["reason"]) for line in log if line["event"] != "operation"]
    assert told == [
        ("dead", 500, "dropped"),
        ("dead", 100, "dropped"),
        ("expired", 500, "operator"),
        ("expired", 100, "operator"),
    ]
    assert metrics.dead["shop-a", "dropped"] == 600


@in_virtual_time
async def test_a_nudge_about_a_later_expiry_wakes_nobody(events: Events) -> None:
    """A flood of callbacks with the usual expiry costs no commits before the look that comes once a minute."""
    clock = LoopClock()
    store = Counting(MemoryStore(clock=clock))
    expiry = Expiry(ledger=store, clock=clock, events=events)

    async with running(expiry):
        await asyncio.sleep(1)
        for _ in range(1000):
            expiry.nudge(clock.now() + 86400.0)
        await asyncio.sleep(58)
        assert len(store.calls) == 1
        await asyncio.sleep(2)
        assert len(store.calls) == 2


class Asked:
    """A ledger that ends nothing, says when the next is due, and counts how often it was asked."""

    def __init__(self, next_at: float) -> None:
        self.asked = 0
        self._next_at = next_at

    async def expire(self) -> Expired:
        self.asked += 1
        return Expired([], False, self._next_at)


async def test_expiry_looks_again_by_itself(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody nudges about what another way in accepted: it looks once a minute, here once in a while."""
    monkeypatch.setattr("relay.upkeep.expiry._LOOK_AGAIN_S", 0.01)
    ledger = Asked(math.inf)

    async def asked_thrice() -> bool:
        return ledger.asked >= 3

    async with running(Expiry(ledger=ledger, clock=LoopClock(), events=events)):
        await until(asked_thrice)


async def test_what_is_overdue_in_a_batch_is_not_asked_for_all_the_time(events: Events) -> None:
    """A callback over its time in a frozen batch ends with its batch: its time lies in the past until then."""
    clock = LoopClock()
    ledger = Asked(clock.now() - 10.0)
    async with running(Expiry(ledger=ledger, clock=clock, events=events)):
        for _ in range(500):
            await asyncio.sleep(0)
        assert ledger.asked == 1


@in_virtual_time
async def test_pruning_goes_on_in_steps_and_then_rests(events: Events) -> None:
    """While there is more it steps again soon; then not until a minute later or a nudge."""

    class Store:
        left = 4
        calls = 0

        async def prune(self) -> bool:
            self.calls += 1
            self.left = max(0, self.left - 1)
            return self.left > 0

    store = Store()
    pruner = Stepwise(store.prune, clock=LoopClock(), events=events)
    async with running(pruner):
        await asyncio.sleep(59)
        assert store.calls == 4
        pruner.nudge()
        await asyncio.sleep(59)
        assert store.calls == 5
        await asyncio.sleep(2)
        assert store.calls == 6


@in_virtual_time
async def test_damage_is_left_to_the_store_to_tell(events: Events, log: list[dict[str, Any]]) -> None:
    """What meets a damaged page is tried again, and is no store that cannot commit."""
    asked = 0

    async def prune() -> bool:
        nonlocal asked
        asked += 1
        raise StoreDamaged("a page")

    async with running(Stepwise(prune, clock=LoopClock(), events=events)):
        await asyncio.sleep(60)
    assert 5 <= asked <= 10
    assert log == []


async def test_an_operation_runs_in_steps_to_its_end(events: Events, log: list[dict[str, Any]]) -> None:
    """At most 500 callbacks a commit; its end is told once."""
    store = Counting(MemoryStore(clock=LoopClock()))
    await bury(store.store, 1200)
    operations = OperationRunner(ledger=store, clock=store.store.clock, events=events, reroute=no_route)
    async with running(operations):
        started = await store.store.start_operation("retry", Filter(state="dead"), expect_count=1200)
        operations.nudge()
        await until(lambda: _finished(store.store, started.id))
        await until(lambda: _true(any(line["event"] == "operation" for line in log)))

    assert [call[2] for call in store.calls if call[0] == "step_operation"] == [500, 500, 500]
    assert [line["done"] for line in log if line["event"] == "operation"] == [1200]


@in_virtual_time
async def test_an_operation_sleeps_until_its_batch_is_settled(events: Events, log: list[dict[str, Any]]) -> None:
    """What lies in a frozen batch costs no step until that is settled; then the operation goes on and ends."""
    store = Counting(MemoryStore(clock=LoopClock()))
    await accept(store.store, 3)
    batch = await store.store.claim(ClaimRequest("shop-a", None, 1, 1 << 20, 2, 1, 0.0, 0, True))
    assert isinstance(batch, Batch)
    operations = OperationRunner(ledger=store, clock=store.store.clock, events=events, reroute=no_route)
    store.store.watch_operations(operations.released)
    async with running(operations):
        started = await store.store.start_operation("drop", Filter(), expect_count=3)
        operations.nudge()
        await asyncio.sleep(1.5)
        assert [line["count"] for line in log if line["event"] == "dead"] == [2]
        steps = [call for call in store.calls if call[0] == "step_operation"]
        assert len(steps) == 1
        result = AttemptResult(Outcome.DOWN, store.store.clock.now(), 0.1)
        seqs = [item.seq for item in batch.items]
        back = Requeue(seqs, store.store.clock.now() + 60, False, "connection refused")
        await store.store.settle(Settlement(batch.number, batch.attempt_id, "shop-a", result, requeue=[back]))
        await until(lambda: _finished(store.store, started.id))
        await until(lambda: _true(any(line["event"] == "operation" for line in log)))

    assert [line["count"] for line in log if line["event"] == "dead"] == [2, 1]
    assert [(line["done"], line["skipped"]) for line in log if line["event"] == "operation"] == [(3, 0)]


@in_virtual_time
async def test_an_operation_looks_seldom_at_what_another_host_must_do(events: Events) -> None:
    """A step that did nothing, for whatever reason, is followed by a rest of two seconds; one that did by none."""

    class Elsewhere(Counting):
        away = True

        async def step_operation(self, number: int, limit: int, reroute: Reroute) -> Stepped:
            self.calls.append(("step_operation",))
            if not self.away:
                return await self.store.step_operation(number, 1, reroute)
            found = await self.store.operation(number)
            assert found is not None
            return Stepped(found, [])

    store = Elsewhere(MemoryStore(clock=LoopClock()))
    await bury(store.store, 3)
    started = await store.store.start_operation("retry", Filter(state="dead"), expect_count=3)
    async with running(OperationRunner(ledger=store, clock=store.store.clock, events=events, reroute=no_route)):
        await asyncio.sleep(11)
        assert len([call for call in store.calls if call[0] == "step_operation"]) == 6
        store.away = False
        await asyncio.sleep(2)
        assert await _finished(store.store, started.id)


async def test_operations_go_on_after_a_restart_and_a_slow_one_holds_up_no_other(events: Events) -> None:
    """What is open when the duty starts is carried out; a paced operation spaces its callbacks evenly."""
    store = Counting(MemoryStore(clock=LoopClock()))
    await bury(store.store, 100)
    slow = await store.store.start_operation(
        "retry", Filter(state="dead", until=9e9), options=OperationOptions(rate="20/s"), expect_count=None
    )
    await accept(store.store, 1000)
    fast = await store.store.start_operation("expire", Filter(state="pending"), expect_count=1000)
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    async with running(OperationRunner(ledger=store, clock=store.store.clock, events=events, reroute=no_route)):
        await until(lambda: _finished(store.store, fast.id))

        async def some() -> bool:
            found = await store.store.operation(slow.id)
            return found is not None and found.done >= 10

        await until(some)
        progress = await store.store.operation(slow.id)
        took_s = loop.time() - began_at

    assert progress is not None
    assert 10 <= progress.done <= 5 + 20 * took_s  # 5 at once, 5 more after each quarter of a second
    assert took_s >= 0.2


async def test_a_store_that_cannot_commit_is_asked_again(
    events: Events, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk ends no side duty; it goes on when the disk has room."""
    monkeypatch.setattr(alarm, "_FIRST_S", 0.001)
    store = Counting(MemoryStore(clock=LoopClock()))
    await bury(store.store, 3)
    started = await store.store.start_operation("retry", Filter(state="dead"), expect_count=3)
    store.failures = 4
    async with running(OperationRunner(ledger=store, clock=store.store.clock, events=events, reroute=no_route)):
        await until(lambda: _finished(store.store, started.id))

    assert store.failures == 0
    assert [line["event"] for line in log].count("store_failed") == 1  # the log is not filled with what it said before


@pytest.mark.parametrize(("error", "longest_s"), [(StoreFailed("disk full"), 15.0), (StoreDamaged("a page"), 600.0)])
async def test_what_goes_on_failing_is_asked_less_and_less(
    events: Events, monkeypatch: pytest.MonkeyPatch, error: StoreFailed, longest_s: float
) -> None:
    """0.5 s after the first time, then twice as long each time; a damaged page in the end every 10 min."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(alarm.asyncio, "sleep", sleep)

    async def fails() -> int:
        if len(slept) < 20:
            raise error
        return 1

    assert await alarm.persist(fails, events=events) == 1
    assert slept[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert slept[-5:] == [longest_s] * 5


async def test_the_watchdog_speaks_only_after_a_round_trip(events: Events, log: list[dict[str, Any]]) -> None:
    """A hanging writer keeps it silent and is told of; a store that answers "cannot commit" is alive."""
    alive: list[float] = []
    gate = asyncio.Event()
    answers: list[BaseException | None] = [None, StoreFailed("disk full")]

    async def ping() -> None:
        if not answers:
            await gate.wait()
        elif (error := answers.pop(0)) is not None:
            raise error

    clock = LoopClock()
    watchdog = Watchdog(
        ping=ping, alive=lambda: alive.append(clock.now()), events=events, clock=clock, interval_s=0.01, late_s=0.03
    )
    async with running(watchdog):
        await until(lambda: _true("store" in [line["part"] for line in log]))
        silent = len(alive)
        gate.set()
        await until(lambda: _true(len(alive) > silent))

    assert silent == 2
    parts = [line["part"] for line in log]  # on a busy machine the loop is late too
    assert [part for part in parts if part == "store"][:2] == ["store", "store"]


async def test_the_watchdog_ends_with_the_store(events: Events) -> None:
    """A store that has ended is not alive, whatever else it can answer: no more word to systemd."""
    alive: list[bool] = []

    async def ping() -> None:
        raise StoreEnded("the store's writing thread ended")

    watchdog = Watchdog(ping=ping, alive=lambda: alive.append(True), events=events, clock=LoopClock(), interval_s=0.01)
    with pytest.raises(StoreEnded):
        await watchdog.run()
    assert not alive


async def _true(holds: bool) -> bool:
    return holds


async def _finished(store: MemoryStore, number: int) -> bool:
    found = await store.operation(number)
    return found is not None and found.finished_at is not None
