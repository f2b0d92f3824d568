"""What holds for the callbacks of one ordering key: one head, in the best lane of those behind it.

The first live row of a key is its head, unless something of the key is in a frozen batch, held, or
dead and blocking, or the key itself is held back by an operator.
A row's ``prio`` is the best lane from it to the end of its key, so whoever becomes head already knows it. Set on
insert it costs O(1) amortised: a better lane rewrites only the tail that is worse, and never the same row twice for
the same lane.
"""

import msgspec

from relay.store.sqlite.file.transaction import Transaction, numbers

# ?1: seqs whose keys may have a new head. One index seek per key, however many wait behind it; what may keep the key
# waiting is asked of those alone that have somebody left.
_PROMOTE = """
UPDATE callback SET head = 1 WHERE head = 0 AND state = 0 AND seq IN (
  SELECT first.seq FROM (
    SELECT c.key, (SELECT n.seq FROM callback AS n INDEXED BY callback_key
                   WHERE n.key = c.key AND n.live = 1 ORDER BY n.seq LIMIT 1) AS seq
    FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value WHERE c.key IS NOT NULL) AS first
  WHERE first.seq IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM callback AS b INDEXED BY callback_busy
                    WHERE b.key = first.key AND b.live = 1 AND (b.batch IS NOT NULL OR b.held = 1 OR b.state = 2))
    AND NOT EXISTS (SELECT 1 FROM key_hold AS h WHERE h.key = first.key))
"""
# ?1: seqs that entered their key again. Whoever was head behind them is none any more.
_DEMOTE = """
UPDATE callback SET head = 0 WHERE head = 1 AND seq IN (
  SELECT (SELECT n.seq FROM callback AS n INDEXED BY callback_key
          WHERE n.key = touched.key AND n.live = 1 AND n.head = 1 ORDER BY n.seq LIMIT 1)
  FROM (SELECT DISTINCT c.key FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value
        WHERE c.key IS NOT NULL) AS touched)
"""
# Rows from ?1 on whose key's tail before them is in a worse lane than theirs.
_BETTER_LANES = """
SELECT json_group_array(json_array(n.key, n.seq, n.lane)) FROM callback AS n
WHERE n.seq >= ?1 AND n.head = 0 AND n.live = 1 AND n.key IS NOT NULL AND n.lane < (
  SELECT e.prio FROM callback AS e INDEXED BY callback_key
  WHERE e.key = n.key AND e.live = 1 AND e.seq < n.seq ORDER BY e.seq DESC LIMIT 1)
"""
_RAISE_TAIL = """
UPDATE callback SET prio = ?3 WHERE seq IN (
  SELECT seq FROM callback INDEXED BY callback_key WHERE key = ?1 AND live = 1 AND seq < ?2 AND seq > coalesce(
    (SELECT e.seq FROM callback AS e INDEXED BY callback_key
     WHERE e.key = ?1 AND e.live = 1 AND e.seq < ?2 AND e.prio <= ?3 ORDER BY e.seq DESC LIMIT 1), 0))
"""
# The prio of a row whose own lane becomes the expression in the first place.
PRIO_OF = """min({lane}, coalesce((SELECT n.prio FROM callback AS n INDEXED BY callback_key
  WHERE n.key = callback.key AND n.live = 1 AND n.seq > callback.seq ORDER BY n.seq LIMIT 1), 9))"""

_decode = msgspec.json.Decoder(list[tuple[int, int, int]]).decode


def promote(transaction: Transaction, seqs: list[int]) -> int:
    """Give the keys of ``seqs`` their heads; return how many became claimable."""
    if not seqs:
        return 0
    transaction.execute(_PROMOTE, (numbers(seqs),))
    return transaction.connection.changes()


def demote(transaction: Transaction, seqs: list[int]) -> None:
    """Take head off the keys of ``seqs``, which enter their keys in earlier places; ``promote`` gives it anew."""
    transaction.execute(_DEMOTE, (numbers(seqs),))


def raise_lanes(transaction: Transaction, first: int) -> None:
    """Let the heads of the keys of the rows from ``first`` on take the better lanes those rows bring."""
    for key, seq, lane in _decode(transaction.execute(_BETTER_LANES, (first,)).get):
        transaction.execute(_RAISE_TAIL, (key, seq, lane))
