"""What happened in each minute: totals before the first change of a minute, kept at each platform.

A platform that did not change in a minute kept nothing then: its totals were those of the next minute it kept, or are
those of now. The minutes in which anything was committed at all are one set of the whole store.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from relay.core.clock import Clock
from relay.store.history import MINUTE_S
from relay.store.redis.read.ledger import RedisReader
from relay.store.redis.read.standing import Standings
from relay.store.redis.server.fields import TOTALS, pack, pairs_of, unpack
from relay.store.redis.server.keys import KeyNames
from relay.views.ledger import QueueTotals
from relay.views.past.history import MinuteCounts, QueueLevel, RequestCounts, Sampled, change, summed

_COUNTS: Final = ("requests", "refused", "failed", "raw_bytes", "wire_bytes", "late")


class RedisHistory:
    """Implements ``relay.store.history.MinuteHistory``."""

    def __init__(self, reader: RedisReader, standings: Standings, keys: KeyNames, clock: Clock) -> None:
        self._reader = reader
        self._standings = standings
        self._keys = keys
        self._clock = clock
        self._last = 0

    def due(self) -> Sequence[Any] | None:
        """Return the command that keeps the running minute, if it is not kept yet."""
        minute = int(self._clock.now() // MINUTE_S)
        return None if minute <= self._last else ("ZADD", self._keys.shared("minutes"), minute, minute)

    def kept(self) -> None:
        """Remember that the running minute is kept."""
        self._last = int(self._clock.now() // MINUTE_S)

    async def keep_now(self) -> None:
        """Keep the running minute."""
        command = self.due()
        if command is not None:
            await self._reader.many([command])
            self.kept()

    async def levels(self) -> Mapping[str, QueueLevel]:
        """Return the totals of each platform that accepted anything, and its oldest due callback."""
        found = await self._standings.of()
        return {
            name: replace(_level(each.totals), oldest_due_at=each.facts.oldest_due_at)
            for name, each in found.items()
            if each.totals.accepted
        }

    async def keep_minute(self, minute: int, counted: Mapping[str, MinuteCounts]) -> None:
        """Add what was counted per platform to a minute, if that minute is kept."""
        kept = (await self._reader.many([("ZSCORE", self._keys.shared("minutes"), minute)]))[0]
        if kept is None or not counted:
            return
        keys = {name: self._keys.of(name, "mc") for name in counted}
        found = await self._reader.many([("HGET", key, minute) for key in keys.values()])
        commands = []
        for (name, each), before in zip(counted.items(), found, strict=True):
            counts = summed((_counts(before), each.counts)) if before else each.counts
            values = [*(getattr(counts, word) for word in _COUNTS), each.oldest_due_s]
            commands.append(("HSET", keys[name], minute, pack(values)))
        await self._reader.many(commands)

    async def minutes(self, platform: str | None, since: float, now: float) -> Sequence[Sampled]:
        """Return each minute kept from ``since`` on, the running one last."""
        running = int(now // MINUTE_S)
        command = ("ZRANGEBYSCORE", self._keys.shared("minutes"), int(since // MINUTE_S), running)
        kept = [int(minute) for minute in (await self._reader.many([command]))[0]]
        levels = await self._now()
        names = [name for name in self._reader.platforms() if platform in (None, name)]
        levels = {name: levels.get(name, QueueLevel()) for name in names}
        before = {minute: [QueueLevel() for _ in names] for minute in kept}
        counted: dict[int, list[MinuteCounts]] = {minute: [] for minute in kept}
        for place, name in enumerate(names):
            totals, counts = await self._of(name)
            marks = sorted(totals)
            for minute in kept:
                at = bisect_left(marks, minute)
                before[minute][place] = totals[marks[at]] if at < len(marks) else levels[name]
                if minute in counts:
                    counted[minute].append(counts[minute])
        after = _together([levels[name] for name in names])
        spans: list[Sampled] = []
        for minute in reversed(kept):
            level = _together(before[minute])
            span = change(minute * MINUTE_S, level, after)
            if counted[minute]:
                span = replace(
                    span,
                    oldest_due_s=max(each.oldest_due_s for each in counted[minute]),
                    counts=summed(each.counts for each in counted[minute]),
                )
            spans.insert(0, span)
            after = level
        if not kept or kept[-1] != running:
            pending = _together([levels[name] for name in names]).pending
            spans.append(Sampled(at=running * MINUTE_S, pending=pending))
        return spans

    async def _of(self, platform: str) -> tuple[dict[int, QueueLevel], dict[int, MinuteCounts]]:
        found = await self._reader.many([("HGETALL", self._keys.of(platform, name)) for name in ("min", "mc")])
        totals, counts = map(pairs_of, found)
        return (
            {int(minute): QueueLevel(**dict(zip(TOTALS, unpack(blob), strict=True))) for minute, blob in totals},
            {
                int(minute): MinuteCounts(counts=_counts(blob), oldest_due_s=float(unpack(blob)[-1]))
                for minute, blob in counts
            },
        )

    async def _now(self) -> dict[str, QueueLevel]:
        return {name: _level(totals) for name, totals in (await self._standings.totals()).items()}


def _level(totals: QueueTotals) -> QueueLevel:
    return QueueLevel(**{word: getattr(totals, word) for word in TOTALS})


def _counts(packed: bytes) -> RequestCounts:
    *counts, _ = unpack(packed)  # the last is when the oldest was due; the newest words may be missing
    return RequestCounts(**dict(zip(_COUNTS, counts, strict=False)))


def _together(levels: Sequence[QueueLevel]) -> QueueLevel:
    return QueueLevel(**{word: sum(getattr(level, word) for level in levels) for word in TOTALS})
