"""Violations, refusals although a limit is in force: noise, an outage, a limit that changed, or one more limit."""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

from relay.limits.evidence.history import Closure, History
from relay.limits.in_force.ceiling import Ceiling
from relay.limits.in_force.limit import LearnedLimit, near
from relay.limits.in_force.noise import Noise
from relay.limits.in_force.outage import ONSETS_IMPLICIT, is_outage
from relay.limits.search import NEARLY_ALL, Search

_LONE_TRIES = 6  # lone refusals, each perhaps noise, before they are looked at together
_IN_VAIN = 3  # cuts of the limit that did not help


class Violations:
    """Decides what becomes of the limits in force under one quota when the platform refuses all the same."""

    def __init__(self, evidence: History, noise: Noise, ceiling: Ceiling, search: Search) -> None:
        self._evidence = evidence
        self._noise = noise
        self._ceiling = ceiling
        self._search = search
        self._lone_tries = 0
        self._unexplained_since: float | None = None  # no limit in force explains the refusals since

    def forget(self) -> None:
        """Forget what the limits did not explain: they are no longer in force."""
        self._unexplained_since = None

    def judge_observed(self, now: float) -> None:
        """Judge refusals while limits are only observed: those that no limit explains lead to a new fit."""
        closures = self._evidence.closures()
        if closures and not self._explained(closures[-1].onset.sent):
            found = self._search.fit()
            if found is not None and found.newest and self._search.believable(found, closures):
                self._ceiling.replace(found, now)

    def judge(self, now: float) -> None:
        """Judge the latest closure, now that it has ended, and change the limits in force accordingly."""
        closures = self._evidence.closures()
        if not closures:
            return
        latest, longest = closures[-1], self._ceiling.rates[-1]
        if not latest.lone and self._ceiling.undo_raise(now):
            return
        if latest.onset.sent < longest.since and self._explained(latest.last.sent):
            return
        settled = all(limit.settled for limit in self._ceiling.rates)
        if latest.lone and (settled or self._noise.noisy) and self._judge_lone(closures, now, settled=settled):
            return
        for limit in self._ceiling.rates:
            limit.clean_from = now
        place = bisect_left(self._evidence.accepted, latest.onset.sent)
        outlasts = bool(place) and is_outage(latest, self._evidence.accepted[place - 1], longest.window_s)
        proven = self._ceiling.proven(longest, now)
        most_s = inf if outlasts or not proven else longest.same_window_s
        if self._replace_limits(closures, now, most_s=most_s) or self._add_limit(closures, now, most_s=most_s):
            return
        if place and not outlasts and latest.onset.sent >= longest.since:
            self._ceiling.shrink(closures, now)

    def _judge_lone(self, closures: Sequence[Closure], now: float, *, settled: bool) -> bool:
        """Judge a closure of one refusal, which may be noise; say whether nothing more is to be done about it."""
        latest, rates = closures[-1], self._ceiling.rates
        if self._noise.raise_too_high(latest, now, rates):
            self._ceiling.undo_raise(now)
            return True
        beyond_noise = self._noise.beyond_noise(latest, now, rates)
        self._lone_tries += 1
        if beyond_noise and settled:
            in_vain = min(limit.shrinks for limit in rates) >= _IN_VAIN
            if not (in_vain and self._combine_lone(closures, now)):
                self._ceiling.shrink(closures, now)
        elif not beyond_noise and self._lone_tries % _LONE_TRIES == 0:
            self._combine_lone(closures, now)
        return settled or not beyond_noise

    def _combine_lone(self, closures: Sequence[Closure], now: float) -> bool:
        """Put another limit in force where lone refusals, each perhaps noise, show one together; say whether."""
        found = self._search.fit()
        if found is None or not found.clean(0.2, 2) or not self._search.allows_throughput(found, closures):
            return False
        binding = self._ceiling.tightest_first()[0]
        if near(found.window_s, binding.window_s) and found.n / found.window_s >= binding.rate_s:
            return False
        if not (self._search.is_specific(found) and self._search.believable(found, closures)):
            return False
        self._unexplained_since = None
        self._ceiling.adopt(found, now)
        return True

    def _replace_limits(self, closures: Sequence[Closure], now: float, *, most_s: float) -> bool:
        """Put one limit in the place of all, if it explains the old evidence and the new; say whether.

        A window longer than ``most_s`` must explain nearly everything. A limit that explains most, but not all, becomes
        a pace.
        """
        found = self._search.fit()
        if found is None or not found.newest or found.onsets * 2 <= found.closures:
            return False
        if (found.window_s > most_s or len(self._ceiling.rates) > 1) and not found.clean(*NEARLY_ALL):
            return False
        if not (self._search.believable(found, closures) and self._search.allows_throughput(found, closures)):
            return False
        throughput = self._ceiling.throughput(closures)
        if throughput and not found.clean(0.1, found.closures // 6):
            self._ceiling.pace(throughput, closures, now)
            return True
        self._unexplained_since = None
        if found.clean(*NEARLY_ALL):
            self._ceiling.replace(found, now)
        else:  # what it leaves unexplained, a limit that held for long may have refused
            self._ceiling.adopt(found, now)
        return True

    def _add_limit(self, closures: Sequence[Closure], now: float, *, most_s: float) -> bool:
        """Add a limit that explains what the others do not, or one that explains all that came since; say whether."""
        latest = closures[-1]
        if self._unexplained_since is None:
            before = [closure.reopened for closure in closures[:-1]]
            self._unexplained_since = max([*before[-1:], self._ceiling.rates[-1].since])
        known = [limit.rate() for limit in self._ceiling.rates]
        for since, explained in ((-inf, known), (self._unexplained_since, ())):
            found = self._search.fit(since=since, known=explained)
            if found is None or found.window_s > most_s:
                continue
            if found.onsets < ONSETS_IMPLICIT or not found.newest or not found.clean(*NEARLY_ALL):
                continue
            recent = [closure for closure in closures if closure.onset.sent >= since]
            if not self._search.allows_throughput(found, recent):
                continue
            if explained:
                recent = [closure for closure in recent if not self._explained(closure.onset.sent)]
            if latest.explicit or self._search.believable(found, recent):
                self._unexplained_since = None
                self._ceiling.adopt(found, now, since=since)
                return True
        return False

    def _explained(self, at: float) -> bool:
        """Say whether one of the limits in force was used up at ``at``."""
        return any(self._used_up(limit, at) for limit in self._ceiling.rates)

    def _used_up(self, limit: LearnedLimit, at: float) -> bool:
        slack = self._evidence.slack_s
        return self._evidence.count(at - limit.window_s - slack, at + slack) >= limit.n
