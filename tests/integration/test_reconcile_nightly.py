"""The daemon compares by itself: at its time, once for what it missed, one at a time; what it found is told."""

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
from relay.alerts.facts import ReconcileFacts, RelayFacts
from relay.alerts.rules import look
from relay.config.load import load
from relay.config.schema.alerts import AlertSettings
from relay.config.schema.file import Config
from relay.core.clock import wall_s
from relay.core.errors import RelayError, StoreFull
from relay.core.model import Accepted, Filter, Lane, NewCallback
from relay.daemon.reconciling.both_sides import DaemonReconciler, last_slot
from relay.daemon.reconciling.turns import EveryTurn
from relay.reconcile.report.past import PastRuns
from relay.store.sqlite.backend import SqliteStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics

SECTION = """
    at: "02:40"
    tz: Asia/Shanghai
    order_center: {file: orders.csv}
    platform: {file: shown.csv}
    columns: {key: order_id, status: status, at: updated_at}
    order: [created, paid]
    carry: 0
    settle: 0s
"""


class Taken(EveryTurn):
    """Turns of several hosts: what is ``elsewhere`` is another host's, what is ``taken`` another host did."""

    def __init__(self) -> None:
        self.elsewhere = False
        self.taken = False
        self.asked = 0
        self.ended: list[float] = []

    def mine(self, platform: str) -> bool:
        return not self.elsewhere

    async def begin(self, platform: str, at: float) -> bool:
        self.asked += 1
        return not self.taken

    async def done(self, platform: str, at: float) -> None:
        self.ended.append(at)


class Night:
    """A reconciler with a clock of its own."""

    def __init__(self, directory: Path, store: SqliteStore, extra: str, top: str = "") -> None:
        self.directory = directory
        self.store = store
        self.now = wall_s()
        (directory / "config.yaml").write_text(
            "version: 1\nplatforms: {shop-a: {url: 'https://a.example/', expires: 2h}}\n"
            f"reconcile:\n  shop-a:{SECTION}{extra}{top}"
        )
        self.config: Config = load(directory / "config.yaml", environ={})
        self.later: Config | None = None  # in force once the daemon has looked which platforms are due
        self.metrics = Metrics()
        self.turns = Taken()
        self.nudged = 0

        def nudge() -> None:
            self.nudged += 1

        def nobody(name: str) -> Any:
            raise AssertionError(f"files ask {name} nothing")

        self.reconciler = DaemonReconciler(
            config=self.in_force,
            find=nobody,
            store=store,
            events=Events(log=structlog.get_logger(), metrics=self.metrics),
            metrics=self.metrics,
            turns=self.turns,
            wall=lambda: self.now,
        )
        self.reconciler.operation_started = nudge

    def in_force(self) -> Config:
        """Return the configuration; from the second time on the later one."""
        found = self.config
        self.config = self.later or found
        return found

    def write(self, center: list[str], shown: list[str]) -> None:
        """Write both exports: orders that are paid, changed three hours ago."""
        for name, keys in (("orders.csv", center), ("shown.csv", shown)):
            lines = ["order_id,status,updated_at", *(f"{key},paid,{self.stamp()}" for key in keys)]
            (self.directory / name).write_text("\n".join(lines) + "\n")

    def down_for_days(self, days: int) -> None:
        """Let the daemon have known of the platform for so long, without a run."""
        (self.directory / "reconcile" / "shop-a" / "scheduled").write_text(str(self.now - days * 86400))
        self.now += 1

    def stamp(self) -> str:
        """Return a time three hours ago as exports write it."""
        return f"{datetime.fromtimestamp(self.now - 3 * 3600, ZoneInfo('Asia/Shanghai')):%Y-%m-%d %H:%M:%S}"

    async def round(self) -> list[dict[str, Any]]:
        """Let the daemon look once, and return the runs there are then."""
        task = asyncio.create_task(self.reconciler.run())
        try:
            async with asyncio.timeout(90):
                while not self.idle:
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()
            await asyncio.wait([task])
        return await self.reconciler.listed("shop-a")

    @property
    def idle(self) -> bool:
        """Whether it looked and nothing is under way."""
        looked = self.reconciler.looked_at == self.now
        return looked and not self.reconciler.busy


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """A store file beside the configuration."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    opened = await SqliteStore.open(tmp_path / "relay.db")
    yield opened
    await opened.close()


def test_the_time_of_day_is_that_of_its_zone() -> None:
    """02:40 in Shanghai is 18:40 UTC of the day before; before it, the last one was yesterday's."""
    shanghai = ZoneInfo("Asia/Shanghai")
    noon = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
    assert last_slot(noon.timestamp(), time(2, 40), shanghai) == datetime(2026, 11, 28, 18, 40, tzinfo=UTC).timestamp()
    late = datetime(2026, 11, 29, 18, 39, 59, tzinfo=UTC)
    assert last_slot(late.timestamp(), time(2, 40), shanghai) == datetime(2026, 11, 28, 18, 40, tzinfo=UTC).timestamp()


