"""Drives one sender against one modelled platform in virtual time and scores it."""

import heapq
import math
from bisect import bisect_left
from dataclasses import dataclass, field

from relay.limits.evidence.history import Signal

from benchmarks.limits.platforms import Platform, Reply
from benchmarks.limits.senders import Sender


@dataclass(slots=True)
class Trace:
    """When requests were accepted and when the limit refused one (send times, sorted)."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    requests: int = 0

    def accepted_in(self, begin: float, end: float) -> int:
        """Count the accepted sends of a stretch."""
        return bisect_left(self.accepted, end) - bisect_left(self.accepted, begin)

    def refused_in(self, begin: float, end: float) -> int:
        """Count the limit's refusals of a stretch."""
        return bisect_left(self.refused, end) - bisect_left(self.refused, begin)


def drive(sender: Sender, platform: Platform, *, begin: float, end: float) -> Trace:
    """Send from ``begin`` to ``end`` as fast as ``sender`` lets."""
    trace = Trace()
    answers: list[tuple[float, int, float, Reply]] = []
    now, token = begin, 0
    while True:
        at = sender.next_at(now, len(answers))
        if at > now:
            if answers and answers[0][0] <= at:
                now, done, started_at, reply = heapq.heappop(answers)
                if now >= end:
                    break
                sender.answered(done, now, started_at, reply)
                continue
            if math.isinf(at) or at >= end:
                if not answers:
                    break
                at = answers[0][0]
            now = at
            if now >= end:
                break
            continue
        token += 1
        trace.requests += 1
        sender.sent(token, now)
        reply = platform.request(now)
        if reply.kind is Signal.ACCEPTED:
            trace.accepted.append(now)
        elif reply.limited:
            trace.refused.append(now)
        heapq.heappush(answers, (now + reply.after_s, token, now, reply))
    return trace


def converged_after_s(
    trace: Trace, *, begin: float, end: float, window_s: float, wanted: float, possible: float
) -> float:
    """Return seconds until every later stretch of ten windows carries ``wanted`` of what is possible; else infinity.

    One window's worth is forgiven: with bursts a stretch of ten may see the edge of one.
    """
    edges, span_s = _stretches(begin, end, window_s)
    if not edges:  # too short to judge
        return 0.0
    good_from = math.inf
    for at in reversed(edges):
        if trace.accepted_in(at, at + span_s) < wanted * possible * span_s - possible * window_s:
            break
        good_from = at
    return good_from - begin


def worst_stretch(trace: Trace, *, begin: float, end: float, window_s: float) -> float:
    """Return the accepted requests per second of the worst stretch that ``converged_after_s`` looks at."""
    edges, span_s = _stretches(begin, end, window_s)
    return min((trace.accepted_in(at, at + span_s) / span_s for at in edges), default=0.0)


def _stretches(begin: float, end: float, window_s: float) -> tuple[list[float], float]:
    """Return where stretches of ten windows begin, and how long they are."""
    step_s = max(window_s, (end - begin) / 400)
    span_s = max(10 * window_s, 5 * step_s)
    edges: list[float] = []
    at = begin
    while at + span_s <= end:
        edges.append(at)
        at += step_s
    return edges, span_s
