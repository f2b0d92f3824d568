"""What operators said of single groups of a platform: some are paused, some have a limit of their own.

They lie beside the stops that answers cause (``group_stops.py``): no answer changes them, and a restart keeps them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.core.model import Quota, Rate
from relay.core.raw import Kept


class GroupPause(NamedTuple):
    """Why a group is paused, since when and until when (infinite: until an operator resumes it)."""

    reason: str
    since: float
    until: float


class GroupLimit(NamedTuple):
    """The rates an operator set for a group, until a time (infinite: until forgotten)."""

    rates: tuple[Rate, ...]
    until: float
    reason: str


@dataclass(slots=True)
class GroupOrders:
    """Pauses and limits by group. Times are on the relay clock."""

    pauses: dict[str, GroupPause] = field(default_factory=dict)
    limits: dict[str, GroupLimit] = field(default_factory=dict)

    @property
    def limits_end_at(self) -> float:
        """When the first of the limits ends."""
        return min((limit.until for limit in self.limits.values()), default=math.inf)

    def lapse(self, now: float) -> None:
        """Forget the pauses that are over."""
        if self.pauses:
            self.pauses = {group: pause for group, pause in self.pauses.items() if pause.until > now}

    def quotas(self, platform: str, now: float) -> list[Quota]:
        """Return the limits as quotas that only requests of their group count against; forget those that are over."""
        self.limits = {group: limit for group, limit in self.limits.items() if limit.until > now}
        return [Quota(f"operator:{platform}/{group}", limit.rates, group=group) for group, limit in self.limits.items()]

    def pause(self, group: str, reason: str, now: float, until: float) -> None:
        """Pause a group; paused before, it keeps the time since when it is."""
        before = self.pauses.get(group)
        self.pauses[group] = GroupPause(reason, now if before is None else before.since, until)

    def dump(self) -> Kept:
        """Return it fit for JSON; empty where nothing was ordered."""
        kept: Kept = {}
        if self.pauses:
            kept["pauses"] = {
                group: [pause.reason, pause.since, _kept(pause.until)] for group, pause in self.pauses.items()
            }
        if self.limits:
            kept["limits"] = {
                group: [[[rate.limit, rate.window_s] for rate in limit.rates], _kept(limit.until), limit.reason]
                for group, limit in self.limits.items()
            }
        return kept

    @classmethod
    def load(cls, kept: Mapping[str, Kept]) -> "GroupOrders":
        """Continue from ``dump``."""
        return cls(
            {
                group: GroupPause(str(reason), float(since), _until(until))
                for group, (reason, since, until) in kept.get("pauses", {}).items()
            },
            {
                group: GroupLimit(
                    tuple(Rate(int(limit), float(window_s)) for limit, window_s in rates), _until(until), str(reason)
                )
                for group, (rates, until, reason) in kept.get("limits", {}).items()
            },
        )


def _kept(until: float) -> float | None:
    return None if until == math.inf else until


def _until(kept: float | None) -> float:
    return math.inf if kept is None else float(kept)
