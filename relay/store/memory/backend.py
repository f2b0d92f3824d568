"""A store in plain dicts: the whole protocol, no durability.

The simulator and tests run on it; it says in few words what a backend must do, and ``tests/store`` holds it and the
others to the same. Everything happens synchronously inside the call, on the loop.
"""

import asyncio
import copy
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from relay.core.clock import Clock
from relay.core.errors import IdempotencyConflict, NoTarget, StoreFull
from relay.core.ids import decode_id
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
    PlatformRules,
    Quota,
    RoutedPost,
    State,
    StoreRules,
    WaitUntil,
)
from relay.core.raw import Kept, Record
from relay.core.settlement import Settlement
from relay.store.base import OWN_ROWS_S, Reroute, Stepped, no_route
from relay.store.held_keys import HeldKeys
from relay.store.history import MinuteHistory
from relay.store.journal import Journal
from relay.store.lending import Lending
from relay.store.memory.held_keys import MemoryHeldKeys
from relay.store.memory.history import MemoryHistory
from relay.store.memory.inbox import MemoryInbox
from relay.store.memory.journal import MemoryJournal
from relay.store.memory.ledger import Views
from relay.store.memory.lending import MemoryLending
from relay.store.memory.operations import MemoryOperations
from relay.store.memory.outbox import Batches
from relay.store.memory.receipts import MemoryReceipts
from relay.store.memory.rows import Row, Shelf
from relay.store.memory.survey import MemorySurveys
from relay.store.memory.trail import Trail
from relay.store.quota_lines import Sent
from relay.store.sealing import Sealing
from relay.store.slots import Slots
from relay.store.survey import Surveys
from relay.store.unsealed import Unsealed
from relay.store.watched import WatchedStore
from relay.views.callback_view import CallbackView, ListedCallback
from relay.views.ledger import QueueTotals
from relay.views.operation_view import PLAIN, OperationOptions, OperationView
from relay.views.queue import QueueFacts, StoreSize

# A day's window may be configured later and must find the attempts it has to count.
_KEEP_ATTEMPTS_S = 86400.0
_PRUNE_STEP = 500


