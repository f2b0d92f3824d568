"""Pages of audit records and operations of the shared store."""

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import msgspec

from relay.privacy.chain import Link
from relay.store.redis.write.operations import RedisOperations
from relay.store.redis.write.trail import RedisTrail
from relay.views.moments import Instant, moment
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

        def fits(record: AuditRecord) -> bool:
            return (
                wanted.who in (None, record.who)
                and wanted.action in (None, record.action)
                and wanted.target in (None, record.target)
                and _between(wanted, record.at)
            )

        return AuditPage(*await _page(self._records(cursor), fits, limit))

    async def _records(self, cursor: str | None) -> AsyncIterator[AuditRecord]:
        below = int(cursor) if cursor is not None else (await self._trail.head())[0] + 1
        while below > 1:
            first = max(1, below - _STEP)
            found = [each for each in await self._trail.part(first, below - first) if each[0].n < below]
            for link, at in reversed(found):
                yield _record(link, at)
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

        def fits(operation: OperationView) -> bool:
            return (
                wanted.who in (None, operation.options.who)
                and wanted.action in (None, operation.action)
                and wanted.platform in (None, operation.filter.platform)
                and wanted.running in (None, operation.state == "running")
                and _between(wanted, operation.started_at)
            )

        return OperationPage(*await _page(self._started(cursor), fits, limit))

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


def _record(link: Link, at: float) -> AuditRecord:
    kept = msgspec.json.decode(link.text)
    rest = {name: value for name, value in kept.items() if name not in ("at", "from")}
    return AuditRecord(id=link.n, at=Instant(at), origin=kept["from"], **rest)


def _between(wanted: JournalFilter, at: float) -> bool:
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)
