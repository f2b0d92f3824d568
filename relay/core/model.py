"""The words of the house as types: callbacks, batches, attempts, settlements and the states between them.

Plain data without behaviour that does I/O. Times are seconds on the relay clock (``core.clock``), sizes are bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple


class State(IntEnum):
    """Where a callback stands. All but ``PENDING`` are final unless an operator retries."""

    PENDING = 0
    DELIVERED = 1
    DEAD = 2
    EXPIRED = 3
    SUPERSEDED = 4

    @property
    def word(self) -> str:
        """The state's public name."""
        return self.name.lower()


class Lane(IntEnum):
    """Which kind of work a callback is, in the order batches are packed; each keeps a share of the slots."""

    HIGH = 0
    NORMAL = 1
    RETRY = 2
    REPLAY = 3
    LOW = 4


class Outcome(StrEnum):
    """What an attempt came to. The first eight are SPEC 6's; the rest say how the relay got no usable answer."""

    OK = "ok"
    DUPLICATE = "duplicate"
    THROTTLED = "throttled"
    RETRY = "retry"
    AUTH = "auth"
    REJECT = "reject"
    SPLIT = "split"
    CONFIRM = "confirm"
    PLAIN = "plain"  # 415 or the like to a compressed body: the same again, uncompressed
    DOWN = "down"  # never connected: refused, unreachable, TLS or DNS failure
    CRASH = "crash"  # the relay itself ended while the attempt was under way
    UNSENT = "unsent"  # no request could be built of the batch: nothing was sent

    def __init__(self, word: str) -> None:
        """``accepted`` says that the platform has what it was sent, from now (``ok``) or before (``duplicate``)."""
        self.accepted = word in ("ok", "duplicate")  # an attribute, not a property: it is asked for every item


class NewCallback(NamedTuple):
    """One callback to accept. ``expires_s`` counts from acceptance."""

    platform: str
    payload: bytes
    key: str | None
    event: str | None
    lane: int
    expires_s: float
    idempotency_key: str | None
    content_type: str | None
    traceparent: str | None
    group: str
    body_bytes: int | None = None  # what it takes in a body, the envelope's item_bytes aside; None: its length
    dead_reason: str | None = None  # it cannot be delivered as it is: accepted, and dead from the start


class Accepted(NamedTuple):
    """The ids of accepted rows in their order, and which of them were there before."""

    ids: list[str]
    duplicates: frozenset[int]


UNROUTED = "_unrouted"
"""The reserved platform of callbacks that no route took; no platform of a configuration can have this name."""


class RoutedPost(NamedTuple):
    """One post that routes decided about: a row per target, all or none, under one idempotency key.

    Payload, ``key`` (as the client gave it) and event make two posts the same, not the rows: a repeat is answered with
    the first ids whatever the routes say by then. So a post that nothing takes may be a repeat all the same; it comes
    without rows.
    """

    rows: Sequence[NewCallback]  # without idempotency keys of their own
    payload: bytes
    key: str | None
    event: str | None
    idempotency_key: str | None
    dead_reason: str | None = None  # its rows are accepted as dead, for this reason


class AcceptedPosts(NamedTuple):
    """The ids by platform of each post in their order, and which posts were there before."""

    ids: list[dict[str, str]]
    duplicates: frozenset[int]


class Item(NamedTuple):
    """A callback inside a claimed batch."""

    seq: int
    id: str
    payload: bytes
    key: str | None
    event: str | None
    content_type: str | None
    accepted_at: float
    expires_at: float
    attempts: int  # requests that carried it before this one
    spent: int  # re-sends charged to its budget
    first_sent_at: float  # under its present budget; 0.0 when this is its first request
    maybe_applied: bool  # an earlier ambiguous attempt may have been applied


@dataclass(slots=True)
class Batch:
    """The callbacks of one request, frozen and recorded before its first byte is sent."""

    number: int
    id: str
    attempt: int  # n-th request of this membership, from 1
    attempt_id: int
    platform: str
    group: str
    items: list[Item]
    created_at: float
    root: int  # number of the batch it was split from, else its own
    probe: bool = False
    confirm: bool = False  # asks what became of its one item instead of sending it
    replayed: bool = False  # all its items died before and were sent again by a person


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing to claim now. ``at`` may be infinite: then only a change wakes the platform.

    ``missing`` is how many more callbacks would make a full batch, and so end a pace or linger wait early.
    """

    at: float
    reason: str  # idle | limit | pace | linger | retry | throttled | share | concurrency
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a platform would send now.

    With ``group`` None the groups take turns: of those with something due that may send, the one next after the group
    served last. A batch holds one group; "" is the group of a platform without groups, which ``closed`` and
    ``resuming`` never name.
    """

    platform: str
    group: str | None
    max_items: int
    max_bytes: int  # of the whole body before compression
    frame_bytes: int  # of an envelope with no items
    item_bytes: int  # the envelope adds per item
    linger_s: float
    turn: int  # counts this platform's batches: decides which lane leads
    probe: bool = False  # one batch to test an open breaker or a cooldown: no waiting for more
    closed: Mapping[str, float] = field(default_factory=dict)  # groups that take no turn before a time
    resuming: Mapping[str, bool] = field(default_factory=dict)  # their next one is a probe; of what was refused if True


