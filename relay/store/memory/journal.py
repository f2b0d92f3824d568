"""The memory store's pages of audit records and operations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.store.memory.operations import MemoryOperations
from relay.views.moments import Instant
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditPage, AuditRecord, JournalFilter


class MemoryJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, records: Sequence[Mapping[str, Any]], operations: MemoryOperations) -> None:
        """Show ``records``, oldest first, which the store adds to."""
        self._records = records
        self._operations = operations

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""

        def fits(record: AuditRecord) -> bool:
            return (
                wanted.who in (None, record.who)
                and wanted.action in (None, record.action)
                and wanted.target in (None, record.target)
                and _between(wanted, record.at)
            )

        return AuditPage(
            *_page([_record(place, each) for place, each in enumerate(self._records)], fits, cursor, limit)
        )

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""

        def fits(operation: OperationView) -> bool:
            return (
                wanted.who in (None, operation.options.who)
                and wanted.action in (None, operation.action)
                and wanted.platform in (None, operation.filter.platform)
                and wanted.running in (None, operation.state == "running")
                and _between(wanted, operation.started_at)
            )

        return OperationPage(*_page(self._operations.every(), fits, cursor, limit))


def _record(place: int, kept: Mapping[str, Any]) -> AuditRecord:
    rest = {name: value for name, value in kept.items() if name not in ("at", "from")}
    return AuditRecord(id=place + 1, at=Instant(kept["at"]), origin=kept["from"], **rest)


def _between(wanted: JournalFilter, at: float) -> bool:
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)


def _page(
    kept: Sequence[Any], fits: Callable[[Any], bool], cursor: str | None, limit: int
) -> tuple[list[Any], str | None]:
    below = len(kept) + 1 if cursor is None else int(cursor)
    found = [each for each in reversed(kept) if each.id < below and fits(each)]
    return found[:limit], str(found[limit - 1].id) if len(found) > limit else None
