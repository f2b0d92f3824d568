"""Counts callbacks of the shared store by what they have in common."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from relay.core.model import Filter, State
from relay.store.redis.read.ledger import RedisReader, matches
from relay.store.redis.server.fields import StoredRow
from relay.store.redis.server.tags import PlatformTags
from relay.store.survey import Kind
from relay.views.past.survey import ChannelCounts, ChannelStep, GroupCounts, GroupStep

_MOST_CONTEXTS: Final = 1000


class RedisSurveys:
    """Implements ``relay.store.survey.Surveys``; a step looks at some hundred callbacks of each platform."""

    def __init__(self, reader: RedisReader, tags: PlatformTags) -> None:
        self._reader = reader
        self._tags = tags

    async def channels(self, by: Kind, since: float, *, late_before: float, below: int | None) -> ChannelStep:
        """Count the next part of the callbacks accepted from ``since`` on, by platform or event.

        Of each platform the next part is read; what all of them have been read down to is counted.
        """
        bound = math.inf if below is None else float(below)
        parts = {name: await self._reader.part(name, "all", bound) for name in await self._reader.meant(Filter())}
        floor = max((rows[-1].seq for rows in parts.values() if len(rows) >= self._reader.step), default=0)
        found: dict[str | None, ChannelCounts] = {}
        passed = not floor
        for name, rows in parts.items():
            for row in rows:
                if row.seq >= floor and row.accepted_at >= since:
                    counts = found.setdefault(name if by == "platform" else row.event, ChannelCounts())
                    counts.add(_counted(row, late_before))
        if floor and floor <= since * 1e6:
            passed = True
        return ChannelStep(channels=found, below=None if passed else floor, since=since)

    async def groups(self, platform: str, wanted: Filter, *, held: bool, below: int | None) -> GroupStep:
        """Group the next part of a platform's dead or expired callbacks that match, or of the held ones."""
        if platform not in self._tags.names():
            return GroupStep(groups=[], below=None)
        index = "hd" if held else "ex" if wanted.state == State.EXPIRED.word else "dr" if wanted.dropped else "dl"
        rows = await self._reader.part(platform, index, math.inf if below is None else float(below))
        ids = await self._reader.seqs(platform, wanted)
        found: dict[tuple[str, str | None], GroupCounts] = {}
        tag = self._tags.known(platform)
        meant = replace(wanted, platform=platform)
        for row in rows:
            if not matches(row, meant, ids):
                continue
            at = row.ended_at or row.first_sent_at or row.accepted_at
            group = GroupCounts(
                reason=row.reason,
                code=row.code,
                count=1,
                first_at=at,
                last_at=at,
                sample=row.public_id(tag),
                message=row.message,
            )
            known = found.setdefault((row.reason, row.code), group)
            if known is not group:
                known.add(group)
        more = len(rows) >= self._reader.step
        return GroupStep(groups=list(found.values()), below=rows[-1].seq if more else None)

    async def traceparents(self, seqs: Sequence[int]) -> list[str]:
        """Return the trace contexts that these callbacks carry, each once."""
        found: dict[str, None] = {}
        for name in self._tags.names():
            rows = await self._reader.by_seq(name, seqs)
            found.update((row.traceparent, None) for row in rows if row.traceparent is not None)
        return list(found)[:_MOST_CONTEXTS]


def _counted(row: StoredRow, late_before: float) -> ChannelCounts:
    counts = ChannelCounts()
    setattr(counts, State(row.state).word, 1)
    if row.state == State.PENDING:
        counts.held = int(row.held)
        counts.late = int(not row.held and row.expires_at - row.expires_s < late_before)
    return counts
