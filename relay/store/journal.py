"""What a store shows of what people did: audit records and operations, in pages."""

from typing import Protocol

from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditPage, JournalFilter


class Journal(Protocol):
    """Lists, newest first. A page may come short, even empty, with a cursor: then matches are rare."""

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""
        ...

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""
        ...
