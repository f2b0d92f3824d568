"""Tells a limit from an outage: what must have been seen before anything is enforced.

A limit counts *our* requests, so it closes at the same count again and again, opens by itself, and nothing above that
count is accepted. An outage closes at any count. The less a platform's answer says, the more often the same must have
been seen.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log

from relay.limits.evidence.history import Closure
from relay.limits.fit.families import Family
from relay.limits.fit.likelihood import Fit
from relay.limits.in_force.limit import PROVEN_WINDOWS

ONSETS_EXPLICIT = 2  # the platform itself speaks of a limit
ONSETS_IMPLICIT = 3  # 408, 503, refused: any outage says the same
_UNEXPLAINED_EXPLICIT = 0.25
_UNEXPLAINED_IMPLICIT = 0.10
_SMALLEST_IMPLICIT = 3  # a platform that fails half of everything looks like one of 1 or 2 per some seconds
_BUCKET_CLOSURES = 25  # a bucket lets one or two through between refusals, as anything half alive does
NATS = 7.5  # a chance of one in 2,000
_ERROR = 0.005  # of requests, that no limit explains
_SMALLEST_SEPARATE = 10  # requests: an empty bucket lets a few through after each stop, as if they were the limit
_UNSURE = 3.0  # requests
_TRIED = 7.0  # the logarithm of about a thousand limits that could have fitted
_EXACT_BELOW = 20  # smaller runs must be equal
_NEAR = 0.85  # of the count: where refused requests count too, later runs are shorter
_SHORT_S = 10.0  # closures that short cost little: wait for more of them before judging
_ENOUGH_SHORT = 6
_NEAR_RUN, _NEAR_PART = 1.5, 0.03  # requests, and of the run: as long as foretold
_MISSED = 0.05  # the odds that a bucket lets another number through: others use it too, requests fail
_REFILLS_TRIED = 2.5  # the logarithm of how many were tried


def believable(found: Fit, closures: Sequence[Closure], runs: Sequence[int]) -> bool:
    """Say whether ``found`` is good enough to be enforced; ``runs`` is what was accepted before each closure."""
    lengths = sorted(closure.reopened - closure.onset.sent for closure in closures)
    if lengths[len(lengths) // 2] < _SHORT_S and len(closures) < _ENOUGH_SHORT:
        return False
    lasting = [closure for closure in closures if not closure.lone]
    explicit = sum(closure.explicit for closure in lasting)
    if explicit >= ONSETS_EXPLICIT and explicit * 2 > len(lasting):
        return found.onsets >= ONSETS_EXPLICIT and found.clean(_UNEXPLAINED_EXPLICIT, found.closures // 3)
    if found.onsets < ONSETS_IMPLICIT or not found.newest or found.hypothesis.n < _SMALLEST_IMPLICIT:
        return False
    if not found.clean(_UNEXPLAINED_IMPLICIT, 1 + found.closures // 4):
        return False
    if found.hypothesis.family is Family.BUCKET:
        return found.closures >= _BUCKET_CLOSURES or refill_runs(found, closures, runs) >= NATS + _REFILLS_TRIED
    if equal_runs(found.n, runs) >= NATS:
        return True
    # Within one window of the first refusal nothing but the first was foretold: an outage may have begun there.
    foretold = closures[-1].onset.sent - found.first_at >= found.window_s
    # At an even pace every request finds n before it, give or take those that may have overtaken others.
    in_order = found.unsure <= _UNSURE
    return foretold and in_order and found.n >= _SMALLEST_SEPARATE and separation(found) >= NATS


def separation(found: Fit) -> float:
    """Return how unlikely it is, in nats, that chance refused just where the limit was used up, and nowhere else.

    By chance a closure begins at any request alike: with 10 closures in 1,000 requests, at each with 1/100. The limit
    says at which, so each closure it foretold is worth log(100). Each that it did not foretell costs, and each run that
    should not have got through. Of the many limits tried one fits best by chance: that is taken off.
    """
    closures = found.closures + found.noise  # an outage may be just what was taken for noise
    share = closures / (found.accepted + closures)
    missed = closures - found.onsets
    right = found.onsets * max(0.0, log(1.0 / (share * (1 + found.hypothesis.spread))))
    return right - missed * max(0.0, log(share / _ERROR)) - found.hypothesis.contradicted * log(1.0 / _ERROR) - _TRIED


def equal_runs(n: int, runs: Sequence[int]) -> float:
    """Return how unlikely it is, in nats, that an outage closes so often after about the same count.

    Between outages anything may be accepted; that a run equals another within one request has a chance of about
    3 in n/2. Nothing is counted when most runs differ.
    """
    tolerance = 0 if n < _EXACT_BELOW else 1
    common = max(runs, key=lambda run: (sum(abs(run - other) <= tolerance for other in runs), run), default=0)
    equal = sum(abs(common - other) <= tolerance for other in runs)
    if not _NEAR * n <= common <= n / _NEAR or equal * 2 < len(runs):
        return 0.0
    return (equal - 1) * max(0.0, log(0.5 * common / (2 * tolerance + 1)))


def refill_runs(found: Fit, closures: Sequence[Closure], runs: Sequence[int]) -> float:
    """Return how unlikely it is, in nats, that each run is by chance as long as the bucket had filled before it.

    Nothing else that refuses counts how long it was left alone. By chance a run has the foretold length as often as the
    other runs have it.
    """
    refill = 2.0 * found.n / (found.hypothesis.low_s + found.hypothesis.high_s)
    nats, counts = 0.0, runs[1:]
    for (earlier, later), count in zip(pairwise(closures), counts, strict=True):
        stopped_s = earlier.reopened - earlier.onset.sent
        foretold = min(found.n, refill * stopped_s) + refill * (later.onset.sent - earlier.reopened)
        within = _NEAR_RUN + foretold * _NEAR_PART
        if abs(count - foretold) <= within:
            nats -= log(sum(abs(other - foretold) <= within for other in counts) / len(counts))
        else:
            nats += log(_MISSED)
    return nats


def is_outage(closure: Closure, last_accepted_before: float, window_s: float) -> bool:
    """Say whether refusals went on long after everything that ``window_s`` could count had left it."""
    return closure.last.sent - last_accepted_before > 1.5 * window_s + 2.0


def confidence(found_onsets: int, family: Family, settled: bool, clean_windows: int) -> float:
    """Return a score from 0 to 1: how often it closed, how well the window is known, how many windows were used up."""
    score = min(found_onsets, 5) * 0.08 + min(clean_windows, PROVEN_WINDOWS) * 0.02
    score += 0.15 if settled else 0.0
    score += 0.05 if family is not Family.UNCERTAIN else 0.0
    return round(min(score, 1.0), 2)
