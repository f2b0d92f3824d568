"""Copies what is about to be pruned into the history file of this host: first there, durably, then off the server.

``prune.lua`` is told which callbacks were copied, each with a digest of its row as it was read. It deletes those that
are still as they were: one that was retried, dropped or forgotten meanwhile stays, and is copied anew.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from relay.core.clock import Clock
from relay.store.redis.server.fields import pack, read_row
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.transfer.attempts_out import AttemptsOut
from relay.store.redis.transfer.callbacks_out import CallbacksOut
from relay.store.transfer.history_file import HistoryFile

_MOST_BYTES: Final = 4 << 20  # of payloads in memory at once
_SETS: Final = ("e0", "e1")  # what ended, by when: delivered and superseded; dead and expired


class Moving:
    """Copies for one host. Reads with ``do``, which runs one plain command."""

    def __init__(
        self,
        do: Callable[..., Awaitable[Any]],
        keys: KeyNames,
        clock: Clock,
        callbacks: CallbacksOut,
        attempts: AttemptsOut,
    ) -> None:
        self._do = do
        self._keys = keys
        self._clock = clock
        self._callbacks = callbacks
        self._attempts = attempts

    async def copy(
        self, file: HistoryFile, platform: str, before: Sequence[float], *, keep_s: float, most: int
    ) -> bytes:
        """Copy what ended before the two times of ``before``, at most so many; return what ``prune.lua`` may delete.

        What ended longer ago than ``keep_s`` is not kept. Raises ``StoreFailed`` and ``StoreFull`` of the file too.
        """
        seqs: list[int] = []
        for name, bound in zip(_SETS, before, strict=True):
            where = self._keys.of(platform, name)
            found = await self._do("ZRANGEBYSCORE", where, "-inf", repr(bound), "LIMIT", 0, most - len(seqs))
            seqs += [int(seq) for seq in found]
        packed = await self._do("HMGET", self._keys.of(platform, "r"), *seqs) if seqs else []
        told = [
            (seq, hashlib.sha1(blob or b"", usedforsecurity=False).hexdigest())
            for seq, blob in zip(seqs, packed, strict=True)
        ]
        oldest = self._clock.now() - keep_s
        room, kept = _MOST_BYTES, list[tuple[int, bytes]]()
        for place, (seq, blob) in enumerate(zip(seqs, packed, strict=True)):
            row = None if blob is None else read_row(seq, blob)
            if row is None or row.ended_at <= oldest:
                continue
            if kept and row.bytes > room:
                told = told[:place]
                break
            room -= row.bytes
            kept.append((seq, blob))
        if kept:
            records = await self._callbacks.of(platform, [seq for seq, _ in kept], [blob for _, blob in kept])
            numbers = dict.fromkeys(attempt for record in records for attempt in record.attempt_ids)
            await file.take(platform, records, await self._attempts.of(platform, list(numbers)))
        return pack(told)