async def test_a_missed_run_is_made_up_once(tmp_path: Path, store: SqliteStore) -> None:
    """Nothing was missed before the daemon knew of it; a time that passed while it was down is made up once."""
    night = Night(tmp_path, store, "")
    night.write(["1"], ["1"])
    assert await night.round() == []
    night.down_for_days(3)

    (made_up,) = await night.round()

    assert (made_up["state"], made_up["agree"]) == ("done", 1)
    night.now += 1
    assert len(await night.round()) == 1
    assert night.metrics.reconciled["shop-a"][1] == {}
    assert b'relay_reconcile_differences{kind="missing",platform="shop-a"} 0.0' in night.metrics.render()


async def test_a_clock_that_was_ahead_ends_no_comparisons(tmp_path: Path, store: SqliteStore) -> None:
    """A run of the year 2099, and a platform known since then, keep no night from being compared."""
    night = Night(tmp_path, store, "")
    night.write(["1"], ["1"])
    await night.round()
    night.down_for_days(-9999)
    await night.round()
    since = float((tmp_path / "reconcile" / "shop-a" / "scheduled").read_text())
    assert since == night.now
    night.down_for_days(1)
    ahead = tmp_path / "reconcile" / "shop-a" / "20990101T000000000Z"
    ahead.mkdir()
    (ahead / "summary.json").write_text(json.dumps({"run": ahead.name, "complete": True, "counts": {"missing": 7}}))

    runs = await night.round()

    assert [run["agree"] for run in runs if run["run"] != ahead.name] == [1]
    assert night.reconciler.facts()["shop-a"].differences == 0


async def test_a_run_that_fails_or_is_incomplete_is_told(tmp_path: Path, store: SqliteStore) -> None:
    """An export that is not there is an incomplete run, and an alert; so is one that finds differences."""
    night = Night(tmp_path, store, "")
    assert night.reconciler.facts() == {}
    await night.round()
    night.down_for_days(1)

    (run,) = await night.round()

    assert not run["complete"]
    assert night.reconciler.facts() == {"shop-a": ReconcileFacts(0, "incomplete", run["run"])}
    night.write(["1", "2"], ["1"])
    started = await night.reconciler.start("shop-a")
    night.now += 1
    await night.round()
    assert night.reconciler.facts() == {"shop-a": ReconcileFacts(1, "", started["run"])}
    assert told(night) == ["1 order differs from what the order center has"]


def told(night: Night, language: str = "en") -> list[str]:
    """Return what the alerts say."""
    rules = AlertSettings.model_validate({}).rules.by_name()
    found, _ = look(RelayFacts(platforms={}, reconciled=night.reconciler.facts()), rules, [])
    assert {each.key.rule for each in found} <= {"reconcile"}
    return [str(each.values[language]) for each in found]


async def test_one_at_a_time(tmp_path: Path, store: SqliteStore) -> None:
    """A second run of the platform is refused while one is under way; it is shown as running."""
    night = Night(tmp_path, store, "")
    night.write(["1"], ["1"])
    started = await night.reconciler.start("shop-a")
    with pytest.raises(RelayError):
        await night.reconciler.start("shop-a")
    with pytest.raises(KeyError):
        await night.reconciler.start("shop-b")
    assert (await night.reconciler.listed(None))[0]["state"] == "running"
    await night.round()
    found = await night.reconciler.one(started["run"])
    assert found is not None
    assert (found["state"], found["differences"]) == ("done", [])
    assert await night.reconciler.one("../../etc") is None


async def dead(store: SqliteStore, *keys: str) -> None:
    """Leave dead letters of orders."""
    rows = [
        NewCallback("shop-a", json.dumps({"order_id": key, "status": "paid"}).encode(), key, None, Lane.NORMAL, 9.0,
                    None, None, None, "", dead_reason="exhausted")
        for key in keys
    ]  # fmt: skip
    await store.accept(rows)


@pytest.mark.parametrize(("most", "sent"), [(2, 2), (1, 0)])
async def test_it_repairs_by_itself_within_bounds(tmp_path: Path, store: SqliteStore, most: int, sent: int) -> None:
    """With more than ``max`` none is repaired, and the alert says so; else all are, with an audit record."""
    night = Night(tmp_path, store, f"    repair: {{auto: {{kinds: [missing], max: {most}}}}}\n")
    await dead(store, "a", "b")
    night.write(["1", "a", "b"], ["1"])
    await night.reconciler.start("shop-a")
    (run,) = await night.round()

    assert run["repair"]["sent"] == sent
    assert bool(run["repair"]["refused"]) is (sent == 0)
    assert night.reconciler.facts()["shop-a"].trouble == ("" if sent else "unrepaired")
    operations = await store.open_operations()
    assert len(operations) == (1 if sent else 0) == night.nudged
    if sent:
        stepped = await store.step_operation(operations[0], 10)
        assert (stepped.progress.action, stepped.progress.done) == ("resend", 2)
        assert stepped.progress.options.expires_s == 7200.0


