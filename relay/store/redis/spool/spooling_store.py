"""The shared store on a host that keeps posts in a spool while the server is away, and shows them as pending."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace

from relay.core.clock import Clock, elapsed_s
from relay.core.errors import StoreAway
from relay.core.model import Accepted, AcceptedPosts, Cancelled, NewCallback, RoutedPost, StoreRules
from relay.sealing.master_keys import KeySource
from relay.store.base import StoreEvents
from relay.store.redis.backend import RedisStore
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.spool.spool_file import SpoolFile
from relay.store.redis.spool.spooling import Spooling
from relay.views.callback_view import CallbackView
from relay.views.ledger import NO_TOTALS, QueueTotals
from relay.views.live import LastTold, LiveFacts
from relay.views.queue import QueueFacts, StoreSize


class SpoolingStore(RedisStore):
    """A ``RedisStore`` whose posts need the server only sooner or later; all else needs it as before."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        file: SpoolFile,
        *,
        events: StoreEvents | None = None,
        alone: bool = True,
        source: KeySource | None = None,
    ) -> None:
        super().__init__(link, keys, clock, events=events, alone=alone, source=source)
        self._parts.sealing.keys_changed = file.use
        self.reach: Callable[[], Awaitable[None]] = self._answers  # makes the store usable, where it is not yet
        self._reached = False
        self._away_at = self._failing_at = 0.0
        self._told_queues: tuple[float | None, Mapping[str, QueueFacts]] = None, {}
        self._told_totals: tuple[float | None, Mapping[str, QueueTotals]] = None, {}
        self._file = file
        file.tell = self._told_aside
        self._spool = Spooling(
            self._inbox,
            file,
            link,
            keys,
            self._tags,
            clock,
            script=self._parts.script,
            coalescing=self._parts.coalescing,
            accepted=self._changed,
            receipts=self._receipts,
            seals=self._parts.seals,
            reach=self._again,
            told=self._told_away,
            told_bug=self._told_bug,
        )

    async def _answers(self) -> None:
        await self.link.do("PING")

    async def _again(self) -> None:
        """See that the server answers; one that was not there when this host started is examined first."""
        if self._reached:
            await self._answers()
        else:
            await self.reach()
            await self.configure(self._owned.rules)

    def _told_away(self, away: bool) -> None:
        if away:
            self._away_at = elapsed_s()
        if self._events is None:
            return
        if away:
            self._events.store_failed(error=StoreAway("the store is away; posts go to the spool"))
        else:
            self._events.store_recovered(seconds=elapsed_s() - self._away_at)

    def _told_bug(self, bug: BaseException | None) -> None:
        """Tell of a bug for which nothing leaves the spool, or with None that it is past."""
        if self._events is None:
            return
        if bug is None:
            self._events.store_recovered(seconds=elapsed_s() - self._failing_at)
        else:
            self._failing_at = elapsed_s()
            self._events.store_failed(error=bug)

    def _told_aside(self, posts: Mapping[int, str]) -> None:
        if self._events is not None:
            self._events.spool_set_aside(posts=posts)

    async def begin(self, *, flags: bool = True) -> None:
        """Begin with the server there."""
        await super().begin(flags=flags)
        await self._file.keep_secret(self.keys.secret)
        await self._file.keep_way(self.keys.way)
        self._spool.blind = False
        self._reached = True
        if not self._spool.away:
            self._spool.begin(away=False)

    def begin_away(self) -> None:
        """Begin without the server: posts go to the spool until it is reached."""
        secret = self._file.seal.secret
        self._spool.blind = self._file.seal.on and secret is None
        self.keys.secret = secret or b""
        self.keys.hash_as(self._file.way)
        self._spool.begin(away=True)

    def spooled(self) -> Mapping[str, int]:
        """Return how many callbacks wait on this host because the store was away, by platform."""
        return dict(self._file.waiting)

    def set_aside(self) -> int:
        """Return how many posts lie in the spool of this host and cannot be brought in."""
        return len(self._file.aside.posts)

    def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        """Queue ``rows`` durably, all or none, in the store or in the spool."""
        return self._spool.accept(rows)

    def accept_posts(self, posts: Sequence[RoutedPost]) -> "asyncio.Future[AcceptedPosts]":
        """Queue the rows of routed posts durably, all or none, in the store or in the spool."""
        return self._spool.accept_posts(posts)

    async def configure(self, rules: StoreRules) -> None:
        """Put rules in force, as soon as the server is reached; one that is lost meanwhile is examined anew."""
        self._owned.rules = rules
        if self._reached:
            try:
                await super().configure(rules)
            except StoreAway:
                self._reached = False
                self._spool.went_away()

    async def platform_status(self) -> dict[str, QueueFacts]:
        """Return what each platform has, does and waits for; it is remembered for when the server is away."""
        self._see_that_it_was_reached()
        found = await super().platform_status()
        self._told_queues = self.clock.now(), found
        return found

    async def totals(self) -> dict[str, QueueTotals]:
        """Return the ledger, with what waits in the spool of this host as pending."""
        self._see_that_it_was_reached()
        found = await super().totals()
        self._told_totals = self.clock.now(), found
        return self._with_spooled(found)

    def _see_that_it_was_reached(self) -> None:
        if not self._reached:  # what the store holds is not known, and the spool alone is no ledger
            raise StoreAway("the store has not answered since this host started", sent=False)

    def _with_spooled(self, told: Mapping[str, QueueTotals]) -> dict[str, QueueTotals]:
        found = dict(told)
        for name, many in self.spooled().items():
            known = found.get(name, NO_TOTALS)
            found[name] = replace(known, accepted=known.accepted + many, pending=known.pending + many)
        return found

    async def last_told(self, live: Mapping[str, LiveFacts]) -> LastTold | None:
        """Return what the server told last, with what waits in the spool and ``live``; None while it is there."""
        if not self._spool.away:
            try:
                await self._answers()
            except StoreAway:
                self._spool.went_away()
            else:
                return None
        away_since = self.clock.now() - (elapsed_s() - self._away_at)
        queues, totals = self._told_queues, self._told_totals
        return LastTold(away_since, *queues, totals[0], self._with_spooled(totals[1]), live)

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback, or None; one that waits in the spool is shown also while the server is away."""
        return await self._spool.shown(callback_id) or await super().callback(callback_id, payload=payload)

    async def cancel(self, callback_id: str) -> Cancelled:
        """End a pending callback; one that waits in the spool can be taken back when the store is there."""
        if await self._spool.shown(callback_id) is not None:
            raise StoreAway("it waits in the spool until the store is back", sent=False)
        return await super().cancel(callback_id)

    async def ping(self) -> None:
        """Commit something small; raises ``StoreFailed`` when neither the store nor the spool can."""
        if not self._spool.away:
            try:
                return await super().ping()
            except StoreAway:
                self._spool.went_away()
        return await self._file.check()

    async def size(self) -> StoreSize:
        """Return how much of the server's memory is used; while it is away, of the spool."""
        if self._spool.away:
            return self._spool.size()
        return replace(await super().size(), spool=self.spooled(), set_aside=self.set_aside())

    async def close(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        if not self._closed.is_set():
            await self._spool.close()
        await super().close()
