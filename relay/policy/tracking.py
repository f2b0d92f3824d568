"""Follows one quota: learns its limits, keeps them up with what the platform does, and tries a little more.

Three moments matter. A *closure* begins with a refusal; when it repeats, ``_learn`` looks for the first limit. A
*surprise* is a closure although a limit is in force: chance, an outage, a limit that changed, or one more limit. And
between closures the prober asks for a little more.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import partial

from relay.core.model import Rate
from relay.policy.chance import STOP_S, Chance
from relay.policy.evidence import Closure, Evidence, Kind
from relay.policy.families import Family
from relay.policy.fit import Fit, fit
from relay.policy.inforce import CARRIED_CLOSURES, SAME_WINDOW, InForce
from relay.policy.learned import Learned
from relay.policy.outage import ONSETS_EXPLICIT, ONSETS_IMPLICIT, believable, is_outage
from relay.policy.probing import Probe, Prober
from relay.policy.relation import Relation

_FRESH_S = 3600.0  # a refusal with nothing accepted for so long says nothing about a limit
_LONE_TRIES = 6
_CREDIT = 2000  # requests: fits are paid for by requests, those of a quiet time up to so many
_REQUESTS_PER_FIT = 4  # a fit over n accepted sends costs about 8 us * n, so it waits for n/4 more
_CARRIED = 1.1
_REFITS = 3  # fits that left something unexplained and did not hold
_NEARLY_ALL = (0.05, 1)  # explained: all but so many refusals and accepted runs
_LONG_BEFORE_S = 30.0


class Tracker:
    """The state of one quota. ``rates`` are the limits in force, shortest window first."""

    def __init__(self) -> None:
        self.observing = False  # the limits are not enforced
        self.evidence = Evidence()
        self._chance = Chance(self.evidence)
        self.relation = Relation()
        self._in_force = InForce(self.evidence, self._chance)
        self.prober = Prober()
        self._found_last: Rate | None = None
        self._found_again = False
        self._closed_at: float | None = None  # when the refusal that began the present closure was seen
        self._fit_from = 0  # closures to be seen before the next try to learn
        self.closures = 0
        self._learn_from: float | None = None
        self._doubt_from: float | None = None  # what is in force does not explain what was refused since
        self._lone_tries = 0
        self._refits = 0  # since a limit held for long
        self._credit = _CREDIT
        self._check_at = 0.0
        self.accepted = 0
        self.refused = 0

    @property
    def changed(self) -> bool:
        """Whether what is in force changed since it was last asked for."""
        return self._in_force.changed

    @changed.setter
    def changed(self, changed: bool) -> None:
        self._in_force.changed = changed

    @property
    def rates(self) -> list[Learned]:
        """The limits in force, shortest window first."""
        return self._in_force.rates

    @rates.setter
    def rates(self, rates: list[Learned]) -> None:
        self._in_force.rates = rates

    def floor_at(self, per_s: float) -> None:
        """Say how many requests a second are never forbidden."""
        self._in_force.floor_s = per_s

    def answered(self, token: int, now: float, kind: Kind, wait_s: float | None = None) -> None:
        """Note what came of ``token``; ``wait_s`` is how long the platform asked to be left alone."""
        sent = self.evidence.take(token)
        if sent is None:
            return
        if kind is Kind.FAILED:
            self._chance.failed()
            return
        if self._credit < _CREDIT:
            self._credit += 1
        if kind is not Kind.ACCEPTED:
            self._on_reject(sent, now, kind, wait_s)
            self._learn_if_due(now)
            return
        self.accepted += 1
        self._chance.accepted()
        self.relation.answered(refused=False, in_force_s=self._per_s())
        self.evidence.accept(sent, now)
        self._learn_if_due(now)
        if self._closed_at is not None and sent >= self._closed_at:
            self._closed_at = None
            self._on_reopened(now)
        if self.rates and not self.observing:
            if self.prober.probe is not None:
                self._on_probed(now)
            elif now >= self._check_at and self._closed_at is None:
                self._check_at = now + min(self.rates[0].window_s / 4, 60.0)
                if self.prober.begin(
                    self._in_force.in_turn(), now, partial(self._in_force.busy, now=now), noisy=self._chance.noisy
                ):
                    self.changed = True

    def forget(self) -> None:
        """Drop everything."""
        self._drop()
        self._closed_at = None
        self.closures, self._fit_from, self._refits = 0, 0, 0
        self.relation = Relation()

    def _per_s(self) -> float | None:
        """Return how many requests a second the limits in force allow."""
        if self.observing or not self.rates:
            return None
        return max(self._in_force.floor_s, min(learned.rate_s for learned in self.rates))

    def _drop(self) -> None:
        """Believe no limit, and forget what spoke for one."""
        self.rates, self.prober, self._learn_from, self._doubt_from = [], Prober(), None, None
        self._chance.clear()
        self.evidence.forget()
        self.changed = True

    # learning

    def _on_reject(self, sent: float, now: float, kind: Kind, wait_s: float | None) -> None:
        evidence = self.evidence
        if self._closed_at is None and sent - evidence.last_accepted > _FRESH_S:
            return
        self.refused += 1
        asked_for = self._asked_for(sent)
        if not asked_for:
            self.relation.answered(refused=True, in_force_s=self._per_s())
            if self.rates and not self.observing and self.relation.none(now):
                self._drop()
        if asked_for:
            self.changed |= self.prober.refused(sent, now, evidence.last_accepted, noisy=self._chance.noisy)
        elif self._closed_at is not None and evidence.rejects and evidence.rejects[-1].probe:
            asked_for = sent <= evidence.rejects[-1].seen  # sent along with the probe
        evidence.reject(sent, now, kind, wait_s, probe=asked_for)
        if self._closed_at is None:
            self._closed_at = now
            if not asked_for:
                self.closures += 1
                self._learn_from = sent  # once what was sent before it is answered

    def _asked_for(self, sent: float) -> bool:
        """Say whether a refused request went beyond what was in force, as a probe lets it."""
        probe = self.prober.probe
        if probe is None or sent < probe.since:
            return False
        if not self._chance.noisy or sent - probe.missed_at < max(STOP_S, probe.rate.window_s / 4):
            return True  # where refused requests count, the next is refused although little was used
        return self.evidence.used(sent - probe.of.window_s, sent) >= probe.of.n

    def _learn_if_due(self, now: float) -> None:
        if self._learn_from is not None and self.evidence.oldest_open > self._learn_from:
            self._learn_from = None
            if not self.rates:
                self._learn(now)

    def _on_reopened(self, now: float) -> None:
        rejects = self.evidence.rejects
        if not rejects or rejects[-1].probe:
            return
        if not self.rates:
            self._learn(now)
        elif self.observing:
            self._observed(now)
        else:
            self._surprised(now)

    def observe(self, observing: bool) -> None:
        """Say whether the limits are enforced: while they are not, every refusal they explain was to be expected."""
        if observing and self.prober.probe is not None:
            self.prober.probe = None
            self.changed = True
        self.observing = observing

    def _observed(self, now: float) -> None:
        """See whether the last refusals bear out what is believed; if not, look again."""
        closures = self.evidence.closures()
        if closures and not any(self._explains(learned, closures[-1].onset.sent) for learned in self.rates):
            found = self._fit()
            if found is not None and found.newest and self._believable(found, closures):
                self.rates.clear()
                self._adopt(found, now)

    def _learn(self, now: float) -> None:
        """Try to find the first limit. Each failure makes the next try wait for more closures."""
        if self.closures < max(self._fit_from, 2) or now < self.relation.until:
            return
        evidence = self.evidence
        closures = evidence.closures()
        starts = [
            float("-inf"),
            *(closures[place].reopened for place in (-12, -6, 0) if len(closures) > max(-place, 3)),
        ]
        for since in starts:  # the limit may be younger than what is remembered
            found = self._fit(since=since)
            before_s = closures[0].onset.sent - evidence.accepted[0]
            if (
                found is not None
                and found.hypothesis.family is Family.BUCKET
                and since < starts[-1]
                and before_s > _LONG_BEFORE_S
            ):
                continue  # what went through before there was a limit makes the bucket look larger than it is
            recent = [closure for closure in closures if closure.onset.sent >= since]
            if found is not None and self._believable(found, recent) and self._carries(found, recent):
                self._adopt(found, now, since=since)
                return
        if self.closures > 6:
            self._fit_from = self.closures + 1 + self.closures // 4

    def _surprised(self, now: float) -> None:
        """A limit is in force and the platform refused all the same: find out why."""
        evidence = self.evidence
        closures = evidence.closures()
        if not closures:
            return
        latest, longest = closures[-1], self.rates[-1]
        if not latest.lone and self._in_force.take_back(now):
            return
        settled = all(learned.settled for learned in self.rates)
        if latest.onset.sent < longest.since and any(
            self._explains(learned, latest.last.sent) for learned in self.rates
        ):
            return
        if latest.lone and (settled or self._chance.noisy):
            if self._chance.too_high(latest, now, self.rates):
                self._in_force.take_back(now)
                return
            repeated = self._chance.repeated(latest, now, self.rates)
            self._lone_tries += 1
            if repeated and settled:
                self._in_force.shrink(closures, now)
            elif not repeated and self._lone_tries % _LONE_TRIES == 0:
                self._together(closures, now)
            if settled or not repeated:
                return
        for learned in self.rates:
            learned.clean_from = now
        place = bisect_left(evidence.accepted, latest.onset.sent)
        outlasts = bool(place) and is_outage(latest, evidence.accepted[place - 1], longest.window_s)
        proven = self._in_force.proven(longest, now)
        longest_s = float("inf") if outlasts or not proven else SAME_WINDOW * longest.window_s
        if proven:
            self._refits = 0
        if self._refits >= _REFITS and (carried := self._in_force.carried(closures)):
            if not longest.paced:  # whatever is tried is refused again: a quota shared with others shows no limit
                self._in_force.pace(carried, now)
                return
            longest_s = 0.0
        found = self._fit()
        if (
            found is not None
            and found.newest
            # what opened again within the window has no longer one, unless everything says so
            and (found.window_s <= longest_s or found.clean(*_NEARLY_ALL))
            and found.onsets * 2 > found.closures
            and self._believable(found, closures)
            and (len(self.rates) == 1 or found.clean(*_NEARLY_ALL))
            and self._carries(found, closures)
        ):
            self.rates.clear()
            self._adopt(found, now)
            self._refits += not found.clean(*_NEARLY_ALL)
            return
        if self._doubt_from is None:
            before = [closure.reopened for closure in closures[:-1]]
            self._doubt_from = max([*before[-1:], longest.since])
        need = ONSETS_EXPLICIT if latest.explicit else ONSETS_IMPLICIT
        known = [learned.rate() for learned in self.rates]
        for since, explained in ((float("-inf"), known), (self._doubt_from, ())):
            found = self._fit(since=since, known=explained)
            if found is None or found.window_s > longest_s:
                continue
            if not self._carries(found, [closure for closure in closures if closure.onset.sent >= since]):
                continue
            if found.onsets >= need and found.newest and found.clean(0.25, 2):
                self._adopt(found, now, since=since)
                self._refits += not found.clean(*_NEARLY_ALL)
                return
        if place and not outlasts and latest.onset.sent >= longest.since:
            self._in_force.shrink(closures, now)

    def _explains(self, learned: Learned, at: float) -> bool:
        slack = self.evidence.slack_s
        return self.evidence.count(at - learned.window_s - slack, at + slack) >= learned.n

    def _together(self, closures: Sequence[Closure], now: float) -> None:
        """See whether refusals that each may be chance are together one limit that is a little lower."""
        found = self._fit()
        if found is None or not found.clean(0.2, 2) or not self._carries(found, closures):
            return
        if not self._believable(found, closures):
            return
        binding = self._in_force.in_turn()[0]
        if found.n / found.window_s < binding.n / binding.window_s:
            self._adopt(found, now)

    def _adopt(self, found: Fit, now: float, *, since: float = float("-inf")) -> None:
        """Put in force what was found in the evidence from ``since`` on, and drop the older."""
        if since > float("-inf"):
            self.evidence.forget_before(since)
        rate = self._in_force.adopt(found, now).rate()
        self._found_again = rate == self._found_last  # it was refused all the same
        self._found_last, self._doubt_from = rate, None

    def _fit(self, *, since: float = float("-inf"), known: Sequence[Rate] = ()) -> Fit | None:
        """Fit when enough was sent since to pay for it: a few microseconds per request on average."""
        cost = len(self.evidence.accepted) // _REQUESTS_PER_FIT
        if cost > self._credit:
            return None
        self._credit -= cost
        blurred = not self._found_again
        return fit(self.evidence, since=since, known=known, noisy=self._chance.noisy, blurred=blurred)

    def _believable(self, found: Fit, closures: Sequence[Closure]) -> bool:
        if self._chance.noisy and found.hypothesis.family is not Family.BUCKET:
            closures = self.evidence.lasting(closures)
        return believable(found, closures, self.evidence.runs(closures))

    def _carries(self, found: Fit, closures: Sequence[Closure]) -> bool:
        """Say whether ``found`` would let through what was accepted between the latest refusals.

        What got through while the platform refused the rest is the least that its limit lets through: an estimate
        below that is wrong, however well it explains the refusals.
        """
        recent = closures[-CARRIED_CLOSURES:]
        if not recent:
            return True
        begin, end = recent[0].onset.sent, recent[-1].onset.sent
        allowed = found.n * (1.0 + (end - begin) / found.window_s)
        return self.evidence.count(begin, end) <= _CARRIED * allowed + 1

    # probing

    def _on_probed(self, now: float) -> None:
        probe: Probe | None = self.prober.probe
        assert probe is not None
        evidence = self.evidence
        times, back = evidence.accepted, probe.of.n // evidence.stride
        span_s = times[-1] - times[-1 - back] if len(times) > back else float("inf")
        if self.prober.accepted(now, span_s, evidence.slack_s, evidence.oldest_open):
            self.changed = True
