"""What a store shows of what people did: audit records and operations, in pages."""

from typing import Protocol

import msgspec

from relay.views.moments import Instant
from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditHead, AuditPage, AuditRecord, ChainLink, JournalFilter


class Journal(Protocol):
    """Lists, newest first. A page may come short, even empty, with a cursor: then matches are rare."""

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""
        ...

    async def chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return up to ``limit`` audit records behind number ``after``, oldest first, as they are chained."""
        ...

    async def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written: not what the rows say, if somebody changed them."""
        ...

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""
        ...


def shown_record(number: int, at: float, text: str) -> AuditRecord:
    """Return an audit record of what is kept of it: its number, its time and the JSON text that was hashed."""
    kept = msgspec.json.decode(text)
    return AuditRecord(
        id=number,
        at=Instant(at),
        who=kept["who"],
        role=kept["role"],
        origin=kept["from"],
        action=kept["action"],
        target=kept["target"],
        reason=kept["reason"],
        details=kept["details"],
    )
