"""What was sent under a quota and what came of it: the bounded memory an estimate is drawn from.

Of accepted sends the sorted times are kept (every ``stride``-th where there are very many), of refused ones also when
and how they were refused. Times are seconds on the relay clock.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from operator import sub

_ACCEPTED_KEPT = 1536  # times, 12 KB: two full windows of 700 requests without thinning, and a fit in a few ms
_REJECTS_KEPT = 160
_REJECTS_PER_CLOSURE = 12  # the first and the latest six bound the window; those between add nothing
_OPEN_KEPT = 4096  # requests under way; more means answers were never reported
_ANSWER_WEIGHT = 0.1
_SLACK = (0.002, 1.0)  # seconds by which sends of neighbours may arrive in another order
_LONE_WAIT_S = 3.0  # a platform that asks for a longer wait means it


class Signal(StrEnum):
    """What an answer says about a limit."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"  # says so: 429, a rule that says throttled, anything with Retry-After
    BUSY = "busy"  # 408, 503, a timeout: a limit or trouble
    DOWN = "down"  # refused, unreachable: a limit or an outage
    FAILED = "failed"  # 500, reset, rejected, auth: nothing about a limit


@dataclass(slots=True)
class Reject:
    """One refused send. ``wait_s`` is what the platform asked for, if it did."""

    sent: float
    seen: float
    kind: Signal
    wait_s: float | None = None
    probe: bool = False  # our own step beyond the limit provoked it


@dataclass(frozen=True, slots=True)
class Closure:
    """A stretch without accepts that refusals mark. ``last`` is its last refusal, ``reopened`` the accept after it."""

    onset: Reject
    last: Reject
    reopened: float  # infinite while it lasts
    rejects: int

    @property
    def explicit(self) -> bool:
        """Whether the platform itself spoke of a limit."""
        return self.onset.kind is Signal.THROTTLED

    @property
    def lone(self) -> bool:
        """Whether it is a single refusal, which may be noise: any platform fails now and then."""
        return self.rejects == 1 and (self.onset.wait_s or 0.0) < _LONE_WAIT_S

    def boundary(self) -> tuple[float, float]:
        """Return between which times the platform opened again, narrowed by its hint (Retry-After) where that held."""
        low, high = self.last.sent, self.reopened
        if self.last.wait_s:
            stated = self.last.seen + self.last.wait_s
            if stated <= high + 0.5:
                low, high = max(low, stated - 1.5), min(high, stated)
        return low, max(low, high)


