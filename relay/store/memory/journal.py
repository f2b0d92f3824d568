"""The memory store's pages of audit records and operations."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec

from relay.privacy.chain import Link
from relay.store.memory.operations import MemoryOperations
from relay.store.memory.trail import Trail
from relay.views.moments import Instant, moment
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditHead, AuditPage, AuditRecord, ChainLink, JournalFilter


class MemoryJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, trail: Trail, operations: MemoryOperations) -> None:
        self._trail = trail
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

        return AuditPage(*_page([_record(*each) for each in self._trail.links], fits, cursor, limit))

    async def chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return up to ``limit`` audit records behind number ``after``, oldest first, as they are chained."""
        behind = (link for link, _ in self._trail.links if link.n > after)
        return [ChainLink(link.n, link.hash, msgspec.json.decode(link.text)) for link in islice(behind, limit)]

    async def audit_head(self) -> AuditHead:
        """Return the newest audit record."""
        return AuditHead(count=self._trail.count, hash=self._trail.hash, at=moment(self._trail.at))

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


def _record(link: Link, at: float) -> AuditRecord:
    kept = msgspec.json.decode(link.text)
    rest = {name: value for name, value in kept.items() if name not in ("at", "from")}
    return AuditRecord(id=link.n, at=Instant(at), origin=kept["from"], **rest)


def _between(wanted: JournalFilter, at: float) -> bool:
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)


def _page(
    kept: Sequence[Any], fits: Callable[[Any], bool], cursor: str | None, limit: int
) -> tuple[list[Any], str | None]:
    found = [each for each in reversed(kept) if (cursor is None or each.id < int(cursor)) and fits(each)]
    return found[:limit], str(found[limit - 1].id) if len(found) > limit else None
