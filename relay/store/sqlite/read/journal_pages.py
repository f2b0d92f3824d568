"""Has pages of the journal read in the store's reading thread."""

from relay.store.sqlite.read.survey_steps import Reads
from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditPage, JournalFilter


class SqliteJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, read: Reads) -> None:
        self._read = read

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""
        found: AuditPage = await self._read(lambda reader: reader.journal.audits(wanted, cursor, limit))
        return found

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""
        found: OperationPage = await self._read(lambda reader: reader.journal.operations(wanted, cursor, limit))
        return found
