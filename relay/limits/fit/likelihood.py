"""Finds the limit that explains the evidence best: errors and luck cost nats (natural logarithms of likelihoods)."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from math import inf, log, log1p
from operator import sub

from relay.core.model import Rate
from relay.limits.evidence.history import Closure, History, Reject
from relay.limits.fit.candidates import STATED, Candidates
from relay.limits.fit.families import NATS_PER_ERROR, Family, Hypothesis, freedom
from relay.limits.fit.written import SHORTEST_S, choose, rarity

_NATS_FORGIVEN = 1.5  # of these for an unexplained lone refusal, which noise makes, too
_EXCESS_NATS = 1.0  # a request or two may arrive in another order, never a whole window of them
_BUCKET_NATS = 1.0  # it has a number more to choose
_UNHINTED_NATS = 1.0  # for a hint that says otherwise; no more, for many hints are a fixed number
_STATED_NATS, _RARE_NATS = 2.0, 0.5  # for a window that is judged as it is, and more the fewer people write it
_VARYING_NATS = 0.5  # per closure, times the logarithm of how many counts would have done
_ERRORS_VARYING = 2  # so few errors leave no need for a count that varies
_MORE = 3  # requests may overtake others on the way
_ORDER = list(Family)


@dataclass(frozen=True, slots=True)
class Fit:
    """The best hypothesis, in requests; ``onsets`` is how many closures begin where it says they must.

    Closures of a single refusal are left out where there are longer ones: noise makes such, too.
    """

    hypothesis: Hypothesis
    window_s: float
    onsets: int
    closures: int
    rejects: int
    accepted: int
    unexplained: int  # of the rejects
    noise: int  # unexplained refusals that are taken for noise
    newest: bool  # explains the latest closure
    first_at: float  # when the first refusal that it foretells was sent
    unsure: float  # requests let through in the time within which the order of arrivals is not known

    @property
    def n(self) -> int:
        """Return the limit."""
        return self.hypothesis.n

    def clean(self, unexplained: float, contradicted: int) -> bool:
        """Say whether it leaves at most this part of the rejects and so many accepted sends unexplained."""
        return self.unexplained <= unexplained * self.rejects and self.hypothesis.contradicted <= contradicted


def fit(
    evidence: History,
    *,
    since: float = -inf,
    known: Sequence[Rate] = (),
    noisy: bool = False,
) -> Fit | None:
    """Return the limit that best explains what was sent from ``since`` on, or None without a refusal.

    Refusals that one of the ``known`` rates explains are left out: what remains may show another limit. ``noisy`` says
    that noise refuses requests here: then a closure of one refusal counts neither for a limit nor against it.
    """
    accepted = evidence.accepted[bisect_left(evidence.accepted, since) :]
    rejects = _to_explain(evidence, since, known)
    closures = evidence.closures(rejects)
    if not accepted or not closures:
        return None
    if noisy:
        rejects = _without_noise(evidence, rejects, closures)
        closures = evidence.closures(rejects)
    slack = evidence.slack_s
    places = {(reject.sent, reject.seen): index for index, reject in enumerate(rejects)}
    onsets = [places[(closure.onset.sent, closure.onset.seen)] for closure in closures]
    lone = {place for place, closure in zip(onsets, closures, strict=True) if closure.lone}
    if len(closures) - len(lone) < 2:
        lone = set()  # refusals come one by one here: they are all there is
    sent = [reject.sent for reject in rejects]
    best = _likeliest(Candidates(accepted, sent, closures, slack, whole=evidence.whole), lone)
    if best is None:
        return None
    if not noisy or best.family is Family.BUCKET:  # which refuses one by one
        lone = set()
    onset_at = [place for place in onsets if place not in lone]
    newest = not any(place in best.unexplained for place in range(onset_at[-1], len(rejects)) if place not in lone)
    best = _narrowed(best, accepted, closures, slack)
    if evidence.stride > 1:
        best = replace(best, n=best.n * evidence.stride)
    window_s = best.high_s if best.family in STATED else choose(best.low_s, best.high_s, slack)
    if window_s < SHORTEST_S:
        return None
    foretold = [rejects[place].sent for place in onset_at if place not in best.unexplained]
    return Fit(
        hypothesis=best,
        window_s=window_s,
        onsets=len(foretold),
        closures=len(onset_at),
        rejects=len(rejects) - len(lone),
        accepted=len(accepted) * evidence.stride,
        unexplained=len(best.unexplained - lone),
        noise=len(best.unexplained & lone),
        newest=newest,
        first_at=min(foretold, default=inf),
        unsure=best.n * slack / window_s,
    )


def _to_explain(evidence: History, since: float, known: Sequence[Rate]) -> list[Reject]:
    """Return the refusals from ``since`` on that no probe provoked and no ``known`` rate explains."""
    rejects = [reject for reject in evidence.rejects if not reject.probe and reject.sent >= since]
    slack = evidence.slack_s
    for rate in known:
        rejects = [
            reject
            for reject in rejects
            if evidence.count(reject.sent - rate.window_s + slack, reject.sent + slack) < rate.limit
        ]
    return rejects


def _without_noise(evidence: History, rejects: list[Reject], closures: Sequence[Closure]) -> list[Reject]:
    """Return the refusals without those that may be noise, if there are enough others to speak of a limit."""
    if len(evidence.lasting(closures)) == len(closures):
        return rejects
    noise = {(closure.onset.sent, closure.onset.seen) for closure in closures if closure.lone}
    return [reject for reject in rejects if (reject.sent, reject.seen) not in noise]


def _likeliest(candidates: Candidates, lone: Set[int]) -> Hypothesis | None:
    """Return the hypothesis that costs least; a count that varies is asked about where none explains nearly all."""
    best: tuple[tuple[float, int], Hypothesis] | None = None
    for asked in (candidates.exact, candidates.varying):
        for each in asked():
            if each.high_s >= max(SHORTEST_S, 4 * candidates.slack_s) and _possible(each, candidates):
                cost = _cost(each, lone, candidates.against_hints(each), len(candidates.closures))
                if best is None or cost < best[0]:
                    best = (cost, each)
        if best is None or best[1].errors <= _ERRORS_VARYING + len(lone):
            break
    return None if best is None else best[1]


def _cost(hypothesis: Hypothesis, lone: Set[int], against_hints: int, closures: int) -> tuple[float, int]:
    """Return how unlikely it is, in nats: errors, and how finely the window had to be chosen to have so few.

    A limit that forbids less is preferred a little. A count that varies costs at each closure, for it fits more easily.
    """
    cost = NATS_PER_ERROR * hypothesis.errors - _NATS_FORGIVEN * len(hypothesis.unexplained & lone)
    if hypothesis.family in STATED:
        cost += _STATED_NATS + _RARE_NATS * rarity(hypothesis.high_s)
    else:
        cost -= freedom(hypothesis.low_s, hypothesis.high_s)
    cost -= 0.5 * log(hypothesis.n / max(hypothesis.low_s, 1e-3))
    cost += _UNHINTED_NATS * against_hints
    cost += _EXCESS_NATS * hypothesis.excess
    cost += _VARYING_NATS * closures * log1p(hypothesis.spread)
    return cost + (_BUCKET_NATS if hypothesis.family is Family.BUCKET else 0.0), _ORDER.index(hypothesis.family)


def _possible(hypothesis: Hypothesis, candidates: Candidates) -> bool:
    """Say whether no window held more than twice the count: no family lets more through."""
    accepted, most = candidates.accepted, 2 * hypothesis.n + _MORE
    return min(map(sub, accepted[most:], accepted), default=inf) >= hypothesis.low_s - candidates.slack_s


def _narrowed(best: Hypothesis, accepted: Sequence[float], closures: Sequence[Closure], slack: float) -> Hypothesis:
    """Narrow the bounds of the window by the waits the platform asked for, and by when it opened again."""
    if best.family not in (Family.SLIDING, Family.COUNTING):
        return best
    low, high = best.low_s, best.high_s
    spans: list[float] = []
    for closure in closures:
        known = bisect_right(accepted, closure.last.sent + slack)
        if known < best.n:
            continue
        begun = accepted[known - best.n]
        if closure.reopened < inf:
            spans.append(closure.reopened - begun)
        if closure.last.wait_s:
            stated = closure.last.seen + closure.last.wait_s - begun
            if low < stated - 1.5 <= high:
                low = stated - 1.5
    if high == inf:
        high = min((span for span in spans if span > low), default=max(2.0 * low, low + slack))
    return replace(best, low_s=low, high_s=max(high, low))
