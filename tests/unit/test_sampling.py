"""The duty that samples, in virtual time: it looks every 5 s and gives the store each minute once."""

import asyncio
from collections.abc import Mapping
from unittest.mock import patch

import structlog
from relay.core.errors import StoreDamaged
from relay.core.model import Lane, NewCallback, Outcome
from relay.simulate.virtual import VirtualClock, VirtualLoop
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep.in_time import Objectives
from relay.upkeep.sampling import Sampling
from relay.views.past.history import MinuteCounts

_BEGAN = 1_790_000_040.0  # a whole minute


def _sampled() -> tuple[VirtualClock, Metrics, MemoryStore, Sampling]:
    """Return a clock on the running loop, and what looks at the metrics and keeps minutes in the store."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    clock, metrics = VirtualClock(loop, _BEGAN), Metrics()
    store = MemoryStore(clock=clock)
    events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=metrics)
    objectives = Objectives(wanted=dict, history=store.history)
    sampling = Sampling(
        history=store.history, counted=metrics.request_counts, objectives=objectives, clock=clock, events=events
    )
    return clock, metrics, store, sampling


def test_each_minute_is_given_once() -> None:
    """Requests are counted in the minute they were made in, whoever asks when; 5 s spans go back 15 minutes."""

    async def run() -> None:
        clock, metrics, store, sampling = _sampled()
        running = asyncio.create_task(sampling.run())
        for _ in range(40):  # two requests a minute
            await asyncio.sleep(15)
            await store.ping()
            metrics.requests["shop", Outcome.OK.value, "2xx"] += 1
            metrics.requests["shop", Outcome.DOWN.value, "none"] += 1
            await asyncio.sleep(15)
            await store.ping()
        await asyncio.sleep(1)
        await store.accept([_callback()])
        assert sampling.unsaved("shop").requests == 0
        minutes = await store.history.minutes("shop", _BEGAN, clock.now())
        assert [span.counts.requests for span in minutes] == [*[4] * 20, 0]
        assert [span.counts.failed for span in minutes] == [*[2] * 20, 0]
        recent = sampling.recent("shop")
        assert [len(recent), sum(span.counts.requests for span in recent)] == [180, 60]
        assert recent == sampling.recent(None)
        assert (await sampling.running(None)).accepted == 1
        running.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_a_damaged_history_does_not_end_the_looks() -> None:
    """A minute that cannot be kept goes to the next one that can; the 5 s spans go on."""

    async def run() -> None:
        _, metrics, store, sampling = _sampled()
        keeps, kept = [StoreDamaged("a page"), StoreDamaged("a page"), None], []

        async def keep_minute(minute: int, counted: Mapping[str, MinuteCounts]) -> None:
            if (error := keeps.pop(0)) is not None:
                raise error
            kept.append(counted["shop"].counts.requests)

        with patch.object(store.history, "keep_minute", keep_minute):
            running = asyncio.create_task(sampling.run())
            for _ in range(3):
                await asyncio.sleep(30)
                metrics.requests["shop", Outcome.OK.value, "2xx"] += 1
                await asyncio.sleep(31)
        assert kept == [3]
        assert len(sampling.recent("shop")) == 36
        running.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def _callback() -> NewCallback:
    return NewCallback("shop", b"{}", None, None, Lane.NORMAL, 86400.0, None, None, None, "")
