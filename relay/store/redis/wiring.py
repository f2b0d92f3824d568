"""Wires the parts of a shared store."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.core.clock import Clock
from relay.core.model import Batch
from relay.sealing.master_keys import KeySource
from relay.store.redis.last_accepted import LastAccepted
from relay.store.redis.moved.forgetting import ForgettingOn
from relay.store.redis.moved.keeping import HistoryKeeping, OpenHistory
from relay.store.redis.moved.moving import Moving
from relay.store.redis.moved.reading_on import ReadingOn
from relay.store.redis.moved.returning import Returning
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.read.history import RedisHistory
from relay.store.redis.read.ledger import RedisReader
from relay.store.redis.read.pages import Pages
from relay.store.redis.read.standing import Standings
from relay.store.redis.read.survey import RedisSurveys
from relay.store.redis.sealed.data_keys import SharedDataKeys
from relay.store.redis.sealed.keeping import RedisSealing
from relay.store.redis.sealed.resending import SealedResends
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.server.looks import Looks
from relay.store.redis.server.scripts import Script, platform_script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.transfer.attempts_out import AttemptsOut
from relay.store.redis.transfer.callbacks_out import CallbacksOut
from relay.store.redis.transfer.rows import RowsToServer
from relay.store.redis.write.cancelling import RedisCancelling
from relay.store.redis.write.held_keys import RedisHeldKeys
from relay.store.redis.write.inbox import RedisInbox
from relay.store.redis.write.journal import RedisJournal
from relay.store.redis.write.lending import RedisLending
from relay.store.redis.write.operations import RedisOperations
from relay.store.redis.write.outbox import RedisOutbox
from relay.store.redis.write.prune import RedisUpkeep
from relay.store.redis.write.receipts import RedisReceipts
from relay.store.redis.write.settlement import RedisSettlements
from relay.store.redis.write.trail import RedisTrail


class Listeners(NamedTuple):
    """Who is told what happened in the store."""

    changed: Callable[[str, int], None]  # so many callbacks of a platform became claimable
    released: Callable[[], None]  # operations may go on
    committed: Callable[[float, int], None]  # a pipeline took so many seconds and held so many rows
    unopened: Callable[[str, Sequence[str]], None]  # these callbacks of a platform do not open
    lost: Callable[[str, list[str]], None]  # a failover lost these, which were accepted here
    written_anew: Callable[
        [str, int], None
    ]  # another server answers; so many attempts of a platform were missing there
    cut_off: Callable[[str, int, int], None]  # the owner before ended amid so many requests, with so many callbacks


class RedisParts:
    """The parts, each with what it needs of the others."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        *,
        alone: bool,
        flags: bool,
        source: KeySource | None,
        told: Listeners,
    ) -> None:
        """``flags``: the server knows flags of scripts (7.0)."""
        self.flags = flags
        self._link, self._keys, self._clock, self._source = link, keys, clock, source
        changed, released, script = told.changed, told.released, self.script
        self.tags = tags = PlatformTags(link, keys)
        self.owned = owned = OwnedPlatforms(link, keys, clock, script=script, alone=alone)
        owned.last.told = told.written_anew
        owned.cut_off = told.cut_off
        self.last_accepted = LastAccepted(link, keys, tags, lost=told.lost)
        self.data_keys = SharedDataKeys(link, keys, tags, source)
        self.seals = seals = RedisSeals(self.data_keys, link, keys, clock, script=script)
        self.reader = RedisReader(link, keys, tags, clock, seals)
        self.pages = Pages(link, keys, tags, self.reader)
        self.reading = ReadingOn(self.reader, self.pages)
        looks = Looks(link, keys)
        self.standings = Standings(looks, tags, seals)
        self.past = RedisHistory(self.reader, self.standings, keys, clock)
        self.surveys = RedisSurveys(self.reader, tags)
        self.trail = RedisTrail(link, keys, clock)
        self.sealing = RedisSealing(self.data_keys, link, keys, self.trail, clock)
        self.held_keys = RedisHeldKeys(keys, owned, self.trail, changed=changed)
        self.receipts = RedisReceipts(
            link, keys, tags, clock, script=script, seals=seals, rules=lambda: owned.rules.receipts, accepted=changed
        )
        noted = self.receipts.tell
        self.cancelling = RedisCancelling(
            link, keys, tags, clock, script=script, find=self.reader.find, changed=changed, noted=noted
        )
        self.inbox = RedisInbox(
            link, keys, tags, clock, script=script, coalescing=self.coalescing, accepted=changed,
            committed=told.committed, receipts=self.receipts, seals=seals, minute=self.past, last=self.last_accepted,
        )  # fmt: skip
        self.outbox = RedisOutbox(link, keys, tags, clock, owned, seals=seals, changed=changed)
        self.settlements = RedisSettlements(
            link, keys, tags, owned, attempts=self.outbox.open, changed=changed, released=released, noted=noted,
            seals=seals, clock=clock,
        )  # fmt: skip

        async def set_aside(batch: Batch, broken: Sequence[int], *, fresh: bool) -> None:
            await self.settlements.set_aside(batch, broken, fresh=fresh)
            told.unopened(batch.platform, [item.id for item in batch.items if item.seq in broken])

        self.outbox.set_aside = set_aside
        owned.resume = self.settlements.resume
        self.operations = RedisOperations(
            link, keys, tags, clock, owned, self.reader, self.inbox.bulks, self.trail, changed=changed,
            released=released, receipts=self.receipts, seals=seals, sealing=self.sealing,
            resends=SealedResends(link, keys, owned, self.reader, self.inbox.bulks, seals),
        )  # fmt: skip
        self.lending = RedisLending(tags, clock, owned, changed=changed)
        self.journal = RedisJournal(self.trail, self.operations)
        self.upkeep = RedisUpkeep(
            link, keys, clock, owned, self.inbox.bulks, self.cancelling, looks, names=self._mine, all_names=tags.names,
            changed=changed, released=released, noted=noted,
        )  # fmt: skip

    def history_of(self, opens: OpenHistory, *, told: Callable[[Exception | None], None]) -> HistoryKeeping:
        """Move what is pruned into the file that ``opens`` opens from now on, and show what lies there."""
        link, keys, clock, owned, batch_ids = self._link, self._keys, self._clock, self.owned, self.reader.batch_ids
        callbacks = CallbacksOut(self.reader.many, keys, self.tags, self.seals, batch_ids)
        moving = Moving(link.do, keys, clock, callbacks, AttemptsOut(link.do, keys, self.seals, batch_ids))
        forgetting = ForgettingOn(link, keys, clock, self.operations)
        rows = RowsToServer(self.seals, keys, self.tags)
        returning = Returning(
            link, keys, self.tags, clock, rows, script=self.script, there=self.pages.there, rules=lambda: owned.rules
        )
        kept = HistoryKeeping(
            opens,
            self.reading,
            moving,
            forgetting,
            returning,
            keys,
            source=self._source,
            rules=lambda: owned.rules,
            told=told,
        )
        self.upkeep.copy, self.upkeep.copied = kept.copy, kept.copied
        self.operations.history_kept = True
        self.sealing.rotated = kept.rotate
        before = self.sealing.keys_changed

        async def keys_changed(source: KeySource) -> None:
            await before(source)
            await kept.use(source)

        self.sealing.keys_changed = keys_changed
        return kept

    def script(self, name: str) -> Script:
        """Return a script of a platform."""
        return platform_script(name, flags=self.flags)

    def _mine(self) -> list[str]:
        return [name for name in self.tags.names() if self.owned.owns(name)]

    def coalescing(self, platform: str) -> str:
        """Return how ``adding.lua`` is told of a platform's ``coalesce``."""
        rule = self.owned.rules.platforms.get(platform)
        if rule is None or not rule.coalesce:
            return ""
        return f"{rule.quiet_s!r} {rule.gather_s!r}" if rule.quiet_s else "1"

    async def drop_unused_keys(self) -> None:
        """Destroy data keys of days of which nothing is kept, of the platforms this host owns."""
        if self.seals.on:
            names = self._mine()
            await self.sealing.drop_unused([(name, await self.data_keys.number_of(name)) for name in names])
