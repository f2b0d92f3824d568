"""What the tests of several hosts share.

What takes an hour is collected for ``make hosts`` (CALLBACKS) alone: elsewhere it is left out, not skipped.
"""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.store.redis.server.link import Durable, ServerLink
from tests.store.valkey import ValkeyServer

collect_ignore = [] if os.environ.get("CALLBACKS") else ["test_long.py"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server for all tests of a file."""
    running = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
async def link(server: ValkeyServer) -> AsyncIterator[ServerLink]:
    """A link to an empty store."""
    opened = ServerLink.to(parse_server_url(server.url), Durable())
    await opened.do("FLUSHALL")
    yield opened
    await opened.close()
