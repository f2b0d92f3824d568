"""Expiring: what is over its time ends, in small steps; each platform's, and batches that wait for a re-send."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from relay.core.model import Ended, Expired, State
from relay.core.settlement import Ending
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.write.apart.around import Around, naming
from relay.store.sqlite.write.keys import promote
from relay.store.sqlite.write.matches import Matches
from relay.store.sqlite.write.settle import end

_LATE_S = 1.0  # a frozen batch holds something over its time: its settle is near
_LATE_BATCHES_STEP = 20  # of up to some thousand items each

_LATE = """
SELECT json_group_array(seq) FROM (
  SELECT seq FROM callback INDEXED BY callback_expiry
  WHERE platform = ?1 AND state = 0 AND expires_at <= ?2 AND batch IS NULL AND held = 0
    AND seq NOT IN (SELECT value FROM carray(?3)) ORDER BY expires_at {} LIMIT ?4)
"""
_LATE_BATCHES = """
SELECT json_group_array(number) FROM (
  SELECT number FROM batch INDEXED BY batch_expiry
  WHERE state = 0 AND expires_at <= ?1 AND number NOT IN (SELECT value FROM carray(?2)) ORDER BY expires_at {} LIMIT ?3)
"""
_COMING = """
SELECT (SELECT min(expires_at) FROM callback INDEXED BY callback_expiry
    WHERE platform = ?1 AND state = 0 AND expires_at > ?2),
  EXISTS (SELECT 1 FROM callback INDEXED BY callback_expiry
    WHERE platform = ?1 AND state = 0 AND expires_at <= ?2 AND held = 0 AND seq NOT IN (SELECT value FROM carray(?3)))
"""
_decode_numbers = msgspec.json.Decoder(list[int]).decode


class Overdue(NamedTuple):
    """What a part of a step came to: how many callbacks ended by platform, whether there may be more, and what next."""

    ended: Counter[str]
    more: bool = False
    next_at: float = math.inf


class Expiring:
    """The parts of a step; on the writer thread."""

    def __init__(self, *, names: Names, matches: Matches) -> None:
        self._names = names
        self._matches = matches

    def end_late(self, transaction: Transaction, around: Around, name: str, platform: int) -> Overdue:
        """End callbacks of a platform that are over their time."""
        found = transaction.execute(
            _LATE.format(around.order), (platform, transaction.now, around.left_out, around.limit)
        )
        seqs = _decode_numbers(found.get)
        if not seqs:
            return Overdue(Counter())
        with naming(seqs):
            end(transaction, platform, Ending(seqs, State.EXPIRED, "expired"), blocks=False)
            transaction.wake(name, promote(transaction, seqs))
        return Overdue(Counter({name: len(seqs)}), more=len(seqs) == around.limit)

    def look_ahead(self, transaction: Transaction, _around: Around, platform: int, late: Around) -> Overdue:
        """Say when a platform's next callback is over its time; what ``late`` leaves out does not count."""
        now = transaction.now
        coming, waiting = transaction.execute(_COMING, (platform, now, late.left_out)).get
        next_at = math.inf if coming is None else coming
        return Overdue(Counter(), next_at=min(next_at, now + _LATE_S) if waiting else next_at)

    def end_late_batches(self, transaction: Transaction, around: Around) -> Overdue:
        """End batches that wait for a re-send with all their items over their time.

        What an attempt has left open stays recorded with the items.
        """
        ended: Counter[str] = Counter()
        most = min(around.limit, _LATE_BATCHES_STEP)
        found = transaction.execute(_LATE_BATCHES.format(around.order), (transaction.now, around.left_out, most))
        late = _decode_numbers(found.get)
        for number in late:
            with naming(late):
                platform, packed = transaction.execute(
                    "SELECT platform, members FROM batch WHERE number = ?", (number,)
                ).get
                members = array("q", packed)
                end(transaction, platform, Ending(members, State.EXPIRED, "expired"), blocks=False)
                transaction.execute("UPDATE batch SET state = 2 WHERE number = ?", (number,))
                self._matches.release(transaction, number)
                name = self._names.name(platform)
                transaction.wake(name, promote(transaction, list(members)))
            ended[name] += len(members)
        return Overdue(ended, more=len(late) == most)


def together(parts: Iterable[Overdue]) -> Expired:
    """Return what the parts of a step came to as one."""
    found = list(parts)
    ended: Counter[str] = sum((part.ended for part in found), Counter())
    reported: Sequence[Ended] = [Ended(name, State.EXPIRED, "expired", count) for name, count in ended.items()]
    return Expired(reported, any(part.more for part in found), min((part.next_at for part in found), default=math.inf))
