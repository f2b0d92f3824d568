"""What a store promises, as three small protocols; each caller depends on the one it uses.

* ``Inbox`` takes callbacks in (ingest).
* ``Outbox`` hands batches out and settles them (delivery).
* ``Ledger`` shows and changes what lies there (admin, upkeep).

A backend exists when it passes ``tests/store``. All methods may raise ``StoreFailed``; after it the effect is unknown
until the store has recovered, and repeating the call is safe (``accept`` with an idempotency key, ``settle`` by its
attempt id). Every write joins a group commit: it has taken effect durably when the awaitable returns.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from relay.core.clock import Clock, Leap
from relay.core.errors import StoreDamaged
from relay.core.model import (
    Accepted,
    AcceptedPosts,
    Batch,
    Cancelled,
    ClaimRequest,
    Ended,
    Expired,
    Filter,
    NewCallback,
    Quota,
    RoutedPost,
    StoreRules,
    WaitUntil,
)
from relay.core.raw import Kept, Record
from relay.core.settlement import Settlement
from relay.store.held_keys import HeldKeys
from relay.store.history import MinuteHistory
from relay.store.journal import Journal
from relay.store.lending import Lending
from relay.store.sealing import Sealing
from relay.store.survey import Surveys
from relay.views.callback_view import CallbackView, ListedCallback
from relay.views.ledger import QueueTotals
from relay.views.operation_view import PLAIN, OperationOptions, OperationView
from relay.views.queue import QueueFacts, StoreSize

Reroute = Callable[[NewCallback], Sequence[NewCallback] | str]
"""Asks the routes again: an unrouted callback to the rows of its targets, or to the reason why it stays.

A store may call it on its writing thread, inside a transaction: it must be pure and quick.
"""


def no_route(_unrouted: NewCallback) -> str:
    """Leave every unrouted callback where it is: the ``Reroute`` of a relay without routes."""
    return "no_route"


# Rows a second that a store commits at least, unless it hangs. Measured on two cores: 69,000 into a file of one's own,
# 10,000 through a server that syncs each write. A slow or busy machine does a fifth of that.
OWN_ROWS_S: Final = 14_000
SHARED_ROWS_S: Final = 2_000


class Inbox(Protocol):
    """Takes callbacks in."""

    @property
    def slowest_rows_s(self) -> int:
        """Rows a second that it commits at least: a request of 8,000 rows gets 4 s at 2,000 a second."""
        ...

    def accept(self, rows: Sequence[NewCallback]) -> Awaitable[Accepted]:
        """Queue ``rows`` durably, all or none; resolves after the commit that holds them.

        Repeats of an idempotency key with the same body answer the first id and queue nothing. Raises
        ``IdempotencyConflict`` (nothing accepted), ``StoreFull``, ``StoreFailed``.
        """
        ...

    def accept_posts(self, posts: Sequence[RoutedPost]) -> Awaitable[AcceptedPosts]:
        """Queue the rows of routed ``posts`` durably, all or none, as ``accept`` does.

        A post's idempotency key is its own, apart from those of any platform, and is remembered as long as one of its
        callbacks is kept. Raises ``NoTarget`` for a post without rows that is no repeat (nothing accepted), else as
        ``accept``; an index is that of the post.
        """
        ...

    def cancel(self, callback_id: str) -> Awaitable[Cancelled]:
        """End a pending callback that is in no frozen batch as superseded, with the reason ``cancelled``.

        One that is held may have been applied; that is kept. Of one in a frozen batch nothing is done.
        """
        ...

    def cancel_key(self, platform: str, key: str) -> Awaitable[Cancelled]:
        """Do so with all that is pending of an ordering key; nothing is done when one of them is in a frozen batch."""
        ...


class Outbox(Protocol):
    """Hands batches out and settles them."""

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Reserve a slot, freeze a batch and record its attempt in one commit, or say until when to wait."""
        ...

    async def reserve(self, platform: str) -> Batch | WaitUntil:
        """Take a slot of the platform's limits for a request that carries no callback, and record its attempt.

        The batch that is returned is empty, is settled like any other, and is never sent again.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Commit what an attempt came to and start the slot's way back. A second call for the attempt does nothing."""
        ...

    async def gates(self) -> Mapping[str, Kept]:
        """Return each platform's gate as last settled or set, for a restart to continue from."""
        ...

    async def set_gate(self, platform: str, gate: Kept, *, deed: Record | None = None) -> None:
        """Keep a platform's gate (pause, cooldown, breaker) outside a settle, with the audit record ``deed``."""
        ...

    async def set_quotas(self, platform: str, quotas: Sequence[Quota]) -> None:
        """Hold ``quotas`` on one platform beside those of ``Ledger.configure``, in place of those set before.

        They are the limits that were learned, declared or set while running: private to the platform, under names
        that no configured quota has. They are strict over what was sent, stay over a reload and end with their
        platform or this process. Nothing of other platforms changes. A platform that is not configured is ignored:
        a reload took it away meanwhile.
        """
        ...

    async def retry_now(self, platform: str) -> int:
        """Make everything that waits for its retry time due now; return how many callbacks that is.

        That is what was put back after a request, and the items of batches that wait for their re-send or read-back.
        Nothing else changes: attempts, budget, place, lane and expiry stay, a frozen batch stays what it is, and a
        request under way is not touched. What settled before the call is met; what settles during it, perhaps.
        """
        ...

    def watch(self, changed: Callable[[str, int], None]) -> None:
        """Call ``changed(platform, count)`` on the loop after a commit that gave the platform something to do.

        ``count`` is the number of callbacks accepted or freed for it; 0 means that only time or slots changed.
        """
        ...


