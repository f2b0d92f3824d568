"""How a pipeline sleeps: until a time, a wake-up, or enough arrivals; nothing that happens is missed."""

import asyncio

import pytest
from relay.core.clock import RelayClock
from relay.delivery.wakeup import Wakeup

FAR = float("inf")


@pytest.fixture
def wakeup() -> Wakeup:
    """One sleeper on the real clock."""
    return Wakeup(RelayClock(0.0))


async def asleep(task: "asyncio.Task[None]") -> bool:
    """Let the loop go round and say whether the sleep goes on."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_what_came_before_the_sleep_ends_it(wakeup: Wakeup) -> None:
    """Between the look and the sleep a commit takes place: its news are not slept through."""
    wakeup.begin()
    wakeup.wake()
    await asyncio.wait_for(wakeup.sleep(FAR, missing=0), 20)

    wakeup.begin()
    wakeup.arrived(3)
    await asyncio.wait_for(wakeup.sleep(FAR, missing=3), 20)


async def test_what_was_looked_at_is_forgotten(wakeup: Wakeup) -> None:
    """After ``begin`` only what happens from then on counts."""
    wakeup.wake()
    wakeup.arrived(9)
    wakeup.begin()
    task = asyncio.create_task(wakeup.sleep(FAR, missing=1))
    assert await asleep(task)
    wakeup.wake()
    await asyncio.wait_for(task, 20)


async def test_arrivals_add_up(wakeup: Wakeup) -> None:
    """A batch lacks ten: seven and then three wake it, each alone does not."""
    wakeup.begin()
    task = asyncio.create_task(wakeup.sleep(FAR, missing=10))
    assert await asleep(task)
    wakeup.arrived(7)
    assert await asleep(task)
    wakeup.arrived(3)
    await asyncio.wait_for(task, 20)


async def test_arrivals_change_nothing_behind_a_limit(wakeup: Wakeup) -> None:
    """With no slot free more callbacks wake nobody."""
    wakeup.begin()
    task = asyncio.create_task(wakeup.sleep(FAR, missing=0))
    assert await asleep(task)
    wakeup.arrived(10**6)
    assert await asleep(task)
    wakeup.wake()
    await asyncio.wait_for(task, 20)


async def test_a_time_that_is_over_is_not_waited_for(wakeup: Wakeup) -> None:
    """And one that comes ends the sleep by itself."""
    clock = RelayClock(0.0)
    wakeup.begin()
    await asyncio.wait_for(wakeup.sleep(clock.now() - 1, missing=0), 20)
    until = clock.now() + 0.02
    await asyncio.wait_for(wakeup.sleep(until, missing=0), 20)
    assert clock.now() >= until
