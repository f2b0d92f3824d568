"""Has pages of the journal read in the store's reading thread."""

from relay.store.sqlite.read.own_thread import Reads
from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditHead, AuditPage, ChainLink, JournalFilter


class SqliteJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, read: Reads) -> None:
        self._read = read

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""
        found: AuditPage = await self._read(lambda reader: reader.journal.audits(wanted, cursor, limit))
        return found

    async def chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return up to ``limit`` audit records behind number ``after``, oldest first, as they are chained."""
        found: list[ChainLink] = await self._read(lambda reader: reader.journal.chain(after, limit))
        return found

    async def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written."""
        found: AuditHead = await self._read(lambda reader: reader.journal.audit_head())
        return found

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""
        found: OperationPage = await self._read(lambda reader: reader.journal.operations(wanted, cursor, limit))
        return found
