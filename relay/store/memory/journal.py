"""The memory store's pages of audit records and operations."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec

from relay.store.journal import shown_record
from relay.store.memory.operations import MemoryOperations
from relay.store.memory.trail import Trail
from relay.views.moments import moment
from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditHead, AuditPage, ChainLink, JournalFilter


class MemoryJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, trail: Trail, operations: MemoryOperations) -> None:
        self._trail = trail
        self._operations = operations

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""
        records = [shown_record(link.n, at, link.text) for link, at in self._trail.links]
        return AuditPage(*_page(records, wanted.fits_record, cursor, limit))

    async def chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return up to ``limit`` audit records behind number ``after``, oldest first, as they are chained."""
        behind = (link for link, _ in self._trail.links if link.n > after)
        return [ChainLink(link.n, link.hash, msgspec.json.decode(link.text)) for link in islice(behind, limit)]

    async def audit_head(self) -> AuditHead:
        """Return the newest audit record."""
        return AuditHead(count=self._trail.count, hash=self._trail.hash, at=moment(self._trail.at))

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""
        return OperationPage(*_page(self._operations.every(), wanted.fits_operation, cursor, limit))


def _page(
    kept: Sequence[Any], fits: Callable[[Any], bool], cursor: str | None, limit: int
) -> tuple[list[Any], str | None]:
    found = [each for each in reversed(kept) if (cursor is None or each.id < int(cursor)) and fits(each)]
    return found[:limit], str(found[limit - 1].id) if len(found) > limit else None