async def test_the_next_night_says_what_became_of_the_repairs(tmp_path: Path, store: SqliteStore) -> None:
    """Of two that were sent again one shows and one does not: told by run, report and alert, each order by itself."""
    night = Night(tmp_path, store, "    repair: {auto: {kinds: [missing], max: 2}}\n")
    await dead(store, "a", "b")
    night.write(["1", "a", "b"], ["1"])
    first = (await night.reconciler.start("shop-a"))["run"]
    await night.round()
    assert told(night) == ["2 orders differ from what the order center has; 2 of them were sent again"]
    await store.step_operation((await store.open_operations())[0], 10)
    night.write(["1", "a", "b"], ["1", "a"])
    second = (await night.reconciler.start("shop-a"))["run"]
    night.now += 1

    run, _ = await night.round()

    assert run["verified"] == {"of": first, "counts": {"repaired": 1, "still": 1}}
    whole = await night.reconciler.one(second)
    assert whole is not None
    assert whole["verified_orders"] == [{"key": "a", "result": "repaired"}, {"key": "b", "result": "still"}]
    before = "of what was sent again before, 1 is repaired and 1 not"
    assert told(night) == [f"1 order differs from what the order center has; {before}"]
    assert told(night, "zh") == ["与订单中心有 1 单不一致；上次重发的已修复 1 单，未修复 1 单"]
    files = [path for path in (tmp_path / "reconcile").rglob("*") if path.parent.name in (first, second)]
    assert len(files) >= 10
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "reconcile").stat().st_mode & 0o777 == 0o700
    report = next(path for path in files if path.parts[-2:] == (second, "report.html")).read_text("utf-8")
    assert "<td>b</td>" in report.partition("became of the repairs")[2].partition("<svg")[0]


async def test_files_of_a_run_show_no_order_that_is_hidden(tmp_path: Path, store: SqliteStore) -> None:
    """With `hide` for the order's number it stands in no report, neither as a difference nor as what was verified."""
    hidden = "privacy: {mask: [{path: order_id, as: hide}]}\n"
    night = Night(tmp_path, store, "    repair: {auto: {kinds: [missing], max: 2}}\n", hidden)
    await dead(store, "order-4711")
    night.write(["1", "order-4711"], ["1"])
    await night.reconciler.start("shop-a")
    await night.round()
    await store.step_operation((await store.open_operations())[0], 10)
    night.now += 1
    second = (await night.reconciler.start("shop-a"))["run"]
    (last, _) = await night.round()

    assert (last["run"], last["counts"]["missing"], last["verified"]["counts"]) == (second, 1, {"still": 1})
    folder = tmp_path / "reconcile" / "shop-a" / second
    shown = [folder / name for name in ("differences.csv", "run.json", "report.html")]
    assert all("***" in file.read_text("utf-8") for file in shown)
    assert [file.name for file in shown if "4711" in file.read_text("utf-8")] == []


async def test_the_order_center_is_told_what_it_never_posted(tmp_path: Path, store: SqliteStore) -> None:
    """With `receipts` each order that the relay never got is told to it, once however often it is found."""
    night = Night(tmp_path, store, "", "receipts: {url: 'http://127.0.0.1:9/receipts'}\n")
    await store.configure(night.config.store_rules())
    night.write(["1", "never"], ["1"])
    for _ in range(2):
        await night.reconciler.start("shop-a")
        night.now += 1
        await night.round()

    told, _ = await store.callbacks(Filter(platform="_receipts"), cursor=None, limit=10)

    assert [each.key for each in told] == ["never"]
    view = await store.callback(told[0].id, payload=True)
    assert view is not None
    receipt = json.loads(view.payload)
    assert (receipt["platform"], receipt["key"], receipt["state"]) == ("shop-a", "never", "not_posted")


async def test_a_run_that_is_incomplete_repairs_nothing(tmp_path: Path, store: SqliteStore) -> None:
    """An order is behind and its callback dead, but a line of the platform names no order: nothing is sent."""
    night = Night(tmp_path, store, "    repair: {auto: {kinds: [behind], max: 5}}\n")
    await dead(store, "a")
    night.write(["1", "a"], ["1", "a"])
    shown = (tmp_path / "shown.csv").read_text()
    (tmp_path / "shown.csv").write_text(shown.replace("a,paid", "a,created") + f",paid,{night.stamp()}\n")

    await night.reconciler.start("shop-a")
    (run,) = await night.round()

    assert (run["complete"], run["counts"]["behind"]) == (False, 1)
    assert run["repair"]["refused"]
    assert await store.open_operations() == []


