"""Which groups of a platform have something to send: skip-scans over the indexes that claims choose from.

A hop per group, or two, and none per callback; read in growing parts, because mostly the first group goes.
"""

import math
from collections.abc import Iterator
from heapq import merge
from itertools import groupby

import msgspec

from relay.store.rotation import Waiting
from relay.store.sqlite.file.transaction import Transaction

_FIRST_PART, _MORE = 8, 8  # hops read at once; eight times as many after that, and so on
_PAST_LANES = 9  # behind every lane
# From the group and lane ?2, ?3 on to the group ?4 (NULL: to the end), at most ?5 hops: the first due callback of each
# group and lane that has not expired by ?6. Of a group with something due the other lanes are not looked at.
# The next lane is asked for by >= of a row value: for > SQLite reads all that equals it, such as what was put back.
_HEADS = """
WITH RECURSIVE hop(grp, prio, due_at, n) AS (
  SELECT * FROM (SELECT grp, prio, due_at, 1 FROM callback INDEXED BY callback_ready
                 WHERE platform = ?1 AND head = 1 AND (grp, prio) >= (?2, ?3 + 1) AND expires_at > ?6
                 ORDER BY grp, prio, due_at LIMIT 1)
  UNION ALL
  SELECT next.grp, next.prio, next.due_at, n + 1 FROM hop JOIN callback AS next ON next.seq = (
    SELECT seq FROM callback INDEXED BY callback_ready WHERE platform = ?1 AND head = 1
      AND (grp, prio) >= (hop.grp, iif(hop.due_at <= ?6, 9, hop.prio) + 1) AND expires_at > ?6
    ORDER BY grp, prio, due_at LIMIT 1)
  WHERE n < ?5 AND (?4 IS NULL OR hop.grp <= ?4))
SELECT json_group_array(json_array(grp, prio, due_at)) FROM hop
"""
# The same of frozen batches, which have no lanes; ?3 is 9 to leave out the group ?2 itself.
_FROZEN = """
WITH RECURSIVE hop(grp, due_at, n) AS (
  SELECT * FROM (SELECT grp, due_at, 1 FROM batch INDEXED BY batch_due
                 WHERE platform = ?1 AND state = 0 AND grp >= ?2 AND (?3 < 9 OR grp > ?2) AND expires_at > ?6
                 ORDER BY grp, due_at LIMIT 1)
  UNION ALL
  SELECT next.grp, next.due_at, n + 1 FROM hop JOIN batch AS next ON next.number = (
    SELECT number FROM batch INDEXED BY batch_due WHERE platform = ?1 AND state = 0
      AND grp > hop.grp AND expires_at > ?6 ORDER BY grp, due_at LIMIT 1)
  WHERE n < ?5 AND (?4 IS NULL OR hop.grp <= ?4))
SELECT json_group_array(json_array(grp, 9, due_at)) FROM hop
"""
_Hop = tuple[str, int, float]
_decode = msgspec.json.Decoder(list[_Hop]).decode


def waiting_groups(transaction: Transaction, platform: int, served: str) -> Iterator[Waiting]:
    """Yield the groups that have something, from the one after ``served`` round to that one itself."""
    yield from _round(transaction, platform, served, _PAST_LANES, None)
    yield from _round(transaction, platform, "", -1, served)


def _round(transaction: Transaction, platform: int, start: str, lane: int, end: str | None) -> Iterator[Waiting]:
    heads = ((grp, due_at, math.inf) for grp, _, due_at in _hops(transaction, _HEADS, platform, start, lane, end))
    frozen = ((grp, math.inf, due_at) for grp, _, due_at in _hops(transaction, _FROZEN, platform, start, lane, end))
    for group, found in groupby(merge(heads, frozen, key=lambda hop: hop[0]), key=lambda hop: hop[0]):
        heads_at, resends_at = zip(*((head_at, resend_at) for _, head_at, resend_at in found), strict=True)
        yield Waiting(group, min(heads_at), min(resends_at))


def _hops(
    transaction: Transaction, statement: str, platform: int, start: str, lane: int, end: str | None
) -> Iterator[_Hop]:
    size = _FIRST_PART
    while True:
        part = _decode(transaction.execute(statement, (platform, start, lane, end, size, transaction.now)).get)
        for hop in part:
            if end is not None and hop[0] > end:
                return
            yield hop
        if len(part) < size:
            return
        start, lane, due_at = part[-1]
        if due_at <= transaction.now:
            lane = _PAST_LANES
        size *= _MORE
