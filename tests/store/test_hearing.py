"""Messages of the shared store reach who listens, and again after the server was restarted."""

import asyncio
from pathlib import Path

from relay.config.reading.server_urls import parse_server_url
from relay.store.redis.server.hearing import Hearing
from relay.store.redis.server.link import Durable, ServerLink
from tests.store.valkey import ValkeyServer


async def test_messages_are_heard_again_after_a_restart_of_the_server(tmp_path: Path) -> None:
    """Each listener is told that something may have been missed, then hears what is published."""
    server = ValkeyServer(tmp_path)
    server.start()
    link = ServerLink.to(parse_server_url(server.url), Durable())
    told: asyncio.Queue[str] = asyncio.Queue()
    hearing = Hearing(link)
    hearing.subscribe("relay:leases", told.put_nowait)
    listening = asyncio.create_task(hearing.run())
    async with asyncio.timeout(30):
        assert await told.get() == ""
        await link.publish("relay:leases", "shop-a")
        assert await told.get() == "shop-a"

        server.restart()

        assert await told.get() == ""
        await link.publish("relay:leases", "shop-b")
        assert await told.get() == "shop-b"
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await link.close()
    server.kill()
