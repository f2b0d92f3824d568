"""The list of planted faults fits the code and the tests (``tools/mutants``)."""

from collections import Counter
from pathlib import Path

import pytest
from tools.mutants.faults import ROOT, Fault, read_faults, stale


def test_no_fault_is_stale() -> None:
    """Each old text is there exactly once, each fault is Python, and each named test exists."""
    assert stale(read_faults()) == []


def test_every_package_has_its_share() -> None:
    """Each package of the relay but the smallest has eight faults at least, and no two have one name."""
    faults = read_faults()
    counts = Counter(fault.package for fault in faults)
    packages = {path.parent.name for path in (ROOT / "relay").glob("*/__init__.py")}
    small = {"core", "views", "standin", "simulate", "demo", "client"}  # the last is a module
    assert set(counts) - small == packages - small
    assert min(count for package, count in counts.items() if package not in small) >= 8
    assert [name for name, count in Counter(fault.name for fault in faults).items() if count > 1] == []
    assert all(fault.file.startswith((f"{fault.package}/", f"{fault.package}.py")) for fault in faults)
    assert [fault.name for fault in faults if not fault.tests] == []


@pytest.mark.parametrize(
    ("old", "new", "tests", "wrong"),
    [
        ("a = 1", "a = 2", ["unit/test_x.py"], ""),
        ("a = 1", "a = 2", ["unit/test_x.py::test_one"], ""),
        ("a = 3", "a = 2", ["unit/test_x.py"], "0 times"),
        ("= 1", "= 2", ["unit/test_x.py"], "2 times"),
        ("a = 1", "a = (", ["unit/test_x.py"], "never closed"),
        ("a = 1", "a = 2", ["unit/test_y.py"], "no unit/test_y.py"),
        ("a = 1", "a = 2", ["unit/test_x.py::test_two"], "no unit/test_x.py::test_two"),
    ],
)
def test_what_is_wrong_with_a_fault_is_said(tmp_path: Path, old: str, new: str, tests: list[str], wrong: str) -> None:
    """A text that is gone or not the only one, a change that is no Python, a test that does not exist."""
    for file, text in (("relay/core/x.py", "a = 1\nb = 1\n"), ("tests/unit/test_x.py", "def test_one(): ...\n")):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    found = stale([Fault("core", "core/x.py", old, new, "harm", tuple(tests))], tmp_path)
    assert [wrong in each for each in found] == ([True] if wrong else [])
