"""What holds for all tests: their order, what their asserts say, and no deadlines for those of hypothesis.

What is given most time begins first, so that no worker sits with it alone at the end. The asserts of everything below
``tests`` explain themselves, those of modules that tests only import too.
"""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No deadlines, since the machine that runs the property tests may be busy.
settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")

os.environ["LC_ALL"] = "C.UTF-8"  # commands speak English, whoever runs the tests

pytest.register_assert_rewrite("tests", "admin_side", "token_side", "config_files")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector, and leave what was imported and collected out of what it looks at later.

    Each worker holds more than a million such objects, and they live as long as it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by the time limits of tests, the longest first; the others keep their places."""
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("timeout")), default=0.0))


@pytest.fixture(autouse=True)
def _width_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take off the width that the workers of a parallel run are told: commands would take it for a terminal's."""
    monkeypatch.delenv("COLUMNS", raising=False)
