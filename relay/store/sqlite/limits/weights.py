"""What batches weigh: looked up where a platform counts more than requests, and recorded with the attempt."""

from collections.abc import Sequence
from typing import cast

from relay.core.model import Weight
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.weighing import ItemWeight

_ITEMS = """
SELECT c.bytes, coalesce(k.points, 1)
FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value LEFT JOIN cost AS k ON k.seq = c.seq ORDER BY a.rowid
"""


def weights_of(transaction: Transaction, seqs: Sequence[int]) -> list[ItemWeight]:
    """Return what each callback weighs, in their order."""
    rows = cast(list[tuple[int, int]], transaction.execute(_ITEMS, (numbers(seqs),)).fetchall())
    return [ItemWeight(*row) for row in rows]


def record_weight(transaction: Transaction, attempt_id: int, weight: Weight) -> None:
    """Record what an attempt weighs, beside it."""
    transaction.execute(
        "INSERT INTO weight VALUES (?, ?, ?, ?)", (attempt_id, weight.items, weight.bytes, weight.points)
    )
