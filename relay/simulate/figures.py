"""Computes the figures of a simulated run from its record. Times are seconds from the start of the run."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import structs

from relay.core.model import Rate, seconds_text
from relay.core.raw import JsonObject
from relay.delivery.terms import compile_terms
from relay.policy.objective import Kept
from relay.simulate.model import Outage
from relay.simulate.record import Found, Level, Record
from relay.simulate.run import FinalLedger, Scenario
from relay.standin.weighing import WeightLog
from relay.views.past.objective import percent

_MINUTE_S = 60.0


class Drained(NamedTuple):
    """The end of an outage, and how long after it the backlog was as before; None if it never was."""

    outage_end_s: float
    after_s: float | None


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The result of a run. ``slots_used`` is the used share of the limit ``slots_of``; None without a backlog."""

    ran_s: float
    accepted: int
    delivered: int
    dead: int
    expired: int
    superseded: int
    pending: int
    held: int
    dead_reasons: Mapping[str, int]
    arrived: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    max_s: float | None
    backlog_peak: int
    backlog_peak_at_s: float
    drained: Sequence[Drained]
    requests: int
    items_per_request: float
    answers: Mapping[str, int]
    peaks: Mapping[str, int]
    rejects: int
    rejects_per_hour: float
    repeats: int
    slots_used: float | None
    slots_of: str
    found: Sequence[Found]
    in_time: float | None  # the part within the platform's objective; None: it has none
    objective: str  # such as 99 % within 90s

    def as_dict(self) -> JsonObject:
        """Return the figures for JSON, rounded to milliseconds and thousandths."""
        found = asdict(self)
        found["drained"] = [each._asdict() for each in self.drained]
        found["found"] = [{name: _rounded(value) for name, value in each._asdict().items()} for each in self.found]
        return {name: _rounded(value) for name, value in found.items()}


class TimeSeries(NamedTuple):
    """One run over time, in columns of ``step_s``: the highest backlog, requests and refusals per minute."""

    step_s: float
    backlog: list[int]
    requests: list[float]
    rejects: list[float]


def assumptions(scenario: Scenario) -> list[str]:
    """Return what a run of ``scenario`` assumes, a sentence each."""
    traffic, group = scenario.traffic, scenario.config.platforms[scenario.platform].group
    assumed = [
        "the relay's own work and its disk take no time; the clock starts when an accept is committed",
        "half of a latency passes on the way to the platform; a refused connection takes as long",
    ]
    if traffic.rate is not None or traffic.bursts:
        assumed.append("made-up callbacks come at random (Poisson) with evenly drawn keys and about 400 bytes each")
    if traffic.replayed:
        assumed.append("replayed callbacks keep their times and keys; each is about 400 bytes")
    assumed += [
        "the platform keeps its limits exactly, remembers over an outage, takes our credentials and fails at random",
        "a quota shared with other platforms is all this one's; nobody restarts, pauses or interferes",
    ]
    if group is not None:
        assumed.append(
            "all callbacks are of one group: a quota per group is one window, and a throttle stops everything"
        )
    return assumed


