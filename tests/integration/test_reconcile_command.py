"""``relay reconcile`` from the configuration to the exit code, with a real store."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from relay.cli.commands.reconciling.command import _time
from relay.cli.main import run
from relay.config.load import load
from relay.core.clock import wall_s
from relay.core.model import Batch, ClaimRequest, Lane, NewCallback, Outcome
from relay.core.settlement import AttemptResult, Settlement
from relay.reconcile.job import SqlSource
from relay.reconcile.preparing import Window, comparison
from relay.store.sqlite.backend import SqliteStore
from tests.store.test_checksums import flip, leaves
from tests.unit.config_files import loaded, problems

COMPARED = """
    order_center: {file: "orders-{date}.csv"}
    platform: {file: shown.jsonl}
    columns: {key: order_id, status: status, at: updated_at}
    order: [created, paid, shipped]
"""
CONFIG = f"""version: 1
platforms: {{shop-a: {{url: "https://a.example/"}}}}
reconcile:
  shop-a:{COMPARED}"""


def stamp(hours_ago: float) -> str:
    """Return a time as exports write it, in UTC without a zone."""
    return f"{datetime.fromtimestamp(wall_s(), UTC) - timedelta(hours=hours_ago):%Y-%m-%d %H:%M:%S}"


def exports(directory: Path, center: list[tuple[str, str]], shown: list[tuple[str, str]]) -> None:
    """Write both exports; all their orders changed 3 hours ago."""
    at = stamp(3)
    lines = ["order_id,status,updated_at", *(f"{key},{status},{at}" for key, status in center)]
    # The day may end while the test runs: the file of the next day is there too
    for hours_ago in (0.0, -24.0):
        (directory / f"orders-{stamp(hours_ago)[:10]}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    rows = [json.dumps({"order_id": key, "status": status, "updated_at": at}) for key, status in shown]
    (directory / "shown.jsonl").write_text("".join(f"{row}\n" for row in rows), "utf-8")


async def keep(directory: Path) -> tuple[str, str]:
    """Leave a store in which one order was delivered just now and another waits; return their ids."""
    store = await SqliteStore.open(directory / "relay.db")
    ids = []
    for key in ("given", "waits"):
        payload = json.dumps({"order_id": key, "status": "paid"}).encode()
        row = NewCallback("shop-a", payload, key, None, Lane.NORMAL, 3600.0, None, None, None, "")
        ids += (await store.accept([row])).ids
        if key == "given":
            batch = await store.claim(ClaimRequest("shop-a", None, 1, 1 << 20, 2, 1, 0.0, 0, True))
            assert isinstance(batch, Batch)
            result = AttemptResult(Outcome.OK, store.clock.now(), 0.0, 200)
            seqs = [item.seq for item in batch.items]
            await store.settle(Settlement(batch.number, batch.attempt_id, "shop-a", result, delivered=seqs))
    await store.close()
    return ids[0], ids[1]


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A configuration and a store beside it; the ids of the delivered and of the waiting callback."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "config.yaml").write_text(CONFIG, "utf-8")
    return await keep(tmp_path)


def reconcile(directory: Path, *options: str) -> int:
    """Run the command and return its exit code."""
    return run(["reconcile", "shop-a", "-c", str(directory / "config.yaml"), *options])


def test_differences_are_found_with_what_the_relay_did(
    tmp_path: Path, kept: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, each order with the relay's callback; what was delivered just now is unsettled."""
    exports(tmp_path, [("a", "paid"), ("given", "paid"), ("waits", "paid")], [("a", "paid")])

    assert reconcile(tmp_path, "-o", "json") == 3

    shown = json.loads(capfd.readouterr().out)
    found = {line["key"]: line for line in shown["differences"]}
    assert {key: (line["kind"], line["why"]) for key, line in found.items()} == {
        "given": ("unsettled", None),
        "waits": ("missing", "waiting"),
    }
    assert [found[key]["relay"]["id"] for key in ("given", "waits")] == list(kept)
    assert shown["agree"] == 1
    assert shown["complete"]


