"""Reloads: everything is put in force, or nothing; told as it is, to the log, the metric and the service manager."""

import asyncio
import threading
from base64 import b64encode
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from relay.admin.access import Access
from relay.admin.http.server import AdminSettings
from relay.config.load import load
from relay.core.errors import StoreFailed
from relay.core.model import Lane, NewCallback, StoreRules
from relay.daemon.live import LiveConfig, admin_users
from relay.daemon.systemd import Notifier
from relay.privacy.views import Lenses
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.views.configuration import RefusedReloadView
from relay.views.moments import Instant
from relay.web.refusal import Refusal
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


class Broken(MemoryStore):
    """A store that takes no rules."""

    def __init__(self, error: Exception) -> None:
        super().__init__(clock=FakeClock())
        self._error = error

    async def configure(self, rules: StoreRules) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("dry_run", "successful", "error", "said"),
    [
        (False, 0, StoreFailed("disk gone"), "StoreFailed: disk gone"),
        (False, 0, KeyError("13812345678"), "KeyError"),  # its message may hold anything
        (True, 1, StoreFailed("disk gone"), ""),
    ],
)
async def test_a_store_that_fails_leaves_the_old_configuration(
    tmp_path: Path, dry_run: bool, successful: int, error: Exception, said: str
) -> None:
    """Nothing is half in force; it is counted and told as a failure, and the service manager waits no longer."""
    file = tmp_path / "config.yaml"
    file.write_text(FILE.format(rate="100/min"))
    metrics, told = Metrics(), Told()
    metrics.reload_successful = 1
    anything: Any = None
    live = LiveConfig(
        config=load(str(file)),
        store=Broken(error),
        registry=anything,
        access=Access([]),
        lenses=Lenses((), {}),
        events=Events(log=structlog.get_logger(), metrics=metrics),
        notifier=told,
    )
    file.write_text(FILE.format(rate="7/min"))
    with structlog.testing.capture_logs() as lines:
        if dry_run:
            assert [change.new for change in (await live.reload(True, False, "ops")).changes] == ["7/min"]
        else:
            with pytest.raises(type(error)):
                await live.reload(False, False, "ops")
            assert lines[0]["problems"] == [f"it could not be put in force: {said}"]

    assert str(live.config.platforms["shop-a"].rate[0]) == "100/min"
    assert metrics.reload_successful == successful
    assert told.words == ([] if dry_run else ["reloading", "1 platform, reload failed"])
    assert [line["event"] for line in lines] == ([] if dry_run else ["config_refused"])
    assert live.for_operators.refused() == (
        None if dry_run else RefusedReloadView(Instant(FakeClock().now()), 1, "relay reload")
    )


async def test_validations_take_turns_in_threads_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time is read, not by the threads that save tokens; of many at once few wait, the rest is refused."""
    read_by: list[str] = []
    reading = []

    def watched(*_: object, **__: object) -> tuple[()]:
        reading.append(1)
        assert len(reading) == 1
        read_by.append(threading.current_thread().name)
        reading.pop()
        return ()

    under = Reloading(tmp_path)
    monkeypatch.setattr("relay.daemon.live.load", watched)
    monkeypatch.setattr("relay.daemon.live.examine", watched)
    validate = under.live.for_operators.validate
    answers = await asyncio.gather(*(validate(text) for text in ["version: 1", None] * 8), return_exceptions=True)
    assert [answer.code for answer in answers if isinstance(answer, Refusal)] == ["overloaded"] * 12
    assert [answer for answer in answers if not isinstance(answer, Refusal)] == [[]] * 4
    assert [name.rpartition("_")[0] for name in read_by] == ["config"] * 4
    assert await validate("version: 1") == []


async def test_a_reload_does_not_wait_for_a_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a heavy text cannot keep an operator from reloading."""
    begun, go_on = threading.Event(), threading.Event()

    def held(*_: object, **__: object) -> tuple[()]:
        begun.set()
        go_on.wait(30)
        return ()

    under = Reloading(tmp_path)
    monkeypatch.setattr("relay.daemon.live.examine", held)
    validating = asyncio.create_task(under.live.for_operators.validate("version: 1"))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    assert (await under.live.reload(True, False, "ops")).problems == []
    go_on.set()
    await validating


class Listener:
    """A listener that keeps what it is told."""

    listen = "127.0.0.1:0"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def configure(self, *given: Any, **named: Any) -> None:
        self.told += [*given, named]


class Pipelines:
    """Delivery, as far as a reload meets it."""

    def __init__(self) -> None:
        self.platforms: list[str] = []

    async def replace(self, terms: Any, within_s: float) -> None:
        self.platforms = [each.platform for each in terms]


