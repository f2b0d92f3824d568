"""What the tests of the whole program share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.valkey import ValkeyServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of one test alone."""
    made = ValkeyServer(tmp_path / "valkey")
    made.start()
    yield made
    made.kill()