class MemoryStore(WatchedStore):
    """Implements ``relay.store.base.Store``; see there for what each method promises."""

    slowest_rows_s = OWN_ROWS_S

    def __init__(self, *, clock: Clock, tag: int = 0) -> None:
        super().__init__()
        self.clock = clock
        self._tag = tag
        self._rules = StoreRules()
        self._shelf = Shelf()
        self._slots = Slots()
        self._batches = Batches(self._shelf, self._slots, tag=tag)
        self._accepts = MemoryInbox(self._shelf, self._batches, rules=lambda: self._rules, tag=tag)
        self._gates: dict[str, Kept] = {}
        self._past = MemoryHistory(self._shelf, clock)
        self.history: MinuteHistory = self._past
        self.sealing: Sealing = Unsealed("a store in memory")
        self.surveys: Surveys = MemorySurveys(self._shelf)
        self._shelf.before_change = self._past.keep_totals
        self._views = Views(self._shelf, self._batches, self._slots)
        self._operations = MemoryOperations(self._shelf, self._batches, self._platform_rules, self._accepts.enqueue_all)
        self.held_keys: HeldKeys = MemoryHeldKeys(self._shelf, self._did)
        self._receipts = MemoryReceipts(rules=lambda: self._rules, enqueue=self._accepts.enqueue)
        self._shelf.ended_or_held = self._receipts.note
        self._lends = MemoryLending(self._slots, clock, changed=self._notify)
        self.lending: Lending = self._lends
        self._trail = Trail()
        self.journal: Journal = MemoryJournal(self._trail, self._operations)

    def _platform_rules(self, platform: str) -> PlatformRules:
        return self._rules.platforms.get(platform) or PlatformRules()

    def _did(self, deed: Record | None) -> None:
        self._trail.append(deed, self.clock.now())
        self._notify()

    def _notify(self) -> None:
        self._receipts.write(self.clock.now())
        changes = self._shelf.drain_freed()
        for platform in self._slots.drain_wakes():
            changes.setdefault(platform, 0)
        for platform, count in changes.items():
            self._changed(platform, count)
        if self._operations.drain_released():
            self._released()

    def _sent(self, platforms: frozenset[str], since: float) -> Iterable[Sent]:
        yield from self._batches.kept.sent(platforms, since)
        yield from self._lends.sent(since)

    # Inbox

    def accept(self, rows: Sequence[NewCallback]) -> asyncio.Future[Accepted]:
        """Queue ``rows``, all or none."""
        done: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(self._accepts.accept(rows, self.clock.now()))
            self._notify()
        except (IdempotencyConflict, StoreFull) as refusal:
            done.set_exception(refusal)
        return done

    def accept_posts(self, posts: Sequence[RoutedPost]) -> asyncio.Future[AcceptedPosts]:
        """Queue the rows of routed posts, all or none."""
        done: asyncio.Future[AcceptedPosts] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(self._accepts.accept_posts(posts, self.clock.now()))
            self._notify()
        except (IdempotencyConflict, NoTarget, StoreFull) as refusal:
            done.set_exception(refusal)
        return done

    async def cancel(self, callback_id: str) -> Cancelled:
        """End a pending callback that is in no frozen batch as superseded."""
        row = self._shelf.rows.get(decode_id(callback_id, self._tag) or 0)
        if row is None:
            return Cancelled(why="unknown")
        return self._cancelled([row]) if row.state is State.PENDING else Cancelled(why="final")

    async def cancel_key(self, platform: str, key: str) -> Cancelled:
        """Do so with all that is pending of an ordering key, or with nothing of it."""
        return self._cancelled(self._shelf.pending_of(platform, key))

    def _cancelled(self, rows: Sequence[Row]) -> Cancelled:
        if any(row.frozen for row in rows):
            return Cancelled(why="in_flight")
        for row in rows:
            self._shelf.finish(row, State.SUPERSEDED, "cancelled", self.clock.now())
        self._notify()
        return Cancelled([row.id for row in rows])

    # Outbox

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Take a slot and a batch, or say until when to wait."""
        claimed = self._batches.claim(request, self.clock.now())
        self._notify()
        return claimed

    async def reserve(self, platform: str) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks."""
        reserved = self._batches.reserve(platform, self.clock.now())
        self._notify()
        return reserved

    async def settle(self, settlement: Settlement) -> None:
        """Carry out what an answer decided, once per attempt."""
        blocks = self._platform_rules(settlement.platform).block_on_dead
        if not self._batches.settle(settlement, self.clock.now(), blocks=blocks):
            return
        if settlement.gate is not None:
            self._keep_gate(settlement.platform, settlement.gate)
        self._operations.settled(settlement.batch)
        self._notify()

    async def gates(self) -> Mapping[str, Kept]:
        """Return a copy of each platform's gate."""
        return copy.deepcopy(self._gates)

    async def set_gate(self, platform: str, gate: Kept, *, deed: Record | None = None) -> None:
        """Keep a platform's gate."""
        self._keep_gate(platform, gate)
        self._trail.append(deed, self.clock.now())

    def _keep_gate(self, platform: str, gate: Kept) -> None:
        """Keep a gate, and of its groups' stops those it names; None is one that is over."""
        stops = {**self._gates.get(platform, {}).get("groups", {}), **gate.get("groups", {})}
        stops = {group: stop for group, stop in stops.items() if stop is not None}
        kept = {name: value for name, value in gate.items() if name != "groups"}
        self._gates[platform] = copy.deepcopy({**kept, "groups": stops} if stops else kept)

    async def set_quotas(self, platform: str, quotas: Sequence[Quota]) -> None:
        """Hold ``quotas`` on one platform beside the configured ones."""
        self._slots.set_quotas(platform, quotas, self._sent, self.clock.now())

    async def retry_now(self, platform: str) -> int:
        """Make everything that waits for its retry time due now."""
        now = self.clock.now()
        brought = self._batches.bring_forward(platform, now) + self._shelf.bring_forward(platform, now)
        self._notify()
        return brought

    # Ledger

    async def configure(self, rules: StoreRules) -> None:
        """Put rules in force and let every platform look again."""
        self._slots.configure(rules, self._sent, self.clock.now())
        self._rules = rules
        for platform, rule in rules.platforms.items():
            if not rule.block_on_dead:
                self._shelf.unblock_platform(platform)
            self._shelf.freed.setdefault(platform, 0)
        self._notify()

    async def totals(self) -> dict[str, QueueTotals]:
        """Return the ledger."""
        return self._views.totals()

    def pending(self, platform: str) -> int:
        """Return how many callbacks of a platform are pending, from the totals alone: cheap enough to sample."""
        totals = self._shelf.totals.get(platform, {"accepted": 0})
        return 2 * totals["accepted"] - sum(totals.values())

    async def platform_status(self) -> dict[str, QueueFacts]:
        """Return what each platform has and waits for."""
        return self._views.platform_status(sorted(self._rules.platforms), self.clock.now())

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback with its attempts."""
        return self._views.callback(callback_id, self._tag, payload=payload)

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first."""
        return self._views.callbacks(wanted, cursor, limit)

    async def batch_members(self, batch_id: str, *, limit: int) -> list[str]:
        """Return the ids of callbacks that a batch carried."""
        return self._views.batch_members(batch_id, limit)

    async def start_operation(
        self,
        action: str,
        wanted: Filter,
        *,
        options: OperationOptions = PLAIN,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> OperationView:
        """Fix the matches of an operation."""
        started = self._operations.start(action, wanted, options, expect_count, self.clock.now())
        self._trail.append(deed, self.clock.now())
        return started

    async def step_operation(self, number: int, limit: int, reroute: Reroute = no_route) -> Stepped:
        """Apply an operation to its next matches."""
        stepped = self._operations.step(number, limit, self.clock.now(), reroute)
        self._notify()
        return stepped

    async def operation(self, number: int) -> OperationView | None:
        """Return an operation's progress."""
        return self._operations.progress(number)

    async def open_operations(self) -> list[int]:
        """Return the operations that are not done."""
        return self._operations.open()

    async def expire(self) -> Expired:
        """End what is past its time, except frozen and held rows."""
        now = self.clock.now()
        ended: Counter[str] = Counter()
        heap, rows = self._shelf.expiries, self._shelf.rows
        while heap:
            expires_at, seq = heap[0]
            row = rows.get(seq)
            live = row is not None and row.state is State.PENDING and row.expires_at == expires_at
            if live and expires_at > now:
                break
            heapq.heappop(heap)
            if live and row is not None and row.frozen:
                batch = row.frozen
                if count := self._batches.expire(batch, now):
                    ended[row.platform] += count
                    self._operations.settled(batch)
            elif live and row is not None and not row.held:
                self._shelf.finish(row, State.EXPIRED, "expired", now)
                ended[row.platform] += 1
        self._notify()
        reported = [Ended(platform, State.EXPIRED, "expired", count) for platform, count in ended.items()]
        return Expired(reported, False, heap[0][0] if heap else math.inf)

    async def prune(self) -> bool:
        """Delete up to 500 rows and attempts that need not be kept any more."""
        now = self.clock.now()
        keeps = (self._rules.keep_delivered_s, self._rules.keep_dead_s)
        budget = _PRUNE_STEP
        for ended, keep_s in zip(self._shelf.ended, keeps, strict=True):
            while budget and ended and ended[0][0] + keep_s <= now:
                self._accepts.remove_ended(*ended.popleft())
                budget -= 1
        keep_s = max(self._slots.longest_window_s, _KEEP_ATTEMPTS_S)
        budget -= self._batches.kept.prune(now - keep_s, budget)
        self._lends.forget(now - keep_s)
        self._past.forget(now - self._rules.keep_samples_s)
        self._trail.prune(now - self._rules.keep_audit_s, now)
        self._notify()
        return budget == 0

    async def audit(self, record: Record) -> None:
        """Record who changed or saw what."""
        self._trail.append(record, self.clock.now())

    async def ping(self) -> None:
        """Keep the minute; memory always commits."""
        self._past.keep_totals()

    async def size(self) -> StoreSize:
        """Return payload bytes; there are no pages."""
        used = self._shelf.used_bytes
        most = self._rules.max_size_bytes or 0
        return StoreSize(used, max_bytes=most, usable_bytes=most, full=0 < most <= used, disk_bytes=used)

    async def ended(self) -> None:
        """Wait for ever: nothing in it can end."""
        await asyncio.Future()

    async def close(self) -> None:
        """Do nothing: what memory holds ends with the process."""
