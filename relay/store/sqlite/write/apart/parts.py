"""Freezes callbacks as a batch of their own: parts of a split, read-backs, what is left of a batch that lost some."""

from array import array
from collections.abc import Sequence

from relay.store.sqlite.file.transaction import Transaction, numbers

# A callback remembers the batches it was in, to show its attempts: the last 20, 16 digits and a space each.
TRAIL = "substr(coalesce(trail || ' ', '') || batch, -339)"

_FREEZE = """
INSERT INTO batch SELECT ?1, ?2, ?3, 0, ?4, 0, ?5, ?6, ?7, iif(?9, 9e999, max(expires_at)), ?8, ?9,
  min(min(due_at, expires_at - expires_s)) FROM callback WHERE seq IN (SELECT value FROM carray(?10))
"""
_MOVE = f"""
UPDATE callback SET trail = {TRAIL}, batch = ?2 WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608 - built from this file's constants


def freeze_part(
    transaction: Transaction,
    number: int,
    seqs: Sequence[int],
    *,
    platform: int,
    group: str,
    root: int,
    due_at: float,
    confirm: bool = False,
) -> None:
    """Freeze ``seqs``, which are in a batch that ends now, as the batch ``number``; ``confirm``: as a read-back."""
    bound = numbers(seqs)
    transaction.execute(
        _FREEZE,
        (
            *(number, platform, group, due_at, transaction.now, root, len(seqs)),
            *(array("q", seqs).tobytes(), int(confirm), bound),
        ),
    )
    transaction.execute(_MOVE, (bound, number))
