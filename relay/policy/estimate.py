"""The limit nobody announced: found from accepted and refused sends, kept just below, tried again rarely.

``Estimator`` is told of every send and answer under one quota (or one group of it) and says which rates to enforce. It
reads no clock and draws no randomness of its own; what it enforces is meant for ``StrictWindow``, which conforms to
every family of limits. The method is told in docs/limits.md.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Any

from relay.core.model import Rate
from relay.policy.evidence import Closure, Evidence, Kind
from relay.policy.families import Family
from relay.policy.fit import Fit, fit
from relay.policy.outage import ONSETS_EXPLICIT, ONSETS_IMPLICIT, believable, confidence, is_outage
from relay.policy.probing import Learned, Probe, Prober

_FRESH_S = 3600.0  # a refusal with nothing accepted for so long says nothing about a limit
_SHRINK = 0.02  # for a quota shared with others, or a window a little short: so much less, at least one request
_SHRINK_AGAIN = 20.0  # windows; a shrink that soon after another was not enough
_SAME_WINDOW = 1.5  # two rates whose windows are that near are one
_FIRST_RAISE_WINDOWS = 3.0  # a count that is too low by chance is found out early
_FIRST_RAISE_S = 15.0
_IMPLIED = 0.9  # a shorter window that holds nearly as many adds nothing
_PROVEN_WINDOWS = 20.0  # a younger limit was a guess that the next one replaces
_RATES = 3  # that many windows at once; no platform in reference use has more
_STOP_S = 3.0  # the shortest stops after a refusal last that long at the most
_BUSY = 0.9  # of the limit
_BUSY_WINDOWS = 1.5
_LONE_ENOUGH = 4
_CHANCE = 0.012  # of all requests
_CREDIT = 2000  # requests: fits are paid for by requests, those of a quiet time up to so many
_REQUESTS_PER_FIT = 4  # a fit over n accepted sends costs about 8 us * n, so it waits for n/4 more


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed of a quota. ``rates`` is empty while nothing is; times are relay-clock seconds."""

    rates: tuple[Rate, ...]
    family: Family
    confidence: float
    evidence: Mapping[str, Any]  # counts, times, and ``sentence`` for people
    since: float | None
    source: str  # learned | declared | none

    def yaml_line(self) -> str:
        """Return the line to adopt, or an empty string."""
        if not self.rates:
            return ""
        if len(self.rates) == 1:
            return f"rate: {self.rates[0]}"
        return f"rate: [{', '.join(str(rate) for rate in self.rates)}]"


