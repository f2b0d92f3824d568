"""A cluster as one link: each call goes to the node that has its slot; all keys of a platform lie in one slot.

A node that is away counts as the store being away: what the others did is done, and is known when it is asked again.
"""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import redis.asyncio as client
from redis.crc import key_slot

from relay.config.reading.server_urls import ServerUrl
from relay.core.clock import elapsed_s
from relay.core.errors import StoreAway, StoreUnusable
from relay.store.redis.server.lineage import Lineage
from relay.store.redis.server.link import WITHIN_S, Durable, ServerCall, ServerLink, ServerRefused, SlotMoved, as_before

Address = tuple[str, int]
_WITHOUT_KEY: Final = frozenset(("CONFIG", "INFO", "PING", "PUBLISH", "SCAN", "TIME"))
_slot_of = lru_cache(maxsize=4096)(lambda key: int(key_slot(key.encode())))


class _Span(NamedTuple):
    first: int
    last: int
    node: Address


class ClusterLink(ServerLink):
    """The nodes of one cluster. Calls are no transaction over nodes: what must be one is one script of one platform."""

    cluster = True

    def __init__(self, server: ServerUrl, durable: Durable) -> None:
        """``server.hosts`` are asked who has which slots; nothing is sent yet."""
        self.durable = durable
        self.answered_at = -math.inf
        self.another_server = as_before
        self._server = server
        self._nodes: dict[Address, ServerLink] = {}
        self._spans: list[_Span] = []
        self._turn = 0

    @property
    def primary_id(self) -> str:
        """All primaries: another one anywhere is a failover."""
        return " ".join(self._node(address).primary_id for address in sorted({span.node for span in self._spans}))

    @property
    def replicas_seen(self) -> int:  # type: ignore[override]
        """The most replicas that any primary had."""
        return max((node.replicas_seen for node in self._nodes.values()), default=0)

    def lineage_at(self, key: str) -> Lineage:
        """Return the server that was last met for a key; none while it is unknown who has its slot."""
        slot = _slot_of(key)
        found = [span.node for span in self._spans if span.first <= slot <= span.last]
        return self._node(found[0]).lineage_at(key) if found else Lineage()

    async def run(self, calls: Sequence[ServerCall], *, within_s: float = WITHIN_S, durable: bool = False) -> list[Any]:
        """Run ``calls``, those of one node in one pipeline; see ``ServerLink.run``."""
        if not self._spans:
            await self._look()
        answers: list[Any] = [None] * len(calls)
        places = list(range(len(calls)))
        for last in (False, True):
            await self._run(calls, places, answers, within_s, durable)
            places = [place for place in places if isinstance(answers[place], SlotMoved)]
            if not places:
                self.answered_at = elapsed_s()
                return answers
            if not last:
                await self._look(sent=len(places) < len(calls))
        raise StoreAway("slots of the cluster are being moved between its nodes", sent=len(places) < len(calls))

    async def _run(
        self, calls: Sequence[ServerCall], places: Sequence[int], answers: list[Any], within_s: float, durable: bool
    ) -> None:
        """Run those calls and put their answers in place."""
        shares: dict[Address, list[int]] = {}
        for place in places:
            shares.setdefault(self._owner(calls[place]), []).append(place)
        parts = await asyncio.gather(
            *(
                self._node(address).run([calls[place] for place in share], within_s=within_s, durable=durable)
                for address, share in shares.items()
            ),
            return_exceptions=True,
        )
        for share, part in zip(shares.values(), parts, strict=True):
            if isinstance(part, BaseException):
                self._spans = []  # a replica may have taken its place
                self.answered_at = -math.inf
                if isinstance(part, StoreAway):
                    part.sent = part.sent or len(shares) > 1 or len(places) < len(calls)
                raise part
            for place, answer in zip(share, part, strict=True):
                answers[place] = answer

    async def _look(self, *, sent: bool = False) -> None:
        """Learn who has which slots from the first node that answers; ``sent``: calls have run before."""
        away = StoreAway("no node of the cluster can be reached")
        for address in dict.fromkeys((*self._nodes, *self._server.hosts)):
            try:
                found = await self._node(address).do("CLUSTER", "SLOTS")
            except StoreAway as error:
                away = error
            except ServerRefused as error:
                host, port = address
                raise StoreUnusable(f"store.url: {host}:{port} is no node of a cluster: {error}") from error
            else:
                self._spans = sorted(_Span(first, last, _address(owner, address)) for first, last, owner, *_ in found)
                return
        away.sent = sent
        raise away

    def _node(self, address: Address) -> ServerLink:
        node = self._nodes.get(address)
        if node is None:
            node = ServerLink.to(replace(self._server, scheme="redis", hosts=(address,)), self.durable)
            self._nodes[address] = node
        node.durable = self.durable  # which is learned with the server's version
        node.another_server = self.another_server
        return node

    def _owner(self, call: ServerCall) -> Address:
        slot = 0
        if call.keys:
            slot = _slot_of(call.keys[0])
        elif call.script is None and len(call.args) > 1 and call.args[0] not in _WITHOUT_KEY:
            slot = _slot_of(call.args[1])
        place = bisect_right(self._spans, slot, key=lambda span: span.first) - 1
        if place < 0 or slot > self._spans[place].last:
            self._spans = []
            raise StoreAway(f"no node of the cluster has the slot {slot}", sent=False)
        return self._spans[place].node

    async def each(self) -> Sequence[ServerLink]:
        """Return a link to each primary."""
        if not self._spans:
            await self._look()
        return [self._node(address) for address in sorted({span.node for span in self._spans})]

    async def info(self, *sections: str) -> Mapping[str, Any]:
        """Return what the first primary says of itself, with the memory of all."""
        told = [await node.info(*sections) for node in await self.each()]
        sums = {name: sum(int(each.get(name, 0)) for each in told) for name in ("used_memory", "maxmemory")}
        return {**told[0], **sums}

    def listening(self) -> client.client.PubSub:
        """Return what listens on channels at a node, the next one each time: every node tells of all messages."""
        known = sorted({span.node for span in self._spans}) or list(self._server.hosts)
        self._turn += 1
        return self._node(known[self._turn % len(known)]).listening()

    async def close(self) -> None:
        """Close every connection."""
        for node in self._nodes.values():
            await node.close()


def _address(owner: Sequence[Any], asked: Address) -> Address:
    """Return where a node listens; one that does not know its own name is at the address it was asked at."""
    host = owner[0].decode() if owner[0] else ""
    return (host if host not in ("", "?") else asked[0], int(owner[1]))


def link_to(server: ServerUrl, durable: Durable) -> ServerLink:
    """Return a link to the server, or the cluster, at a URL; nothing is sent yet."""
    return ClusterLink(server, durable) if server.scheme == "redis+cluster" else ServerLink.to(server, durable)
