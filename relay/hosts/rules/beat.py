"""What a host says to the store every 3 s, and what it hears: heartbeat, leases and topology in one exchange.

An idle host sends nothing else. On one server a beat is one script; on a cluster it is one for what the hosts share and
one per lease, and some of them may go unanswered.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from relay.hosts.rules.lease import Lease
from relay.hosts.rules.topology import Topology


class Heart(msgspec.Struct, frozen=True, kw_only=True):
    """What a host tells the others of itself."""

    name: str
    process: str
    number: int = 0  # of the beat: two processes under one name show in it
    version: str = ""
    since: float = 0.0  # when the process started, wall clock
    digest: str = ""
    resting: bool = False  # it only accepts for now, if another host takes what it leaves
    declines: tuple[str, ...] = ()  # platforms that an operator released here, for a while
    leaving: bool = False  # it is stopping
    spooled: int = 0  # posts that wait here because the store was away
    history: int | None = None  # callbacks in its history file; None: it keeps none
    set_aside: int = 0  # posts in the spool here that cannot be brought in
    live: dict[str, Any] = {}  # what goes on at the platforms it sends for, as ``views.moments.plain`` writes LiveFacts


class HeartFacts(NamedTuple):
    """What changes of a heart from beat to beat, for people who ask another host; see there."""

    spooled: int
    set_aside: int
    history: int | None
    live: dict[str, Any]


class Listed(NamedTuple):
    """A host as the store lists it, and how old its last beat is on the store's clock."""

    heart: Heart
    age_s: float


class Wanted(StrEnum):
    """What a beat asks of one lease. Each answers with the lease as it is afterwards."""

    LOOK = "look"  # only read it
    RENEW = "renew"  # count it up, if the identity is ours
    TAKE_FREE = "free"  # make it ours, if it is free and the epoch is as expected
    TAKE = "take"  # make it ours, if it is exactly as expected
    RELEASE = "release"  # make it free, if the identity is ours


class Wish(NamedTuple):
    """One lease's part of a beat. A take that has succeeded already, with its answer lost, counts as a renewal."""

    platform: str
    wanted: Wanted
    identity: str = ""  # ours, or the one we draw for the take
    expected: Lease = Lease()  # what a take expects to find
    successor: str = ""  # whom a release is meant for


class Beat(NamedTuple):
    """All that a host says at once."""

    sent_at: float
    heart: Heart | None  # None: the host only looks, until it knows that its name is not taken
    replaces: str  # the process that may stand under our name in the store, besides our own and none
    leaves: bool  # take the heart away instead of writing it
    publish: Topology | None  # put this digest in force, if the generation in the store is still this one
    wishes: tuple[Wish, ...]


class Heard(NamedTuple):
    """The answer to a beat. A lease that is missing went unanswered."""

    primary: str  # which server answered; another one may know less
    topology: Topology
    hosts: Mapping[str, Listed]
    leases: Mapping[str, Lease]