class Estimator:
    """Estimates the limit of one quota. ``floor`` is a rate below which nothing is ever enforced."""

    def __init__(self, *, rng: random.Random, floor: Rate | None = None) -> None:
        self.changed = False
        self._rng = rng
        self._floor = floor
        self._evidence = Evidence()
        self._rates: list[Learned] = []
        self._declared: tuple[Rate, ...] = ()
        self._prober = Prober()
        self._closed_at: float | None = None  # when the refusal that began the present closure was seen
        self._fit_from = 0  # closures to be seen before the next try to learn
        self._closures = 0
        self._learn_from: float | None = None
        self._doubt_from: float | None = None  # what is in force does not explain what was refused since
        self._lone = 0  # lone refusals since so many were accepted
        self._lone_from = 0
        self._credit = _CREDIT
        self._suspects: list[float] = []  # lone refusals that may be chance
        self._check_at = 0.0
        self._accepted = 0
        self._refused = 0

    # what the pipeline calls

    def sent(self, token: int, now: float) -> None:
        """Note that request ``token`` goes out."""
        self._evidence.sent(token, now)

    def answered(self, token: int, now: float, kind: Kind, wait_s: float | None = None) -> None:
        """Note what came of ``token``; ``wait_s`` is how long the platform asked to be left alone."""
        sent = self._evidence.take(token)
        if sent is None or kind is Kind.FAILED:
            return
        if self._credit < _CREDIT:
            self._credit += 1
        if kind is not Kind.ACCEPTED:
            self._on_reject(sent, now, kind, wait_s)
            self._learn_if_due(now)
            return
        self._accepted += 1
        self._evidence.accept(sent, now)
        self._learn_if_due(now)
        if self._closed_at is not None and sent >= self._closed_at:
            self._closed_at = None
            self._on_reopened(now)
        if self._rates:
            if self._prober.probe is not None:
                self._on_probed(now)
            elif now >= self._check_at and self._closed_at is None:
                self._check_at = now + min(self._rates[0].window_s / 4, 60.0)
                if self._prober.begin(self._in_turn(), now, lambda learned: self._busy(learned, now)):
                    self.changed = True

    def forget_token(self, token: int) -> None:
        """Drop a request whose answer will not come (it was never sent, or the relay itself failed)."""
        self._evidence.take(token)

    def declared(self, rates: Sequence[Rate]) -> None:
        """Put what the platform declares (``RateLimit-Policy``) in force: it beats what was estimated."""
        if tuple(rates) != self._declared:
            self._declared = tuple(rates)
            self.changed = True

    def forget(self) -> None:
        """Begin anew, as an operator asks after a contract changed."""
        self._rates, self._declared, self._prober = [], (), Prober()
        self._doubt_from, self._closures, self._fit_from = None, 0, 0
        self._suspects.clear()
        self._evidence.forget()
        self.changed = True

    @property
    def careful(self) -> bool:
        """Whether one request at a time may be under way: more is being tried, and one refusal says enough.

        Not where one at a time could never use the limit up.
        """
        probe = self._prober.probe
        return probe is not None and probe.rate.limit * self._evidence.answer_s < probe.rate.window_s / 2

    def enforced(self) -> tuple[Rate, ...]:
        """Return the rates to enforce now, shortest window first, and clear ``changed``."""
        self.changed = False
        if self._declared:
            return self._declared
        probe = self._prober.probe
        return tuple(
            self._floored(probe.rate if probe is not None and probe.of is learned else learned.rate())
            for learned in self._rates
        )

    def _floored(self, rate: Rate) -> Rate:
        floor = self._floor
        least = 1 if floor is None else -(-floor.limit * rate.window_s // floor.window_s)
        return rate if rate.limit >= least else Rate(int(least), rate.window_s)

    # learning

    def _on_reject(self, sent: float, now: float, kind: Kind, wait_s: float | None) -> None:
        evidence = self._evidence
        if self._closed_at is None and sent - evidence.last_accepted > _FRESH_S:
            return
        self._refused += 1
        asked_for = self._prober.refused(sent, now)
        if asked_for:
            self.changed = True
        elif self._closed_at is not None and evidence.rejects and evidence.rejects[-1].probe:
            asked_for = sent <= evidence.rejects[-1].seen  # sent along with the probe
        evidence.reject(sent, now, kind, wait_s, probe=asked_for)
        if self._closed_at is None:
            self._closed_at = now
            if not asked_for:
                self._closures += 1
                self._learn_from = sent  # once what was sent before it is answered

    def _learn_if_due(self, now: float) -> None:
        if self._learn_from is not None and self._evidence.oldest_open > self._learn_from:
            self._learn_from = None
            if not self._rates:
                self._learn(now)

    def _on_reopened(self, now: float) -> None:
        rejects = self._evidence.rejects
        if not rejects or rejects[-1].probe:
            return
        if not self._rates:
            self._learn(now)
        elif not self._declared:
            self._surprised(now)

    def _learn(self, now: float) -> None:
        """Try to find the first limit. Each failure makes the next try wait for more closures."""
        if self._closures < max(self._fit_from, 2):
            return
        evidence = self._evidence
        closures = evidence.closures()
        starts = [float("-inf"), *(closures[place].reopened for place in (-12, -6, 0) if len(closures) > max(-place, 3))]
        for since in starts:  # the limit may be younger than what is remembered
            found = self._fit(since=since)
            recent = [closure for closure in closures if closure.onset.sent >= since]
            if found is not None and believable(found, recent, evidence.runs(recent)):
                if since > float("-inf"):
                    evidence.forget_before(since)
                self._adopt(found, now)
                return
        if self._closures > 6:
            self._fit_from = self._closures + 1 + self._closures // 4

    def _surprised(self, now: float) -> None:
        """A limit is in force and the platform refused all the same: find out why."""
        evidence = self._evidence
        closures = evidence.closures()
        if not closures:
            return
        latest, longest = closures[-1], self._rates[-1]
        taken_back = [learned.take_back(now) for learned in self._rates]
        if any(taken_back):
            self.changed = True
            return
        settled = all(learned.settled for learned in self._rates)
        if latest.onset.sent < longest.since and any(self._explains(learned, latest.last.sent) for learned in self._rates):
            return
        if settled and latest.lone:
            if self._repeated(latest, now):
                self._shrink(latest, now)
            return
        for learned in self._rates:
            learned.clean_from = now
        found = self._fit()
        if found is not None and found.newest and found.onsets * 2 > found.closures and believable(
            found, closures, evidence.runs(closures)
        ):
            if len(self._rates) == 1 or found.clean(0.05, 1):
                self._rates.clear()
                self._adopt(found, now)
                return
        if self._doubt_from is None:
            before = [closure.reopened for closure in closures[:-1]]
            self._doubt_from = max([*before[-1:], longest.since])
        place = bisect_left(evidence.accepted, latest.onset.sent)
        outlasts = bool(place) and is_outage(latest, evidence.accepted[place - 1], longest.window_s)
        need = ONSETS_EXPLICIT if latest.explicit else ONSETS_IMPLICIT
        known = [learned.rate() for learned in self._rates]
        for since, explained in ((float("-inf"), known), (self._doubt_from, ())):
            found = self._fit(since=since, known=explained)
            proven = now - longest.since > _PROVEN_WINDOWS * longest.window_s
            if found is None or (found.window_s > _SAME_WINDOW * longest.window_s and proven and not outlasts):
                continue  # what opened again within the window has no longer one
            if found.onsets >= need and found.newest and found.clean(0.25, 2):
                if since > float("-inf"):
                    evidence.forget_before(since)
                self._adopt(found, now)
                return
        if place and not outlasts and latest.onset.sent >= longest.since:
            self._shrink(latest, now)

    def _explains(self, learned: Learned, at: float) -> bool:
        slack = self._evidence.slack_s
        return self._evidence.count(at - learned.window_s - slack, at + slack) >= learned.n

    def _shrink(self, latest: Closure, now: float) -> None:
        """Take a little off what was used up when the platform refused; more when it was not enough."""
        busy = [learned for learned in self._rates if self._busy(learned, latest.onset.sent)]
        for learned in busy or self._rates[-1:]:
            soon = now - learned.shrunk_at < _SHRINK_AGAIN * (learned.window_s + _STOP_S)
            learned.shrinks = learned.shrinks + 1 if soon else 1
            part = _SHRINK * min(2.0 ** (learned.shrinks - 2), 4.0) if learned.shrinks > 2 else _SHRINK
            learned.n = max(1, min(learned.n - 1, int(learned.n * (1.0 - part))))
            learned.shrunk_at = learned.clean_from = now
            learned.plan_raise(now, failed=False)
            self.changed = True

    def _repeated(self, latest: Closure, now: float) -> bool:
        """Say whether lone refusals come too often for chance.

        Either three that nothing refutes within a few windows, or more than a platform that works fails by itself.
        """
        horizon = 4.0 * (self._rates[-1].window_s + _STOP_S)
        self._suspects = [at for at in self._suspects if at > now - horizon and not self._refuted(at)]
        self._suspects.append(latest.onset.sent)
        self._lone += 1
        often = self._lone >= _LONE_ENOUGH and self._lone > _CHANCE * (self._accepted - self._lone_from)
        if self._lone >= _LONE_ENOUGH:
            self._lone, self._lone_from = 0, self._accepted
        return often or len(self._suspects) >= 3

    def _refuted(self, at: float) -> bool:
        """Say whether as much as before the refusal at ``at`` was accepted within one window soon after it."""
        evidence = self._evidence
        learned = self._rates[-1]
        used = evidence.count(at - learned.window_s, at) // evidence.stride
        first = bisect_right(evidence.accepted, at + evidence.slack_s)
        last = bisect_right(evidence.accepted, at + learned.window_s)
        times = evidence.accepted[max(0, first - used + 1) : last]
        spans = map(sub, times[used - 1 :], times) if used > 1 else iter(())
        return min(spans, default=float("inf")) < learned.window_s - evidence.slack_s

    def _fit(self, *, since: float = float("-inf"), known: Sequence[Rate] = ()) -> Fit | None:
        """Fit when enough was sent since to pay for it: a few microseconds per request on average."""
        cost = len(self._evidence.accepted) // _REQUESTS_PER_FIT
        if cost > self._credit:
            return None
        self._credit -= cost
        return fit(self._evidence, since=since, known=known)

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
        fresh.raise_at = now + max(_FIRST_RAISE_WINDOWS * fresh.window_s, _FIRST_RAISE_S)
        kept = []
        for learned in self._rates:
            near = max(learned.window_s, fresh.window_s) < _SAME_WINDOW * min(learned.window_s, fresh.window_s)
            implied = learned.window_s <= fresh.window_s and learned.n > _IMPLIED * fresh.n
            proven = now - learned.since > _PROVEN_WINDOWS * learned.window_s
            if proven and not near and not implied:
                kept.append(learned)
        self._rates = sorted([*kept, fresh], key=lambda learned: learned.window_s)[-_RATES:]
        self._doubt_from = None
        self._suspects.clear()
        self.changed = True

    # probing

    def _in_turn(self) -> list[Learned]:
        """Return the limits, the one that binds most first."""
        return sorted(self._rates, key=lambda learned: learned.n / learned.window_s)

    def _busy(self, learned: Learned, now: float) -> bool:
        since = now - _BUSY_WINDOWS * learned.window_s - 2 * self._evidence.slack_s
        return self._evidence.count(since, now) >= _BUSY * learned.n

    def _on_probed(self, now: float) -> None:
        probe: Probe | None = self._prober.probe
        assert probe is not None
        evidence = self._evidence
        times, back = evidence.accepted, probe.of.n // evidence.stride
        span_s = times[-1] - times[-1 - back] if len(times) > back else float("inf")
        if self._prober.accepted(now, span_s, evidence.slack_s, evidence.oldest_open):
            self.changed = True

    # what people see

    def estimate(self, now: float) -> Estimate:
        """Return what is believed, with its evidence."""
        rates = self._declared or tuple(self._floored(learned.rate()) for learned in self._rates)
        source = "declared" if self._declared else "learned" if self._rates else "none"
        evidence: dict[str, Any] = {"accepted": self._accepted, "refused": self._refused, "closures": self._closures}
        if not self._rates:
            evidence["sentence"] = (
                f"the platform declares {_listed(self._declared)}" if self._declared else self._doubt_sentence()
            )
            return Estimate(rates, Family.UNCERTAIN, 1.0 if self._declared else 0.0, evidence, None, source)
        binding = self._in_turn()[0]
        clean = int((now - binding.clean_from) / binding.window_s)
        evidence |= {
            "since": binding.since,
            "clean_windows": clean,
            "window_between_s": [round(binding.low_s, 3), round(binding.high_s, 3)],
            "next_try_at": binding.raise_at,
        }
        evidence["sentence"] = (
            f"refused {binding.onsets} times after {binding.n} requests; a window of {binding.low_s:.3g} s was "
            f"refused, one of {binding.window_s:g} s holds; {clean} windows without a refusal since"
        )
        score = confidence(binding.onsets, binding.family, binding.settled, clean)
        return Estimate(rates, binding.family, score, evidence, binding.since, source)

    def _doubt_sentence(self) -> str:
        if not self._refused:
            return "nothing was refused"
        return f"refused in {self._closures} stretches that no limit explains: an outage, or too little seen so far"

    # persistence

    def dump(self) -> dict[str, Any]:
        """Return what a restart needs: small, and fit for JSON."""
        return {
            "version": 1,
            "rates": [learned.dump() for learned in self._rates],
            "declared": [[rate.limit, rate.window_s] for rate in self._declared],
            "accepted": self._accepted,
            "refused": self._refused,
            "closures": self._closures,
        }

    def load(self, kept: Mapping[str, Any]) -> None:
        """Continue from ``dump``. Raises ``ValueError`` when it is not one, and changes nothing then."""
        try:
            rates = [Learned.load(entry) for entry in kept.get("rates", ())][:_RATES]
            declared = tuple(Rate(int(limit), float(window)) for limit, window in kept.get("declared", ()))
            counts = [int(kept.get(name, 0)) for name in ("accepted", "refused", "closures")]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the stored estimate cannot be read: {error!r}; it will be learned anew") from error
        if any(learned.n < 1 or not learned.window_s > 0 for learned in rates):
            raise ValueError("the stored estimate has a limit below 1; it will be learned anew")
        self._rates, self._declared = rates, declared
        self._accepted, self._refused, self._closures = counts
        self.changed = True


def _listed(rates: Sequence[Rate]) -> str:
    return ", ".join(str(rate) for rate in rates)
