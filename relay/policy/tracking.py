"""Follows one quota: learns its limits, keeps them up with what the platform does, and tries a little more.

Three moments matter. A *closure* begins with a refusal; when it repeats, ``_learn`` looks for the first limit. A
*surprise* is a closure although a limit is in force: chance, an outage, a limit that changed, or one more limit. And
between closures the prober asks for a little more.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial
from math import exp
from operator import sub

from relay.core.model import Rate
from relay.policy.evidence import Closure, Evidence, Kind
from relay.policy.families import Family
from relay.policy.fit import Fit, fit
from relay.policy.outage import ONSETS_EXPLICIT, ONSETS_IMPLICIT, believable, is_outage
from relay.policy.probing import Learned, Probe, Prober
from relay.policy.windows import rounded_up

_FRESH_S = 3600.0  # a refusal with nothing accepted for so long says nothing about a limit
_SHRINK = 0.02  # for a quota shared with others, or a window a little short: so much less, at least one request
_SHRINK_AGAIN = 20.0  # windows; a shrink that soon after another was not enough
_SAME_WINDOW = 1.5  # two rates whose windows are that near are one
_FIRST_RAISE_WINDOWS = 3.0  # a count that is too low by chance is found out early
_FIRST_RAISE_S = 15.0
_IMPLIED = 0.9  # a shorter window that holds nearly as many adds nothing
_PROVEN_WINDOWS = 20.0  # a younger limit was a guess that the next one replaces
RATES = 3  # that many windows at once; no platform in reference use has more
_STOP_S = 3.0  # the shortest stops after a refusal last that long at the most
_BUSY = 0.9  # of the limit
_BUSY_WINDOWS = 1.5
_NEARLY = 0.95  # of what was accepted before: requests that failed otherwise were in the window too
_RAISE_AFTER_SHRINK_S = 60.0
_LONE_TRIES = 6
_CHANCE = 0.004  # of all requests
_FULL = 0.9  # of the limit: the use at which a refusal may be due to it
_SUSPECTS = 3
_SUSPECTS_KEPT = 32
_UNLIKELY = 0.002
_NOISY = 1.5  # requests in the latest few thousand
_PRIOR = (0.2, 300)  # refusals by chance, of so many requests, before any were seen
_LONE_KEPT = 6000  # requests
_BEYOND_ODDS = 0.05
_CREDIT = 2000  # requests: fits are paid for by requests, those of a quiet time up to so many
_REQUESTS_PER_FIT = 4  # a fit over n accepted sends costs about 8 us * n, so it waits for n/4 more
_CARRIED = 1.1
_CARRIED_CLOSURES = 8
_CARRIED_LEAST = 4
_CARRIED_WINDOWS = 2.0
_FLOOR = 0.9
_PACE = 20  # requests at least in the window of a pace, so that a step is 5 %
_PACE_PART = 0.97
_LONG_BEFORE_S = 30.0


class Tracker:
    """The state of one quota. ``rates`` are the limits in force, shortest window first; ``frozen`` keeps them."""

    def __init__(self) -> None:
        self.changed = False
        self.frozen = False
        self.observing = False  # the limits are not enforced
        self.evidence = Evidence()
        self.rates: list[Learned] = []
        self.prober = Prober()
        self._found_last: Rate | None = None
        self._found_again = False
        self._closed_at: float | None = None  # when the refusal that began the present closure was seen
        self._fit_from = 0  # closures to be seen before the next try to learn
        self.closures = 0
        self._learn_from: float | None = None
        self._doubt_from: float | None = None  # what is in force does not explain what was refused since
        self._lone_tries = 0
        self._credit = _CREDIT
        self._suspects: list[float] = []  # lone refusals that may be chance
        self._check_at = 0.0
        self._lone = 0.0  # lone refusals since so many were accepted
        self._lone_from = 0
        self._failed = 0.0  # requests that failed otherwise, in the same stretch
        self.accepted = 0
        self.refused = 0

    def answered(self, token: int, now: float, kind: Kind, wait_s: float | None = None) -> None:
        """Note what came of ``token``; ``wait_s`` is how long the platform asked to be left alone."""
        sent = self.evidence.take(token)
        if sent is None:
            return
        if kind is Kind.FAILED:
            self._failed += 1.0
            return
        if self._credit < _CREDIT:
            self._credit += 1
        if kind is not Kind.ACCEPTED:
            self._on_reject(sent, now, kind, wait_s)
            self._learn_if_due(now)
            return
        self.accepted += 1
        if self.accepted - self._lone_from > _LONE_KEPT:
            self._lone, self._failed = self._lone / 2, self._failed / 2
            self._lone_from = (self._lone_from + self.accepted) // 2
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
                if self.prober.begin(self.in_turn(), now, partial(self._busy, now=now), noisy=self._noisy):
                    self.changed = True

    def forget(self) -> None:
        """Drop everything."""
        self.rates, self.prober, self._closed_at, self._learn_from = [], Prober(), None, None
        self._doubt_from, self.closures, self._fit_from = None, 0, 0
        self._suspects.clear()
        self.evidence.forget()
        self.changed = True

    # learning

    def _on_reject(self, sent: float, now: float, kind: Kind, wait_s: float | None) -> None:
        evidence = self.evidence
        if self._closed_at is None and sent - evidence.last_accepted > _FRESH_S:
            return
        self.refused += 1
        asked_for = self._asked_for(sent)
        if asked_for:
            self.changed |= self.prober.refused(sent, now, evidence.last_accepted, noisy=self._noisy)
        elif self._closed_at is not None and evidence.rejects and evidence.rejects[-1].probe:
            asked_for = sent <= evidence.rejects[-1].seen  # sent along with the probe
        evidence.reject(sent, now, kind, wait_s, probe=asked_for)
        if self._closed_at is None:
            self._closed_at = now
            if not asked_for:
                self.closures += 1
                self._learn_from = sent  # once what was sent before it is answered

    @property
    def _chance(self) -> float:
        """Return the part of the requests that is refused by chance, as far as was seen.

        Where a part fails for other reasons, one by one, about as much looks like a limit by chance.
        """
        return min((_PRIOR[0] + self._lone + self._failed / 2) / (_PRIOR[1] + self.accepted - self._lone_from), _CHANCE)

    @property
    def _noisy(self) -> bool:
        """Whether requests are refused by chance here."""
        return self._failed > _NOISY or self._lone > _NOISY

    def _asked_for(self, sent: float) -> bool:
        """Say whether a refused request went beyond what was in force, as a probe lets it."""
        probe = self.prober.probe
        if probe is None or sent < probe.since:
            return False
        if not self._noisy or sent - probe.missed_at < max(_STOP_S, probe.rate.window_s / 4):
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
        elif not self.frozen:
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
        if self.closures < max(self._fit_from, 2):
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
                if since > float("-inf"):
                    evidence.forget_before(since)
                self._adopt(found, now)
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
        if not latest.lone and self._take_back(now):
            return
        settled = all(learned.settled for learned in self.rates)
        if latest.onset.sent < longest.since and any(
            self._explains(learned, latest.last.sent) for learned in self.rates
        ):
            return
        if latest.lone and (settled or self._noisy):
            if self._too_high(latest, now):
                self._take_back(now)
                return
            repeated = self._repeated(latest, now)
            if repeated and settled:
                self._shrink(closures, now)
            elif not repeated and self._lone_tries % _LONE_TRIES == 0:
                self._together(closures, now)
            if settled or not repeated:
                return
        for learned in self.rates:
            learned.clean_from = now
        place = bisect_left(evidence.accepted, latest.onset.sent)
        outlasts = bool(place) and is_outage(latest, evidence.accepted[place - 1], longest.window_s)
        proven = now - longest.since > _PROVEN_WINDOWS * longest.window_s
        longest_s = float("inf") if outlasts or not proven else _SAME_WINDOW * longest.window_s
        found = self._fit()
        if (
            found is not None
            and found.newest
            # what opened again within the window has no longer one, unless everything says so
            and (found.window_s <= longest_s or found.clean(0.05, 1))
            and found.onsets * 2 > found.closures
            and self._believable(found, closures)
            and (len(self.rates) == 1 or found.clean(0.05, 1))
            and self._carries(found, closures)
        ):
            self.rates.clear()
            self._adopt(found, now)
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
                if since > float("-inf"):
                    evidence.forget_before(since)
                self._adopt(found, now)
                return
        if place and not outlasts and latest.onset.sent >= longest.since:
            self._shrink(closures, now)

    def _too_high(self, latest: Closure, now: float) -> bool:
        """Say whether refusals since the latest raise are more than chance."""
        too_high = False
        for learned in self.rates:
            used = self.evidence.used(latest.onset.sent - learned.window_s, latest.onset.sent)
            if not learned.doubtful(now) or used < learned.before:
                continue
            learned.doubts += 1
            beyond = self.evidence.count(learned.raised_at, now)
            too_high |= _odds(learned.doubts, self._chance * beyond) < _BEYOND_ODDS
        return too_high

    def _take_back(self, now: float) -> bool:
        taken_back = [learned.take_back(now) for learned in self.rates]
        self.changed |= any(taken_back)
        return any(taken_back)

    def _explains(self, learned: Learned, at: float) -> bool:
        slack = self.evidence.slack_s
        return self.evidence.count(at - learned.window_s - slack, at + slack) >= learned.n

    def _shrink(self, closures: Sequence[Closure], now: float) -> None:
        """Take a little off what was used up when the platform refused; more when it was not enough.

        Not below what got through meanwhile: then a limit of another kind refuses, and only the pace is known.
        """
        carried = self._carried(closures)
        busy = [learned for learned in self.rates if self._busy(learned, closures[-1].onset.sent)]
        for learned in busy or self.rates[-1:]:
            soon = now - learned.shrunk_at < _SHRINK_AGAIN * (learned.window_s + _STOP_S)
            shrinks = learned.shrinks + 1 if soon else 1
            part = _SHRINK * 2.0 ** min(max(shrinks - 2, 0), 2)
            n = max(1, min(learned.n - 1, int(learned.n * (1.0 - part))))
            learned.clean_from = now
            if n < _FLOOR * carried * learned.window_s:
                self._pace(carried, now)
                return
            learned.shrinks, learned.peak, learned.n, learned.shrunk_at = shrinks, max(learned.peak, learned.n), n, now
            learned.plan_raise(now, failed=False)
            soon_s = max(_RAISE_AFTER_SHRINK_S, 5.0 * learned.window_s)  # it may have been chance
            learned.raise_at = now + min(soon_s * 2.0 ** min(learned.regrets, 8), learned.raise_every_s)
            learned.regrets += 1
            self.changed = True

    def _carried(self, closures: Sequence[Closure]) -> float:
        """Return the requests per second that got through between the latest refusals; 0 where they are too few."""
        longest_s = self.rates[-1].window_s + _STOP_S if self.rates else _STOP_S
        end = closures[-1].onset.sent
        recent = [closure.onset.sent for closure in closures if closure.onset.sent > end - _SHRINK_AGAIN * longest_s]
        recent = recent[-_CARRIED_CLOSURES:]
        span_s = end - recent[0]
        if len(recent) < _CARRIED_LEAST or span_s < _CARRIED_WINDOWS * longest_s:
            return 0.0
        return self.evidence.count(recent[0], end) / span_s

    def _pace(self, carried: float, now: float) -> None:
        """Put a pace in force: what got through, smoothly. It breaks no limit that let that much through."""
        n = max(_PACE, int(carried))
        window_s = rounded_up(n / (_PACE_PART * carried))
        pace = Learned(n, window_s, window_s, window_s, Family.UNCERTAIN, now, clean_from=now, paced=True)
        pace.raise_at = now + max(_FIRST_RAISE_WINDOWS * window_s, _FIRST_RAISE_S)
        kept = [learned for learned in self.rates if not learned.paced and learned.rate_s > carried]
        self.rates = sorted([*kept[: RATES - 1], pace], key=lambda learned: learned.window_s)
        self._suspects.clear()
        self.changed = True

    def _together(self, closures: Sequence[Closure], now: float) -> None:
        """See whether refusals that each may be chance are together one limit that is a little lower."""
        found = self._fit()
        if found is None or not found.clean(0.2, 2) or not self._carries(found, closures):
            return
        if not self._believable(found, closures):
            return
        binding = self.in_turn()[0]
        if found.n / found.window_s < binding.n / binding.window_s:
            self._adopt(found, now)

    def _repeated(self, latest: Closure, now: float) -> bool:
        """Say whether lone refusals came more often than chance alone, while the limit was used up.

        Chance refuses any request; a limit only those sent when most of it was used, and what it refused is not
        accepted a window later.
        """
        at = latest.onset.sent
        self._lone_tries += 1
        if not any(self._used_up(learned, at) for learned in self.rates):
            self._lone += 1.0
            return False
        longest = self.rates[-1]
        unrefuted = [old for old in self._suspects if not self._noisy or not self._refuted(old)]
        self._lone += len(self._suspects) - len(unrefuted)
        self._suspects = [*unrefuted[-_SUSPECTS_KEPT:], at]
        for windows in (4.0, 20.0):
            since = now - windows * (longest.window_s + _STOP_S)
            suspects = sum(old > since for old in self._suspects)
            if suspects >= _SUSPECTS and _odds(suspects, self._chance * self.evidence.count(since, now)) < _UNLIKELY:
                self._suspects.clear()
                return True
        return False

    def _used_up(self, learned: Learned, at: float) -> bool:
        begin = at - learned.window_s - 2 * (self.evidence.answer_s + self.evidence.slack_s)
        return self.evidence.used(begin, at) >= _FULL * learned.n

    def _refuted(self, at: float) -> bool:
        """Say whether as much as before the refusal at ``at`` was accepted within one window soon after it."""
        evidence = self.evidence
        learned = self.rates[-1]
        used = int(_NEARLY * evidence.count(at - learned.window_s, at)) // evidence.stride
        first = bisect_right(evidence.accepted, at + evidence.slack_s)
        last = bisect_right(evidence.accepted, at + learned.window_s)
        times = evidence.accepted[max(0, first - used + 1) : last]
        spans = map(sub, times[used - 1 :], times) if used > 1 else iter(())
        return min(spans, default=float("inf")) < learned.window_s - evidence.slack_s

    def _fit(self, *, since: float = float("-inf"), known: Sequence[Rate] = ()) -> Fit | None:
        """Fit when enough was sent since to pay for it: a few microseconds per request on average."""
        cost = len(self.evidence.accepted) // _REQUESTS_PER_FIT
        if cost > self._credit:
            return None
        self._credit -= cost
        return fit(self.evidence, since=since, known=known, noisy=self._noisy, blurred=not self._found_again)

    def _believable(self, found: Fit, closures: Sequence[Closure]) -> bool:
        if self._noisy and found.hypothesis.family is not Family.BUCKET:
            closures = self.evidence.lasting(closures)
        return believable(found, closures, self.evidence.runs(closures))

    def _carries(self, found: Fit, closures: Sequence[Closure]) -> bool:
        """Say whether ``found`` would let through what was accepted between the latest refusals.

        What got through while the platform refused the rest is the least that its limit lets through: an estimate
        below that is wrong, however well it explains the refusals.
        """
        recent = closures[-_CARRIED_CLOSURES:]
        if not recent:
            return True
        begin, end = recent[0].onset.sent, recent[-1].onset.sent
        allowed = found.n * (1.0 + (end - begin) / found.window_s)
        return self.evidence.count(begin, end) <= _CARRIED * allowed + 1

    def _adopt(self, found: Fit, now: float) -> None:
        """Put what was found in force beside, or in place of, what is."""
        hypothesis = found.hypothesis
        fresh = Learned(
            n=max(1, found.n),
            window_s=max(found.window_s, 0.05),
            low_s=hypothesis.low_s,
            high_s=hypothesis.high_s,
            family=hypothesis.family if found.clean(0.25, 2 + found.closures // 4) else Family.UNCERTAIN,
            since=now,
            onsets=found.onsets,
            clean_from=now,
        )
        self._found_again = fresh.rate() == self._found_last  # it was refused all the same
        self._found_last = fresh.rate()
        fresh.raise_at = now + max(_FIRST_RAISE_WINDOWS * fresh.window_s, _FIRST_RAISE_S)
        kept = []
        for learned in self.rates:
            near = max(learned.window_s, fresh.window_s) < _SAME_WINDOW * min(learned.window_s, fresh.window_s)
            implied = learned.window_s <= fresh.window_s and learned.n > _IMPLIED * fresh.n
            proven = now - learned.since > _PROVEN_WINDOWS * learned.window_s
            if proven and not near and not implied:
                kept.append(learned)
        self.rates = sorted([*kept, fresh], key=lambda learned: learned.window_s)[-RATES:]
        self._doubt_from = None
        self._suspects.clear()
        self.changed = True

    # probing

    def in_turn(self) -> list[Learned]:
        """Return the limits, the one that binds most first."""
        return sorted(self.rates, key=lambda learned: learned.rate_s)

    def _busy(self, learned: Learned, now: float) -> bool:
        since = now - _BUSY_WINDOWS * learned.window_s - 2 * self.evidence.slack_s
        return self.evidence.count(since, now) >= _BUSY * learned.n

    def _on_probed(self, now: float) -> None:
        probe: Probe | None = self.prober.probe
        assert probe is not None
        evidence = self.evidence
        times, back = evidence.accepted, probe.of.n // evidence.stride
        span_s = times[-1] - times[-1 - back] if len(times) > back else float("inf")
        if self.prober.accepted(now, span_s, evidence.slack_s, evidence.oldest_open):
            self.changed = True


def _odds(seen: int, expected: float) -> float:
    """Return how likely chance alone makes so many (Poisson)."""
    term = below = exp(-expected)
    for number in range(1, seen):
        term *= expected / number
        below += term
    return 1.0 - below
