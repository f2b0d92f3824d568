"""Who else is there: which hosts are live, which are steady, and which would take a component.

Nothing here is needed for safety. Two hosts that see this differently both ask for a lease, and one of them gets it.
"""

from collections.abc import Mapping, Sequence
from math import inf

from relay.hosts.rules.beat import Heart, Listed
from relay.hosts.rules.component import Component
from relay.hosts.rules.spans import LIVE_FOR_S, STEADY_S


class Neighbours:
    """The hosts of the store as one of them sees them, itself included. Times are on its boot-time clock."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._live: dict[str, Heart] = {}
        self._live_since: dict[str, float] = {}
        self._digests: set[str] = set()  # of the live hosts
        self._digests_since = inf

    def heard(self, hosts: Mapping[str, Listed], mine: Heart, now: float) -> None:
        """Take in the list of a beat; our own heart is live whether or not it stands there yet."""
        self._live = {name: one.heart for name, one in hosts.items() if one.age_s <= LIVE_FOR_S}
        self._live[self._me] = mine
        self._live_since = {name: self._live_since.get(name, now) for name in self._live}
        digests = {heart.digest for heart in self._live.values()}
        if digests != self._digests:
            self._digests, self._digests_since = digests, now

    def update(self, mine: Heart) -> None:
        """Take in what we say of ourselves from now on."""
        self._live[self._me] = mine

    @property
    def others(self) -> list[str]:
        """The live hosts besides this one."""
        return [name for name in self._live if name != self._me]

    def all_have(self, digest: str, now: float) -> bool:
        """Say whether every live host, this one too, has had the file with this digest for long enough."""
        return self._digests == {digest} and now - self._digests_since >= STEADY_S

    def steady(self, now: float) -> list[str]:
        """Return the hosts that have been live without a gap for long enough."""
        return [name for name, since in self._live_since.items() if now - since >= STEADY_S]

    def willing(self, component: Component, digest: str) -> Sequence[str]:
        """Return who would own the component under the topology ``digest``.

        Hosts that rest, or that an operator released it from, are asked only when there is no other.
        """
        able = [name for name, heart in self._live.items() if heart.digest == digest and not heart.leaving]
        eager = [name for name in able if not _declines(self._live[name], component)]
        return eager or able


def _declines(heart: Heart, component: Component) -> bool:
    return heart.resting or any(platform in component for platform in heart.declines)
