"""The words of SPEC 2 as types: callbacks, their states, batches, answers and limits.

Plain data; nothing here does I/O. Times are seconds on the relay clock (``core.clock``), sizes are bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from relay.core.calendar import Calendar
from relay.core.receipts import ReceiptRules


class State(IntEnum):
    """The state of a callback. All but ``PENDING`` are final, unless an operator retries."""

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
    """The kind of work that a callback is, in the order of packing. Each kind keeps a share of the slots."""

    HIGH = 0
    NORMAL = 1
    RETRY = 2
    REPLAY = 3
    LOW = 4


class Purpose(IntEnum):
    """What a request was for, as the slot that it used is shown."""

    FIRST = 0  # at least one of its callbacks was never sent before
    RESEND = 1  # all of them were
    REPLAY = 2  # all of them were dead, and a person sent them again
    PROBE = 3  # it asked whether the platform is back
    READ_BACK = 4  # it asked what became of one callback
    EXTERNAL = 5  # it was not the relay's: somebody else took the slot


class Outcome(StrEnum):
    """What an attempt came to. The first eight are those of SPEC 6; the others say why there was no usable answer."""

    OK = "ok"
    DUPLICATE = "duplicate"
    THROTTLED = "throttled"
    RETRY = "retry"
    AUTH = "auth"
    REJECT = "reject"
    SPLIT = "split"
    CONFIRM = "confirm"
    PLAIN = "plain"  # 415 or the like to a compressed body: it is sent again uncompressed
    DOWN = "down"  # never connected: refused, unreachable, TLS or DNS failure
    CRASH = "crash"  # the relay itself ended while the attempt was under way
    UNSENT = "unsent"  # no request could be built of the batch: nothing was sent

    def __init__(self, word: str) -> None:
        """``accepted`` says that the platform has what it was sent, from now (``ok``) or before (``duplicate``)."""
        # An attribute and not a property, because it is read for every item
        self.accepted = word in ("ok", "duplicate")


class NewCallback(NamedTuple):
    """One callback to accept. ``expires_s`` counts from acceptance, or from when it may go, where that is later."""

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
    # What it takes in a body, without the envelope's item_bytes; None: the length of the payload
    body_bytes: int | None = None
    dead_reason: str | None = None  # why it is accepted as a dead letter: it could never be delivered
    reference: str | None = None  # the order center's own text, which comes back in a receipt
    delay_s: float = 0.0  # it must not go earlier than this after acceptance
    points: int | None = None  # what it costs, where its platform counts points


class Accepted(NamedTuple):
    """The ids of accepted rows in their order, and which of them were accepted earlier."""

    ids: list[str]
    duplicates: frozenset[int]


UNROUTED = "_unrouted"
"""The reserved platform of callbacks that no route took; no platform of a configuration can have this name."""


class RoutedPost(NamedTuple):
    """One post after routing: a row for each target, accepted all or none, under one idempotency key.

    Two posts are the same if payload, ``key`` (as the client gave it) and event are. The rows do not matter: a repeat
    is answered with the first ids, whatever the routes say by then. So a post that no route takes may still be a
    repeat; it has no rows.
    """

    rows: Sequence[NewCallback]  # without idempotency keys of their own
    payload: bytes
    key: str | None
    event: str | None
    idempotency_key: str | None
    dead_reason: str | None = None  # its rows are accepted as dead, for this reason


class AcceptedPosts(NamedTuple):
    """For each post in its order the ids by platform, and which posts were accepted earlier."""

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
    first_sent_at: float  # within its present budget; 0.0: this is its first request
    maybe_applied: bool  # an earlier ambiguous attempt may have been applied
    not_before: float = 0.0  # it must not have gone earlier; 0.0: it might at once, or a person sent it again


@dataclass(slots=True)
class Batch:
    """The callbacks of one request, frozen and recorded before its first byte is sent."""

    number: int
    id: str
    attempt: int  # 1 for the first request with these members, 2 for the next
    attempt_id: int
    platform: str
    group: str
    items: list[Item]
    created_at: float
    root: int  # the number of the batch it was split from; its own if it was not split
    probe: bool = False
    confirm: bool = False  # a read-back: asks what became of its one item and sends nothing
    replayed: bool = False  # all its items were dead before, and a person sent them again

    @property
    def purpose(self) -> Purpose:
        """What its request is for."""
        if self.confirm:
            return Purpose.READ_BACK
        if self.probe:
            return Purpose.PROBE
        if self.replayed:
            return Purpose.REPLAY
        sent_before = self.attempt > 1 or all(item.attempts for item in self.items)
        return Purpose.RESEND if sent_before else Purpose.FIRST


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing can be claimed now. ``at`` may be infinite: then only a change wakes the platform.

    ``missing`` more callbacks would make a full batch, which ends a wait for pace or linger early.
    """

    at: float
    reason: str  # idle | limit | pace | linger | retry | throttled | share | concurrency | owner
    missing: int = 0


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a platform asks to claim now.

    With ``group`` None the groups take turns. Of the groups that may send and have something due, the first one after
    the group served last is taken. A batch holds one group. A platform without groups has the group "", which
    ``closed`` and ``resuming`` never name.
    """

    platform: str
    group: str | None
    max_items: int
    max_bytes: int  # of the whole body before compression
    frame_bytes: int  # of an envelope with no items
    item_bytes: int  # the envelope adds per item
    linger_s: float
    turn: int  # the number of this platform's batches so far, which decides the leading lane
    probe: bool = False  # one batch to test an open breaker or a cooldown; it does not wait for more callbacks
    closed: Mapping[str, float] = field(default_factory=dict)  # groups that take no turn before this time
    # Groups whose next batch is a probe; if True, of what was refused
    resuming: Mapping[str, bool] = field(default_factory=dict)


class ItemVerdict(NamedTuple):
    """What an answer says about one item of its batch."""

    outcome: Outcome
    reason: str  # as ``Verdict.reason``
    message: str = ""  # the platform's own words about this item: for people, never for logs and labels
    wait_s: float | None = None
    code: str | None = None  # that the rule met, which the reason holds too


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer, or the lack of one, means for the items of its batch.

    ``items`` is empty or has one verdict for each item of the batch, in its order; then it overrules ``outcome``.
    """

    outcome: Outcome
    ambiguous: bool  # the platform may have applied it, whatever the outcome is called
    reason: str  # short and stable: from fixed sets or the rule that matched, never from the payload
    # How long the platform asks to be left alone; an accepted answer may ask too (no requests left)
    wait_s: float | None = None
    excerpt: str = ""  # the start of the answer, for people
    scope: str = "group"  # what a throttle stops: group | platform
    items: Sequence[ItemVerdict] = ()
    code: str | None = None  # that the rule met, which the reason holds too: 10060004 of errcode=10060004


