"""Callbacks whose sealed payload does not open: changed, moved, or sealed with another key. They are never sent.

Each is held for a person. One in a frozen batch leaves it; the others of the batch go on in a batch of their own,
because a batch never changes its members.
"""

from array import array
from collections.abc import Callable, Sequence

from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.write.apart.parts import TRAIL, freeze_part

REASON = "sealed: does not open"

_HOLD = f"""
UPDATE callback SET held = 1, head = 0, reason = ?2, code = NULL, batch = NULL,
  trail = iif(batch IS NULL, trail, {TRAIL})
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608 - built from constants


def hold(transaction: Transaction, seqs: Sequence[int], reason: str = REASON) -> None:
    """Hold callbacks that do not open, or that cannot be sent for another ``reason`` of the file's."""
    transaction.execute(_HOLD, (numbers(seqs), reason))


def take_out(
    transaction: Transaction, batch: int, seqs: Sequence[int], reason: str = REASON, *, number: Callable[[float], int]
) -> None:
    """End a frozen batch that waits for its re-send: hold ``seqs`` of it and freeze the others anew, due now."""
    platform, group, root, packed, confirm = transaction.execute(
        "SELECT platform, grp, root, members, confirm FROM batch WHERE number = ?", (batch,)
    ).get
    hold(transaction, seqs, reason)
    transaction.execute("UPDATE batch SET state = 2 WHERE number = ?", (batch,))
    left = [seq for seq in array("q", packed) if seq not in set(seqs)]
    if left:
        freeze_part(
            transaction,
            number(transaction.now),
            left,
            platform=platform,
            group=group,
            root=root,
            due_at=transaction.now,
            confirm=bool(confirm),
        )
