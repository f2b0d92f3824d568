"""Receipts in the shared store: noted by the script that ends a callback, queued in another slot, each exactly once.

1. A script that ends or holds a callback writes a numbered note beside it (``rc``), in the same step.
2. The host that ran it reads the notes and queues their receipts. ``tell.lua`` keeps the number of the last note that
   it queued of each platform, so a note that two hosts bring, or one brings again after a crash, is queued once.
3. The notes go. Those that a crash or an outage left are found by the owner of the platform, when it takes it over and
   at each look for what is over its time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from msgspec import UNSET

from relay.core.clock import Clock
from relay.core.errors import StoreError
from relay.core.ids import encode_id
from relay.core.model import State
from relay.core.receipts import HELD, OCCASIONS, RECEIPTS, ReceiptRules
from relay.sealing.codec import Column
from relay.store.receipts import Receipt, receipt_row, shift_s
from relay.store.redis.sealed.row_seals import RedisSeals
from relay.store.redis.server.fields import pack, unpack
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script
from relay.store.redis.server.tags import PlatformTags
from relay.store.redis.write.packing import packed_row
from relay.views.moments import instant_text

_STEP: Final = 100
_SIGNS: Final = {HELD: "h"} | {state.word: str(int(state)) for state in State if state.word in OCCASIONS}
_WORDS: Final = {sign: word for word, sign in _SIGNS.items()}
_LEFT_OVER: Final = ReceiptRules(on=frozenset())  # of notes that were written before receipts were taken out


def occasions(rules: ReceiptRules | None) -> str:
    """Return how the scripts are told of what receipts are wanted of."""
    return "" if rules is None else "".join(sorted(_SIGNS[word] for word in rules.on))


class RedisReceipts:
    """Queues the receipts of what has ended."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        tags: PlatformTags,
        clock: Clock,
        *,
        script: Callable[[str], Script],
        seals: RedisSeals,
        rules: Callable[[], ReceiptRules | None],
        accepted: Callable[[str, int], None],
    ) -> None:
        """``accepted(platform, count)`` is told what became claimable."""
        self._link = link
        self._keys = keys
        self._tags = tags
        self._clock = clock
        self._script = script
        self._seals = seals
        self._rules = rules
        self._accepted = accepted
        self._telling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._due: set[str] = set()

    def kept_key(self, idempotency_key: str | None) -> str | None:
        """Return what is kept of an idempotency key beside its hash: itself, where receipts will name it."""
        return idempotency_key if self._rules() is not None else None

    async def tell(self, platform: str, noted: int = 1) -> None:
        """Queue the receipts of a platform's notes, if there are any.

        The notes are durable. So a store that is away now is no error here: they are queued by the next look.
        """
        if not noted:
            return
        self._due.add(platform)
        async with self._telling[platform]:
            if platform in self._due:  # else a call that began later has told all
                self._due.discard(platform)
                with suppress(StoreError):
                    await self._queue(platform)

    async def _queue(self, platform: str) -> None:
        notes = self._keys.of(platform, "rc")
        found: list[Any] = []
        while not found or len(found) == _STEP:
            found = await self._link.do("ZRANGE", notes, 0, _STEP - 1)
            if not found:
                return
            read = [unpack(note) for note in found]
            await self._tags.name(RECEIPTS)
            tag, rules, now = await self._tags.name(platform), self._rules() or _LEFT_OVER, self._clock.now()
            ahead_s = shift_s(now)
            number = await self._seals.data_keys.number_of(platform)
            rows = [
                receipt_row(_receipt(platform, tag, await self._opened(number, note), ahead_s), rules)
                for _, note in read
            ]
            numbers = [number for number, _ in read]
            packed, bodies = [packed_row(self._keys, row) for row in rows], [row.payload for row in rows]
            await self._seals.seal(RECEIPTS, packed, bodies)
            args = (repr(now), platform, pack(numbers), pack(packed))
            call = ServerCall(self._script("tell"), self._keys.pair(RECEIPTS), (*args, *bodies))
            freed = await self._link.one(call, durable=True)
            await self._link.do("ZREMRANGEBYSCORE", notes, "-inf", numbers[-1])
            if freed:
                self._accepted(RECEIPTS, freed)

    async def _opened(self, number: int, note: list[Any]) -> list[Any]:
        """Return a note with its texts as they were posted."""
        seq, *words, key, event, trace, reference, idempotency_key, alias = note
        shown, seq = self._seals.shown, int(seq)
        key = await shown(Column.KEY, number, seq, key)
        reference = await shown(Column.REFERENCE, number, seq, reference)
        idempotency_key = await shown(Column.IDEMPOTENCY_KEY, number, seq, idempotency_key)
        return [seq, *words, key, event, trace, reference, idempotency_key, alias]


def _receipt(platform: str, tag: int, note: list[Any], ahead_s: float) -> Receipt:
    seq, sign, at, reason, code, attempts, maybe, key, event, trace, reference, idempotency_key, alias = note
    return Receipt(
        id=alias or encode_id(int(seq), tag),
        platform=platform,
        key=key or None,
        event=event or None,
        idempotency_key=idempotency_key or None,
        traceparent=trace or None,
        state=_WORDS[sign],
        reason=reason,
        code=code or None,
        attempts=attempts,
        at=instant_text(float(at), ahead_s),
        maybe_applied=bool(maybe),
        reference=reference or UNSET,
    )