class Ended(NamedTuple):
    """Callbacks of one platform that ended without an answer, together and for one reason."""

    platform: str
    state: State  # DEAD or EXPIRED
    reason: str
    callbacks: int


class Cancelled(NamedTuple):
    """What the order center took back: all that it asked for, or nothing and why."""

    ids: Sequence[str] = ()  # of what ended, in their order
    why: str = ""  # unknown: there is no such callback; final: it has ended; in_flight: some of it is in a frozen batch


class Expired(NamedTuple):
    """The result of one step of expiry."""

    ended: Sequence[Ended]
    more: bool  # the step was full: more callbacks may be due
    next_at: float  # when the next one is due; infinite if there is none


class Weight(NamedTuple):
    """What one request counts in each kind of window."""

    requests: int = 1
    items: int = 0
    bytes: int = 0  # of the body as it is sent; before the answer, at the most
    points: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` requests in any ``window_s`` seconds; or so many items, bytes or points.

    With ``calendar`` they are counted from the beginning of each period, which ``window_s`` is the longest length of.
    """

    limit: int
    window_s: float
    unit: str = "requests"  # a field of ``Weight``
    calendar: Calendar | None = None

    @property
    def plain(self) -> bool:
        """Whether it counts requests in any window."""
        return self.unit == "requests" and self.calendar is None

    def __str__(self) -> str:
        """Return the rate as the configuration writes it."""
        what = "" if self.unit == "requests" else f" {self.unit}"
        return f"{self.limit}{what}/{self.calendar or window_text(self.window_s)}"


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

    ``per_group``: each group has limits of its own. ``group``: only requests of this group count; None: all requests.
    ``reserve``: of each rate, in their order, how many requests are kept for others than the relay; empty: none.
    """

    name: str
    rates: tuple[Rate, ...]
    burst: int | None = None
    per_group: bool = False
    group: str | None = None
    reserve: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """What the store must know about a platform: its quotas and its rules for the queue."""

    quotas: tuple[str, ...] = ()
    coalesce: bool = False
    block_on_dead: bool = False
    quiet_s: float = 0.0  # with coalesce: a callback waits until its key was quiet for so long,
    gather_s: float = 0.0  # at most so long from the first that it stands for
    share: int = 1  # of a shared quota: so many of its requests for one of another platform
    group_share: Mapping[str, int] = field(default_factory=dict)  # the same among its groups, where it is not 1


@dataclass(frozen=True, slots=True)
class StoreRules:
    """The part of the configuration that a store needs."""

    quotas: dict[str, Quota] = field(default_factory=dict)
    platforms: dict[str, PlatformRules] = field(default_factory=dict)
    keep_delivered_s: float = 7 * 86400.0
    keep_dead_s: float = 90 * 86400.0
    keep_history_s: float | None = None  # of what the two take from a server; None: they delete it
    keep_samples_s: float = 7 * 86400.0
    keep_audit_s: float = 3 * 365 * 86400.0
    max_size_bytes: int | None = None  # None: no bound
    receipts: ReceiptRules | None = None  # None: nobody is told


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects the callbacks of a list or an operation; an empty field matches all.

    ``dropped`` selects only dead letters whose payload a person deleted. Without it the state ``dead`` leaves these
    out, unless ``ids`` names them: nothing is left to do about them.
    """

    platform: str | None = None
    state: str | None = None
    key: str | None = None
    event: str | None = None
    reason: str | None = None
    code: str | None = None
    ids: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    dropped: bool = False
