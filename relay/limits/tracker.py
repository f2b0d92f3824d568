"""Follows one quota: learns its limits, keeps to them, probes for more, and recovers.

A *closure* begins with a refusal and ends with the next accepted request. Without a limit, ``search.py`` looks for the
first one when a closure repeats. With one, a closure is a *violation*, which ``violations.py`` judges. Between closures
the prober tries a little more.
"""

from functools import partial

from relay.limits.evidence.correlation import Correlation
from relay.limits.evidence.history import History, Signal
from relay.limits.in_force.ceiling import Ceiling
from relay.limits.in_force.limit import STOP_S, LearnedLimit
from relay.limits.in_force.noise import Noise
from relay.limits.in_force.probing import Probe, Prober
from relay.limits.search import Search
from relay.limits.violations import Violations

_FRESH_S = 3600.0  # a refusal after so long without an accepted request says nothing about a limit
_OVERDUE = 4.0  # times the usual answer time
_PATIENCE, _PATIENCE_MOST_S = 4.0, 15.0


class Tracker:
    """The state of one quota. ``rates`` are the limits in force, shortest window first."""

    def __init__(self) -> None:
        self.observing = False  # the limits are not enforced
        self.evidence = History()
        self._noise = Noise(self.evidence)
        self.correlation = Correlation()
        self._ceiling = Ceiling(self.evidence, self._noise)
        self._search = Search(self.evidence, self._noise, self._ceiling)
        self._violations = Violations(self.evidence, self._noise, self._ceiling, self._search)
        self.prober = Prober()
        self._closed_at: float | None = None  # when the refusal that began the present closure was seen
        self.closures = 0
        self._learn_from: float | None = None
        self._check_at = 0.0
        self.accepted = 0
        self.refused = 0
        self.confidence_rose = False  # since it was last dumped

    @property
    def changed(self) -> bool:
        """Whether what is in force changed since it was last asked for."""
        return self._ceiling.changed

    @changed.setter
    def changed(self, changed: bool) -> None:
        self._ceiling.changed = changed

    @property
    def rates(self) -> list[LearnedLimit]:
        """The limits in force, shortest window first."""
        return self._ceiling.rates

    @rates.setter
    def rates(self, rates: list[LearnedLimit]) -> None:
        self._ceiling.rates = rates

    @property
    def patience_s(self) -> float:
        """How long to leave the platform alone at least after a second refusal in a row although a limit is in force.

        A fixed window that is used up opens when it ends, and until then every request is refused. Where noise
        refuses, waiting would be time lost.
        """
        if self.observing or not self.rates or self._noise.noisy:
            return 0.0
        return min(self.rates[-1].window_s / _PATIENCE, _PATIENCE_MOST_S)

    def careful(self, now: float) -> bool:
        """Say whether only one request may be under way: the next may well be refused, and one refusal tells enough.

        That holds near the end of a young limit, and during a probe. Where one at a time could never use the limit up,
        it holds only while an answer is overdue, for a refusal may take longer than an accepted request. Where noise
        refuses, that would be time lost.
        """
        rates = self._ceiling.rates
        if self.observing or not rates:
            return False
        answer_s, probe = self.evidence.answer_s, self.prober.probe
        if probe is None:
            return any(
                limit.one_suffices(answer_s) and self._ceiling.young_and_nearly_used(limit, now) for limit in rates
            )
        if probe.of.one_suffices(answer_s):
            return True
        return not self._noise.noisy and now - self.evidence.oldest_open > _OVERDUE * answer_s

    def floor_at(self, per_s: float) -> None:
        """Say how many requests a second are never forbidden."""
        self._ceiling.floor_s = per_s

    def answered(self, token: int, now: float, kind: Signal, wait_s: float | None = None) -> None:
        """Note what came of ``token``; ``wait_s`` is how long the platform asked to be left alone."""
        sent = self.evidence.take(token)
        if sent is None:
            return
        if kind is Signal.FAILED:
            quiet = not self._noise.noisy
            self._noise.failed()
            if quiet and self._noise.noisy:
                self._ceiling.allow_shorter_windows(now)
            return
        self._search.note_request()
        if kind is not Signal.ACCEPTED:
            self._on_reject(sent, now, kind, wait_s)
            self._learn_if_due(now)
            return
        self.accepted += 1
        self._noise.accepted()
        self.correlation.answered(now, refused=False, in_force_s=self._per_s())
        self.evidence.accept(sent, now)
        self._learn_if_due(now)
        if self._closed_at is not None and sent >= self._closed_at:
            self._closed_at = None
            self._on_reopened(now)
        if self.rates and not self._overridden:
            if self._closed_at is None and self._ceiling.note_used_up(now):
                self.confidence_rose = True
            if self.prober.probe is not None:
                self._on_probed(now)
            elif now >= self._check_at and self._closed_at is None:
                self._check_at = now + min(self.rates[0].window_s / 4, 60.0)
                if self.prober.begin(
                    self._ceiling.tightest_first(), now, partial(self._ceiling.busy, now=now), noisy=self._noise.noisy
                ):
                    self.changed = True

    def forget(self) -> None:
        """Drop limits and refusals. What was sent in the last window stays, for the platform still counts it."""
        longest_s = max((limit.window_s for limit in self.rates), default=0.0)
        self._believe_nothing()
        self.evidence.forget_refusals(longest_s)
        self._closed_at = None
        self.accepted = self.refused = self.closures = 0
        self._search.restart()
        self.correlation = Correlation()

    @property
    def _overridden(self) -> bool:
        """Whether more is sent than the limits allow, so that refusals say nothing against them."""
        if self.observing:
            return True
        return bool(self._ceiling.floor_s) and any(each.rate_s < self._ceiling.floor_s for each in self.rates)

    def _per_s(self) -> float | None:
        """Return how many requests a second the limits in force allow."""
        if self.observing or not self.rates:
            return None
        return max(self._ceiling.floor_s, min(limit.rate_s for limit in self.rates))

    def _drop(self) -> None:
        """Believe no limit, and forget what spoke for one."""
        self._believe_nothing()
        self.evidence.forget()

    def _believe_nothing(self) -> None:
        self.rates, self.prober, self._learn_from = [], Prober(), None
        self._violations.forget()
        self._noise.clear()
        self.changed = True

    # learning

    def _on_reject(self, sent: float, now: float, kind: Signal, wait_s: float | None) -> None:
        evidence = self.evidence
        self.refused += 1
        if self._closed_at is None and sent - evidence.last_accepted > _FRESH_S:
            return
        beyond_limit = self._beyond_limit(sent)
        for limit in self.rates:
            limit.refused_s = now - sent
        if not beyond_limit:
            self.correlation.answered(now, refused=True, in_force_s=self._per_s())
            if self.rates and not self.observing and self.correlation.is_absent(now):
                self._drop()
        if beyond_limit:
            self.changed |= self.prober.refused(sent, now, evidence.last_accepted, noisy=self._noise.noisy)
        elif self._closed_at is not None and evidence.rejects and evidence.rejects[-1].probe:
            beyond_limit = sent <= evidence.rejects[-1].seen
        evidence.reject(sent, now, kind, wait_s, probe=beyond_limit)
        if self._closed_at is None:
            self._closed_at = now
            if not beyond_limit:
                self.closures += 1
                self._learn_from = sent  # once what was sent before it is answered

    def _beyond_limit(self, sent: float) -> bool:
        """Say whether a refused request went beyond the limit, as a probe lets it."""
        probe = self.prober.probe
        if probe is None or sent < probe.since:
            return False
        if not self._noise.noisy or sent - probe.missed_at < max(STOP_S, probe.rate.window_s / 4):
            return True  # where refused requests count, the next is refused although little was used
        return self.evidence.used(sent - probe.of.window_s, sent) >= probe.of.n

    def _learn_if_due(self, now: float) -> None:
        if self._learn_from is not None and self.evidence.oldest_open > self._learn_from:
            self._learn_from = None
            if not self.rates:
                self._learn(now)

    def _learn(self, now: float) -> None:
        """Try to find the first limit."""
        if now < self.correlation.until:
            return
        found = self._search.first(self.closures)
        if found is not None:
            self._ceiling.adopt(found[0], now, since=found[1])

    def _on_reopened(self, now: float) -> None:
        rejects = self.evidence.rejects
        if not rejects or rejects[-1].probe:
            return
        if not self.rates:
            self._learn(now)
        elif self._overridden:
            self._violations.judge_observed(now)
        else:
            self._violations.judge(now)
            self.changed |= self.prober.end_if_large(self.rates)

    def observe(self, observing: bool) -> None:
        """Say whether the limits are enforced: while they are not, every refusal they explain was to be expected."""
        if observing and self.prober.probe is not None:
            self.prober.probe = None
            self.changed = True
        self.observing = observing

    # probing

    def _on_probed(self, now: float) -> None:
        probe: Probe | None = self.prober.probe
        assert probe is not None
        evidence = self.evidence
        times, back = evidence.accepted, probe.of.n // evidence.stride
        span_s = times[-1] - times[-1 - back] if len(times) > back else float("inf")
        if self.prober.accepted(now, span_s, evidence.slack_s, evidence.oldest_open):
            self.changed = True
