"""Messages of the shared store reach who listens, and again after the server was restarted; owners hear of new work."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay.config.reading.server_urls import parse_server_url
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.hearing import Hearing
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink
from tests.clocks import FakeClock
from tests.store.harness import claimed, note, payloads, post, refused, rules, until
from tests.store.valkey import ValkeyServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test alone."""
    made = ValkeyServer(tmp_path)
    made.start()
    yield made
    made.kill()


async def test_messages_are_heard_again_after_a_restart_of_the_server(server: ValkeyServer) -> None:
    """Each listener is told that something may have been missed, then hears what is published."""
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


async def test_an_owner_hears_what_another_host_accepted(server: ValkeyServer) -> None:
    """A post, a bulk and what a host that ended told nobody of: each wakes the owner of the platform."""
    prefix, clock = f"t{secrets.token_hex(4)}", FakeClock()
    links = [ServerLink.to(parse_server_url(server.url), Durable()) for _ in range(2)]
    owner, other = (RedisStore(link, KeyNames(prefix), clock, alone=False) for link in links)
    for host in (owner, other):
        await host.begin()
        await host.configure(rules())
    await owner.link.do("HSET", owner.keys.of("shop", "lease"), "token", "1.a")
    await owner.own({"shop": "1.a"}, silent_s={})
    heard: list[tuple[str, int]] = []
    owner.watch(lambda platform, count: heard.append((platform, count)))
    hearing = Hearing(owner.link)
    hearing.subscribe(owner.keys.wake, owner.heard)
    listening = asyncio.create_task(hearing.run())
    await until(lambda: bool(heard))  # it listens
    heard.clear()
    await post(other, note(b"1"))
    await until(lambda: heard == [("shop", 1)])
    assert payloads(await claimed(owner)) == [b"1"]
    assert (await refused(other)).reason == "owner"
    heard.clear()
    await post(other, *(note(b"%d" % n) for n in range(150)))
    await until(lambda: sum(count for _, count in heard) == 150)
    heard.clear()
    await other.platform_status()
    assert heard == []
    await owner.platform_status()
    assert heard == [("shop", 0)]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    for host in (owner, other):
        await host.close()
