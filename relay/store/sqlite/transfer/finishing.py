"""Ends a copy into a file: what stands for whom, who is the head of a key, in which lane."""

from collections.abc import Callable
from typing import Any, Final

from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.transfer.numbering import Numbering
from relay.store.sqlite.write.keys import promote

_STEP: Final = 1000
# The best lane from a row to the end of its key; rows whose own is the best have it already.
_LANES: Final = """
UPDATE callback SET prio = best.lane FROM (
  SELECT seq, min(lane) OVER (PARTITION BY key ORDER BY seq DESC) AS lane FROM callback
  WHERE live = 1 AND key IS NOT NULL) AS best
WHERE best.seq = callback.seq AND best.lane <> callback.prio
"""
_FIRST: Final = "SELECT min(seq) FROM callback INDEXED BY callback_key WHERE live = 1 AND key IS NOT NULL GROUP BY key"

# What is in a total and is not kept any more.
_PRUNED: Final = """
UPDATE ledger SET pruned_delivered = ledger.delivered - kept.delivered, pruned_dead = ledger.dead - kept.dead,
  pruned_expired = ledger.expired - kept.expired, pruned_superseded = ledger.superseded - kept.superseded
FROM (SELECT l.platform, count(*) FILTER (WHERE c.state = 1) AS delivered, count(*) FILTER (WHERE c.state = 2) AS dead,
    count(*) FILTER (WHERE c.state = 3) AS expired, count(*) FILTER (WHERE c.state = 4) AS superseded
  FROM ledger AS l LEFT JOIN callback AS c ON c.platform = l.platform GROUP BY 1) AS kept
WHERE kept.platform = ledger.platform
"""


def superseded(execute: Callable[..., Any], numbering: Numbering) -> None:
    """Write which callback stands for which: it may have come later, or is not kept any more."""
    for seq, newer in list(execute("SELECT seq, id FROM copy_newer")):
        execute("UPDATE callback SET superseded_by = ? WHERE seq = ?", (numbering.callback(newer), seq))


def heads_and_lanes(transaction: Transaction) -> None:
    """Give each key its head, in the best lane of the key."""
    transaction.execute(_LANES)
    firsts = [seq for (seq,) in transaction.execute(_FIRST)]
    for start in range(0, len(firsts), _STEP):
        promote(transaction, firsts[start : start + _STEP])


def pruned(execute: Callable[..., Any]) -> None:
    """Write how much of each total was pruned before the copy."""
    execute(_PRUNED)
