"""The pins of the packages, which ``make hashes`` writes."""

import re
import tomllib

import pytest
from tools.packages.pins import EXTRAS, HERE, PYTHONS, TOP


def name_of(requirement: str) -> str:
    """Return the name of a project as an index has it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!; ]", requirement)[0]).lower()


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_depended_on_is_pinned(python: str) -> None:
    """A dependency without a pin would not be in the package, and an extra's comparison or alert would fail there."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in EXTRAS.split(",") for requirement in project["optional-dependencies"][extra]]
    pinned = (HERE / f"pins-{python}.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert {name_of(each) for each in [*project["dependencies"], *extras]} <= {name_of(line) for line in pinned}
