"""A daemon that fails again and again waits longer and longer; one that ran long or ended well does not."""

from pathlib import Path

from relay.daemon.restarts import Restarts


def starts(directory: Path, *times: float) -> list[float]:
    """Start at each time (seconds since boot) and fail; return the waits."""
    waits = []
    for at in times:
        restarts = Restarts(str(directory))
        restarts.begin(at)
        waits.append(restarts.wait_s)
    return waits


def test_waits_grow(tmp_path: Path) -> None:
    """The first restart is at once, further ones double up to half a minute."""
    assert starts(tmp_path, *range(100, 109)) == [0, 0, 2, 4, 8, 16, 30, 30, 30]


def test_a_long_run_counts_as_no_failure(tmp_path: Path) -> None:
    """Who fails after eleven minutes is started again at once."""
    starts(tmp_path, 100, 101, 102, 103)

    assert starts(tmp_path, 103 + 660, 764) == [0, 0]


def test_a_good_end_forgets(tmp_path: Path) -> None:
    """A stop or restart by a person is no failure."""
    starts(tmp_path, 100, 101, 102)
    Restarts(str(tmp_path)).ended_well()

    assert starts(tmp_path, 103) == [0]


def test_cut_off_count(tmp_path: Path) -> None:
    """A count that was cut off in writing stops nobody."""
    (tmp_path / "restarts").write_text("")

    assert starts(tmp_path, 100) == [0]


def test_without_a_directory() -> None:
    """By hand nothing is counted."""
    restarts = Restarts("")
    restarts.begin(1.0)
    restarts.begin(2.0)
    restarts.ended_well()

    assert restarts.wait_s == 0