class History:
    """The log of one quota."""

    __slots__ = (
        *("_in_closure", "_open", "_skipped"),
        *("accepted", "answer_s", "last_accepted", "rejects", "stride", "whole"),
    )

    def __init__(self) -> None:
        self.accepted: list[float] = []
        self.rejects: list[Reject] = []
        self.stride = 1
        self.whole = True  # only old evidence was dropped
        self.answer_s = 0.0
        self.last_accepted = -math.inf
        self._open: dict[int, float] = {}
        self._skipped = 0
        self._in_closure = 0

    @property
    def slack_s(self) -> float:
        """Return by how much the order of arrivals may differ from that of sends."""
        return min(max(1.5 * self.answer_s, _SLACK[0]), _SLACK[1])

    @property
    def oldest_open(self) -> float:
        """Return when the oldest unanswered request was sent; infinite when there is none."""
        return min(self._open.values(), default=math.inf)

    def sent(self, token: int, now: float) -> None:
        """Note that request ``token`` goes out."""
        self._open[token] = now
        if len(self._open) > _OPEN_KEPT:
            del self._open[next(iter(self._open))]

    def take(self, token: int) -> float | None:
        """Return when ``token`` was sent, once; None when it is unknown."""
        return self._open.pop(token, None)

    def accept(self, sent: float, now: float) -> None:
        """Note an accepted send."""
        self.answer_s += (min(max(now - sent, 0.0), 60.0) - self.answer_s) * (_ANSWER_WEIGHT if self.accepted else 1.0)
        if sent > self.last_accepted:
            self.last_accepted = sent
        self._in_closure = 0
        self._skipped += 1
        if self._skipped < self.stride:
            return
        self._skipped = 0
        times = self.accepted
        if not times or times[-1] <= sent:
            times.append(sent)
        else:
            insort(times, sent)
        if len(times) > _ACCEPTED_KEPT:
            self._shrink()

    def reject(self, sent: float, now: float, kind: Signal, wait_s: float | None, *, probe: bool) -> None:
        """Note a refused send."""
        rejects = self.rejects
        rejects.append(Reject(sent, now, kind, wait_s, probe))
        self._in_closure += 1
        if self._in_closure > _REJECTS_PER_CLOSURE:
            del rejects[-_REJECTS_PER_CLOSURE // 2 - 1]
        if len(rejects) > _REJECTS_KEPT:
            del rejects[: _REJECTS_KEPT // 4]
        if len(rejects) > 1 and rejects[-2].sent > sent:
            rejects.sort(key=lambda reject: reject.sent)

    def forget_before(self, at: float) -> None:
        """Drop everything sent before ``at``: it was gathered under other terms."""
        self.whole = False
        self._drop_before(at)

    def _drop_before(self, at: float) -> None:
        del self.accepted[: bisect_left(self.accepted, at)]
        self.rejects = [reject for reject in self.rejects if reject.sent >= at]

    def forget_refusals(self, last_s: float) -> None:
        """Keep only the ``last_s`` seconds of sends before the latest: the next refusal may follow from them."""
        self.rejects = []
        self.forget_before(self.last_accepted - last_s)

    def forget(self) -> None:
        """Drop everything."""
        self.accepted, self.rejects, self.stride, self._skipped, self.whole = [], [], 1, 0, True

    def _shrink(self) -> None:
        """Make room: drop the older half, or every other time where one run is longer than half."""
        times = self.accepted
        middle = times[len(times) // 2]
        reopened = [closure.reopened for closure in self.closures() if closure.reopened < math.inf]
        if reopened and reopened[-1] < middle and self.rejects[-1].sent >= middle:
            self.accepted = times[1::2]
            self.stride *= 2
        else:
            self._drop_before(middle)
            if not self.rejects and self.stride > 1:
                self.forget()

    def close_together(self, n: int, within_s: float) -> float:
        """Return the part of the accepted sends before which ``n`` were sent in less than ``within_s``."""
        times, n = self.accepted, max(1, n // self.stride)
        return sum(map(within_s.__gt__, map(sub, times[n:], times))) / max(1, len(times))

    def count(self, begin: float, end: float) -> int:
        """Return how many sends in (begin, end] were accepted."""
        return (bisect_right(self.accepted, end) - bisect_right(self.accepted, begin)) * self.stride

    def used(self, begin: float, end: float) -> int:
        """Return how many sends in (begin, end] were accepted or are unanswered."""
        return self.count(begin, end) + sum(begin < at <= end for at in self._open.values())

    def runs(self, closures: Sequence[Closure]) -> list[int]:
        """Return how many sends were accepted before each closure since the one before it."""
        ends = [-math.inf, *(closure.onset.sent + self.slack_s for closure in closures)]
        return [self.count(begin, end) for begin, end in pairwise(ends)]

    def closures(self, among: Sequence[Reject] | None = None) -> list[Closure]:
        """Return the stretches of refusals in order, of all or ``among`` some, probes of our own left out.

        Refusals of requests that were under way together belong together; an accepted send between them that went out
        clearly after the first ends the stretch.
        """
        times, slack = self.accepted, self.slack_s
        found: list[Closure] = []
        run: list[Reject] = []
        for reject in self.rejects if among is None else among:
            if reject.probe:
                continue
            if run and self._reopened(times, run[-1], slack) <= reject.sent:
                found.append(self._closure(run))
                run = []
            run.append(reject)
        if run:
            found.append(self._closure(run))
        return found

    @staticmethod
    def lasting(closures: Sequence[Closure]) -> Sequence[Closure]:
        """Return the closures without the lone ones, if there are enough others to speak of a limit."""
        lasting = [closure for closure in closures if not closure.lone]
        return lasting if len(lasting) > 1 else closures

    def _closure(self, run: Sequence[Reject]) -> Closure:
        return Closure(run[0], run[-1], self._reopened(self.accepted, run[-1], self.slack_s), len(run))

    @staticmethod
    def _reopened(times: list[float], last: Reject, slack: float) -> float:
        index = bisect_right(times, last.sent + slack)
        return times[index] if index < len(times) else math.inf
