"""Pages of audit records and operations of the shared store."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Link
from relay.store.redis.write.operations import RedisOperations
from relay.views.moments import Instant
from relay.views.operation_view import OperationPage, OperationView
from relay.views.past.journal import AuditPage, AuditRecord, JournalFilter

_STEP: Final = 500
_Entry = TypeVar("_Entry", AuditRecord, OperationView)


class RedisJournal:
    """Implements ``relay.store.journal.Journal``."""

    def __init__(self, link: Link, keys: KeyNames, operations: RedisOperations) -> None:
        self._link = link
        self._keys = keys
        self._operations = operations

    async def keep(self, record: Mapping[str, Any]) -> None:
        """Add an audit record."""
        await self._link.do("RPUSH", self._keys.shared("audit"), msgspec.json.encode(dict(record)))

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
        key = self._keys.shared("audit")
        below = int(cursor) if cursor is not None else await self._link.do("LLEN", key) + 1
        while below > 1:
            first = max(0, below - 1 - _STEP)
            found = await self._link.do("LRANGE", key, first, below - 2)
            for place in reversed(range(len(found))):
                yield _record(first + place, msgspec.json.decode(found[place]))
            below = first + 1

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


def _record(place: int, kept: Mapping[str, Any]) -> AuditRecord:
    rest = {name: value for name, value in kept.items() if name not in ("at", "from")}
    return AuditRecord(id=place + 1, at=Instant(kept["at"]), origin=kept["from"], **rest)


def _between(wanted: JournalFilter, at: float) -> bool:
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)
