"""What a copy carries, in the words of no backend: plain records, each under the number that it has in its store.

Callbacks and batches refer to each other by their public ids, so every store may number what it takes anew. A sealed
value is opened by the store it comes from and sealed by the one that takes it; between them it is in memory only.
"""

from typing import Final

from msgspec import Struct

from relay.core.raw import Kept
from relay.store.transfer.hashes import HashWay
from relay.views.operation_view import OperationView
from relay.views.queue import ErrorView

SECTIONS: Final = ("standing", "callbacks", "batches", "attempts")
"""What each platform has, in the order in which it is carried: a key is held back before its callbacks come."""
SHARED: Final = ("posts", "lent", "operations", "audit")
"""What belongs to no platform."""
MINUTES: Final = "minutes"
"""What happened: of each platform, and of all of them together."""
TOGETHER: Final = ""


class CopyOrigin(Struct, frozen=True, kw_only=True):
    """What a store tells before it is copied."""

    identity: str  # changes with everything that is accepted, sent or recorded
    now: float  # on its clock
    way: HashWay  # with its secret
    numbered: bool  # its hashes are numbers, written as 16 hex digits
    sealed: bool
    platforms: tuple[str, ...]


class NumberedRecord(Struct):
    """A record; ``at`` is its number in its store, and orders those of a section."""

    at: int


class CallbackRecord(NumberedRecord, kw_only=True):
    """One callback. What a request under way changes is in it: that is counted in ``attempts``."""

    id: str
    payload: bytes | None  # None: deleted
    key: str | None  # None with a hash: it was forgotten
    key_hash: str  # empty: no ordering key
    event: str | None
    lane: int
    priority: int
    group: str
    content_type: str | None
    traceparent: str | None
    idempotency_hash: str  # its own; empty without one
    digest: bytes
    post_hash: str  # of the routed post that it came with
    idempotency_key: str | None  # kept for receipts
    reference: str | None
    points: int | None
    bytes: int
    accepted_at: float
    expires_s: float
    expires_at: float
    due_at: float
    place: int  # in its key: ``at``, or the number of the one whose place it took
    state: int
    ended_at: float
    attempts: int
    spent: int
    first_sent_at: float
    under_way_since: float  # 0: no request is under way with it
    batches: list[str]  # that carried it, oldest first; the last one is its own where it is frozen
    attempt_ids: list[int]  # that are settled
    frozen: bool
    held: bool
    dropped: bool
    maybe_applied: bool
    blocks: bool  # dead, and its key waits for it
    overtaken: bool
    reason: str
    message: str
    code: str | None
    superseded_by: str
    gathered_since: float


class BatchRecord(NumberedRecord, kw_only=True):
    """A batch: one that waits or is under way, or one that is done and whose members are still told."""

    id: str
    root: str
    group: str
    state: int  # 0 waits, 1 under way, 2 done
    created_at: float
    due_at: float
    expires_at: float
    attempts: int
    attempt_id: int  # under way, else 0
    confirm: bool
    members: list[str]
    waiting_since: float


class AttemptRecord(NumberedRecord, kw_only=True):
    """One request; ``ended_at`` None: it is under way."""

    batch: str
    n: int
    group: str
    started_at: float
    ended_at: float | None
    duration_s: float
    outcome: str
    status: int | None
    reason: str
    excerpt: str
    ambiguous: bool
    purpose: int
    items: int
    bytes: int
    points: int


class PostRecord(NumberedRecord, kw_only=True):
    """The idempotency key of a routed post: the ids that were answered, by platform, and how many rows are kept."""

    hash: str
    digest: bytes
    rows: dict[str, str]
    left: int


class LentRecord(NumberedRecord, kw_only=True):
    """A slot of the limits that somebody else took."""

    platform: str
    quota: str
    group: str
    taken_at: float
    counts_from: float
    done: bool


class OperationRecord(NumberedRecord, kw_only=True):
    """An operation that is finished."""

    view: OperationView


class AuditEntry(NumberedRecord, kw_only=True):
    """An audit record, as it is chained."""

    when: float
    hash: str
    text: str


class MinuteRecord(NumberedRecord, kw_only=True):
    """The totals as they stood before the first change of a minute, and what was counted in it."""

    totals: list[int]  # accepted, delivered, dead, expired, superseded
    counts: list[int]  # requests, refused, failed, raw_bytes, wire_bytes, late
    oldest_due_s: float | None


class HeldKeyRecord(Struct, frozen=True):
    """An ordering key that an operator holds back."""

    key_hash: str
    reason: str
    since: float


class StandingRecord(NumberedRecord, kw_only=True):
    """What a platform stands at: its ledger, its gate, the keys held back."""

    totals: list[int]  # as of a minute
    gate: Kept | None
    last_error: ErrorView | None
    held_keys: list[HeldKeyRecord]


class Tally(Struct, frozen=True, kw_only=True):
    """What one side counts of a platform at the end. All of it must be the same on both sides."""

    accepted: int
    pending: int
    held: int
    delivered: int
    dead: int
    expired: int
    superseded: int
    rows: int  # callbacks that are kept
    payloads: int
    bytes: int
    keys: int  # idempotency keys
    attempts: int
    under_way: int  # requests without an answer
    frozen: int  # callbacks in a frozen batch
    keys_held: int
