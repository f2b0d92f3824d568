"""Pages of audit records and operations of the shared store."""

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import msgspec

from relay.store.journal import shown_record
from relay.store.redis.write.operations import RedisOperations
from relay.store.redis.write.trail import RedisTrail
from relay.views.moments import moment
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditHead, AuditPage, AuditRecord, ChainLink, JournalFilter

_STEP: Final = 500
_Entry = TypeVar("_Entry", AuditRecord, OperationView)


class RedisJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, trail: RedisTrail, operations: RedisOperations) -> None:
        self._trail = trail
        self._operations = operations

    async def audits(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records, and the cursor of the next page or None."""
        return AuditPage(*await _page(self._records(cursor), wanted.fits_record, limit))

    async def _records(self, cursor: str | None) -> AsyncIterator[AuditRecord]:
        below = int(cursor) if cursor is not None else (await self._trail.head())[0] + 1
        while below > 1:
            first = max(1, below - _STEP)
            found = [each for each in await self._trail.part(first, below - first) if each[0].n < below]
            for link, at in reversed(found):
                yield shown_record(link.n, at, link.text)
            below = first

    async def chain(self, *, after: int, limit: int) -> list[ChainLink]:
        """Return up to ``limit`` audit records behind number ``after``, oldest first, as they are chained."""
        found = await self._trail.part(after + 1, limit)
        return [ChainLink(link.n, link.hash, msgspec.json.decode(link.text)) for link, _ in found]

    async def audit_head(self) -> AuditHead:
        """Return the newest audit record."""
        count, made, at = await self._trail.head()
        return AuditHead(count=count, hash=made, at=moment(at))

    async def operations(self, wanted: JournalFilter, *, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations, and the cursor of the next page or None."""
        return OperationPage(*await _page(self._started(cursor), wanted.fits_operation, limit))

    async def _started(self, cursor: str | None) -> AsyncIterator[OperationView]:
        for operation in reversed(await self._operations.every()):
            if cursor is None or operation.id < int(cursor):
                yield operation


async def _page(
    entries: AsyncIterator[_Entry], fits: Callable[[_Entry], bool], limit: int
) -> tuple[list[_Entry], str | None]:
    found: list[_Entry] = []
    async for each in entries:
        if fits(each):
            if len(found) == limit:
                return found, str(found[-1].id)
            found.append(each)
    return found, None
