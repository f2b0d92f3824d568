"""What people do to many callbacks: matches are fixed at each platform and worked off there by its owner."""

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from relay.core.clock import Clock
from relay.core.errors import CountMismatch, StoreError, StoreFull
from relay.core.model import UNROUTED, Ended, Filter, NewCallback, State
from relay.core.raw import Record
from relay.sealing.codec import NOBODY, Column
from relay.store.base import Reroute, Stepped
from relay.store.redis.owned import OwnedPlatforms
from relay.store.redis.read.ledger import RedisReader
from relay.store.redis.read.operation_head import OperationHead, filter_kept, read_head
from relay.store.redis.sealed.keeping import RedisSealing
from relay.store.redis.sealed.resending import SealedResends
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import StoredRow, pairs_of, read_row
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerLink
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.write.bulk import BulkPart, Bulks
from relay.store.redis.write.packing import packed_row
from relay.store.redis.write.receipts import RedisReceipts
from relay.store.redis.write.trail import RedisTrail
from relay.views.moments import Instant, moment
from relay.views.operation_view import OperationOptions, OperationView, filter_view

_STEP: Final = 100
_PUSH: Final = 1000
_LISTED: Final = 100
_VERDICTS: Final = ("delivered", "retry", "dead")
_PENDING, _DEAD, _EXPIRED = int(State.PENDING), int(State.DEAD), int(State.EXPIRED)
_MEANT: Final[Mapping[str, Callable[[StoredRow], bool]]] = {
    "retry": lambda row: row.state in (_DEAD, _EXPIRED),
    "drop": lambda row: row.state in (_PENDING, _DEAD),
    "expire": lambda row: row.state == _PENDING,
    "resolve": lambda row: row.held,
    "forget": lambda row: True,
    "resend": lambda row: row.state in (int(State.DELIVERED), _DEAD, _EXPIRED),
}
_SETS: Final = {"retry": ("dl", "dr", "ex"), "resolve": ("hd",)}