OTHER = """version: 1
ingest: {{token: {token}}}
admin: {{hosts: [{name}.internal], users: [{{name: {name}, role: admin, token: {name}-token}}]}}
platforms:
  shop-{name}: {{url: "http://127.0.0.1:9/", rate: 7/min}}
routes: [{{otherwise: {{to: [shop-{name}]}}}}]
privacy:
  mask: [{{path: {name}, as: hide}}]
  views: {{all: {{show: [to.{name}]}}}}
"""


class Reloading:
    """A daemon's configuration in a file, with everything it puts a reload into."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "config.yaml"
        self.write("a")
        self.metrics, self.told = Metrics(), Told()
        self.store = MemoryStore(clock=FakeClock())
        config = load(str(self.file))
        self.access = Access(admin_users(config))
        self.lenses = Lenses(config.privacy.masks, config.privacy.compiled())
        pipelines: Any = Pipelines()
        self.pipelines = pipelines
        self.live = LiveConfig(
            config=config,
            store=self.store,
            registry=pipelines,
            access=self.access,
            lenses=self.lenses,
            events=Events(log=structlog.get_logger(), metrics=self.metrics),
            notifier=self.told,
        )
        admin: Any = Listener()
        ingest: Any = Listener()
        self.live.admin, self.live.ingest = [admin], [ingest]

    def write(self, name: str) -> None:
        """Write a configuration in which everything is called by ``name``."""
        self.file.write_text(OTHER.format(name=name, token=f"{name}-ingest"))

    async def accept(self, platform: str) -> NewCallback:
        """Accept one callback and return it."""
        row = NewCallback(platform, b"{}", None, None, Lane.NORMAL, 3600.0, None, None, None, "")
        await self.store.accept([row])
        return row

    def knows(self, name: str) -> bool:
        """Say whether the admin listener lets the user of this name in."""
        try:
            return self.access.identify(f"Bearer {name}-token", remote="", local=True).name == name
        except Refusal:
            return False

    def seen(self, view: str | None) -> list[Any]:
        """Return what somebody with this view sees of a payload."""
        shown = self.lenses.of(view).payload(b'{"a": "six", "b": "seven", "to": {"a": "eight", "b": "nine"}}').payload
        return [shown["a"], shown["b"], *shown["to"].values()]


@pytest.fixture
def reloading(tmp_path: Path) -> Reloading:
    """A daemon's configuration in force."""
    return Reloading(tmp_path)


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the log is told."""
    with structlog.testing.capture_logs() as told:
        yield told


async def test_everything_of_the_file_is_put_in_force(reloading: Reloading) -> None:
    """Users, hosts, token, platforms, routes and views are the new file's; the old users are let in no more."""
    row = await reloading.accept("_unrouted")
    assert (reloading.knows("a"), reloading.knows("b")) == (True, False)
    assert reloading.seen(None) == ["***", "s***", "e***", "n***"]
    assert reloading.seen("all") == ["***", "***", "eight", "***"]
    reloading.write("b")

    assert (await reloading.live.reload(False, False, "ops")).applied

    assert (reloading.knows("a"), reloading.knows("b")) == (False, True)
    assert reloading.seen(None) == ["s***", "***", "e***", "n***"]
    assert reloading.seen("all") == ["***", "***", "***", "nine"]
    (hosts,) = [told.hosts for told in reloading.live.admin[0].told if isinstance(told, AdminSettings)]  # type: ignore[attr-defined]
    assert hosts == ("b.internal",)
    (told,) = reloading.live.ingest[0].told  # type: ignore[attr-defined]
    assert told["settings"].token == "b-ingest"
    assert list(told["directory"].platforms) == ["shop-b"]
    assert reloading.pipelines.platforms == ["shop-b"]
    assert list(reloading.live.terms()) == ["shop-b"]
    status = await reloading.store.platform_status()
    assert [quota.limit for quota in status["shop-b"].quotas] == [7]
    assert reloading.told.words == ["reloading", "1 platform, configuration reloaded"]
    assert (await reloading.live.reload(True, False, "ops")).changes == []
    rerouted = reloading.live.reroute(row)
    assert not isinstance(rerouted, str)
    assert [each.platform for each in rerouted] == ["shop-b"]