def test_unsettled_alone_is_no_difference(
    tmp_path: Path, kept: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit 0; JSON lines end with the summary."""
    exports(tmp_path, [("a", "paid"), ("given", "paid")], [("a", "paid")])

    assert reconcile(tmp_path, "-o", "jsonl") == 0

    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line.get("kind") for line in lines] == ["unsettled", None]
    assert lines[-1]["counts"] == {"unsettled": 1}


def test_a_missing_file_is_a_failure(tmp_path: Path, kept: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 1 and the file's name; a file named on the command line takes the place of the configured one."""
    exports(tmp_path, [("a", "paid")], [])

    assert reconcile(tmp_path, "--platform", str(tmp_path / "gone.csv")) == 1

    shown = capfd.readouterr()
    assert "gone.csv" in shown.err
    assert "missing" not in shown.out


def test_without_a_store_one_sentence_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 1 and the store's path; no traceback of the process that compares, and no half a run is kept."""
    (tmp_path / "config.yaml").write_text(CONFIG, "utf-8")
    exports(tmp_path, [("a", "paid")], [])

    assert reconcile(tmp_path) == 1

    missing = f"{tmp_path / 'relay.db'} does not exist; the first `relay run` makes it"
    assert capfd.readouterr().err == f"relay: the comparison failed: {missing}\n"
    assert [file.name for file in (tmp_path / "reconcile" / "shop-a").iterdir()] == ["lock"]


def test_a_damaged_store_is_told_in_one_sentence(
    tmp_path: Path, kept: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Met while its rows are read."""
    exports(tmp_path, [("a", "paid")], [("a", "paid")])
    flip(tmp_path / "relay.db", leaves(tmp_path / "relay.db", "payload")[0], 3000)

    assert reconcile(tmp_path) == 1

    words = "the store is damaged (a page does not match its checksum); with the daemon down: relay restore"
    assert capfd.readouterr().err.startswith(f"relay: the comparison failed: {words}")


def test_the_store_is_not_changed_and_the_folder_is_gone(tmp_path: Path, kept: tuple[str, str]) -> None:
    """The store's file is the same after the command, and nothing of the private folder is left."""
    exports(tmp_path, [("a", "paid")], [("a", "paid")])
    before = (tmp_path / "relay.db").read_bytes()

    assert reconcile(tmp_path) == 0

    assert (tmp_path / "relay.db").read_bytes() == before
    assert list(tmp_path.glob("reconcile-*")) == []


def test_wrong_usage(tmp_path: Path, kept: tuple[str, str]) -> None:
    """A file of an unknown form and a window that ends before it starts are wrong usage; no section is a failure."""
    assert reconcile(tmp_path, "--platform", "shown.xlsx") == 2
    assert reconcile(tmp_path, "--since", "1h", "--until", "2h") == 2
    assert run(["reconcile", "shop-b", "-c", str(tmp_path / "config.yaml")]) == 1


def test_a_report_that_cannot_be_written_is_told_before_anything_is_compared(
    tmp_path: Path, kept: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """A file in the place of the folder, and a folder that takes no file."""
    exports(tmp_path, [("a", "paid")], [("a", "paid")])
    for place in (tmp_path / "shown.jsonl", Path("/proc/x")):
        assert reconcile(tmp_path, "--report", str(place)) == 1
        assert capfd.readouterr().err.startswith(f"relay: --report {place}: it cannot be written there: ")
    assert not list((tmp_path / "reconcile" / "shop-a").glob("*/summary.json"))


def test_times_are_in_the_zone_of_the_comparison() -> None:
    """A time without a zone is meant as those of the exports are; one with a zone, and an age, mean themselves."""
    shanghai, now = ZoneInfo("Asia/Shanghai"), 1_796_000_000.0
    midnight = datetime(2026, 11, 28, 16, tzinfo=UTC).timestamp()
    for text in ("2026-11-29", "2026-11-29T00:00", "2026-11-28T16:00Z", "2026-11-29 00:00:00+08:00"):
        assert _time("--since", text, now, shanghai) == midnight, text
    assert _time("--since", "2h", now, shanghai) == now - 7200


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("{file: shown.jsonl}", "{file: shown.jsonl, url: 'https://a.example/orders'}", "E051"),
        ("{file: shown.jsonl}", "{file: shown.parquet.gz}", "E031"),
        ("{file: shown.jsonl}", "{url: 'https://a.example/orders?p={page}'}", "E051"),
        ("{file: shown.jsonl}", "{url: 'https://a.example/orders?p={shop}'}", "E031"),
        ("{file: shown.jsonl}", "{url: 'https://a.example/orders', next: {cursor: next}}", "E051"),
        ("{file: shown.jsonl}", "{sql: 'sqlite:///a.db'}", "E011"),
        ("{file: shown.jsonl}", "{sql: 'sqlite:///a.db', query: select 1, encoding: gb18030}", "E051"),
        ("  shop-a:\n", "  shop-b:\n", "E062"),
        ("order: [created, paid, shipped]", "order: [created]\n    stuck: {paid: 6h}", "E051"),
        ("order: [created, paid, shipped]", "order: [created]\n    tolerance: {amount: 0.01}", "E051"),
        ("key: order_id, ", "order_center: {key: order_id}, ", "E011"),
        ("order: [created, paid, shipped]", "order: [created]\n    tz: Mars/North", "E031"),
    ],
)
def test_a_section_that_cannot_work_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    """Sources of later steps, unknown forms, platforms, statuses, columns and zones."""
    assert [problem.code for problem in problems(tmp_path, CONFIG.replace(old, new))] == [code]


def test_a_database_lies_beside_the_configuration(tmp_path: Path) -> None:
    """A relative SQLite file starts at the configuration; others are left as they are."""
    sides = "{sql: 'sqlite:///orders.db', query: select 1}", "{sql: 'postgresql+psycopg://h/d', query: select 1}"
    for given, wanted in zip(sides, (f"sqlite:///{tmp_path}/orders.db", "postgresql+psycopg://h/d"), strict=True):
        config = loaded(tmp_path, CONFIG.replace('{file: "orders-{date}.csv"}', given))
        job = comparison(config, "shop-a", run="r", window=Window(0.0, 1.0), folder="f")
        assert isinstance(job.order_center.source, SqlSource)
        assert job.order_center.source.sql == wanted


def test_columns_may_differ(tmp_path: Path) -> None:
    """One set of columns stands for both sides, or each side has its own."""
    both = "columns: {key: order_id, status: status, at: updated_at}"
    own = "columns: {order_center: {key: a, status: b, at: c}, platform: {key: d, status: e, at: f}}"

    one = loaded(tmp_path, CONFIG).reconcile["shop-a"].columns
    assert one.of_order_center() == one.of_platform()
    assert loaded(tmp_path, CONFIG.replace(both, own)).reconcile["shop-a"].columns.of_platform().key == "d"


def test_the_example_of_the_page_can_be_loaded(tmp_path: Path) -> None:
    """The section that docs/reconcile.md shows is accepted as it stands, and can be shown."""
    page = (Path(__file__).parents[2] / "docs" / "reconcile.md").read_text("utf-8")
    section = page.partition("```yaml\n")[2].partition("```")[0]
    file = tmp_path / "config.yaml"
    file.write_text(f"version: 1\nplatforms: {{shop-a: {{url: 'https://a.example/'}}}}\n{section}", "utf-8")

    assert load(file, environ={}).reconcile["shop-a"].stuck == {"paid": 6 * 3600}
    assert run(["config", "show", "-c", str(file)]) == 0
