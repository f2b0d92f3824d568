"""Retry times brought forward: what was put back, and the batches that wait for their re-send, become due now.

Both are walked in the order since when they wait, over an index in which an entry keeps its place when its retry time
changes. Each step is a job of its own and looks at few of them, whether they have to be changed or not, so that claims
and settles queued meanwhile wait for some milliseconds only.
"""

import math
from functools import partial
from typing import Any

from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.thread.writer import Writer

_STEP = 1000
_Place = tuple[float, int]
_START: _Place = (-math.inf, 0)
# Where to look and what to change. ?1: platform, ?2 and ?3: the last place, ?4: how many; of those found ?1, now ?2.
_FROZEN = (
    """
SELECT waiting_since, number FROM batch INDEXED BY batch_open
WHERE platform = ?1 AND state < 2 AND waiting_since >= ?2 AND (waiting_since > ?2 OR number > ?3)
ORDER BY waiting_since, number LIMIT ?4
""",
    """
UPDATE batch SET due_at = ?2
WHERE number IN (SELECT value FROM carray(?1)) AND state = 0 AND due_at > ?2 AND expires_at > ?2 RETURNING items
""",
)
_PUT_BACK = (
    """
SELECT expires_at - expires_s, seq FROM callback INDEXED BY callback_put_back
WHERE platform = ?1 AND first_sent_at > 0.0 AND batch IS NULL AND held = 0 AND state = 0
  AND expires_at - expires_s >= ?2 AND (expires_at - expires_s > ?2 OR seq > ?3)
ORDER BY expires_at - expires_s, seq LIMIT ?4
""",
    """
UPDATE callback SET due_at = ?2
WHERE seq IN (SELECT value FROM carray(?1)) AND due_at > ?2 AND expires_at > ?2 RETURNING 1
""",
)


async def bring_forward(writer: Writer, *, platform: str, number: int) -> int:
    """Make everything of a platform due that waits for a retry time; return how many callbacks that is."""
    brought = 0
    for find, change in (_FROZEN, _PUT_BACK):
        place: _Place | None = _START
        while place is not None:
            step = partial(_step, find, change, platform=platform, number=number, after=place)
            count, place = await writer.call(step)
            brought += count
    return brought


def _step(
    find: str, change: str, transaction: Transaction, *, platform: str, number: int, after: _Place
) -> tuple[int, _Place | None]:
    """Change what has to be changed of those after a place; return how many callbacks that is, and where to go on."""
    found: list[Any] = transaction.execute(find, (number, *after, _STEP)).fetchall()
    if not found:
        return 0, None
    bound = numbers(which for _, which in found)
    count = sum(items for (items,) in transaction.execute(change, (bound, transaction.now)))
    if count:
        transaction.wake(platform, count)
    return count, found[-1] if len(found) == _STEP else None