class ItemVerdict(NamedTuple):
    """What an answer says of one item of its batch."""

    outcome: Outcome
    reason: str  # as ``Verdict.reason``
    message: str = ""  # the platform's own words about this item: for people, never for logs and labels
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer, or its absence, means for the items of its batch.

    ``items``, where there are any, has one verdict for each item of the batch in its order, and overrules ``outcome``.
    """

    outcome: Outcome
    ambiguous: bool  # the platform may have applied it, whatever the outcome is called
    reason: str  # short and stable: from fixed sets or the rule that matched, never from the payload
    wait_s: float | None = None  # how long the platform asks to be left alone, also where it accepted (nothing left)
    excerpt: str = ""  # the start of the answer, for people
    scope: str = "group"  # what a throttle stops: group | platform
    items: Sequence[ItemVerdict] = ()


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What is kept of an attempt."""

    outcome: Outcome
    ended_at: float  # the answer or failure was seen: the slot's way back starts here
    duration_s: float
    status: int | None = None
    reason: str = ""
    excerpt: str = ""  # the start of the answer, for people
    ambiguous: bool = False
    raw_bytes: int = 0
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Requeue:
    """Items that return to their places in the queue; they may be regrouped."""

    seqs: Sequence[int]
    due_at: float
    charge: bool  # spends one re-send of each item's budget
    reason: str
    maybe_applied: bool = False
    message: str = ""  # the platform's own words, kept with the callbacks for people


@dataclass(frozen=True, slots=True)
class Ending:
    """Items that will not be tried again without a person."""

    seqs: Sequence[int]
    state: State  # DEAD or EXPIRED
    reason: str
    maybe_applied: bool = False
    message: str = ""  # the platform's own words, kept with the callbacks for people


class Ended(NamedTuple):
    """Callbacks of one platform that ended otherwise than by an answer, together and for one reason."""

    platform: str
    state: State  # DEAD or EXPIRED
    reason: str
    callbacks: int


class Expired(NamedTuple):
    """What one step of expiring came to."""

    ended: Sequence[Ended]
    more: bool  # a step is bounded, and others may be over their time too
    next_at: float  # when the next one is due, infinite without any


class Stepped(NamedTuple):
    """What one step of an operation came to."""

    progress: dict[str, Any]
    ended: Sequence[Ended]


@dataclass(frozen=True, slots=True)
class Ask:
    """Items whose fate a read-back is to decide: each becomes a frozen batch of its own with ``confirm`` set."""

    seqs: Sequence[int]
    due_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Resend:
    """The same batch goes again: same membership, same id."""

    due_at: float
    charge: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """Everything one answer changes, committed at once. Each item of the batch is named in exactly one part."""

    batch: int
    attempt_id: int
    platform: str
    result: AttemptResult
    delivered: Sequence[int] = ()
    requeue: Sequence[Requeue] = ()
    endings: Sequence[Ending] = ()
    held: Sequence[int] = ()
    ask: Ask | None = None
    resend: Resend | None = None
    split: Sequence[Sequence[int]] = ()  # each part becomes a frozen batch of its own, due at once
    gate: dict[str, Any] | None = None  # the platform's gate as it now stands (policy.gate), to survive a restart;
    # its "groups" are the stops that changed, None for one that is over


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` requests in any ``window_s`` seconds."""

    limit: int
    window_s: float

    def __str__(self) -> str:
        """Return the rate as the configuration writes it."""
        return f"{self.limit}/{window_text(self.window_s)}"


def window_text(window_s: float) -> str:
    """Return a window as the configuration writes it: ``s``, ``min``, ``h``, ``day``, ``90s``, ``2678400s``."""
    names = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "day"}
    return names.get(window_s) or seconds_text(window_s)


def seconds_text(seconds: float) -> str:
    """Return seconds with their unit and without an exponent, to the microsecond: ``90s``, ``0.515s``."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True, slots=True)
class Quota:
    """One or more limits that hold together, private to a platform or shared by several.

    ``per_group``: each group has them to itself. ``group``: only this group's requests count, None for all of them.
    """

    name: str
    rates: tuple[Rate, ...]
    burst: int | None = None
    per_group: bool = False
    group: str | None = None


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """What the store must know of a platform: its quotas and what queueing itself depends on."""

    quotas: tuple[str, ...] = ()
    coalesce: bool = False
    block_on_dead: bool = False


@dataclass(frozen=True, slots=True)
class StoreRules:
    """The configuration as far as a store acts on it."""

    quotas: dict[str, Quota] = field(default_factory=dict)
    platforms: dict[str, PlatformRules] = field(default_factory=dict)
    keep_delivered_s: float = 7 * 86400.0
    keep_dead_s: float = 90 * 86400.0
    max_size_bytes: int | None = None  # None: no bound


@dataclass(frozen=True, slots=True)
class Filter:
    """Which callbacks a list or an operation means; empty fields match all.

    ``dropped``: dead letters whose payload a person deleted, and only these. Else state ``dead`` leaves them out,
    unless they are named by their ids: nothing is left to do about them.
    """

    platform: str | None = None
    state: str | None = None
    key: str | None = None
    event: str | None = None
    reason: str | None = None
    ids: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    dropped: bool = False