def figures(scenario: Scenario, record: Record, ended: FinalLedger) -> RunFigures:
    """Return the figures of a finished run."""
    delays = sorted(record.delays)
    levels = record.levels()
    peak = max(levels, key=lambda level: level.pending, default=Level(0.0, 0, 0))
    max_items = compile_terms(scenario.platform, scenario.config.platforms[scenario.platform]).max_items
    rates = allowances(scenario)
    used = _most_used(rates, record, levels, scenario.outages, max_items)
    rejects = sum(request.limited for request in record.requests)
    carried = sum(request.weight.items for request in record.requests)
    totals = ended.totals
    objective = scenario.config.platforms[scenario.platform].kept_objective
    lost = totals.dead + totals.expired
    kept = Kept(ended=totals.delivered + lost + totals.pending, late=record.late + lost + totals.pending)
    return RunFigures(
        ran_s=record.end_s,
        **structs.asdict(totals),
        held=ended.held,
        dead_reasons=dict(record.ends.most_common()),
        arrived=len(delays),
        p50_s=percentile(delays, 0.50),
        p90_s=percentile(delays, 0.90),
        p99_s=percentile(delays, 0.99),
        max_s=percentile(delays, 1.0),
        backlog_peak=peak.pending,
        backlog_peak_at_s=peak.at_s,
        drained=[_drained(levels, outage, max_items) for outage in scenario.outages],
        requests=len(record.requests),
        items_per_request=carried / max(1, len(record.requests)),
        answers=dict(Counter(request.answer for request in record.requests).most_common()),
        peaks={str(rate): peak_of(record, rate, scenario.traffic.start_at) for rate in rates},
        rejects=rejects,
        rejects_per_hour=rejects * 3600.0 / max(record.end_s, 1.0),
        repeats=record.repeats,
        slots_used=used.share,
        slots_of=used.of,
        found=record.found,
        in_time=None if objective is None else kept.ratio,
        objective="" if objective is None else f"{percent(objective.share)} within {seconds_text(objective.within_s)}",
    )


def allowances(scenario: Scenario) -> list[Rate]:
    """Return every limit that holds, the configured ones first, each once."""
    configured = (rate for quota in scenario.rules.quotas.values() for rate in quota.rates)
    settings = scenario.settings
    own = (*(rate for _, rate in settings.limit), *settings.items, *settings.bytes, *settings.points)
    return list(dict.fromkeys([*configured, *own]))


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of ``ordered`` do not exceed (nearest rank); None if it is empty."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else None


def most_in_any(times: Sequence[float], window_s: float) -> int:
    """Return the most of ``times`` (sorted) that any window holds. Two times a whole window apart share no window."""
    most = start = 0
    for end, at_s in enumerate(times, 1):
        while times[start] <= at_s - window_s:
            start += 1
        most = max(most, end - start)
    return most


def peak_of(record: Record, rate: Rate, start_at: float) -> int:
    """Return the most that any window of ``rate`` held: requests, callbacks, bytes or points."""
    if rate.plain:
        return most_in_any(_times(record), rate.window_s)
    log = WeightLog(rate)
    arrived = sorted(record.requests, key=lambda request: request.at_s)
    return max((log.add(start_at + request.at_s, request.weight) for request in arrived), default=0)


def slots_used(
    record: Record, levels: Sequence[Level], rate: Rate, outages: Sequence[Outage], max_items: int
) -> float | None:
    """Return the share of ``rate`` used while at least a full batch waited and the platform was up.

    At each moment the used share is the number of requests let through in the window that ends then, over the limit.
    The result is its mean over that time. None if that time is shorter than one window: it would only say how the run
    began.
    """
    stretches = _without(_stretches(levels, max_items, record.end_s), outages)
    elapsed = _Elapsed(stretches)
    if elapsed.total_s < rate.window_s:
        return None
    through = (request for request in record.requests if request.counted and not request.limited)
    held_s: float = sum(
        getattr(each.weight, rate.unit) * (elapsed.before(each.at_s + rate.window_s) - elapsed.before(each.at_s))
        for each in through
    )
    return held_s / (rate.limit * elapsed.total_s)


class _Used(NamedTuple):
    """How much of which limit was used; None: it cannot be told."""

    share: float | None
    of: str


def _most_used(
    rates: Sequence[Rate], record: Record, levels: Sequence[Level], outages: Sequence[Outage], max_items: int
) -> _Used:
    """Return the limit that held the run back: the tightest of requests, or one of items, bytes or points."""
    requests = [rate for rate in rates if rate.plain]
    tightest = sorted(requests, key=lambda rate: rate.limit / rate.window_s)[:1]
    weighed = [rate for rate in rates if not rate.plain and rate.calendar is None]
    found = [_Used(slots_used(record, levels, rate, outages, max_items), str(rate)) for rate in (*tightest, *weighed)]
    return max(found, key=lambda used: -1.0 if used.share is None else used.share, default=_Used(None, ""))


