"""Counts the memory store's callbacks by what they have in common."""

from relay.core.model import State
from relay.store.memory.rows import Row, Shelf
from relay.store.survey import Kind
from relay.views.survey import ChannelCounts, ChannelStep


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


def _counted(row: Row, late_before: float) -> ChannelCounts:
    counts = ChannelCounts()
    setattr(counts, row.state.word, 1)
    if row.state is State.PENDING:
        counts.held = int(row.held)
        counts.late = int(not row.held and row.expires_at - row.expires_s < late_before)
    return counts
