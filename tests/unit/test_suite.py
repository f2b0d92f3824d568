"""The suite itself: what its asserts say when they fail."""

from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "tests.store.harness",
        "tests.store.grouping",
        "tests.store.settling",
        "tests.e2e.harness",
        "tests.e2e.checker",
        "tests.integration.admin_side",
        "tests.clocks",
    ],
)
def test_asserts_of_modules_that_tests_import_explain_themselves(module: str) -> None:
    """Pytest rewrites the asserts of test files by itself, those of other modules only where it is told to."""
    loader = import_module(module).__spec__.loader  # type: ignore[union-attr]
    assert type(loader).__name__ == "AssertionRewritingHook"


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them by their name alone: of two with one name the second cannot be collected."""
    names = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
