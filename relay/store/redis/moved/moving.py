"""Copies what is about to be pruned into the history file of this host: first there, durably, then off the server.

A step reads rows in parts of 100 and writes all of them by one commit, which is one sync of the file. ``prune.lua`` is
told which callbacks were copied, each with a digest of its row as it was read. It deletes those that are still as they
were: one that was retried, dropped or forgotten meanwhile stays, and is copied anew.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from relay.core.clock import Clock
from relay.store.redis.server.fields import read_row
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.transfer.attempts_out import AttemptsOut
from relay.store.redis.transfer.callbacks_out import CallbacksOut
from relay.store.transfer.history_file import FinalRows, HistoryFile
from relay.store.transfer.records import CallbackRecord

Copied = tuple[int, str]
"""The number of a callback that was copied, and the digest of its row as it was read."""

_MOST_ROWS: Final = 1000  # of a step, over all platforms
_MOST_BYTES: Final = 4 << 20  # of payloads in memory at once
_PART: Final = 100  # rows that are read together: the loop is held up for some five milliseconds
_FEWEST: Final = 200  # rows of a platform whose turn it is
_SETS: Final = ("e0", "e1")  # what ended, by when: delivered and superseded; dead and expired


class Copies(NamedTuple):
    """What a step copied."""

    of: dict[str, list[Copied]]  # by platform
    ids: dict[tuple[str, int], str]  # of those that lie in the file now
    more: bool  # there is more to copy


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
        self._turn = 0  # whose turn is first: one that has much does not keep others waiting

    async def copy(
        self, file: HistoryFile, platforms: Sequence[str], before: Sequence[float], *, keep_s: float
    ) -> Copies:
        """Copy one step of what ended before the two times of ``before``; return what may be deleted on the server.

        What ended longer ago than ``keep_s`` is not kept. Raises ``StoreFailed`` and ``StoreFull`` of the file too.
        """
        first = self._turn % max(len(platforms), 1)
        self._turn += 1
        step = _ReadSoFar(oldest=self._clock.now() - keep_s)
        each = max(_FEWEST, _MOST_ROWS // max(len(platforms), 1))
        for platform in (*platforms[first:], *platforms[:first]):
            most = min(each, _MOST_ROWS - step.rows)
            if most == 0 or step.full:
                step.more = True
                break
            await self._of(platform, before, most, step)
        if step.moved:
            await file.take(step.moved)
        ids = {(each.platform, record.at): record.id for each in step.moved for record in each.callbacks}
        return Copies(step.told, ids, step.more)

    async def _of(self, platform: str, before: Sequence[float], most: int, step: "_ReadSoFar") -> None:
        """Read what ended on one platform into ``step``."""
        seqs: list[int] = []
        for name, bound in zip(_SETS, before, strict=True):
            where = self._keys.of(platform, name)
            found = await self._do("ZRANGEBYSCORE", where, "-inf", repr(bound), "LIMIT", 0, most - len(seqs))
            seqs += [int(seq) for seq in found]
        more = len(seqs) == most
        for first in range(0, len(seqs), _PART):
            part = seqs[first : first + _PART]
            packed = await self._do("HMGET", self._keys.of(platform, "r"), *part)
            kept = step.read(platform, part, packed)
            if kept:
                records = await self._callbacks.of(platform, [seq for seq, _ in kept], [blob for _, blob in kept])
                step.moved.append(FinalRows(platform, records, await self._attempts.of(platform, _numbers(records))))
            if step.full:
                break
        step.more = step.more or more or step.full


class _ReadSoFar:
    """What one step has read so far."""

    def __init__(self, oldest: float) -> None:
        self._oldest = oldest
        self._room = _MOST_BYTES
        self.rows = 0
        self.full = False  # the next payload does not fit any more
        self.more = False  # some are left for the next step
        self.moved: list[FinalRows] = []
        self.told: dict[str, list[Copied]] = {}

    def read(self, platform: str, seqs: Sequence[int], packed: Sequence[bytes | None]) -> list[tuple[int, bytes]]:
        """Note what may be deleted, and return the rows of it that are kept, while there is room."""
        told = self.told.setdefault(platform, [])
        kept: list[tuple[int, bytes]] = []
        for seq, blob in zip(seqs, packed, strict=True):
            row = None if blob is None else read_row(seq, blob)
            if blob is not None and row is not None and row.ended_at > self._oldest:
                if row.bytes > self._room and (kept or self.moved):
                    self.full = True
                    break
                self._room -= row.bytes
                kept.append((seq, blob))
            told.append((seq, hashlib.sha1(blob or b"", usedforsecurity=False).hexdigest()))
            self.rows += 1
        return kept


def _numbers(records: Sequence[CallbackRecord]) -> list[int]:
    return list(dict.fromkeys(attempt for record in records for attempt in record.attempt_ids))
