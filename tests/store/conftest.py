"""What the tests of the shared store share."""

from collections.abc import Iterator

import pytest
from tests.store.valkey import ValkeyServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server for all tests of a module; each has a prefix of its own."""
    made = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    made.start()
    yield made
    made.kill()
