"""The memory store's history: the totals before the first change of each minute, and what was counted in it."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from relay.core.clock import Clock
from relay.core.model import State
from relay.store.history import MINUTE_S
from relay.store.memory.rows import Row, Shelf
from relay.views.past.history import MinuteCounts, QueueLevel, RequestCounts, Sampled, change, summed


class MemoryHistory:
    """Implements ``relay.store.history.MinuteHistory``."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock
        self._last_minute = 0
        self._totals: dict[int, dict[str, QueueLevel]] = {}  # by minute
        self._counted: dict[int, dict[str, MinuteCounts]] = {}

    def keep_totals(self) -> None:
        """Keep what the totals were when this minute began; the store calls it before each change."""
        minute = int(self._clock.now() // MINUTE_S)
        if minute > self._last_minute:
            self._last_minute = minute
            self._totals[minute] = self._now()

    def forget(self, before: float) -> None:
        """Drop the minutes over their time."""
        for kept in (self._totals, self._counted):
            for minute in [each for each in kept if each < before // MINUTE_S]:
                del kept[minute]

    async def levels(self) -> Mapping[str, QueueLevel]:
        """Return the totals of each platform that accepted anything, and its oldest due callback."""
        found = self._now()
        oldest: dict[str, float] = {}
        for row in self._shelf.rows.values():
            since = self._waiting_since(row)
            if since is not None:
                oldest[row.platform] = min(since, oldest.get(row.platform, since))
        return {name: replace(level, oldest_due_at=oldest.get(name)) for name, level in found.items()}

    async def keep_minute(self, minute: int, counted: Mapping[str, MinuteCounts]) -> None:
        """Add what was counted per platform to a minute, if that minute is kept."""
        if minute not in self._totals:
            return
        kept = self._counted.setdefault(minute, {})
        for name, each in counted.items():
            before = kept[name].counts if name in kept else RequestCounts()
            kept[name] = MinuteCounts(counts=summed((before, each.counts)), oldest_due_s=each.oldest_due_s)

    async def minutes(self, platform: str | None, since: float, now: float) -> Sequence[Sampled]:
        """Return each minute kept from ``since`` on, the running one last."""
        running = int(now // MINUTE_S)
        kept = [minute for minute in sorted(self._totals) if since // MINUTE_S <= minute <= running]
        after = _of(self._now(), platform)
        spans: list[Sampled] = []
        for minute in reversed(kept):
            before = _of(self._totals[minute], platform)
            spans.insert(0, self._counted_in(minute, platform, change(minute * MINUTE_S, before, after)))
            after = before
        if not kept or kept[-1] != running:
            spans.append(Sampled(at=running * MINUTE_S, pending=_of(self._now(), platform).pending))
        return spans

    def _counted_in(self, minute: int, platform: str | None, span: Sampled) -> Sampled:
        counted = self._counted.get(minute, {})
        mine = list(counted.values()) if platform is None else [counted[platform]] if platform in counted else []
        if not mine:
            return span
        return replace(
            span,
            oldest_due_s=max(each.oldest_due_s for each in mine),
            counts=summed(each.counts for each in mine),
        )

    def _waiting_since(self, row: Row) -> float | None:
        return self._shelf.waiting_since(row) if row.state is State.PENDING else None

    def _now(self) -> dict[str, QueueLevel]:
        return {name: QueueLevel(**totals) for name, totals in self._shelf.totals.items()}


def _of(levels: Mapping[str, QueueLevel], platform: str | None) -> QueueLevel:
    """Return one platform's totals, or those of all."""
    mine = levels.values() if platform is None else [levels[platform]] if platform in levels else []
    return QueueLevel(
        accepted=sum(each.accepted for each in mine),
        delivered=sum(each.delivered for each in mine),
        dead=sum(each.dead for each in mine),
        expired=sum(each.expired for each in mine),
        superseded=sum(each.superseded for each in mine),
    )
