"""File descriptors that run out: told once in the log, in readyz and in metrics, and again when it is over."""

import io
import json
import os
import resource
from collections.abc import Iterator

import pytest
from relay.daemon.readiness import Readiness
from relay.store.memory import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.upkeep.descriptors import Descriptors
from tests.clocks import FakeClock


@pytest.fixture
def few() -> Iterator[int]:
    """A limit that is near: 60 more than are open now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(os.listdir("/proc/self/fd")) + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_few_descriptors_left(few: int) -> None:
    """It is a line when it begins and one when it ends, readyz is degraded meanwhile, and metrics show the figures."""
    log, metrics = io.BytesIO(), Metrics()
    events = Events(log=make_logger(file=log), metrics=metrics)
    watch = Descriptors(events=events, clock=FakeClock())
    readiness = Readiness(MemoryStore(clock=FakeClock()), watch)
    watch.look()
    assert await readiness.check() == []
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
    (reason,) = await readiness.check()
    assert f"{few} of {few} file descriptors are in use; raise LimitNOFILE=" in reason
    assert f"process_open_fds {float(few)}" in metrics.render().decode()
    watch.look()
    assert await readiness.check() == []
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == [
        "descriptors_low", "descriptors_well",
    ]  # fmt: skip