class RedisOperations:
    """Starts operations and carries them out step by step."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        owned: OwnedPlatforms,
        reader: RedisReader,
        bulks: Bulks,
        trail: RedisTrail,
        *,
        changed: Callable[[str, int], None],
        released: Callable[[], None],
        receipts: RedisReceipts,
        seals: RedisSeals,
        sealing: RedisSealing,
        resends: SealedResends,
    ) -> None:
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._owned = owned
        self._reader = reader
        self._bulks = bulks
        self._trail = trail
        self._changed = changed
        self._released = released
        self._receipts = receipts
        self._seals = seals
        self._sealing = sealing
        self._resends = resends
        self.history_kept = False  # hosts have files in which they forget too

    async def start(
        self,
        action: str,
        wanted: Filter,
        options: OperationOptions,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> OperationView:
        """Fix the matches, oldest first. Raises ``CountMismatch``, and ``ValueError`` for an unknown action."""
        if action not in _MEANT:
            raise ValueError(f"unknown action {action!r}: one of {', '.join(_MEANT)}")
        if action == "resolve" and options.verdict not in _VERDICTS:
            raise ValueError(f'resolve needs "as": one of {", ".join(_VERDICTS)}')
        found = {name: await self._matching(name, action, wanted) for name in await self._reader.meant(wanted)}
        found = {name: seqs for name, seqs in found.items() if seqs}
        matched = sum(map(len, found.values()))
        if expect_count is not None and expect_count != matched:
            raise CountMismatch(expect_count, matched)
        number = int(await self._link.do("HINCRBY", self._keys.shared("m"), "operations", 1))
        for name, seqs in found.items():
            for first in range(0, len(seqs), _PUSH):
                part = seqs[first : first + _PUSH]
                turns, meant = self._keys.of(name, f"op:{number}"), self._keys.of(name, f"opm:{number}")
                await self._reader.many([("RPUSH", turns, *part), ("SADD", meant, *part)])
        now = self._clock.now()
        kept = {name: value for name, value in asdict(wanted).items() if value}
        hashes: dict[str, str] = {}
        if action == "forget" and wanted.key is not None:
            kept["key"] = await self._unmention(wanted.key)
            hashes = {name: self._keys.key_hash(name, wanted.key) for name in await self._reader.meant(wanted)}
        head = OperationHead(
            number=number,
            action=action,
            wanted=kept,
            options=options,
            matched=matched,
            platforms=list(found),
            started_at=now,
            finished_at=None if matched else now,
            hashes=hashes,
        )
        await self._trail.append(deed, field=str(number), value=await self._packed(head))
        if not matched:
            await self._forget_days(head)  # the data keys may be there still, of callbacks that were pruned
        return await self._shown(head)

    async def _unmention(self, key: str) -> str:
        """Take an ordering key out of the filters of earlier operations; return what stands for it."""
        mark = self._sealing.mark(key)
        for head in await self._heads():
            if head.wanted.get("key") == key:
                head.wanted["key"] = mark
                await self._save(head)
        return mark

    async def _matching(self, platform: str, action: str, wanted: Filter) -> list[int]:
        meant, sets = _MEANT[action], _SETS.get(action)
        if action == "forget" and wanted.until is not None:
            # What was numbered before that time and accepted after it too: it is sealed with a data key that goes.
            meant, wanted = partial(_before, wanted.until), dataclasses.replace(wanted, until=None)
        found = [row.seq async for row in self._reader.rows(platform, wanted, sets=sets) if meant(row)]
        return sorted(found)

    async def _save(self, head: OperationHead) -> None:
        await self._reader.many([("HSET", self._keys.shared("ops"), head.number, await self._packed(head))])

    async def _packed(self, head: OperationHead) -> bytes:
        """Return an operation as it is kept: the ordering key in its filter is sealed."""
        wanted = head.wanted
        if "key" in wanted:
            key = await self._seals.own_text(Column.FILTER, NOBODY, head.number, wanted["key"])
            wanted = {**wanted, "key": key}
        return msgspec.json.encode(replace(head, wanted=wanted))

    async def _opened(self, packed: bytes) -> OperationHead:
        head = read_head(packed)
        if "key" in head.wanted:
            key = await self._seals.shown(Column.FILTER, NOBODY, head.number, head.wanted["key"])
            head.wanted["key"] = key
        return head

    async def head(self, number: int) -> OperationHead | None:
        """Return what was asked, or None."""
        found = await self._link.do("HGET", self._keys.shared("ops"), number)
        return None if found is None else await self._opened(found)

    async def view(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        head = await self.head(number)
        return None if head is None else await self._shown(head)

    async def open(self) -> list[int]:
        """Return the operations that are not done."""
        return sorted(head.number for head in await self._heads() if head.finished_at is None)

    async def after(self, number: int) -> list[OperationHead]:
        """Return what was asked by operations behind ``number``, oldest first."""
        return sorted((head for head in await self._heads() if head.number > number), key=lambda head: head.number)

    async def forgotten_beside(self, number: int, host: str, many: int) -> None:
        """Keep of how many callbacks in a host's history file an operation was applied to; the first word counts."""
        await self._reader.many([("HSETNX", self._beside(number), host, many)])

    def _beside(self, number: int) -> str:
        return self._keys.shared(f"forgot:{number}")

    async def every(self) -> list[OperationView]:
        """Return the progress of all operations, oldest first."""
        heads = sorted(await self._heads(), key=lambda head: head.number)
        return [await self._shown(head) for head in heads]

    async def _heads(self) -> list[OperationHead]:
        found = await self._link.do("HVALS", self._keys.shared("ops"))
        return [await self._opened(each) for each in found]

    async def step(self, number: int, limit: int, reroute: Reroute) -> Stepped:
        """Apply an operation to its next ``limit`` matches here. Raises ``StoreError`` when there is none such."""
        head = await self.head(number)
        if head is None:
            raise StoreError(f"there is no operation {number}")
        ended: Counter[tuple[str, int, str]] = Counter()
        left = min(limit, _STEP)
        for platform in head.platforms:
            if left <= 0 or not self._owned.owns(platform):
                continue
            if platform == UNROUTED and head.action == "retry":
                left -= await self._one_by_one(
                    head, platform, left, lambda seq: self._route_again(head.number, seq, reroute, ended)
                )
            elif head.action == "resend" and self._seals.on:
                resend = partial(self._resend, head, platform)
                left -= await self._one_by_one(head, platform, left, resend)
            else:
                left -= await self._operate(head, platform, left, ended)
        if head.finished_at is None and not any(await self._left(head)):
            await self._forget_days(head)
            head.finished_at = self._clock.now()
            await self._save(head)
        told = [Ended(platform, State(state), reason, many) for (platform, state, reason), many in ended.items()]
        return Stepped(await self._shown(head), told)

    async def _forget_days(self, head: OperationHead) -> None:
        if head.action == "forget":
            wanted = filter_kept(head.wanted)
            meant = None if wanted.platform is None else await self._seals.data_keys.number_of(wanted.platform)
            await self._sealing.forget_days(wanted, meant, asked_at=head.started_at)

    async def _left(self, head: OperationHead) -> list[int]:
        commands = [("SCARD", self._keys.of(name, f"opm:{head.number}")) for name in head.platforms]
        return await self._reader.many(commands)

    async def _operate(
        self, head: OperationHead, platform: str, most: int, ended: Counter[tuple[str, int, str]]
    ) -> int:
        number = head.number
        turns = (self._keys.of(platform, f"{name}:{number}") for name in ("op", "ops"))
        waiting: int = sum(await self._reader.many([("LLEN", key) for key in turns]))
        if not waiting:
            return 0
        rule = self._owned.rules.platforms.get(platform)
        options = head.options
        verdict = options.verdict if isinstance(options.verdict, str) else ""
        call = self._owned.call(
            "operate",
            platform,
            number,
            head.action,
            most,
            int(options.reorder is True),
            verdict,
            int(rule is not None and rule.block_on_dead),
            repr(options.expires_s) if options.expires_s else "",
            options.run or "-",
            "1" if rule is not None and rule.coalesce else "",
        )
        endings, freed, released, noted = await self._link.one(call, durable=True)
        for state, reason, many in endings:
            ended[platform, state, reason.decode()] += many
        if freed:
            self._changed(platform, freed)
        if released:
            self._released()
        await self._receipts.tell(platform, noted)
        return min(most, waiting)

    # Routing again

    async def _one_by_one(
        self, head: OperationHead, platform: str, most: int, act: Callable[[int], Awaitable[str | None]]
    ) -> int:
        """Apply an operation to its next matches, one after the other; ``act`` returns why one is skipped, or None."""
        turns, meant, progress, failed = (
            self._keys.of(platform, f"{name}:{head.number}") for name in ("op", "opm", "opp", "opf")
        )
        for done in range(most):
            first = await self._link.do("LINDEX", turns, 0)
            if first is None:
                return done
            seq = int(first)
            skipped = await act(seq)
            commands: list[Sequence[Any]] = [("LPOP", turns), ("SREM", meant, seq)]
            if skipped is None:
                commands.append(("HINCRBY", progress, "done", 1))
            else:
                commands += [("HINCRBY", progress, f"skip:{skipped}", 1), ("RPUSH", failed, seq)]
            await self._reader.many(commands)
        return most

    async def _resend(self, head: OperationHead, platform: str, seq: int) -> str | None:
        skipped, noted = await self._resends.resend(head.number, platform, seq, head.options)
        await self._receipts.tell(platform, noted)
        self._changed(platform, 0)
        return skipped

    async def _route_again(
        self, number: int, seq: int, reroute: Reroute, ended: Counter[tuple[str, int, str]]
    ) -> str | None:
        packed, body = await self._reader.many([("HGET", self._keys.of(UNROUTED, name), seq) for name in ("r", "b")])
        if packed is None:
            return "gone"
        row = read_row(seq, packed)
        await self._seals.open_rows(UNROUTED, [row])
        (body,) = await self._seals.open_bodies(UNROUTED, [row], [body])
        if row.state not in (_DEAD, _EXPIRED):
            return "state"
        if body is None:
            return "no_payload"
        found = reroute(_unrouted(row, body))
        if isinstance(found, str):
            return found
        parts: dict[str, BulkPart] = {}
        for place, new in enumerate(found):
            await self._tags.name(new.platform)
            part = parts.setdefault(new.platform, BulkPart(new.platform))
            part.add(packed_row(self._keys, new), new.payload, place)
        try:
            firsts = await self._bulks.accept_named(f"op{number}.{seq}", list(parts.values()))
        except StoreFull:
            return "store_full"
        first = found[0].platform
        newer = self._tags.id_of(first, firsts[first])
        noted = await self._link.one(self._owned.call("supersede", UNROUTED, seq, newer, "rerouted", seq), durable=True)
        await self._receipts.tell(UNROUTED, noted)
        await self._bulks.forget(f"op{number}.{seq}")
        ended.update((new.platform, _DEAD, new.dead_reason) for new in found if new.dead_reason is not None)
        return None

    async def _shown(self, head: OperationHead) -> OperationView:
        commands: list[Sequence[Any]] = []
        for name in head.platforms:
            of = [self._keys.of(name, f"{part}:{head.number}") for part in ("opp", "opw", "opf")]
            commands += [("HGETALL", of[0]), ("HLEN", of[1]), ("LRANGE", of[2], 0, _LISTED - 1)]
        answers = await self._reader.many(commands)
        done, waiting = 0, 0
        skipped: Counter[str] = Counter()
        failed: list[str] = []
        for place, name in enumerate(head.platforms):
            progress, held, ids = answers[3 * place : 3 * place + 3]
            for field, value in pairs_of(progress):
                if field == b"done":
                    done += int(value)
                else:
                    skipped[field.decode().removeprefix("skip:")] += int(value)
            waiting += held
            failed += await self._reader.told_ids(name, list(map(int, ids)))
        beside = await self._link.do("HVALS", self._beside(head.number)) if head.action == "forget" else []
        return OperationView(
            id=head.number,
            action=head.action,
            state="running" if head.finished_at is None else "done",
            matched=head.matched,
            done=done,
            skipped=dict(skipped),
            failed=failed[:_LISTED],
            history=sum(map(int, beside)) if beside or (head.action == "forget" and self.history_kept) else UNSET,
            waiting=waiting,
            started_at=Instant(head.started_at),
            finished_at=moment(head.finished_at),
            filter=filter_view(filter_kept(head.wanted)),
            options=head.options,
        )


def _before(until: float, row: StoredRow) -> bool:
    return row.accepted_at < until or row.seq < until * 1e6


def _unrouted(row: StoredRow, body: bytes) -> NewCallback:
    return NewCallback(
        UNROUTED,
        body,
        row.key,
        row.event,
        row.priority,
        row.expires_s,
        None,
        row.content_type,
        row.traceparent,
        row.group,
        reference=row.reference,
    )