def series(record: Record, columns: int, end_s: float) -> TimeSeries:
    """Return the run over time, in ``columns`` up to ``end_s``.

    Requests are counted over whole minutes; else a burst once a minute would fill some columns and leave others empty.
    """
    step_s = max(end_s, 1.0) / columns
    backlog = [0] * columns
    pending = column = 0
    for level in record.levels():
        now = min(columns - 1, int(level.at_s / step_s))
        for passed in range(column + 1, now + 1):
            backlog[passed] = pending  # as it was when the column began
        column, pending = now, level.pending
        backlog[column] = max(backlog[column], pending)
    for passed in range(column + 1, columns):
        backlog[passed] = pending
    window_s = min(math.ceil(step_s / _MINUTE_S) * _MINUTE_S, max(end_s, 1.0))
    ends = [step_s * (index + 1) for index in range(columns)]
    rejected = [request.at_s for request in record.requests if request.limited]
    return TimeSeries(
        step_s, backlog, _per_minute(_times(record), ends, window_s), _per_minute(rejected, ends, window_s)
    )


def _per_minute(times: Sequence[float], ends: Sequence[float], window_s: float) -> list[float]:
    counts = (bisect_right(times, end) - bisect_right(times, end - window_s) for end in ends)
    return [count * _MINUTE_S / window_s for count in counts]


def _times(record: Record) -> list[float]:
    return sorted(request.at_s for request in record.requests)


def _drained(levels: Sequence[Level], outage: Outage, max_items: int) -> Drained:
    """Find when the backlog was as small again as before the outage, or as one full batch."""
    before = 0
    for level in levels:
        if level.at_s >= outage.start_s:
            break
        before = level.pending
    enough = max(before, max_items)
    standing = before
    for level in levels:
        if level.at_s >= outage.end_s and min(standing, level.pending) <= enough:
            return Drained(outage.end_s, max(0.0, level.at_s - outage.end_s) if standing > enough else 0.0)
        standing = level.pending
    return Drained(outage.end_s, 0.0 if standing <= enough else None)


def _stretches(levels: Sequence[Level], enough: int, end_s: float) -> list[tuple[float, float]]:
    """Return the times in which at least ``enough`` callbacks waited."""
    found: list[tuple[float, float]] = []
    for level, after in pairwise([*levels, Level(end_s, 0, 0)]):
        if level.waiting < enough:
            continue
        if found and found[-1][1] == level.at_s:
            found[-1] = (found[-1][0], after.at_s)
        else:
            found.append((level.at_s, after.at_s))
    return found


def _without(stretches: Sequence[tuple[float, float]], outages: Sequence[Outage]) -> list[tuple[float, float]]:
    left = list(stretches)
    for outage in outages:
        cut = []
        for start_s, end_s in left:
            cut.append((start_s, min(end_s, outage.start_s)))
            cut.append((max(start_s, outage.end_s), end_s))
        left = [(start_s, end_s) for start_s, end_s in cut if start_s < end_s]
    return left


class _Elapsed:
    """Tells how many seconds of some stretches of time lie before a point."""

    def __init__(self, stretches: Sequence[tuple[float, float]]) -> None:
        self._starts = [start_s for start_s, _ in stretches]
        self._stretches = stretches
        self._sums = [0.0]
        for start_s, end_s in stretches:
            self._sums.append(self._sums[-1] + end_s - start_s)
        self.total_s = self._sums[-1]

    def before(self, at_s: float) -> float:
        index = bisect_left(self._starts, at_s)
        if not index:
            return 0.0
        start_s, end_s = self._stretches[index - 1]
        return self._sums[index - 1] + min(at_s, end_s) - start_s


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return value
