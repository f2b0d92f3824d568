"""One component as this host stands to it, and the two events that begin and end its sending."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from relay.hosts.rules.component import Component


class Phase(Enum):
    """Whether this host sends for a component."""

    AWAY = "away"  # it does not; it may hold some of the leases, or all of them while it may not claim
    OWNING = "owning"  # it does: all leases are ours
    CLOSING = "closing"  # it has stopped to claim, and waits for the end of what is on the wire


@dataclass(slots=True)
class Part:
    """The state of one component."""

    component: Component
    phase: Phase = Phase.AWAY
    gives_up: bool = False  # once away, its leases are released
    successor: str = ""  # whom they are meant for


class Opened(NamedTuple):
    """All leases are ours: rebuild the slots, then claim."""

    component: Component
    fences: Mapping[str, str]  # by platform
    reason: str  # free | handover | expired | restart | resumed


class Closing(NamedTuple):
    """Claim no more; when nothing is on the wire, say so with ``closed``."""

    component: Component
    abort: bool  # cut off what is on the wire now: it settles nothing any more
    reason: str  # lost | expired | balance | stop | mismatch | reload | operator
