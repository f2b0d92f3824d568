"""What holds for all tests: their order, what their asserts say, and no deadlines for those of hypothesis.

The asserts of everything below ``tests`` explain themselves, those of modules that tests only import too.
"""

import gc
import os
import signal
from collections.abc import Iterator
from importlib import import_module
from itertools import chain, islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadlines, since the machine that runs the property tests may be busy.
settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")

_BETWEEN = 6  # tests after each long one: as many as compute about as long as it waits

os.environ["LC_ALL"] = "C.UTF-8"  # commands speak English, whoever runs the tests
# A shell starts what it puts in the background without Ctrl-C, and so would be all commands that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The layer that writes checksums of pages lies under every connection of a process that has imported it: with it here a
# test that opens a store's file by hand does the same alone as after others.
import_module("relay.store.sqlite.file.checksums")

pytest.register_assert_rewrite("tests", "admin_side", "token_side", "config_files")


def pytest_configure(config: pytest.Config) -> None:
    """Let each worker begin with other folders, so that in a new checkout none rewrites the asserts of all files.

    What one has rewritten, the others find. ``pytest_collection_modifyitems`` puts the tests into one order again.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        here = Path(__file__).parent
        folders = [str(path) for path in sorted([*here.glob("[!_.]*/"), *here.glob("test_*.py")])]
        first = len(folders) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args = [*folders[first:], *folders[:first]]


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
    """Begin with what is given most time, each followed by others; of these, what only computes comes first.

    So no worker sits alone with a long test at the end, and the processors have work while the long ones wait.
    """
    items.sort(key=lambda item: item.path)  # within a file they stay as they are
    limits = {item: max((mark.args[0] for mark in item.iter_markers("timeout")), default=0.0) for item in items}
    long = sorted((item for item in items if limits[item]), key=lambda item: -limits[item])
    others = iter(
        sorted((item for item in items if not limits[item]), key=lambda item: "property" not in item.path.parts)
    )
    items[:] = [*chain.from_iterable((item, *islice(others, _BETWEEN)) for item in long), *others]


@pytest.fixture(autouse=True)
def _width_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take off the width that the workers of a parallel run are told: commands would take it for a terminal's."""
    monkeypatch.delenv("COLUMNS", raising=False)
