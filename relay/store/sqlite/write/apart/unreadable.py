"""Callbacks whose payload lies on a damaged page. Each is held for a person, so that the platform's others go on."""

from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

from relay.core.errors import StoreDamaged
from relay.core.model import Batch, ClaimRequest, WaitUntil
from relay.store.sqlite.file.checksums import HELD_REASON
from relay.store.sqlite.file.transaction import Transaction, Writes, numbers
from relay.store.sqlite.read.own_thread import Reads
from relay.store.sqlite.write.apart.unopened import hold, take_out
from relay.store.sqlite.write.claim import Claims

# What ended while the pages were looked through, as by a cancel, stays as it ended.
_BATCHES = "SELECT seq, batch FROM callback WHERE state = 0 AND seq IN (SELECT value FROM carray(?1))"

T = TypeVar("T")


async def claim_around_damage(
    request: ClaimRequest, *, claims: Claims, write: Writes, read: Reads
) -> Batch | WaitUntil:
    """Claim. Where payloads cannot be read their callbacks are held, and the claim is to be made again.

    Raises ``StoreDamaged`` where something else of the file is damaged.
    """
    try:
        return await write(lambda transaction: claims.claim(transaction, request))
    except StoreDamaged as damaged:
        rows = damaged.rows
        unreadable = await read(lambda reader: reader.unreadable(rows)) if rows else []
        if not unreadable:
            raise
        return await write(lambda transaction: _set_aside(transaction, claims, unreadable))


def _set_aside(transaction: Transaction, claims: Claims, seqs: Sequence[int]) -> WaitUntil:
    """Hold ``seqs``. A batch that waits for its re-send with one of them goes on without it, as another batch."""
    frozen: dict[int, int | None] = dict(transaction.execute(_BATCHES, (numbers(seqs),)))
    for batch, members in groupby(sorted(frozen, key=lambda seq: frozen[seq] or 0), key=frozen.__getitem__):
        if batch is None:
            hold(transaction, list(members), HELD_REASON)
        else:
            take_out(transaction, batch, list(members), HELD_REASON, number=claims.number_batch)
            claims.matches.release(transaction, batch)
    return WaitUntil(transaction.now, "retry")
