"""The benchmarks fail, in words, when a ratio lost more than a tenth of the kept one."""

import json
from pathlib import Path

import pytest
from benchmarks import __main__ as benchmarks
from benchmarks import ratios
from benchmarks.table import Figure


def test_a_ratio_that_lost_more_than_a_tenth_is_told_with_both_figures() -> None:
    """A sentence for the row that lost 11 %, none for the one that lost 9 % and the one of which nothing is kept."""
    told = ratios.fallen({"1": 0.89, "3": 9.1, "4": 5.0}, {"1": 1.0, "3": 10.0})
    assert len(told) == 1
    assert told[0].startswith("row 1 (durable accept, one callback per POST")
    assert "fell by 11%: 0.89x, kept is 1.00x" in told[0]
    assert "--only 1;" in told[0]


def test_keeping_replaces_only_the_rows_that_were_measured_and_only_ratios(tmp_path: Path) -> None:
    """What was not measured stays as it is kept, and sizes and times are not kept at all."""
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps({"full": {"1": 0.8, "3": 7.9}, "quick": {"1": 0.7}}))
    ratios.keep("full", ratios.ratios_of([Figure("3", 9.12345, ""), Figure("8", 123.0, "")]), file)
    assert ratios.load("full", file) == {"1": 0.8, "3": 9.123}
    assert ratios.load("quick", file) == {"1": 0.7}


@pytest.mark.parametrize(("here", "ends_with"), [(4.4, 1), (4.6, 0)])
def test_a_run_ends_with_1_when_a_ratio_fell_though_its_bar_is_met(
    here: float, ends_with: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ratio of 5.0 that is 4.4 now ends the run with 1 and is told, one that is 4.6 does not."""
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps({"full": {"4": 5.0}}))
    monkeypatch.setattr(ratios, "KEPT", file)
    measure = lambda directory, quick: [Figure("4", here, "")]  # noqa: E731
    monkeypatch.setattr(benchmarks, "_measures", lambda peers: {(4,): measure})
    monkeypatch.setattr("sys.argv", ["benchmarks", "--only", "4", "--dir", str(tmp_path)])
    assert benchmarks.main() == ends_with
    assert ("fell by 12%" in capsys.readouterr().err) == bool(ends_with)


def test_a_peer_that_is_not_there_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without node and syslog-ng each says which rows are not measured."""
    monkeypatch.setattr("shutil.which", lambda name, **_: None)
    assert benchmarks.peers_missing() == [
        "rows 2 and 4b: not measured, node is not installed; `make bench-peers`, once as root, installs it",
        "row 4c: not measured, syslog-ng is not installed; `make bench-peers`, once as root, installs it",
    ]