async def test_other_keys_wake_what_seals(reloading: Reloading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when the store has taken them; a reload that leaves them as they are wakes nothing."""
    told: list[str] = []

    async def use(_source: object) -> None:
        told.append("taken")

    monkeypatch.setattr(reloading.store.sealing, "use", use)
    reloading.live.rekeyed = lambda: told.append("woken")
    reloading.file.write_text(reloading.file.read_text() + f"  encrypt: {{key: {b64encode(bytes(32)).decode()}}}\n")

    for _ in range(2):
        assert (await reloading.live.reload(False, False, "ops")).applied

    assert told == ["taken", "woken"]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_file_with_mistakes_is_told_and_changes_nothing(
    reloading: Reloading, lines: list[MutableMapping[str, Any]], dry_run: bool
) -> None:
    """One error line with the problems, and the metric says so; a dry run is no reload and tells nobody."""
    reloading.metrics.reload_successful = 1
    reloading.file.write_text(reloading.file.read_text() + "  rate: 7/never\n")

    answer = await reloading.live.reload(dry_run, False, "ops")

    assert not answer.applied
    assert answer.problems
    assert reloading.knows("a")
    assert [(line["event"], line["log_level"]) for line in lines] == ([] if dry_run else [("config_refused", "error")])
    assert dry_run or lines[0]["problems"] == answer.problems
    assert reloading.metrics.reload_successful == int(dry_run)
    assert reloading.told.words == []
    refused = reloading.live.for_operators.refused()
    assert (refused and refused.todo) == (None if dry_run else "relay config check")


async def test_a_platform_with_callbacks_is_not_removed_unless_forced(
    reloading: Reloading, lines: list[MutableMapping[str, Any]]
) -> None:
    """The reload is refused, told with how many wait, and changes nothing; with force it is put in force."""
    await reloading.accept("shop-a")
    reloading.write("b")

    refused = await reloading.live.reload(False, False, "ops")

    assert (refused.applied, refused.removed) == (False, {"shop-a": 1})
    assert reloading.knows("a")
    assert [line["event"] for line in lines] == ["config_refused"]
    assert "has 1 callback pending" in lines[0]["problems"][0]
    assert reloading.metrics.reload_successful == 0
    told = reloading.live.for_operators.refused()
    assert told is not None
    assert (told.problems, told.todo) == (1, "relay reload --dry-run")
    lines.clear()

    assert (await reloading.live.reload(False, True, "ops")).applied

    assert reloading.knows("b")
    assert reloading.live.for_operators.refused() is None
    assert [line["event"] for line in lines if line["log_level"] != "warning"] == ["config_loaded"]
    assert reloading.metrics.reload_successful == 1


async def test_the_last_reloads_are_kept(reloading: Reloading, tmp_path: Path) -> None:
    """Newest first: who asked, what became of it and what changed, a secret without its value; 20 of them."""
    config = "version: 1\ninclude: conf.d/*.yaml\nadmin: {{users: [{{name: a, role: admin, token: {token}}}]}}\n"
    part = tmp_path / "conf.d" / "shop.yaml"
    part.parent.mkdir()

    async def reload(by: str, *, token: str = "a-token", rate: str = "7/min", dry_run: bool = False) -> None:
        reloading.file.write_text(config.format(token=token))
        part.write_text(f'platforms: {{shop-a: {{url: "http://127.0.0.1:9/", rate: {rate}}}}}\n')
        await reloading.live.reload(dry_run, False, by)

    await reload("first")
    await reload("tries", rate="5/min", dry_run=True)
    await reload("ops", rate="100/min")
    await reload("errs", rate="100")
    await reload("turns", token="b-token", rate="100/min")

    told = reloading.live.for_operators.reloads()
    assert [(one.by, one.result, one.changes, one.problems, one.todo) for one in told[:3]] == [
        ("turns", "applied", ["~ admin (a secret's value)"], 0, ""),
        ("errs", "refused", [], 1, "relay config check"),
        ("ops", "applied", ["~ platforms.shop-a.rate 7/min -> 100/min"], 0, ""),
    ]
    assert [one.by for one in told[3:]] == ["first"]
    for number in range(20):
        await reload(str(number), token="b-token", rate="100/min")
    assert [one.by for one in reloading.live.for_operators.reloads()] == [str(number) for number in range(19, -1, -1)]


async def test_a_large_reload_is_kept_in_part(reloading: Reloading) -> None:
    """Of a whole new file the first 50 changes are kept, and how many more there were."""
    shops = "".join(f'  shop-{n}: {{url: "http://127.0.0.1:9/"}}\n' for n in range(60))
    reloading.file.write_text("version: 1\nplatforms:\n  shop-a: {url: http://127.0.0.1:9/, rate: 7/min}\n" + shops)

    await reloading.live.reload(False, False, "ops")

    (kept,) = reloading.live.for_operators.reloads()
    assert (len(kept.changes), kept.changes[0]) == (51, "+ platforms.shop-0")
    assert kept.changes[-1].startswith("... and 1")
