"""What the tests of the shared store share."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.store.edge_host import Host
from tests.store.valkey import ValkeyServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server for all tests of a module; each has a prefix of its own."""
    made = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def host(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Host]:
    """A host with a spool; the server runs before and after the test."""
    made = Host(server, tmp_path, f"t{secrets.token_hex(4)}")
    await made.start()
    yield made
    await made.store.close()
    server.restart()
