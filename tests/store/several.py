"""Stores of several hosts over one server."""

import secrets

from relay.config.reading.server_urls import parse_server_url
from relay.core.model import StoreRules
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink
from tests.clocks import FakeClock
from tests.store.valkey import ValkeyServer


class Hosts:
    """Stores over one server under one prefix."""

    def __init__(self, server: ValkeyServer) -> None:
        self.clock = FakeClock()
        self._server = server
        self._prefix = f"t{secrets.token_hex(4)}"
        self._opened: list[RedisStore] = []

    async def open(self, in_force: StoreRules, *, alone: bool = True) -> RedisStore:
        link = ServerLink.to(parse_server_url(self._server.url), Durable())
        store = RedisStore(link, KeyNames(self._prefix), self.clock, alone=alone)
        self._opened.append(store)
        await store.begin()
        await store.configure(in_force)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()

    async def owner(self, in_force: StoreRules, *names: str, token: str = "1.a") -> RedisStore:
        """Return a host that holds the leases of these platforms."""
        store = await self.open(in_force, alone=False)
        await self.take(store, *names, token=token)
        return store

    async def take(self, store: RedisStore, *names: str, token: str) -> None:
        """Let a host take platforms over."""
        for name in names:
            await store.link.do("HSET", store.keys.of(name, "lease"), "token", token)
        await store.own(dict.fromkeys(names, token), silent_s={}, handed_over=True)
