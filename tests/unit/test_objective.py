"""How late callbacks may be: what counts as late, over which time, and what waits and is overdue."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, time

import pytest
import structlog
from relay.core.model import Item, Lane, NewCallback
from relay.policy.hours import SendingHours
from relay.policy.objective import Kept, Objective, not_before
from relay.simulate.virtual import VirtualClock, VirtualLoop
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep.in_time import Objectives
from relay.upkeep.sampling import Sampling
from relay.views.past.history import RequestCounts, Sampled
from relay.views.past.objective import ObjectiveView, percent

_BEGAN = 1_790_000_040.0  # a whole minute: 14:14 UTC
OBJECTIVE = Objective(within_s=90.0, share=0.99)


def _item(accepted_at: float, not_before: float = 0.0) -> Item:
    return Item(1, "1", b"{}", None, None, None, accepted_at, accepted_at + 1e5, 0, 0, 0.0, False, not_before)


def test_late_is_counted_from_when_it_might_go() -> None:
    """From acceptance, or from Relay-Not-Before; 90 s to the dot is in time."""
    items = [_item(_BEGAN - 90.0), _item(_BEGAN - 90.1), _item(_BEGAN - 4000.0, _BEGAN - 60.0)]
    assert OBJECTIVE.late(items, _BEGAN) == 1


def test_closed_hours_do_not_count() -> None:
    """What was accepted at night is late 90 s after the opening."""
    opens = SendingHours(time(14, 10), time(22, 0), UTC)  # four minutes ago
    kept = Objective(within_s=300.0, share=0.99, hours=opens)
    assert kept.late([_item(_BEGAN - 7200.0)], _BEGAN) == 0
    assert kept.late([_item(_BEGAN - 7200.0)], _BEGAN + 61.0) == 1
    assert kept.late([_item(_BEGAN)], _BEGAN + 301.0) == 1


@pytest.mark.parametrize(
    ("ended", "late", "ratio", "burns", "left"),
    [(0, 0, 1.0, 0.0, 1.0), (1000, 4, 0.996, 0.4, 0.6), (1000, 20, 0.98, 2.0, 0.0), (-3, -3, 1.0, 0.0, 1.0)],
)
def test_what_is_left(ended: int, late: int, ratio: float, burns: float, left: float) -> None:
    """Of 1,000 callbacks 10 may be late. A person who takes dead letters back leaves no nonsense."""
    kept = Kept(ended=ended, late=late)
    assert (kept.ratio, kept.burns(0.99), kept.left(0.99)) == pytest.approx((ratio, burns, left))
    assert Kept(10, 1).burns(1.0) == math.inf
    assert Kept(10, 1).left(1.0) == 0.0


def test_since_when_a_row_may_go() -> None:
    """Only what was held back says so; rounding, and what a person sent again, does not."""
    given = {"accepted_at": 100.0, "expires_s": 30.0}
    assert not_before(Lane.NORMAL, expires_at=190.0, **given) == 160.0
    assert not_before(Lane.NORMAL, expires_at=130.0000001, **given) == 0.0
    assert not_before(Lane.REPLAY, expires_at=190.0, **given) == 0.0


def test_percent_promises_nothing() -> None:
    """A part is never written as more than it is."""
    assert [percent(part) for part in (1.0, 0.99996, 0.99, 0.9734, 0.0)] == ["100 %", "99.9 %", "99 %", "97.3 %", "0 %"]


class Platform:
    """A platform in virtual time: callbacks come, and are delivered when the test says so."""

    def __init__(self, objective: Objective = OBJECTIVE) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._objective = objective
        self.clock, self.metrics = VirtualClock(loop, _BEGAN), Metrics()
        self.store = MemoryStore(clock=self.clock)
        self.events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=self.metrics)
        self.objectives, self.sampling, self._running = self._watch()

    def _watch(self) -> tuple[Objectives, Sampling, asyncio.Task[None]]:
        objectives = Objectives(wanted=lambda: {"shop": self._objective}, history=self.store.history)
        sampling = Sampling(
            history=self.store.history,
            counted=self.metrics.request_counts,
            objectives=objectives,
            clock=self.clock,
            events=self.events,
        )
        return objectives, sampling, asyncio.create_task(sampling.run())

    async def restart(self) -> None:
        """Begin anew with what the store keeps."""
        self._running.cancel()
        await self.sampling.close()
        self.metrics.late.clear()
        self.metrics.requests.clear()
        self.objectives, self.sampling, self._running = self._watch()

    async def post(self, count: int, *, delay_s: float = 0.0) -> None:
        """Accept callbacks."""
        one = NewCallback("shop", b"{}", None, None, Lane.NORMAL, 86400.0, None, None, None, "", delay_s=delay_s)
        await self.store.accept([one] * count)

    async def deliver(self, count: int, *, late: int = 0) -> None:
        """End so many as delivered."""
        from tests.store.harness import claimed, deliver, request

        await deliver(self.store, await claimed(self.store, request(max_items=count)), self.clock)
        self.metrics.requests["shop", "ok", "2xx"] += 1
        self.events.delivered(platform="shop", latencies=[1.0] * count, late=late)

    async def standing(self, after_s: float = 6.0) -> ObjectiveView:
        """Return how it stands a little later."""
        await asyncio.sleep(after_s)
        found = self.objectives.standing("shop")
        assert found is not None
        return found

    async def stop(self) -> None:
        """End the duty."""
        self._running.cancel()


def test_an_hour_and_a_day() -> None:
    """Late ones of two hours ago count in the day alone; a restart forgets none of them."""

    async def run() -> None:
        shop = Platform()
        await shop.post(200)
        await shop.deliver(100, late=4)
        assert ((await shop.standing()).ratio_1h, (await shop.standing()).remaining_1h) == (0.96, 0.0)
        await asyncio.sleep(7200)
        await shop.deliver(100, late=1)
        await shop.restart()
        found = await shop.standing()
        assert (found.ratio_1h, found.ratio_24h, found.remaining_1h, found.burns) == (0.99, 0.975, 0.0, 1.0)
        await asyncio.sleep(90_000)
        assert (await shop.standing()).ratio_24h == 1.0
        await shop.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_what_waits_is_late_before_it_ends() -> None:
    """While nothing goes, what waits longer than 90 s is late; what came just now, or must not go yet, is not."""

    async def run() -> None:
        shop = Platform()
        await shop.post(50, delay_s=3600.0)
        await asyncio.sleep(300)
        assert (await shop.standing()).overdue == 0
        await shop.post(10)
        await asyncio.sleep(60)
        await shop.post(5)
        assert (await shop.standing()).overdue == 0
        found = await shop.standing(60)
        assert (found.overdue, found.ratio_1h, found.burns) == (10, 0.0, 100.0)
        await shop.deliver(15, late=10)
        found = await shop.standing()
        assert (found.overdue, found.ratio_1h) == (0, pytest.approx(5 / 15, abs=1e-6))
        await shop.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_what_waits_for_the_morning_is_not_overdue() -> None:
    """Outside the sending hours nothing is late, nor in the first 90 s after they begin; then it is."""
    opens_s = 360.0
    hours = SendingHours(time(14, 20), time(22, 0), UTC)

    async def run() -> None:
        shop = Platform(replace(OBJECTIVE, hours=hours))
        await shop.post(5)
        assert (await shop.standing(opens_s - 30.0)).overdue == 0
        assert (await shop.standing(90.0)).overdue == 0
        assert (await shop.standing(90.0)).overdue == 5
        await shop.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_while_a_minute_is_read_the_standing_before_it_is_shown() -> None:
    """A store that takes its time leaves no moment in which a platform seems to have no objective."""

    class Slow:
        def __init__(self, store: MemoryStore) -> None:
            self._store = store

        async def minutes(self, platform: str | None, since: float, now: float) -> Sequence[Sampled]:
            await asyncio.sleep(3)
            return await self._store.history.minutes(platform, since, now)

    async def run() -> None:
        shop = Platform()
        await shop.stop()
        objectives = Objectives(wanted=lambda: {"shop": OBJECTIVE}, history=Slow(shop.store))  # type: ignore[arg-type]

        async def tick() -> None:
            levels = await shop.store.history.levels()
            await objectives.tick(shop.clock.now(), levels, counted={}, unsaved=lambda _name: RequestCounts())

        await tick()
        assert objectives.standing("shop") is not None
        await asyncio.sleep(60)
        reading = asyncio.create_task(tick())
        await asyncio.sleep(1)
        assert objectives.standing("shop") is not None
        await reading

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
