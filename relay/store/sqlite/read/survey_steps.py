"""Has each part of a survey read in the store's reading thread, so that other reads come between."""

from collections.abc import Sequence

from relay.core.model import Filter
from relay.store.sqlite.read.own_thread import Reads
from relay.store.survey import Kind
from relay.views.past.survey import ChannelStep, GroupStep


class SqliteSurveys:
    """Implements ``relay.store.survey.Surveys``."""

    def __init__(self, read: Reads) -> None:
        self._read = read

    async def channels(self, by: Kind, since: float, *, late_before: float, below: int | None) -> ChannelStep:
        """Count the next part of the callbacks accepted from ``since`` on."""
        found: ChannelStep = await self._read(
            lambda reader: reader.surveys.channels(by, since, late_before=late_before, below=below)
        )
        return found

    async def groups(self, platform: str, wanted: Filter, *, held: bool, below: int | None) -> GroupStep:
        """Group the next part of a platform's dead, expired or held callbacks that match."""
        found: GroupStep = await self._read(
            lambda reader: reader.surveys.groups(platform, wanted, held=held, below=below)
        )
        return found

    async def traceparents(self, seqs: Sequence[int]) -> list[str]:
        """Return the trace contexts that these callbacks carry, each once."""
        found: list[str] = await self._read(lambda reader: reader.surveys.traceparents(seqs))
        return found
