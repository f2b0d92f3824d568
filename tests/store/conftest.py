"""Lets the suite's asserts explain themselves."""

import pytest

for _module in ("accepting", "routing", "claiming", "settling", "operating", "keeping", "durability"):
    pytest.register_assert_rewrite(f"tests.store.{_module}")
