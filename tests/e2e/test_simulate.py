"""The real command ``relay simulate``: its heading, its figures, and that one seed gives one output."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from relay.cli.main import run
from relay.cli.support.table import width_of
from relay.core.model import Lane, NewCallback
from relay.store.sqlite.backend import SqliteStore

ROOT = Path(__file__).parents[2]
SLOW = "version: 1\nplatforms:\n  shop-a: {url: http://shop.invalid/, rate: 100/min}\n"
FAST = "version: 1\nplatforms:\n  shop-a: {url: http://shop.invalid/, rate: 300/min, batch: {max_items: 20}}\n"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two configurations, which is the current one."""
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(SLOW)
    (tmp_path / "other.yaml").write_text(FAST)
    return tmp_path


def test_one_seed_gives_one_output(directory: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Byte for byte, in processes whose hashes differ; another seed gives another run."""
    arguments = ["simulate", "--rate", "20/s", "--for", "2m", "--failures", "0.02", "--outage", "10s@30s"]
    arguments += ["--limit", "80/min", "--seed"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-W", "error", "-B", "-m", "relay", *arguments, "5"]
    processes = [
        subprocess.Popen(command, env=environment | {"PYTHONHASHSEED": hashes}, stdout=subprocess.PIPE)
        for hashes in "12"
    ]
    first, second = (process.communicate(timeout=100)[0] for process in processes)
    assert run([*arguments, "6"]) == 0

    assert [process.returncode for process in processes] == [0, 0]
    assert first == second
    assert first.partition(b"\n")[2] != capfdbinary.readouterr().out.partition(b"\n")[2]
    text = first.decode()
    assert text.startswith("modelled, not measured: platform shop-a, seed 5\n")
    for word in ("assumed", "accept -> arrival", "backlog peak", "drained", "slots used", "turned away", "█"):
        assert word in text


def test_two_configurations_side_by_side(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same load through both; JSON holds every figure, the SVG both runs."""
    arguments = ["simulate", "--burst", "2000@1s", "--keys", "0", "--compare", "other.yaml", "--svg", "plot.svg"]
    assert run([*arguments, "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert run([*arguments, "-o", "jsonl"]) == 0
    line = capsys.readouterr().out
    assert (line.count("\n"), json.loads(line)) == (1, told)
    assert run(arguments) == 0
    table = capsys.readouterr().out

    assert told["note"] == "modelled, not measured"
    assert told["assumptions"]
    first, second = (each["figures"] for each in told["runs"])
    assert [each["config"] for each in told["runs"]] == ["config.yaml", "other.yaml"]
    assert first["delivered"] == second["delivered"] == 2000
    assert first["requests"] == 20
    assert second["requests"] == 100
    assert second["p99_s"] > first["p99_s"]
    assert "config.yaml" in table.splitlines()[9]
    assert "other.yaml" in table.splitlines()[9]
    assert (directory / "plot.svg").read_text().count("<polyline") == 4


def test_replay_from_a_csv(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Times and keys of a file: three of one order go one after the other, in three requests."""
    (directory / "times.csv").write_text("accepted_at,order\n" + "2026-03-02T08:00:00Z,A1\n" * 3)
    assert run(["simulate", "--replay", "times.csv", "--latency", "1s", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"][0]["figures"]

    assert found["accepted"] == found["delivered"] == found["requests"] == 3
    assert found["max_s"] == pytest.approx(2.5, abs=0.8)


def test_only_what_a_run_takes_for_granted_is_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of random callbacks in a pure replay; that groups are not modelled where the platform has some."""
    (directory / "times.csv").write_text("2026-03-02T08:00:00Z,A1\n")
    (directory / "groups.yaml").write_text(SLOW.replace("rate:", "group: shop_id, rate:"))
    assert run(["simulate", "--replay", "times.csv"]) == 0
    replayed = capsys.readouterr().out
    assert run(["simulate", "-c", "groups.yaml", "--burst", "1@0s"]) == 0
    grouped = capsys.readouterr().out

    assert "Poisson" not in replayed
    assert "replayed callbacks keep their times" in replayed
    assert "of one group" not in replayed
    assert "Poisson" in grouped
    assert "all callbacks are of one group" in grouped


def test_a_drawing_that_cannot_be_kept_costs_no_figures(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are printed first; what stood in the file before the run is not lost to a mistake."""
    (directory / "plot.svg").write_text("the old one")
    assert run(["simulate", "--rate", "1/s", "--svg", "plot.svg", "--failures", "2"]) == 2
    capsys.readouterr()
    assert (directory / "plot.svg").read_text() == "the old one"
    assert run(["simulate", "--burst", "1@0s", "--svg", "/dev/full"]) == 1
    told = capsys.readouterr()

    assert "applied again" in told.out
    assert "--svg /dev/full cannot be written: No space left" in told.err


def test_replay_from_a_store(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The accept times of a real store, of the platform asked for."""

    async def fill() -> None:
        store = await SqliteStore.open(directory / "relay.db")
        for platform, count in (("shop-a", 120), ("shop-b", 7)):
            rows = [
                NewCallback(platform, b"{}", f"A{n}", None, Lane.NORMAL, 3600.0, None, None, None, "")
                for n in range(count)
            ]
            await store.accept(rows)
        await store.close()

    asyncio.run(fill())
    assert run(["simulate", "--replay", "relay.db", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"][0]["figures"]
    assert found["accepted"] == found["delivered"] == 120
    assert found["requests"] == 2

    (directory / "config.yaml").write_text(SLOW.replace("shop-a", "shop-c"))
    assert run(["simulate", "--replay", "relay.db"]) == 2
    assert "relay.db holds nothing of shop-c; it knows shop-a, shop-b" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say what comes in"),
        (["--rate", "50"], "50/s or 50/min"),
        (["--rate", "1/s", "--platform", "shop-b"], "config.yaml has no platform 'shop-b'; it has shop-a"),
        (["--rate", "1/s", "--limit", "tight:5/s"], "no limit of kind 'tight'"),
        (["--rate", "1/s", "--limit", "5/s", "--over", "418ish"], "--over: '418ish' is nothing a platform can do"),
        (["--rate", "1/s", "--items", "5/week"], "--items: "),
        (["--rate", "1/s", "--over", "408"], "--over 408 is the answer above a --limit"),
        (["--rate", "1/s", "--failures", "2"], "--failures: '500:2': a probability lies between 0 and 1"),
        (["--rate", "1/s", "--failures", "reset:x"], "--failures: 'reset:x': a probability lies between 0 and 1"),
        (["--rate", "5/s", "--for", "0s"], "--for 0s: at 5/s nothing comes in"),
        (["--rate", "1/s", "--outage", "0s@1m"], "it ends as it begins"),
        (["--rate", "1/s", "--outage", "1m@2h"], "it begins at 2h, when nothing has come in since 1h"),
        (["--rate", "1/s", "--svg", "gone/plot.svg"], "--svg gone/plot.svg cannot be written: No such file"),
        (["--rate", "1/s", "--outage", "30m"], "write how long and from when on"),
        (["--rate", "100000/s", "--for", "1d"], "use a shorter --for"),
        (["--rate", "1/s", "--keys", "-1"], "cannot be negative"),
        (["--replay", "gone.csv"], "gone.csv: No such file"),
        (["--replay", "config.yaml"], "config.yaml:2: 'platforms:' is no time"),
    ],
)
def test_wrong_usage_is_explained(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """Exit 2 and what to write instead."""
    assert run(["simulate", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_run_is_told_in_chinese(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options, assumptions, figures and titles, in columns of their width; states and rates stay."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    arguments = ["--rate", "20/s", "--burst", "50@10s", "--for", "1m", "--failures", "0.02", "--outage", "10s@20s"]
    assert run(["simulate", *arguments, "--limit", "80/min", "--compare", "other.yaml"]) == 0
    text = capsys.readouterr().out
    assert "接收到送达" in text
    assert re.findall("[a-z]{2,} [a-z]{2,}", text) == []
    callbacks, arrival = (line for line in text.splitlines() if line.startswith(("  回调", "  接收到送达")))
    assert width_of(callbacks.partition("已接收")[0]) == width_of(arrival.partition("p50")[0])
