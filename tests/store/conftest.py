"""What the tests of the stores share."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.clocks import FakeClock
from tests.store.edge_host import Host
from tests.store.several import Hosts
from tests.store.valkey import ValkeyServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store lies."""
    return tmp_path / "relay.db"


@pytest.fixture
def clock() -> FakeClock:
    """A clock that tests move."""
    return FakeClock()


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


@pytest.fixture
async def hosts(server: ValkeyServer) -> AsyncIterator[Hosts]:
    """Hosts over one server, on a clock that tests move; those that were opened are closed."""
    made = Hosts(server)
    yield made
    await made.close()
