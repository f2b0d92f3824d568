"""The loop that carries ownership out, on a real server: pipelines open and close as the rules say."""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import count

import pytest
from relay.core.clock import RelayClock, boottime_s
from relay.core.errors import RelayError, StoreAway
from relay.hosts.register import LeaseRegister
from relay.hosts.rules.beat import Heart, HeartFacts
from relay.hosts.rules.component import Component
from relay.hosts.rules.ownership import Ownership
from relay.hosts.rules.process import Process
from relay.hosts.runner import Keeper
from relay.store.redis.server.hearing import Hearing
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink

COMPONENTS: tuple[Component, ...] = (("a", "b"), ("c",))
NUMBERS = count(1)


class Host:
    """One host: the real loop over a store and pipelines that only note what is asked of them."""

    def __init__(self, link: ServerLink, name: str) -> None:
        keys = KeyNames("relay")
        process = Process("boot", "ns", next(NUMBERS), 0)
        self.clock = RelayClock(0.0)
        self.told: list[tuple[str, ...]] = []
        self.away = 0  # so many times the store cannot be reached when slots are rebuilt
        self.open_now: set[str] = set()
        ownership = Ownership(
            Heart(name=name, process=str(process)),
            process,
            new_identity=lambda: f"{name}-{next(NUMBERS)}",
            started=lambda _number: 0,
        )
        ownership.configure(COMPONENTS, "one", publish=False)
        self.keeper = Keeper(
            ownership,
            sayer=LeaseRegister(link, keys, host=name, process=str(process)),
            store=self,
            senders=self,
            timeouts=lambda: {"a": 10.0, "c": 1.0},
            describe=lambda: HeartFacts(0, 0, None, {}),
            events=self,
            boottime=boottime_s,
        )
        hearing = Hearing(link)
        hearing.subscribe(keys.leases, self.keeper.nudged)
        self.listening = asyncio.create_task(hearing.run())
        self.running = asyncio.create_task(self.keeper.run())

    async def own(self, fences: Mapping[str, str], *, silent_s: Mapping[str, float]) -> None:
        if self.away:
            self.away -= 1
            raise StoreAway("gone for a moment")
        self.told.append(("own", *sorted(f"{name}:{silent_s[name]:g}" for name in fences)))

    def disown(self, platforms: Iterable[str]) -> None:
        self.told.append(("disown", *platforms))

    async def open(self, names: Iterable[str]) -> None:
        self.open_now |= set(names)

    async def close(self, names: Iterable[str], within_s: float) -> int:
        self.open_now -= set(names)
        self.told.append(("close", *names))
        return 0

    async def abort(self, names: Iterable[str]) -> int:
        self.open_now -= set(names)
        self.told.append(("abort", *names))
        return 1

    def platforms_owned(self, *, platforms: Component, reason: str, seconds: float) -> None:
        self.told.append((reason, *platforms))

    def platforms_closed(self, *, platforms: Component, reason: str, cut_off: int) -> None:
        self.told.append((reason, *platforms))

    def config_mismatch(self, *, digest: str, in_force: str, published_by: str) -> None:
        self.told.append(("mismatch", digest, in_force, published_by))

    async def until_open(self, *names: str) -> None:
        """Wait until just these platforms are open here."""
        while self.open_now != set(names):
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """End it as a kill does: nothing is released."""
        for task in (self.running, self.listening):
            task.cancel()
        await asyncio.gather(self.running, self.listening, return_exceptions=True)


async def test_a_stopping_host_hands_over_and_the_next_opens_at_once(link: ServerLink) -> None:
    """The first owns all; when it leaves, what it closed is opened by the second within a second."""
    async with asyncio.timeout(60):
        first = Host(link, "edge-1")
        first.away = 1  # the first try to rebuild slots fails, and is made again
        await first.until_open("a", "b", "c")
        assert ("own", "a:12", "b:2") in first.told
        assert 0 < first.keeper.claim_until("a") - first.clock.now() <= 9
        second = Host(link, "edge-2")
        while first.keeper.heard is None or "edge-2" not in first.keeper.heard.hosts:
            first.keeper.nudged("")
            await asyncio.sleep(0.05)
        began = boottime_s()

        await first.keeper.leave(10)
        await second.until_open("a", "b", "c")

        assert boottime_s() - began < 2  # 1 s on a machine that is not busy
        for platforms in COMPONENTS:  # first what is on the wire ends, then the store is told
            closed, disowned = first.told.index(("close", *platforms)), first.told.index(("disown", *platforms))
            assert closed < disowned < first.told.index(("stop", *platforms))
        assert {each[0] for each in second.told} == {"own", "handover"}
        assert first.keeper.claim_until("a") == float("-inf")
        await first.end()
        await second.end()


async def test_a_name_in_use_ends_the_second_process(link: ServerLink) -> None:
    """It says so in words, and the first goes on."""
    async with asyncio.timeout(80):
        first = Host(link, "edge-1")
        await first.until_open("a", "b", "c")
        twin = Host(link, "edge-1")

        with pytest.raises(RelayError, match="another relay is alive under the name edge-1"):
            await twin.running

        assert first.open_now == {"a", "b", "c"}
        await twin.end()
        await first.end()


async def test_a_lease_that_went_to_another_cuts_off_and_settles_nothing(link: ServerLink) -> None:
    """The store is told first that the platforms are not ours, then what is on the wire is cut off."""
    async with asyncio.timeout(60):
        host = Host(link, "edge-1")
        await host.until_open("a", "b", "c")
        await link.do("HSET", "relay:{b}:lease", "identity", "another", "token", "9.another", "epoch", 9)
        host.keeper.nudged("")

        await host.until_open("c")

        at = host.told.index(("abort", "a", "b"))
        assert host.told[at - 1] == ("disown", "a", "b")
        assert host.told[at + 1] == ("lost", "a", "b")
        await host.end()
