"""Keeps the history: what happened in each 5 s, in memory, and what was counted in each minute, in the store.

The store keeps its own totals of a minute; requests and bytes are counted in memory (``telemetry.metrics``) and added
once a minute. A callback costs nothing here: every 5 s two readings of all counters are subtracted.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from msgspec.structs import replace

from relay.core.clock import Clock
from relay.core.errors import StoreDamaged, StoreError, StoreFailed
from relay.store.history import MINUTE_S, MinuteHistory
from relay.telemetry.events import Events
from relay.upkeep.alarm import Alarm, persist
from relay.upkeep.in_time import Objectives
from relay.views.past.history import MinuteCounts, QueueLevel, RequestCounts, Sampled, change, side_by_side, summed

TICK_S: Final = 5
_REMEMBERED_S: Final = 15 * 60
_NONE = RequestCounts()

Counts = Mapping[str, RequestCounts]


class Sampling:
    """Takes the samples, and shows those that are only in memory."""

    def __init__(
        self,
        *,
        history: MinuteHistory,
        counted: Callable[[], Counts],
        objectives: Objectives,
        clock: Clock,
        events: Events,
    ) -> None:
        """Wire it. ``counted()``: requests and bytes per platform since the process began."""
        self._objectives = objectives
        self._history = history
        self._counted = counted
        self._clock = clock
        self._events = events
        self._ticks: deque[tuple[int, Mapping[str, Sampled]]] = deque(maxlen=_REMEMBERED_S // TICK_S)
        self._levels: Mapping[str, QueueLevel] = {}
        self._at_tick: Counts = {}
        self._at_minute: Counts = {}  # what the store has already

    async def run(self) -> None:
        """Take samples until cancelled."""
        alarm = Alarm(self._clock)
        self._levels = await persist(self._history.levels, events=self._events)
        self._at_tick = self._counted()
        while True:
            began = int(self._clock.now() // TICK_S) * TICK_S
            await alarm.until(began + TICK_S)
            await self.tick(began)
            if (began + TICK_S) % MINUTE_S == 0:
                await persist(partial(self._save_or_leave, began // MINUTE_S), events=self._events)

    async def tick(self, began: int) -> None:
        """Remember what happened since ``began``, the start of the last 5 s. While the store fails there is a gap."""
        with suppress(StoreFailed):  # the store itself has told of it
            levels, counted, now = await self._history.levels(), self._counted(), self._clock.now()
            spans = {name: self._span(name, began, levels, counted, now) for name in (*levels, *counted)}
            self._levels, self._at_tick = levels, counted
            self._ticks.append((began, spans))
            await self._objectives.tick(now, levels, counted=counted, unsaved=self.unsaved)

    async def close(self) -> None:
        """Give the store what the running minute has counted so far, so that a restart loses none of it."""
        with suppress(StoreError):  # told by the store; what is lost is a part of one minute's requests
            self._levels = await self._history.levels()
            await self._save(int(self._clock.now() // MINUTE_S))

    def unsaved(self, platform: str | None) -> RequestCounts:
        """Return what was counted since the last minute was kept; None: of all platforms."""
        counted = self._counted()
        names = counted if platform is None else [platform]
        return summed(counted.get(name, _NONE).less(self._at_minute.get(name, _NONE)) for name in names)

    async def oldest_due_s(self, platform: str | None) -> float:
        """Return how long the oldest due callback has waited, now; 0: nothing is due."""
        levels, now = await self._history.levels(), self._clock.now()
        names = levels if platform is None else [platform]
        return max((_oldest_s(levels.get(name), now) for name in names), default=0.0)

    def recent(self, platform: str | None) -> Sequence[Sampled]:
        """Return what is remembered of each 5 s, oldest first; None: of all platforms."""
        if platform is None:
            return [side_by_side(began, spans.values()) for began, spans in self._ticks]
        return [spans.get(platform, Sampled(at=began)) for began, spans in self._ticks]

    async def running(self, platform: str | None) -> Sampled:
        """Return what happened in the 5 s under way; None: to all platforms."""
        levels, counted, now = await self._history.levels(), self._counted(), self._clock.now()
        began = int(now // TICK_S) * TICK_S
        names = dict.fromkeys((*levels, *counted)) if platform is None else [platform]
        return side_by_side(began, [self._span(name, began, levels, counted, now) for name in names])

    def _span(self, name: str, began: int, levels: Mapping[str, QueueLevel], counted: Counts, now: float) -> Sampled:
        after = levels.get(name, QueueLevel())
        span = change(began, self._levels.get(name, QueueLevel()), after)
        counts = counted.get(name, _NONE).less(self._at_tick.get(name, _NONE))
        return replace(span, oldest_due_s=_oldest_s(after, now), counts=counts)

    async def _save_or_leave(self, minute: int) -> None:
        """Save a minute; where a page of the history is damaged, what it counted goes to the next one."""
        with suppress(StoreDamaged):  # the store itself has told of it
            await self._save(minute)

    async def _save(self, minute: int) -> None:
        counted, now = self._counted(), self._clock.now()
        added = {
            name: MinuteCounts(
                counts=counted.get(name, _NONE).less(self._at_minute.get(name, _NONE)),
                oldest_due_s=_oldest_s(self._levels.get(name), now),
            )
            for name in dict.fromkeys((*self._levels, *counted))
        }
        await self._history.keep_minute(minute, added)
        self._at_minute = counted


def _oldest_s(level: QueueLevel | None, now: float) -> float:
    since = None if level is None else level.oldest_due_at
    return 0.0 if since is None else round(max(0.0, now - since), 3)
