"""The stops of a platform's groups: one group's throttle does not stop the others.

A stop is kept while it is in force, until its end has been tried, and while an item is under suspicion. One that nobody
comes back to is forgotten. So memory grows with the groups in trouble, not with all groups, and not with the callbacks.

A claim asks which groups are closed. The answer is kept until a stop changes or its time comes: with 1,000 groups in
trouble, looking at each of them would take 0.15 ms per claim.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from relay.core.raw import Kept
from relay.policy.gate.stop import Stop

# With so many groups stopped at once it is the platform that is overloaded, and it is stopped as a whole.
MOST_STOPPED = 1000
# A hold refused nobody yet, so fewer of them are kept: one group more just asks.
MOST_HELD = 200
_DOUBTED_S = 60.0  # a hold is remembered so long after its end: a group that is asked again is asked by then


@dataclass(slots=True)
class GroupStops:
    """The stops by group, and which of them changed since they were last taken to be kept."""

    base_s: float
    cap_s: float
    _stops: dict[str, Stop] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _closed: dict[str, float] = field(default_factory=dict)  # these two as ``closed`` returns them, ...
    _resuming: dict[str, bool] = field(default_factory=dict)
    _known_until: float = math.inf  # ... and until when they hold, if no stop changes

    def get(self, group: str) -> Stop:
        """Return the group's stop, or a new one that counts only once it is ``kept``. The caller may change it."""
        stop = self._stops.get(group)
        if stop is None:
            return Stop(base_s=self.base_s, cap_s=self.cap_s)
        self._known_until = 0.0
        return stop

    def resumes(self, group: str) -> bool:
        """Return whether the next request of a group is the first after its stop."""
        stop = self._stops.get(group)
        return stop is not None and stop.resuming

    def keep(self, group: str, stop: Stop) -> None:
        """Put a group's stop in force."""
        self._stops[group] = stop
        self._changed.add(group)
        self._known_until = 0.0

    def hold(self, group: str, stop: Stop) -> bool:
        """Keep the hold of a group that has nothing left; return False when too many are kept already.

        A hold is not stored: after a restart the group is asked once.
        """
        if group not in self._stops and len(self._stops) >= MOST_HELD:
            return False
        self._stops[group] = stop
        self._known_until = 0.0
        return True

    def ended(self, group: str) -> None:
        """Note that the group's stop is over, or its end was tried."""
        if group in self._stops:
            self._changed.add(group)

    def full(self, group: str, now: float) -> bool:
        """Return whether one more group in force would be too many."""
        if group in self._stops or len(self._stops) < MOST_STOPPED:
            return False
        self._sweep(now, after_s=0.0)
        return len(self._stops) >= MOST_STOPPED

    def in_force(self, now: float) -> Iterator[tuple[str, Stop]]:
        """Yield the groups that are stopped now."""
        return ((group, stop) for group, stop in self._stops.items() if stop.stopped_until > now)

    def closed(self, now: float, under_way: Collection[str]) -> tuple[dict[str, float], dict[str, bool]]:
        """Return which groups take no turn before a time, and which take one that tests the end of their stop.

        The test goes alone: with a request of the group ``under_way`` the group waits for its answer. The second
        dict says of each group whether the refused callbacks go again rather than others (see ``suspicion``). Neither
        is changed later, nor may the caller change it.
        """
        if now >= self._known_until:
            self._look(now)
        tested = [group for group in under_way if group in self._resuming and group not in self._closed]
        if tested:
            return {**self._closed, **dict.fromkeys(tested, math.inf)}, self._resuming
        return self._closed, self._resuming

    def _look(self, now: float) -> None:
        self._sweep(now, after_s=self.cap_s)
        self._closed, self._resuming, changes_at = {}, {}, math.inf
        for group, stop in self._stops.items():
            if stop.stopped_until > now:
                self._closed[group] = stop.stopped_until
                changes_at = min(changes_at, stop.stopped_until)
            else:
                changes_at = min(changes_at, self._over_at(stop, self.cap_s))
            if stop.resuming:
                self._resuming[group] = stop.suspicion.test
        self._known_until = changes_at

    def release(self, now: float, *, only: str | None = None) -> None:
        """End every stop now, or that of one group; the next request of each group still goes alone."""
        for group, stop in self.in_force(now):
            if only in (None, group):
                stop.stopped_until = now
                self._changed.add(group)
                self._known_until = 0.0

    def _sweep(self, now: float, *, after_s: float) -> None:
        """Forget stops that are over: those in trouble ``after_s`` after their end, holds up to a minute after it."""
        past = {
            group: stop
            for group, stop in self._stops.items()
            if stop.stopped_until <= now and self._over_at(stop, after_s) <= now
        }
        for group in past:
            del self._stops[group]
            self._known_until = 0.0
        self._changed.update(group for group, stop in past.items() if stop.level)  # of others nothing is kept

    @staticmethod
    def _over_at(stop: Stop, after_s: float) -> float:
        if stop.level or stop.suspicion.strikes:  # since then nothing was accepted, or somebody is suspected
            return stop.stopped_until + after_s
        linger_s = min(max(stop.nothing_until - stop.stopped_until, 0.0), _DOUBTED_S)
        return stop.stopped_until + linger_s if after_s else stop.stopped_until

    def take_changes(self) -> dict[str, Kept | None]:
        """Return, once, what changed for the store to keep: None for a stop that is over."""
        changed, self._changed = self._changed, set()
        return {group: self._dumped(self._stops.get(group)) for group in changed}

    def dump(self) -> dict[str, Kept]:
        """Return every stop that a restart must know."""
        found = {group: self._dumped(stop) for group, stop in self._stops.items()}
        return {group: stop for group, stop in found.items() if stop is not None}

    def load(self, kept: Mapping[str, Kept]) -> None:
        """Continue from ``dump``."""
        self._known_until = 0.0
        for group, dumped in kept.items():
            stop = self._stops[group] = Stop(base_s=self.base_s, cap_s=self.cap_s)
            stop.load_stop(dumped)

    @staticmethod
    def _dumped(stop: Stop | None) -> Kept | None:
        return stop.dump_stop() if stop is not None and stop.level else None
