"""Which host a component belongs to, and who is next in line: rendezvous hashing over the hosts' names.

Each host computes the same order from the same names, without asking anybody. When a host joins or leaves, only the
components that it wins or had move (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from relay.hosts.rules.component import Component


def in_line(component: Component, hosts: Iterable[str]) -> list[str]:
    """Return the hosts in the order in which they should own the component."""
    return sorted(hosts, key=lambda host: (_weight(component, host), host), reverse=True)


def next_move(
    owners: Mapping[Component, str], movable: Sequence[str], willing: Mapping[Component, Sequence[str]]
) -> tuple[Component, str] | None:
    """Return the one component that should move now, and where to; None when all is as it should be.

    ``owners`` holds the owner of each component that has one, ``movable`` the hosts that are steady, ``willing`` those
    that would take a component, where these are fewer than all. Every host comes to the same answer, and only the owner
    acts on it: so one component moves at a time although nobody leads.
    """
    for component in sorted(owners):
        owner = owners[component]
        line = in_line(component, [host for host in willing[component] if host in movable])
        if owner in movable and line and line[0] != owner:
            return component, line[0]
    return None


@lru_cache(1024)
def _weight(component: Component, host: str) -> bytes:
    return hashlib.blake2b("\n".join((*component, "", host)).encode(), digest_size=8).digest()
