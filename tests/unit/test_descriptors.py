"""File descriptors that run out: told once in the log, in readyz and in metrics, and again when it is over."""

import asyncio
import io
import json
import os
import resource
from collections.abc import Iterator

import pytest
from relay.daemon import readiness
from relay.daemon.readiness import Readiness
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.upkeep.descriptors import Descriptors
from relay.views.queue import StoreSize
from tests.clocks import FakeClock


@pytest.fixture
def few() -> Iterator[int]:
    """A limit that is near: 60 more than are open now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(os.listdir("/proc/self/fd")) + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Slow(MemoryStore):
    """A full store whose reads wait for one that takes long."""

    def __init__(self) -> None:
        super().__init__(clock=FakeClock())
        self.gate = asyncio.Event()
        self.reads = 0

    async def size(self) -> StoreSize:
        self.reads += 1
        await self.gate.wait()
        return StoreSize(used_bytes=90, usable_bytes=90, max_bytes=100, full=True)


async def test_a_long_read_does_not_make_it_unready(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commits is ready although nobody can say yet how full it is; one such question waits, not more."""
    monkeypatch.setattr(readiness, "_READ_S", 0.01)
    store = Slow()
    events = Events(log=make_logger(file=io.BytesIO()), metrics=Metrics())
    asked = Readiness(store, [lambda: Descriptors(events=events, clock=FakeClock()).low])
    assert await asked.check() == await asked.check() == []
    assert store.reads == 1
    store.gate.set()
    (reason,) = await asked.check()
    assert reason.startswith("store_full: it uses 90 of the 90 bytes")


async def test_few_descriptors_left(few: int) -> None:
    """It is a line when it begins and one when it ends, readyz is degraded meanwhile, and metrics show the figures."""
    log, metrics = io.BytesIO(), Metrics()
    events = Events(log=make_logger(file=log), metrics=metrics)
    watch = Descriptors(events=events, clock=FakeClock())
    asked = Readiness(MemoryStore(clock=FakeClock()), [lambda: watch.low])
    watch.look()
    assert await asked.check() == []
    held: list[int] = []
    try:
        while True:  # until none is left, not even one to count with
            held.append(os.dup(0))
    except OSError:
        watch.look()
        watch.look()
    finally:
        for descriptor in held:
            os.close(descriptor)
    (reason,) = await asked.check()
    assert f"{few} of {few} file descriptors are in use; raise LimitNOFILE=" in reason
    assert f"relay_process_open_fds {float(few)}" in metrics.render().decode()
    watch.look()
    assert await asked.check() == []
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == [
        "descriptors_low", "descriptors_well",
    ]  # fmt: skip
