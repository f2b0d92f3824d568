"""Looks for limits in the evidence. A fit costs time, so each must be paid for by requests sent since."""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf, log

from relay.core.model import Rate
from relay.limits.evidence.history import Closure, History
from relay.limits.fit.families import Family
from relay.limits.fit.likelihood import Fit, fit
from relay.limits.in_force.ceiling import THROUGHPUT_CLOSURES, Ceiling
from relay.limits.in_force.noise import Noise
from relay.limits.in_force.outage import NATS, believable

_CREDIT = 2000  # requests at the most that are saved up for fits
_REQUESTS_PER_FIT = 4  # a fit over n accepted sends costs about 8 us * n, so it waits for n/4 more
_THROUGHPUT = 1.1  # times what a limit lets through: more refutes it
_CLOSE_SLACKS = 3.0  # the order of arrivals hides that much
_LONG_BEFORE_S = 30.0
_MANY_CLOSURES = 6  # from so many on, each search that fails makes the next wait for a quarter more closures
NEARLY_ALL = (0.05, 1)
"""What a limit that explains nearly all may leave unexplained: a part of the refusals, and so many accepted runs."""


class Search:
    """Finds limits under one quota. The caller puts them in force."""

    def __init__(self, evidence: History, noise: Noise, ceiling: Ceiling) -> None:
        self._evidence = evidence
        self._noise = noise
        self._ceiling = ceiling
        self._credit = _CREDIT
        self._closures_needed = 2

    def note_request(self) -> None:
        """Count a request that was sent."""
        if self._credit < _CREDIT:
            self._credit += 1

    def restart(self) -> None:
        """Begin anew, as with an unknown platform."""
        self._closures_needed = 2

    def fit(self, *, since: float = -inf, known: Sequence[Rate] = ()) -> Fit | None:
        """Return the best fit; None without one, or when too little was sent since the last to pay for it."""
        accepted = self._evidence.accepted
        cost = (len(accepted) - bisect_left(accepted, since)) // _REQUESTS_PER_FIT
        if cost > self._credit:
            return None
        self._credit -= cost
        return fit(self._evidence, since=since, known=known, noisy=self._noise.noisy)

    def first(self, closures: int) -> tuple[Fit, float] | None:
        """Look for the first limit after so many ``closures``; return it and the time from which it explains all.

        All evidence is tried, and the latest 12 and 6 closures alone: a limit may have begun only lately.
        """
        if closures < self._closures_needed:
            return None
        seen, accepted = self._evidence.closures(), self._evidence.accepted
        starts = [seen[place].reopened for place in (-12, -6, 0) if len(seen) > max(-place, 3)]
        long_before = seen[0].onset.sent - accepted[0] > _LONG_BEFORE_S  # what came before had perhaps no limit
        starts.insert(len(starts) if long_before else 0, -inf)
        for since in starts:
            found = self.fit(since=since)
            recent = [closure for closure in seen if closure.onset.sent >= since]
            if found is not None and self.believable(found, recent) and self.allows_throughput(found, recent):
                return found, since
            if since == -inf and found is not None and self._unsure_bucket(found):
                break  # the latest closures alone would make anything believable
        if closures > _MANY_CLOSURES:
            self._closures_needed = closures + 1 + closures // 4
        return None

    @staticmethod
    def _unsure_bucket(found: Fit) -> bool:
        """Say whether a bucket explains everything, but was not believed: soon more will be known of it."""
        return found.hypothesis.family is Family.BUCKET and found.clean(*NEARLY_ALL)

    def believable(self, found: Fit, closures: Sequence[Closure]) -> bool:
        """Say whether ``found`` is a limit rather than an outage; ``closures`` are those it was drawn from."""
        if self._noise.noisy and found.hypothesis.family is not Family.BUCKET:
            closures = self._evidence.lasting(closures)
        return bool(closures) and believable(found, closures, self._evidence.runs(closures))

    def is_specific(self, found: Fit) -> bool:
        """Say whether ``found`` would not have foretold refusals at any other requests just as well.

        Whoever sends evenly always has about as many requests behind him: then chance refuses none that it does not.
        """
        within_s = found.window_s + _CLOSE_SLACKS * self._evidence.slack_s
        part = self._evidence.close_together(found.n, within_s) + found.onsets / max(1, found.accepted)
        return -found.onsets * log(part) >= NATS

    def allows_throughput(self, found: Fit, closures: Sequence[Closure]) -> bool:
        """Say whether ``found`` would let through what was accepted between the latest refusals.

        A limit that would not is wrong, however well it explains the refusals.
        """
        recent = closures[-THROUGHPUT_CLOSURES:]
        if not recent:
            return True
        begin, end = recent[0].onset.sent, recent[-1].onset.sent
        allowed = found.n * (1.0 + (end - begin) / found.window_s)
        return self._evidence.count(begin, end) <= _THROUGHPUT * allowed + 1