async def test_a_platform_that_a_reload_takes_away_meanwhile(tmp_path: Path, store: SqliteStore) -> None:
    """It was due, and is in the file no more when its turn comes: it is not compared, and the daemon goes on."""
    night = Night(tmp_path, store, "")
    night.write(["1"], ["1"])
    await night.round()
    night.down_for_days(1)
    (tmp_path / "config.yaml").write_text("version: 1\nplatforms: {shop-a: {url: 'https://a.example/', expires: 2h}}\n")
    night.later = load(tmp_path / "config.yaml", environ={})

    assert await night.round() == []


async def test_a_store_that_is_full_for_a_moment(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the order center is to be told waits until the store takes it."""
    night = Night(tmp_path, store, "", "receipts: {url: 'http://127.0.0.1:9/receipts'}\n")
    await store.configure(night.config.store_rules())
    night.write(["1", "never"], ["1"])
    await night.round()
    night.down_for_days(1)
    full, accept = [StoreFull("no room")], store.accept

    async def accept_later(rows: Sequence[NewCallback]) -> Accepted:
        if full:
            raise full.pop()
        return await accept(rows)

    monkeypatch.setattr(store, "accept", accept_later)
    await night.round()

    told, _ = await store.callbacks(Filter(platform="_receipts"), cursor=None, limit=10)
    assert [each.key for each in told] == ["never"]


async def test_a_disk_that_takes_nothing(tmp_path: Path, store: SqliteStore) -> None:
    """Where no folder can be made the log says so; the daemon goes on, and compares when there is room again."""
    with structlog.testing.capture_logs() as lines:
        night = Night(tmp_path, store, "")
        night.write(["1"], ["1"])
        (tmp_path / "reconcile").write_text("in the way")
        assert await night.round() == []
        assert {name: each.trouble for name, each in night.reconciler.facts().items()} == {"shop-a": "failed"}
        with pytest.raises(RelayError, match="reconcile: "):
            await night.reconciler.start("shop-a")
    (told,) = [line for line in lines if line["event"] == "reconciled"]
    assert (told["platform"], told["complete"]) == ("shop-a", False)

    (tmp_path / "reconcile").unlink()
    night.now += 1
    await night.round()
    night.down_for_days(1)
    assert len(await night.round()) == 1


async def test_kept_files_that_a_power_failure_left_empty(tmp_path: Path, store: SqliteStore) -> None:
    """They count as not there, and the daemon goes on; nor does it take another's folder for a run of its own."""
    night = Night(tmp_path, store, "")
    night.write(["1"], ["1"])
    await night.round()
    night.down_for_days(1)
    (run,) = await night.round()
    kept = tmp_path / "reconcile" / "shop-a"
    (kept / "notes").mkdir()
    for file in ("scheduled", "notes/summary.json", f"{run['run']}/summary.json", f"{run['run']}/repairs.json"):
        (kept / file).write_bytes(b"")
    (kept / "rows.json").write_bytes(b"")

    again = Night(tmp_path, store, "")
    again.now = night.now + 86400
    again.write(["1"], ["1"])
    (newer,) = await again.round()
    assert newer["state"] == "done", newer
    assert newer["run"] != run["run"]
    assert float((kept / "scheduled").read_text()) == again.now


async def test_a_disk_that_fills_up_while_a_run_is_kept(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is told as failed, and the daemon goes on."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    night = Night(tmp_path, store, "")
    await night.round()
    night.down_for_days(1)  # the exports are not there, so the run is incomplete
    monkeypatch.setattr(PastRuns, "prune", full)
    with structlog.testing.capture_logs() as lines:
        await night.round()
    assert [line.get("error", "") for line in lines if line["event"] == "reconciled"][-1].endswith("no space left")


async def test_one_host_compares(tmp_path: Path, store: SqliteStore) -> None:
    """What another host owns is not run; what another host did is asked for once, and was not missed."""
    night = Night(tmp_path, store, "")
    night.write(["1"], ["1"])
    night.turns.elsewhere = True
    await night.round()
    night.down_for_days(2)
    assert await night.round() == []
    assert night.reconciler.facts() == {}
    night.turns.elsewhere, night.turns.taken = False, True
    night.now += 1
    assert await night.round() == []
    night.now += 1
    assert await night.round() == []
    assert night.turns.asked == 1
    assert night.reconciler.facts() == {}
    night.turns.taken = False
    night.now += 86400
    assert len(await night.round()) == 1
    assert len(night.turns.ended) == 1
