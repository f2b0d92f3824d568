"""Counts how far each platform's objective is kept: over the last hour and the last day, the moment included.

What is over comes from the minutes that the store keeps, read again once a minute: a restart, or a platform that comes
from another host, changes nothing. What came since is the difference of two readings of the totals, one every 5 s.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.policy.objective import Kept, Objective
from relay.store.history import MINUTE_S, MinuteHistory
from relay.views.past.history import QueueLevel, RequestCounts, Sampled
from relay.views.past.objective import ObjectiveView

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0
_MOST_MARKS: Final = 180  # of 5 s: before these 15 minutes whole minutes are exact enough
_NONE: Final = RequestCounts()


@dataclass(slots=True)
class _Followed:
    """What is known of one platform: the past up to the reading ``base``, and the newest reading ``level``."""

    hour: Kept
    day: Kept
    minutes: Sequence[Sampled]
    read_at: float
    base: QueueLevel
    base_late: int
    level: QueueLevel
    late: int
    at: float = 0.0
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MOST_MARKS))  # time, all accepted

    def accepted_since(self, at: float) -> int:
        """Return how many were accepted since then; rather a few of before too than one less."""
        if self.marks and self.marks[0][0] <= at:
            place = bisect_right(self.marks, at, key=lambda mark: mark[0])
            return self.level.accepted - self.marks[place - 1][1]
        counted = sum(span.accepted for span in self.minutes if span.at + MINUTE_S > at)
        return counted + self.level.accepted - self.base.accepted


class Objectives:
    """Follows the platforms that have an objective; ``wanted()`` says which these are."""

    def __init__(self, *, wanted: Callable[[], Mapping[str, Objective]], history: MinuteHistory) -> None:
        self._wanted = wanted
        self._history = history
        self._followed: dict[str, _Followed] = {}

    async def tick(
        self,
        now: float,
        levels: Mapping[str, QueueLevel],
        *,
        counted: Mapping[str, RequestCounts],
        unsaved: Callable[[str], RequestCounts],
    ) -> None:
        """Take a reading of all platforms. ``unsaved``: what of ``counted`` the store has not been given yet."""
        read: dict[str, _Followed] = {}
        for name in self._wanted():
            level, late = levels.get(name, QueueLevel()), counted.get(name, _NONE).late
            followed = self._followed.get(name)
            if followed is None or now // MINUTE_S > followed.read_at // MINUTE_S:
                spans = await self._history.minutes(name, now - _DAY_S, now)
                # What ends between the two readings is counted twice, or not, until the next minute.
                followed = _Followed(
                    hour=_kept([span for span in spans if span.at > now - _HOUR_S], unsaved(name).late),
                    day=_kept(spans, unsaved(name).late),
                    minutes=spans,
                    read_at=now,
                    base=level,
                    base_late=late,
                    level=level,
                    late=late,
                    marks=deque(maxlen=_MOST_MARKS) if followed is None else followed.marks,
                )
            followed.level, followed.late, followed.at = level, late, now
            followed.marks.append((now, level.accepted))
            read[name] = followed
        self._followed = read  # at once: while a minute is read the standing before it is shown

    def standing(self, platform: str) -> ObjectiveView | None:
        """Return how far the platform's objective is kept; None: it has none, or was not looked at yet."""
        followed, objective = self._followed.get(platform), self._wanted().get(platform)
        if followed is None or objective is None:
            return None
        overdue = _overdue(followed, objective)
        gone = _ended(followed.level) - _ended(followed.base)
        lost = followed.late - followed.base_late + _lost(followed.level) - _lost(followed.base)
        hour, day = (
            Kept(ended=past.ended + gone + overdue, late=past.late + lost + overdue)
            for past in (followed.hour, followed.day)
        )
        share = objective.share
        return ObjectiveView(
            within_seconds=objective.within_s,
            share=share,
            ratio_1h=round(hour.ratio, 6),
            ratio_24h=round(day.ratio, 6),
            remaining_1h=round(hour.left(share), 4),
            remaining_24h=round(day.left(share), 4),
            burns=None if hour.burns(share) == float("inf") else round(hour.burns(share), 2),
            overdue=overdue,
        )


def _overdue(followed: _Followed, objective: Objective) -> int:
    """Return how many wait and are late already, at least; no row is counted for it.

    Example: within 90 s, 1,000 wait, 300 came in the last 90 s. So 700 came before. The oldest due one is 10 minutes
    old and 500 came between: at most these are overdue, the other 200 must not go yet.
    """
    now, oldest_at, hours = followed.at, followed.level.oldest_due_at, objective.hours
    late_at = now - objective.within_s
    if oldest_at is None or oldest_at >= late_at:
        return 0
    if hours is not None and (hours.closed_s(now) or hours.closed_s(late_at)):
        return 0
    in_time = followed.accepted_since(late_at)
    return max(0, min(followed.level.pending - in_time, followed.accepted_since(oldest_at) - in_time))


def _kept(spans: Sequence[Sampled], unsaved_late: int) -> Kept:
    lost = sum(span.dead + span.expired for span in spans)
    return Kept(
        ended=lost + sum(span.delivered for span in spans),
        late=lost + unsaved_late + sum(span.counts.late for span in spans),
    )


def _ended(level: QueueLevel) -> int:
    return level.delivered + _lost(level)


def _lost(level: QueueLevel) -> int:
    return level.dead + level.expired
