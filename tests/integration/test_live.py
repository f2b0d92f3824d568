"""A reload that cannot be put in force: told as it is, to the log, the metric and the service manager."""

from pathlib import Path
from typing import Any

import pytest
import structlog
from relay.admin.access import Access
from relay.config.load import load
from relay.core.errors import StoreFailed
from relay.core.model import StoreRules
from relay.daemon.live import LiveConfig
from relay.daemon.systemd import Notifier
from relay.delivery.limits import Limits
from relay.store.memory import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from tests.clocks import FakeClock

FILE = """version: 1
platforms:
  shop-a: {{url: "http://127.0.0.1:9/", rate: {rate}}}
"""


class Told(Notifier):
    """What the service manager is told."""

    def __init__(self) -> None:
        super().__init__({})
        self.words: list[str] = []

    def ready(self, status: str) -> None:
        self.words.append(status)

    def reloading(self, monotonic_usec: int) -> None:
        self.words.append("reloading")


class Broken:
    """A store whose disk is gone."""

    async def configure(self, rules: StoreRules) -> None:
        raise StoreFailed("disk gone")


@pytest.mark.parametrize(("dry_run", "successful"), [(False, 0), (True, 1)])
async def test_a_store_that_fails_leaves_the_old_configuration(tmp_path: Path, dry_run: bool, successful: int) -> None:
    """Nothing is half in force; it is counted and told as a failure, and the service manager waits no longer."""
    file = tmp_path / "config.yaml"
    file.write_text(FILE.format(rate="100/min"))
    metrics, told = Metrics(), Told()
    metrics.reload_successful = 1
    anything: Any = None
    live = LiveConfig(
        config=load(str(file)),
        store=MemoryStore(clock=FakeClock()),
        limits=Limits(Broken()),
        registry=anything,
        access=Access([]),
        events=Events(log=structlog.get_logger(), metrics=metrics),
        notifier=told,
    )
    file.write_text(FILE.format(rate="7/min"))
    with structlog.testing.capture_logs() as lines:
        if dry_run:
            assert [change["new"] for change in (await live.reload(True, False))["changes"]] == ["7/min"]
        else:
            with pytest.raises(StoreFailed):
                await live.reload(False, False)

    assert str(live.config.platforms["shop-a"].rate[0]) == "100/min"
    assert metrics.reload_successful == successful
    assert told.words == ([] if dry_run else ["reloading", "1 platforms, reload failed"])
    assert [line["event"] for line in lines] == ([] if dry_run else ["config_refused"])
