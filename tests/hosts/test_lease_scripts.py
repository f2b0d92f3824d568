"""The scripts on a real server do what the model of the simulation does, and cost an idle host one command in 3 s."""

import random

import msgspec
import pytest
from relay.hosts.register import LeaseRegister
from relay.hosts.rules.beat import Beat, Heart, Wanted, Wish
from relay.hosts.rules.lease import Lease
from relay.hosts.rules.topology import Topology
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from tests.hosts.shelf import LeaseShelf

PLATFORMS = ("a", "b", "c", "d")


class Pair:
    """A register on the server and the model of it, which are told the same."""

    def __init__(self, link: ServerLink, rng: random.Random) -> None:
        self.link = link
        self.rng = rng
        self.shelf = LeaseShelf()
        self.seen: dict[str, Lease] = {}
        self.keys = KeyNames("relay")

    async def say(self, beat: Beat, host: str, process: str) -> None:
        register = LeaseRegister(self.link, self.keys, host=host, process=process)
        heard = await register.say(beat)
        modelled = self.shelf.heard(beat, host, process, 0.0)
        assert heard.leases == modelled.leases, beat
        assert heard.topology == modelled.topology, beat
        assert {name: one.heart for name, one in heard.hosts.items()} == {
            name: one.heart for name, one in modelled.hosts.items()
        }
        assert all(0 <= one.age_s < 60 for one in heard.hosts.values())
        self.seen.update(heard.leases)

    def wish(self, platform: str, host: str) -> Wish:
        """Return a wish that may be right, or late, or nonsense."""
        rng = self.rng
        expected = self.seen.get(platform, Lease())
        if rng.random() < 0.2:
            expected = expected._replace(epoch=expected.epoch + rng.choice((-1, 1)))
        if rng.random() < 0.2:
            expected = expected._replace(renewed=expected.renewed + 1)
        identity = rng.choice(("", f"{host}-1", f"{host}-2"))
        return Wish(platform, rng.choice(list(Wanted)), identity, expected, rng.choice(("", "edge-2")))


@pytest.mark.parametrize("cluster", [False, True])
async def test_the_scripts_do_what_the_model_does(link: ServerLink, cluster: bool) -> None:
    """Over 400 random beats of three hosts both answer alike, in one script and in one per lease."""
    link.cluster = cluster  # the same server, asked as a cluster is
    rng = random.Random(7)
    pair = Pair(link, rng)
    for number in range(400):
        host = rng.choice(("edge-1", "edge-2", "edge-3"))
        process = f"boot ns {rng.choice((1, 2))} 0"
        heart = Heart(name=host, process=process, number=number, declines=("ü\n",), since=1.5)
        generation = pair.shelf.topology.generation + rng.choice((0, 0, 1))
        beat = Beat(
            sent_at=0.0,
            heart=heart if rng.random() < 0.8 else None,
            replaces=rng.choice(("", "boot ns 1 0")),
            leaves=rng.random() < 0.1,
            publish=Topology(generation, f"digest-{number}", host) if rng.random() < 0.2 else None,
            wishes=tuple(pair.wish(platform, host) for platform in PLATFORMS if rng.random() < 0.8),
        )
        await pair.say(beat, host, process)


async def test_the_token_is_there_for_the_other_scripts(link: ServerLink) -> None:
    """A lease that is held has its token as a field; a released one has an empty token."""
    register = LeaseRegister(link, KeyNames("relay"), host="edge-1", process="boot ns 1 0")
    taken = await register.say(Beat(0, None, "", False, None, (Wish("a", Wanted.TAKE_FREE, "id"),)))
    assert await link.do("HGET", "relay:{a}:lease", "token") == taken.leases["a"].token.encode() == b"1.id"

    await register.say(Beat(0, None, "", False, None, (Wish("a", Wanted.RELEASE, "id", successor="edge-2"),)))
    assert await link.do("HGET", "relay:{a}:lease", "token") == b""


async def test_a_beat_of_300_leases_is_one_command(link: ServerLink) -> None:
    """However many platforms there are, a beat that renews them is one command of the client."""
    register = LeaseRegister(link, KeyNames("relay"), host="edge-1", process="boot ns 1 0")
    names = [f"p{number}" for number in range(300)]
    heart = Heart(name="edge-1", process="boot ns 1 0")
    await register.say(Beat(0, heart, "", False, None, tuple(Wish(name, Wanted.TAKE_FREE, name) for name in names)))
    await link.do("CONFIG", "RESETSTAT")

    heard = await register.say(Beat(0, heart, "", False, None, tuple(Wish(name, Wanted.RENEW, name) for name in names)))

    assert all(heard.leases[name] == Lease(1, name, 1, "edge-1", "boot ns 1 0") for name in names)
    stats = await link.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_waitaof" not in stats


@pytest.mark.parametrize("wanted", [Wanted.TAKE_FREE, Wanted.TAKE, Wanted.RELEASE, Wanted.RENEW])
async def test_a_change_of_owner_waits_for_the_disk(link: ServerLink, wanted: Wanted) -> None:
    """A lease taken or released is in the append-only file before the host acts on it; a renewal asks for no sync."""
    register = LeaseRegister(link, KeyNames("relay"), host="edge-1", process="boot ns 1 0")
    if wanted is not Wanted.TAKE_FREE:
        await register.say(Beat(0, None, "", False, None, (Wish("a", Wanted.TAKE_FREE, "id"),)))
    await link.do("CONFIG", "RESETSTAT")

    await register.say(Beat(0, None, "", False, None, (Wish("a", wanted, "id"),)))

    assert ("cmdstat_waitaof" in await link.info("commandstats")) == (wanted is not Wanted.RENEW)


async def test_a_host_that_was_not_heard_for_a_day_is_forgotten(link: ServerLink) -> None:
    """Until then it is listed with its age, so that people see that it is gone."""
    register = LeaseRegister(link, KeyNames("relay"), host="edge-1", process="boot ns 1 0")
    seconds, _ = await link.do("TIME")
    for name, age_s in (("edge-2", 86_000), ("edge-3", 86_500)):
        heart = msgspec.json.encode(Heart(name=name, process="p")).decode()
        await link.do("HSET", "relay:{:hosts}:hosts", name, f"p\n{heart}\n{int(seconds) - age_s}")

    heard = await register.say(Beat(0, None, "", False, None, ()))

    assert {name: 85_000 < one.age_s < 86_400 for name, one in heard.hosts.items()} == {"edge-2": True}
    assert await link.do("HKEYS", "relay:{:hosts}:hosts") == [b"edge-2"]
