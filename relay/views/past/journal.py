"""What people did: the audit record, and lists of operations."""

from typing import Annotated, Any

from msgspec import Struct, field

from relay.views.moments import Instant, told


class JournalFilter(Struct, frozen=True, kw_only=True):
    """Selects audit records or operations; an empty field matches all. Times are on the relay clock."""

    who: str | None = None
    action: str | None = None
    target: str | None = None  # of an audit record
    platform: str | None = None  # of an operation: what its filter names
    running: bool | None = None  # of an operation
    since: float | None = None
    until: float | None = None


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
    details: Annotated[dict[str, Any], told("what else was asked: a filter, a rate")]


class AuditPage(Struct, frozen=True):
    """One page of audit records, newest first."""

    items: Annotated[list[AuditRecord], told("may be empty although there are more")]
    next: Annotated[str | None, told("cursor of the next page; null: this was the last")]
