"""The shared store: one Valkey or Redis behind the protocol of ``relay.store.base``.

Every host accepts and shows; what changes a platform is done by the host that owns it (``owned.py``) and refused by
the server to every other one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final

from relay.core.clock import Clock, elapsed_s
from relay.core.errors import StoreFailed
from relay.core.model import (
    Accepted,
    AcceptedPosts,
    Batch,
    Cancelled,
    ClaimRequest,
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
from relay.sealing.master_keys import KeySource
from relay.store.base import SHARED_ROWS_S, Reroute, Stepped, StoreEvents, no_route
from relay.store.held_keys import HeldKeys
from relay.store.history import MinuteHistory
from relay.store.journal import Journal
from relay.store.lending import Lending
from relay.store.redis.comparison_turns import SharedTurns
from relay.store.redis.moved.keeping import HistoryKeeping, OpenHistory
from relay.store.redis.read.sent_pages import sent_pages
from relay.store.redis.server.copied import copied_way
from relay.store.redis.server.fields import pack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.server.waking import OwnersCall, told
from relay.store.redis.wiring import Listeners, RedisParts
from relay.store.redis.write.settlement import packed_gate
from relay.store.sealing import Sealing
from relay.store.sent import SentCallback
from relay.store.survey import Surveys
from relay.store.transfer.history_file import HistoryFile
from relay.store.watched import WatchedStore
from relay.views.callback_view import CallbackView, ListedCallback
from relay.views.ledger import QueueTotals
from relay.views.operation_view import PLAIN, OperationOptions, OperationView
from relay.views.queue import QueueFacts, StoreSize

_LOOK_AGAIN_S: Final = 0.5
_FRESH_S: Final = 3.0  # a beat is answered every 3 s; a call that fails ends the freshness at once


class RedisStore(WatchedStore):
    """Implements ``relay.store.base.Store``; see there for what each method promises."""

    slowest_rows_s = SHARED_ROWS_S

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        *,
        events: StoreEvents | None = None,
        alone: bool = True,
        flags: bool = True,
        source: KeySource | None = None,
    ) -> None:
        """``alone``: no other host uses it. ``flags``: the server knows those of scripts. ``source``: of its keys."""
        super().__init__()
        self.clock = clock
        self.link = link
        self.keys = keys
        self._alone = alone
        self._events = events
        self._closed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._owners = OwnersCall(link, keys)
        listeners = Listeners(
            self._changed, self._released, self._committed, self._unopened, self._lost, self._anew, self._cut_off
        )
        self._parts = parts = RedisParts(link, keys, clock, alone=alone, flags=flags, source=source, told=listeners)
        self._tags, self._owned = parts.tags, parts.owned
        self._reader, self._standings, self._past = parts.reader, parts.standings, parts.past
        self._trail, self._receipts, self._cancelling = parts.trail, parts.receipts, parts.cancelling
        self._inbox, self._outbox, self._settlements = parts.inbox, parts.outbox, parts.settlements
        self._operations, self._upkeep = parts.operations, parts.upkeep
        self.history: MinuteHistory = parts.past
        self.sealing: Sealing = parts.sealing
        self.surveys: Surveys = parts.surveys
        self.held_keys: HeldKeys = parts.held_keys
        self.lending: Lending = parts.lending
        self.journal: Journal = parts.journal
        self.comparison_turns = SharedTurns(link, parts.owned)
        self._kept_here: HistoryKeeping | None = None

    async def keep_history(self, opens: OpenHistory) -> None:
        """Move what is pruned on the server into a file of this host; it is closed with the store."""
        self._kept_here = self._parts.history_of(opens, told=self._history_failed)
        await self._kept_here.open()

    @property
    def history_file(self) -> HistoryFile | None:
        """The file, where this host keeps one and can open it."""
        return None if self._kept_here is None else self._kept_here.file

    async def begin(self, *, flags: bool = True) -> None:
        """Read what platforms there are, and finish the bulks that a crash left; ``flags``: see the class."""
        self._parts.flags = flags
        await self._tags.load()
        await self._parts.data_keys.unlock()
        self.keys.hash_as(await copied_way(self.link, self.keys))
        if self._kept_here is not None:
            await self._kept_here.begin()
        if self._alone:
            await self._inbox.bulks.sweep(self._tags.names(), stale_s=0.0)

    def sent_pages(self, platform: str) -> AsyncIterator[list[SentCallback]]:
        """Yield pages of the callbacks of a platform, oldest first."""
        return sent_pages(self.link, self.keys, self._tags, self._parts.seals, platform)

    async def newest_time(self) -> float:
        """Return the newest time that any platform's numbers hold."""
        return await self._reader.newest_time()

    def spooled(self) -> Mapping[str, int]:
        """Return how many callbacks wait on this host because the store was away, by platform."""
        return {}

    def set_aside(self) -> int:
        """Return how many posts of this host's spool cannot be brought in."""
        return 0

    def _changed(self, platform: str, count: int) -> None:
        if count and not self._owned.owns(platform):
            self._owners.tell(platform, count)
        super()._changed(platform, count)

    def heard(self, text: str) -> None:
        """Take what another host told of new work; an empty text says that something may have been missed."""
        platform, count = told(text)
        if not platform and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_again(), name="another server")
        for name in (platform,) if platform else self._owned.owned():
            if self._owned.owns(name):
                self._changed(name, count)

    def _unopened(self, platform: str, ids: Sequence[str]) -> None:
        if self._events is not None:
            self._events.seal_broken(platform=platform, callbacks=ids)

    def _lost(self, platform: str, ids: Sequence[str]) -> None:
        if self._events is not None:
            self._events.callbacks_lost(platform=platform, callbacks=ids)

    def _anew(self, platform: str, attempts: int) -> None:
        if attempts and self._events is not None:
            self._events.server_replaced(platform=platform, attempts=attempts)
        if self._owned.owns(platform):
            self._changed(platform, 0)  # other callbacks are due there

    def _cut_off(self, platform: str, requests: int, callbacks: int) -> None:
        if self._events is not None:
            self._events.requests_cut_off(platform=platform, requests=requests, callbacks=callbacks)

    def _history_failed(self, error: Exception | None) -> None:
        if self._events is not None:
            self._events.history_failed(error=error)

    async def _look_again(self) -> None:
        """Make good what another server may lack, and count what cannot be; until it answers."""
        while not self._closed.is_set():
            try:
                for node in await self.link.each():
                    await node.do("PING")  # to meet the one that answers now
                await self._owned.last.write_anew()
                await self._parts.last_accepted.look()
                break
            except StoreFailed:
                await asyncio.sleep(_LOOK_AGAIN_S)

    def _committed(self, seconds: float, rows: int) -> None:
        if self._events is not None:
            self._events.store_committed(seconds=seconds, rows=rows)

    # OwnedPlatforms

    async def own(self, fences: Mapping[str, str], *, silent_s: Mapping[str, float], handed_over: bool = False) -> None:
        """Take platforms over under their fences; ``silent_s``: how long a former owner's request may still be out."""
        self._settlements.forget(fences)
        for platform in fences:
            await self._tags.name(platform)
        if await self._owned.own(fences, silent_s={} if handed_over else silent_s):
            self._released()
        await self._upkeep.finish_what_is_due(fences)
        self._taken()
        for platform in fences:
            self._changed(platform, 0)

    def disown(self, platforms: Iterable[str]) -> None:
        """Forget fences and slots of platforms at once."""
        self._owned.disown(platforms)

    def owned(self) -> frozenset[str]:
        """Return the platforms this host owns."""
        return self._owned.owned()

    # Inbox

    def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        """Queue ``rows`` durably, all or none."""
        return self._inbox.accept(rows)

    def accept_posts(self, posts: Sequence[RoutedPost]) -> "asyncio.Future[AcceptedPosts]":
        """Queue the rows of routed posts durably, all or none."""
        return self._inbox.accept_posts(posts)

    async def cancel(self, callback_id: str) -> Cancelled:
        """End a pending callback that is in no frozen batch as superseded."""
        await self._past.keep_now()
        done = await self._cancelling.cancel(callback_id)
        file = self.history_file
        if done.why == "unknown" and file is not None and await file.callback(callback_id):
            return Cancelled(why="final")
        return done

    async def cancel_key(self, platform: str, key: str) -> Cancelled:
        """Do so with all that is pending of an ordering key, or with nothing of it."""
        await self._past.keep_now()
        return await self._cancelling.cancel_key(platform, key)

    # Outbox

    async def claim(self, request: ClaimRequest) -> Batch | WaitUntil:
        """Take a slot and a batch, or say until when to wait."""
        return await self._outbox.claim(request)

    async def reserve(self, platform: str) -> Batch | WaitUntil:
        """Take a slot for a request without callbacks and record its attempt."""
        return await self._outbox.reserve(platform)

    async def settle(self, settlement: Settlement) -> None:
        """Carry out what an answer decided, once per attempt."""
        await self._past.keep_now()
        await self._settlements.settle(settlement)

    async def gates(self) -> Mapping[str, Kept]:
        """Return each platform's gate."""
        return await self._reader.gates()

    async def set_gate(self, platform: str, gate: Kept, *, deed: Record | None = None) -> None:
        """Keep a platform's gate outside a settle; its audit record is written before it, in another slot."""
        await self._trail.append(deed)
        await self._tags.name(platform)
        await self._owned.last.write(platform, [self._owned.call("gate", platform, pack(packed_gate(gate)))])

    async def set_quotas(self, platform: str, quotas: Sequence[Quota]) -> None:
        """Hold ``quotas`` on one platform beside the configured ones."""
        await self._owned.set_quotas(platform, quotas)

    async def retry_now(self, platform: str) -> int:
        """Make everything that waits for its retry time due now."""
        return await self._upkeep.retry_now(platform) if platform in self._tags.names() else 0

    # Ledger

    async def configure(self, rules: StoreRules) -> None:
        """Put rules in force; the only host of a store owns every platform in them."""
        for platform in rules.platforms:
            await self._tags.name(platform)
        self._owned.rules = rules
        if self._alone:
            fresh = {*rules.platforms, *self._tags.names()} - self._owned.owned()
            if fresh and await self._owned.own(dict.fromkeys(fresh, ""), silent_s={}):
                self._released()
        await self._owned.configure(rules)
        for platform, rule in rules.platforms.items():
            if not rule.block_on_dead:
                await self._upkeep.unblock(platform)
            self._changed(platform, 0)

    async def totals(self) -> dict[str, QueueTotals]:
        """Return the ledger."""
        return await self._standings.totals()

    async def platform_status(self) -> dict[str, QueueFacts]:
        """Return what each platform has, does and waits for."""
        configured = self._owned.rules.platforms
        found = {name: each.facts for name, each in (await self._standings.of(configured)).items()}
        shown = {name: facts for name, facts in found.items() if facts.accepted or name in configured}
        now = self.clock.now()
        for name, facts in shown.items():
            if facts.oldest_due_at is not None and facts.oldest_due_at <= now and self._owned.owns(name):
                self._changed(name, 0)  # whoever accepted it may have ended before it could say so
            facts.quotas = self._owned.slots.usage(name, now)
        return shown

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback with its attempts, or None."""
        return await self._parts.reading.callback(callback_id, payload=payload)

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first, and the cursor of the next page or None."""
        return await self._parts.reading.callbacks(wanted, cursor=cursor, limit=limit)

    async def batch_members(self, batch_id: str, *, limit: int) -> list[str]:
        """Return the ids of callbacks that a batch carried."""
        return await self._parts.reading.batch_members(batch_id, limit)

    async def start_operation(
        self,
        action: str,
        wanted: Filter,
        *,
        options: OperationOptions = PLAIN,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> OperationView:
        """Fix the matches of an operation and record it; what it names in the history file comes back for it."""
        if self._kept_here is not None:
            await self._kept_here.bring_back(action, wanted, reorder=options.reorder is True)
        return await self._forgotten_here(await self._operations.start(action, wanted, options, expect_count, deed))

    async def step_operation(self, number: int, limit: int, reroute: Reroute = no_route) -> Stepped:
        """Apply the operation to at most its next ``limit`` matches."""
        await self._past.keep_now()
        stepped = await self._operations.step(number, limit, reroute)
        return stepped._replace(progress=await self._forgotten_here(stepped.progress))

    async def _forgotten_here(self, operation: OperationView) -> OperationView:
        """Forget in the history of this host what an operation that is finished has forgotten on the server."""
        if self._kept_here is None or operation.action != "forget" or operation.finished_at is None:
            return operation
        await self._kept_here.catch_up()
        return await self._operations.view(operation.id) or operation

    async def operation(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        return await self._operations.view(number)

    async def open_operations(self) -> list[int]:
        """Return the operations that a restart must continue."""
        return await self._operations.open()

    async def expire(self) -> Expired:
        """End one step of the pending callbacks whose time is over."""
        return await self._upkeep.expire()

    async def prune(self) -> bool:
        """Delete one step of what need not be kept; return whether there may be more."""
        await self._trail.prune(self.clock.now() - self._owned.rules.keep_audit_s)
        await self._parts.drop_unused_keys()
        more = await self._upkeep.prune()
        return more if self._kept_here is None else await self._kept_here.step() or more

    async def audit(self, record: Record) -> None:
        """Record who changed or saw what."""
        await self._trail.append(record)

    async def ping(self) -> None:
        """Commit something small, unless the server has just answered; raises ``StoreFailed`` when the store cannot."""
        await self._past.keep_now()
        if elapsed_s() - self.link.answered_at > _FRESH_S:
            await self._reader.many([("PING",)])

    async def size(self) -> StoreSize:
        """Return how much of the server's memory is used, against ``store.max_size`` and its own bound."""
        found = await self.link.info("memory")
        used = int(found["used_memory"])
        bounds = [bound for bound in (self._owned.rules.max_size_bytes, int(found.get("maxmemory", 0))) if bound]
        most = min(bounds, default=0)
        fails = "" if self._kept_here is None else str(self._kept_here.failed or "")
        return StoreSize(
            used, max_bytes=most, usable_bytes=most, full=0 < most <= used, disk_bytes=used, history_fails=fails
        )

    async def ended(self) -> None:
        """Wait until the store is closed."""
        await self._closed.wait()

    async def close(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        if not self._closed.is_set():
            await self._inbox.close()
            await self._owners.close()
            if self._looking is not None:
                self._looking.cancel()
            self._closed.set()
            await self.link.close()
            if self._kept_here is not None:
                await self._kept_here.close()
