"""The suite itself: what its asserts say when they fail."""

from importlib import import_module

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
