"""The matches of an operation: which are next, and which wait until the batch they are frozen in is settled.

No item ends while its batch is frozen. A match that should end and is met in one is set aside, so that the others go
on, and comes up again when the batch is settled, whatever became of it. Only a batch that waits for its re-send and
holds nothing but matches is given up at once, as expiry gives up one whose items are all over their time; a read-back
never is: its answer says what became of its item.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from relay.core.model import Ended, State
from relay.store.sqlite.file.transaction import Transaction, numbers

_FACTS = """
SELECT json_group_array(json_array(i.seq, c.platform, c.state, iif(c.state = 0, c.batch, NULL), c.held, c.overtaken,
  p.seq IS NOT NULL, i.waited))
FROM (
  SELECT * FROM (SELECT seq, 1 AS waited FROM operation_wait INDEXED BY operation_wait_batch
                 WHERE batch = 0 AND operation = ?1 ORDER BY seq LIMIT ?2)
  UNION ALL
  SELECT * FROM (SELECT seq, 0 FROM operation_item WHERE operation = ?1 ORDER BY seq LIMIT ?2) LIMIT ?2) AS i
  LEFT JOIN callback AS c ON c.seq = i.seq LEFT JOIN payload AS p ON p.seq = i.seq
"""
_OTHERS = """
SELECT EXISTS (SELECT 1 FROM carray(?2) AS m
  WHERE NOT EXISTS (SELECT 1 FROM operation_item WHERE operation = ?1 AND seq = m.value)
    AND NOT EXISTS (SELECT 1 FROM operation_wait WHERE operation = ?1 AND seq = m.value))
"""
_LEFT = """
SELECT EXISTS (SELECT 1 FROM operation_item WHERE operation = ?1)
    OR EXISTS (SELECT 1 FROM operation_wait WHERE operation = ?1)
"""


class MatchFacts(NamedTuple):
    """What an operation must know of a match; platform and state are None when its row is gone."""

    seq: int
    platform: int | None
    state: int | None
    batch: int | None  # the frozen one it is in
    held: int | None
    overtaken: int | None
    has_payload: int
    waited: int  # it was in a frozen batch when it came up first


class Sorted:
    """Matches by what happens to them, and what that ended."""

    def __init__(self) -> None:
        self.taken: dict[tuple[int, State], list[int]] = {}
        self.skipped: dict[str, list[int]] = {}
        self.waiting: dict[int, list[int]] = {}  # by their batch
        self.given_up: list[int] = []  # taken with their batch, whether or not it was their turn
        self.ended: list[Ended] = []

    def take(self, platform: int, seq: int, state: State) -> None:
        """Carry the action out on this one."""
        self.taken.setdefault((platform, state), []).append(seq)

    def skip(self, reason: str, seq: int) -> None:
        """Leave this one as it is."""
        self.skipped.setdefault(reason, []).append(seq)

    def wait(self, batch: int, seq: int) -> None:
        """Set this one aside until its batch is settled."""
        self.waiting.setdefault(batch, []).append(seq)


_decode_facts = msgspec.json.Decoder(list[MatchFacts]).decode


class Matches:
    """Keeps what operations have still to do; on the writer thread."""

    def __init__(self, *, released: Callable[[], object]) -> None:
        """``released`` is called after a commit that let an operation go on which waited."""
        self.released = released

    @staticmethod
    def next(transaction: Transaction, operation: int, limit: int) -> list[MatchFacts]:
        """Return the next matches, first those whose batch was settled since."""
        return _decode_facts(transaction.execute(_FACTS, (operation, limit)).get)

    @staticmethod
    def left(transaction: Transaction, operation: int) -> bool:
        """Say whether an operation has matches to take, now or later."""
        return bool(transaction.execute(_LEFT, (operation,)).get)

    @staticmethod
    def take_off(
        transaction: Transaction, operation: int, seqs: Iterable[int], waiting: Mapping[int, Sequence[int]]
    ) -> None:
        """Strike ``seqs`` off what is to be done, except those that wait for their batch."""
        gone: Any = numbers(seqs)
        for table in ("operation_item", "operation_wait"):
            # The tables' names come from this line.
            transaction.execute(
                f"DELETE FROM {table} WHERE operation = ? AND seq IN (SELECT value FROM carray(?))",  # noqa: S608
                (operation, gone),
            )
        for batch, frozen in waiting.items():
            transaction.execute(
                "INSERT INTO operation_wait SELECT ?, value, ? FROM carray(?)", (operation, batch, numbers(frozen))
            )

    def give_up(self, transaction: Transaction, operation: int, batch: int) -> "array[int] | None":
        """End a batch that waits for its re-send when the operation means all its items; return these, or None."""
        packed = transaction.execute(
            "SELECT members FROM batch WHERE number = ? AND state = 0 AND confirm = 0", (batch,)
        ).get
        if packed is None:
            return None
        members = array("q", packed)
        if transaction.execute(_OTHERS, (operation, numbers(members))).get:
            return None
        transaction.execute("UPDATE batch SET state = 2 WHERE number = ?", (batch,))
        self.release(transaction, batch)
        return members

    def release(self, transaction: Transaction, batch: int) -> None:
        """Let operations look again at what they left in ``batch``: it was settled, or is no more."""
        transaction.execute("UPDATE operation_wait SET batch = 0 WHERE batch = ?", (batch,))
        if transaction.connection.changes():
            transaction.on_commit.append(self.released)
