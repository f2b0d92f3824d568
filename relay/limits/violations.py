"""Refusals although a limit is in force: chance, an outage, a limit that changed, or one more limit."""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

from relay.limits.evidence.history import Closure, History
from relay.limits.in_force.ceiling import InForce
from relay.limits.in_force.limit import Learned, near
from relay.limits.in_force.noise import Chance
from relay.limits.in_force.outage import ONSETS_IMPLICIT, is_outage
from relay.limits.search import NEARLY_ALL, Search

_LONE_TRIES = 6  # lone refusals that may each be chance, before they are looked at together
_IN_VAIN = 3  # so often less was allowed, and it did not help
_REFITS = 2  # fits that left something unexplained and did not hold


class Surprises:
    """Decides what becomes of the limits in force under one quota when the platform refuses all the same."""

    def __init__(self, evidence: History, chance: Chance, in_force: InForce, search: Search) -> None:
        self._evidence = evidence
        self._chance = chance
        self._in_force = in_force
        self._search = search
        self._lone_tries = 0
        self._refits = 0  # since a limit held for long
        self._doubt_from: float | None = None  # what is in force does not explain what was refused since

    def forget(self) -> None:
        """Drop what was held against limits that are no longer in force."""
        self._refits, self._doubt_from = 0, None

    def unenforced(self, now: float) -> None:
        """See whether the last refusals bear out what is believed but not enforced; if not, look again."""
        closures = self._evidence.closures()
        if closures and not self._explained(closures[-1].onset.sent):
            found = self._search.fit()
            if found is not None and found.newest and self._search.believable(found, closures):
                self._in_force.replace(found, now)

    def judge(self, now: float) -> None:
        """The platform opened again after refusals that the limits in force should have spared us."""
        closures = self._evidence.closures()
        if not closures:
            return
        latest, longest = closures[-1], self._in_force.rates[-1]
        if not latest.lone and self._in_force.take_back(now):
            return
        if latest.onset.sent < longest.since and self._explained(latest.last.sent):
            return
        settled = all(learned.settled for learned in self._in_force.rates)
        if latest.lone and (settled or self._chance.noisy) and self._lone(closures, now, settled=settled):
            return
        for learned in self._in_force.rates:
            learned.clean_from = now
        place = bisect_left(self._evidence.accepted, latest.onset.sent)
        outlasts = bool(place) and is_outage(latest, self._evidence.accepted[place - 1], longest.window_s)
        proven = self._in_force.proven(longest, now)
        most_s = inf if outlasts or not proven else longest.same_window_s
        if proven:
            self._refits = 0
        if self._refits >= _REFITS and (carried := self._in_force.carried(closures)):
            if not longest.paced:  # whatever is tried is refused again: a quota shared with others shows no limit
                self._in_force.pace(carried, closures, now)
                return
            most_s = 0.0
        if self._anew(closures, now, most_s=most_s) or self._beside(closures, now, most_s=most_s):
            return
        if place and not outlasts and latest.onset.sent >= longest.since:
            self._in_force.shrink(closures, now)

    def _lone(self, closures: Sequence[Closure], now: float, *, settled: bool) -> bool:
        """Judge one refusal that may be chance; say whether that is all there is to it."""
        latest, rates = closures[-1], self._in_force.rates
        if self._chance.too_high(latest, now, rates):
            self._in_force.take_back(now)
            return True
        repeated = self._chance.repeated(latest, now, rates)
        self._lone_tries += 1
        if repeated and settled:
            in_vain = min(learned.shrinks for learned in rates) >= _IN_VAIN
            if not (in_vain and self._together(closures, now)):
                self._in_force.shrink(closures, now)
        elif not repeated and self._lone_tries % _LONE_TRIES == 0:
            self._together(closures, now)
        return settled or not repeated

    def _together(self, closures: Sequence[Closure], now: float) -> bool:
        """See whether refusals that each may be chance are together another limit, and put it in force."""
        found = self._search.fit()
        if found is None or not found.clean(0.2, 2) or not self._search.carries(found, closures):
            return False
        binding = self._in_force.in_turn()[0]
        if near(found.window_s, binding.window_s) and found.n / found.window_s >= binding.rate_s:
            return False
        if not (self._search.telling(found) and self._search.believable(found, closures)):
            return False
        self._doubt_from = None
        self._in_force.adopt(found, now)
        return True

    def _anew(self, closures: Sequence[Closure], now: float, *, most_s: float) -> bool:
        """Let one limit take the place of all, if it explains the old evidence and the new.

        What opened again within ``most_s`` has no longer window, unless everything says so. Where most is explained but
        not all, only the pace at which requests got through is known.
        """
        found = self._search.fit()
        if found is None or not found.newest or found.onsets * 2 <= found.closures:
            return False
        if (found.window_s > most_s or len(self._in_force.rates) > 1) and not found.clean(*NEARLY_ALL):
            return False
        if not (self._search.believable(found, closures) and self._search.carries(found, closures)):
            return False
        carried = self._in_force.carried(closures)
        if carried and not found.clean(0.1, found.closures // 6):
            self._in_force.pace(carried, closures, now)
            return True
        self._doubt_from = None
        if found.clean(*NEARLY_ALL):
            self._in_force.replace(found, now)
        else:  # what it leaves unexplained, a limit that held for long may have refused
            self._in_force.adopt(found, now)
            self._refits += 1
        return True

    def _beside(self, closures: Sequence[Closure], now: float, *, most_s: float) -> bool:
        """Find one more limit in what those in force leave unexplained, or another one in what came since."""
        latest = closures[-1]
        if self._doubt_from is None:
            before = [closure.reopened for closure in closures[:-1]]
            self._doubt_from = max([*before[-1:], self._in_force.rates[-1].since])
        known = [learned.rate() for learned in self._in_force.rates]
        for since, explained in ((-inf, known), (self._doubt_from, ())):
            found = self._search.fit(since=since, known=explained)
            if found is None or found.window_s > most_s:
                continue
            if found.onsets < ONSETS_IMPLICIT or not found.newest or not found.clean(*NEARLY_ALL):
                continue
            recent = [closure for closure in closures if closure.onset.sent >= since]
            if not self._search.carries(found, recent):
                continue
            if explained:
                recent = [closure for closure in recent if not self._explained(closure.onset.sent)]
            if latest.explicit or self._search.believable(found, recent):
                self._doubt_from = None
                self._in_force.adopt(found, now, since=since)
                return True
        return False

    def _explained(self, at: float) -> bool:
        """Say whether one of the limits in force was used up at ``at``."""
        return any(self._used_up(learned, at) for learned in self._in_force.rates)

    def _used_up(self, learned: Learned, at: float) -> bool:
        slack = self._evidence.slack_s
        return self._evidence.count(at - learned.window_s - slack, at + slack) >= learned.n