class Stepped(NamedTuple):
    """The result of one step of an operation."""

    progress: OperationView
    ended: Sequence[Ended]


class Ledger(Protocol):
    """Shows and changes what lies in the store. Reads see the last commit and never hold up a write."""

    clock: Clock

    async def configure(self, rules: StoreRules) -> None:
        """Put quotas and platform rules in force; a changed quota's slots are rebuilt from recorded attempts.

        What ``Outbox.set_quotas`` put beside them stays for the platforms that stay.
        """
        ...

    async def totals(self) -> dict[str, QueueTotals]:
        """Return the totals of each platform that accepted anything, of one instant."""
        ...

    async def platform_status(self) -> dict[str, QueueFacts]:
        """Return the queue of each platform that is configured or ever accepted something.

        ``oldest_due_at``: whatever has become of its attempts, the callback was accepted then, or retried by a person.
        """
        ...

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback with its attempts, or None; with ``payload`` also its bytes (None: deleted)."""
        ...

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first, and the cursor of the next page or None."""
        ...

    async def batch_members(self, batch_id: str, *, limit: int) -> list[str]:
        """Return the ids of up to ``limit`` callbacks that a batch carried; some may be pruned, none for no batch."""
        ...

    async def start_operation(
        self,
        action: str,
        wanted: Filter,
        *,
        options: OperationOptions = PLAIN,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> OperationView:
        """Fix the matches of an operation and record it, with the audit record ``deed``. Raises ``CountMismatch``."""
        ...

    async def step_operation(self, number: int, limit: int, reroute: Reroute = no_route) -> Stepped:
        """Apply the operation to at most its next ``limit`` matches; return its progress and what that ended.

        No item ends while its batch is frozen: what ``drop`` and ``expire`` meet in one is set aside (``waiting`` of
        the progress) until the batch is settled. Only a batch that waits for its re-send, is no read-back and holds
        nothing but matches is given up at once.

        ``retry`` of a callback of the platform ``UNROUTED`` asks ``reroute``: the rows it returns are accepted and the
        original is superseded by the first of them, in one commit; a reason leaves it dead and is reported as skipped.
        """
        ...

    def watch_operations(self, released: Callable[[], None]) -> None:
        """Call ``released()`` on the loop after a commit that lets an operation go on which waited for a batch."""
        ...

    def watch_taken(self, taken: Callable[[], None]) -> None:
        """Call ``taken()`` on the loop when platforms have become this host's: what is overdue there is its to do."""
        ...

    async def operation(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        ...

    async def open_operations(self) -> list[int]:
        """Return the operations that a restart must continue."""
        ...

    async def expire(self) -> Expired:
        """End one step of the pending callbacks whose time is over, none of which is in a frozen batch.

        A batch that waits for its re-send ends with them when all its items are over their time.
        """
        ...

    async def prune(self) -> bool:
        """Delete one small step of what need not be kept; return whether there may be more."""
        ...

    async def audit(self, record: Record) -> None:
        """Record who changed or saw what, chained to the record before it (``relay.privacy.chain``)."""
        ...

    async def ping(self) -> None:
        """Go once through the writer and commit; raises ``StoreFailed`` when the store cannot commit."""
        ...

    async def size(self) -> StoreSize:
        """Return how much room is used.

        A post is refused when what is used would pass what posts may use (the rest is a reserve) and nothing may go
        early; it is ``full`` while that is so.
        """
        ...

    async def close(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        ...


class StoreEvents(Protocol):
    """What a store tells of itself, on the loop; ``telemetry.events.Events`` is one."""

    def store_committed(self, *, seconds: float, rows: int) -> None:
        """A group commit took so long and held so many rows."""
        ...

    def store_failed(self, *, error: BaseException) -> None:
        """Nothing can be committed from now on."""
        ...

    def store_begun(self, *, path: str) -> None:
        """There was no store yet: this one is new, and empty."""
        ...

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None:
        """Who sent for the platform before ended while these were under way; their batches go again as they are."""
        ...

    def clock_ahead(self, *, seconds: float) -> None:
        """At a reboot the wall clock was so far ahead of the last time in the store."""
        ...

    def store_exchanged(self, *, path: str) -> None:
        """A restore or a salvage was cut off while it replaced the file; what was left to do is done."""
        ...

    def store_damaged(self, *, error: StoreDamaged) -> None:
        """What was asked of the store met a page that is not what was written to it."""
        ...

    def spool_set_aside(self, *, posts: Mapping[int, str]) -> None:
        """These posts of the spool cannot be brought in, each for its reason; those behind them go on."""
        ...

    def seal_broken(self, *, platform: str, callbacks: Sequence[str]) -> None:
        """The payloads of these callbacks do not open. They were not sent and are held."""
        ...

    def callbacks_lost(self, *, platform: str, callbacks: Sequence[str]) -> None:
        """These had been accepted, and the server that took the place of another one does not have them."""
        ...

    def server_replaced(self, *, platform: str, attempts: int) -> None:
        """Another server answers; it has again what it lacked of the owner's last writes, so many attempts."""
        ...

    def history_failed(self, *, error: Exception | None) -> None:
        """The history file of this host cannot be written, for this reason; None: it can be again."""
        ...

    def store_recovered(self, *, seconds: float) -> None:
        """Commits work again, so long after the failure."""
        ...


class Store(Inbox, Outbox, Ledger, Protocol):
    """A backend is all three, and keeps a history and counts."""

    leap: Leap | None  # of the wall clock over the last reboot, where it is doubted

    @property
    def history(self) -> MinuteHistory:
        """What happened in each minute."""
        ...

    @property
    def journal(self) -> Journal:
        """What people did."""
        ...

    @property
    def lending(self) -> Lending:
        """Hands slots out to others."""
        ...

    @property
    def held_keys(self) -> HeldKeys:
        """Ordering keys that an operator holds back."""
        ...

    @property
    def surveys(self) -> Surveys:
        """Callbacks counted by what they have in common."""
        ...

    @property
    def sealing(self) -> Sealing:
        """Its keys, and what is still to be sealed."""
        ...

    async def ended(self) -> None:
        """Wait until the store is closed. Raises ``StoreEnded`` when it can commit no more in this process."""
        ...
