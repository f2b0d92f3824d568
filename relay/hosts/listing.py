"""The hosts as people see them, out of the answer to the last beat."""

from collections.abc import Mapping, Sequence

import msgspec

from relay.hosts.rules.beat import Heard, Listed
from relay.hosts.rules.spans import LIVE_FOR_S
from relay.views.hosts import HostPage, HostState, HostView
from relay.views.live import LiveFacts
from relay.views.moments import Instant, read


def hosts_page(heard: Heard, *, heard_at: float, configured: Sequence[str]) -> HostPage:
    """Return all hosts; ``heard_at`` is when the answer came, on the relay clock."""
    owned: dict[str, list[str]] = {}
    for platform in configured:
        lease = heard.leases.get(platform)
        if lease is not None and not lease.free:
            owned.setdefault(lease.host, []).append(platform)
    items = [
        HostView(
            name=name,
            version=one.heart.version,
            since=Instant(one.heart.since),
            heard_at=Instant(heard_at - one.age_s),
            digest=one.heart.digest,
            state=_state(one, heard, owns=name in owned),
            platforms=owned.get(name, []),
            lease_age_s=round(one.age_s, 1) if name in owned else None,
            spooled=one.heart.spooled,
            history=one.heart.history,
            set_aside=one.heart.set_aside,
        )
        for name, one in sorted(heard.hosts.items())
    ]
    taken = {platform for platforms in owned.values() for platform in platforms}
    return HostPage(
        items=items,
        digest=heard.topology.digest,
        published_by=heard.topology.published_by,
        unowned=[platform for platform in configured if platform not in taken],
    )


def live_elsewhere(heard: Heard | None, me: str) -> dict[str, LiveFacts]:
    """Return what goes on at the platforms of the other live hosts, as they told it with their last beat."""
    found: dict[str, LiveFacts] = {}
    for name, one in () if heard is None else heard.hosts.items():
        if name != me and one.age_s <= LIVE_FOR_S:
            found.update(_live(one.heart.live))
    return found


def _live(told: Mapping[str, object]) -> dict[str, LiveFacts]:
    try:
        return {platform: read(LiveFacts, facts) for platform, facts in told.items()}
    except msgspec.ValidationError:  # a host of a neighbouring version tells it in another way
        return {}


def _state(one: Listed, heard: Heard, *, owns: bool) -> HostState:
    if one.age_s > LIVE_FOR_S:
        return "gone"
    if one.heart.digest != heard.topology.digest:
        return "mismatch"
    return "owning" if owns else "accepting"
