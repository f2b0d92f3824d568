"""Counts the memory store's callbacks by what they have in common."""

from collections.abc import Sequence
from dataclasses import replace

from relay.core.model import Filter, State
from relay.store.memory.operations import matches
from relay.store.memory.rows import Row, Shelf
from relay.store.survey import Kind
from relay.views.past.survey import ChannelCounts, ChannelStep, GroupCounts, GroupStep


class MemorySurveys:
    """Implements ``relay.store.survey.Surveys``, all in one step."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def channels(self, by: Kind, since: float, *, late_before: float, below: int | None) -> ChannelStep:
        """Count the callbacks accepted from ``since`` on, by platform or event."""
        found: dict[str | None, ChannelCounts] = {}
        for row in self._shelf.rows.values():
            if row.accepted_at >= since:
                counts = found.setdefault(row.platform if by == "platform" else row.event, ChannelCounts())
                counts.add(_counted(row, late_before))
        return ChannelStep(channels=found, below=None, since=since)

    async def groups(self, platform: str, wanted: Filter, *, held: bool, below: int | None) -> GroupStep:
        """Group a platform's dead, expired or held callbacks that match."""
        found: dict[tuple[str, str | None], GroupCounts] = {}
        meant = replace(wanted, platform=platform)
        for row in sorted(self._shelf.rows.values(), key=lambda each: -each.seq):
            if matches(row, meant) and (row.held or not held):
                at = row.ended_at or row.first_sent_at or row.accepted_at
                group = GroupCounts(
                    reason=row.reason,
                    code=row.code,
                    count=1,
                    first_at=at,
                    last_at=at,
                    sample=row.id,
                    message=row.message,
                )
                known = found.setdefault((row.reason, row.code), group)
                if known is not group:
                    known.add(group)
        return GroupStep(groups=list(found.values()), below=None)

    async def traceparents(self, seqs: Sequence[int]) -> list[str]:
        """Return the trace contexts that these callbacks carry, each once."""
        rows = (self._shelf.rows[seq] for seq in seqs if seq in self._shelf.rows)
        return list(dict.fromkeys(row.traceparent for row in rows if row.traceparent is not None))


def _counted(row: Row, late_before: float) -> ChannelCounts:
    counts = ChannelCounts()
    setattr(counts, row.state.word, 1)
    if row.state is State.PENDING:
        counts.held = int(row.held)
        counts.late = int(not row.held and row.expires_at - row.expires_s < late_before)
    return counts
