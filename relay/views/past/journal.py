"""What people did: the audit record, and lists of operations."""

from typing import Annotated, Any

from msgspec import Struct, field

from relay.core.raw import JsonObject
from relay.views.moments import Instant, told
from relay.views.operation_view import OperationView


class JournalFilter(Struct, frozen=True, kw_only=True):
    """Selects audit records or operations; an empty field matches all. Times are on the relay clock."""

    who: str | None = None
    action: str | None = None
    target: str | None = None  # of an audit record
    platform: str | None = None  # of an operation: what its filter names
    running: bool | None = None  # of an operation
    since: float | None = None
    until: float | None = None

    def fits_record(self, record: "AuditRecord") -> bool:
        """Say whether an audit record is selected."""
        return (
            self.who in (None, record.who)
            and self.action in (None, record.action)
            and self.target in (None, record.target)
            and self._covers(record.at)
        )

    def fits_operation(self, operation: OperationView) -> bool:
        """Say whether an operation is selected."""
        return (
            self.who in (None, operation.options.who)
            and self.action in (None, operation.action)
            and self.platform in (None, operation.filter.platform)
            and self.running in (None, operation.state == "running")
            and self._covers(operation.started_at)
        )

    def _covers(self, at: float) -> bool:
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One change, or one look into a payload; it was written before the deed."""

    id: Annotated[int, told("counts records, from 1")]
    at: Annotated[Instant, told("when")]
    who: Annotated[str, told("name of the user; local: no users are configured")]
    role: Annotated[str, told("the user's role")]
    origin: Annotated[str, told("address the request came from, or unix")] = field(name="from")
    action: Annotated[str, told("what was asked for: platform.pause, operation.retry, config.reload, ...")]
    target: Annotated[str, told("platform, callback id, or * for more than one platform")]
    reason: Annotated[str, told("why, as the user said")]
    details: Annotated[JsonObject, told("what else was asked: a filter, a rate")]


class AuditPage(Struct, frozen=True):
    """One page of audit records, newest first."""

    items: Annotated[list[AuditRecord], told("may be empty although there are more")]
    next: Annotated[str | None, told("cursor of the next page; null: this was the last")]


class AuditHead(Struct, frozen=True, kw_only=True):
    """The newest audit record, for whoever keeps its hash elsewhere: it proves all records up to it."""

    count: Annotated[int, told("audit records there ever were; the number of the newest")]
    hash: Annotated[str, told("of the newest record, 64 hex digits; 64 zeros before the first")]
    at: Annotated[Instant | None, told("when it was written; null before the first")]


class ChainLink(Struct, frozen=True):
    """One audit record in its chain, as an exported line holds it."""

    n: Annotated[int, told("counts records, from 1")]
    hash: Annotated[str, told("SHA-256 of the hash before it and of the record, 64 hex digits")]
    record: Annotated[Any, told("the record; hashed as JSON with sorted keys and no spaces")]


class ChainPage(Struct, frozen=True):
    """Audit records in their chain, oldest first. The next ones are those after the last number here."""

    items: Annotated[list[ChainLink], told("none: there is nothing behind that number")]
