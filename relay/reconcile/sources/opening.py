"""Opens the source of a side."""

from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

from relay.reconcile.job import ComparedSide, FileSource, PagedSource, PlatformReply, Question
from relay.reconcile.sources.exports import FileRecords
from relay.reconcile.sources.pages import PagedRecords
from relay.reconcile.sources.query import QueryRecords
from relay.reconcile.sources.record import SourceRows


def opened(
    side: ComparedSide, *, since: float, until: float, zone: ZoneInfo, ask: Callable[[Question], PlatformReply]
) -> SourceRows:
    """Return the rows of a side: key, status, time and the further columns of each."""
    columns: Sequence[str] = (side.key, side.status, side.at, *side.also)
    source = side.source
    if isinstance(source, FileSource):
        if source.file.endswith(".parquet"):
            from relay.reconcile.sources.parquet import ParquetRecords  # loads DuckDB

            return ParquetRecords(source, columns)
        return FileRecords(source, columns)
    if isinstance(source, PagedSource):
        return PagedRecords(source, since=since, until=until, zone=zone, ask=ask)
    return QueryRecords(source, columns, since=since, until=until, zone=zone)
