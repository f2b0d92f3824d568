"""Writes final callbacks that come from a server, with their batches and attempts, as a file keeps them.

They come in the order in which they ended and may come again, after a crash or once they were retried. A batch is as
many of its callbacks as lie here: so pruning lets it go with the last of them.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from relay.core.model import State
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.read.ledger import MOVED_KEY
from relay.store.sqlite.transfer.numbering import Numbering
from relay.store.sqlite.transfer.rows import RowsIn
from relay.store.transfer.records import AttemptRecord, CallbackRecord

_BESIDE: Final = ("cost", "origin", "payload", "callback")
_DONE: Final = 2
_STEP: Final = 500
_AHEAD_US: Final = 60_000_000
INDEX: Final = f"CREATE INDEX IF NOT EXISTS {MOVED_KEY} ON callback (key) WHERE key IS NOT NULL"
"""By ordering key: orders are looked up in a file that may hold a hundred times what a queue does."""
_WORDS: Final = {int(state): state.word for state in State}
_BATCH: Final = """
INSERT INTO batch
  (number, platform, grp, state, due_at, attempts, created_at, root, items, expires_at, members, confirm)
VALUES (?1, ?2, ?3, ?4, 0, 0, ?1 / 1e6, ?1, ?5, 0, ?6, 0)
ON CONFLICT (number) DO UPDATE SET items = ?5, members = ?6
"""


class MovedRows(RowsIn):
    """Inside the transaction of ``execute``, which all of it goes through."""

    def __init__(self, execute: Callable[..., Any], seals: Seals, *, numbered: bool) -> None:
        self._places = Numbering(execute)
        super().__init__(execute, self._places, seals, numbered=numbered)

    def newer(self, seq: int, newer_id: str) -> None:
        """Keep what stands for a callback."""
        self._execute("UPDATE callback SET superseded_by = ? WHERE seq = ?", (self._places.callback(newer_id), seq))

    def take(
        self,
        transaction: Transaction,
        number: int,
        platform: str,
        callbacks: Sequence[CallbackRecord],
        attempts: Sequence[AttemptRecord],
    ) -> None:
        """Write callbacks of a platform with its ``number`` here."""
        members: dict[int, list[int]] = defaultdict(list)
        groups: dict[int, str] = {}
        for record in callbacks:
            seq = self._places.kept_place(record.id, record.at)
            self._leave(transaction, number, seq)
            self.callback_at(seq, number, platform, _as_moved(record))
            transaction.count(number, "accepted", 1)
            transaction.count(number, _WORDS[record.state], 1)
            for batch in map(self._places.batch, record.batches):
                members[batch].append(seq)
                groups[batch] = record.group
        for batch, seqs in members.items():
            self._carry(batch, number, groups[batch], seqs)
        for attempt in attempts:
            if self._places.batch(attempt.batch) in members and not self._has(attempt):
                self.attempt(number, attempt)

    def leave(self, transaction: Transaction, ids: Iterable[str]) -> None:
        """Take callbacks out that lie on the server."""
        for seq in map(self._places.callback_there, ids):
            platform = None if seq is None else self._execute("SELECT platform FROM callback WHERE seq = ?", (seq,)).get
            if seq is not None and platform is not None:
                self._leave(transaction, platform, seq)

    def _leave(self, transaction: Transaction, number: int, seq: int) -> None:
        """Take a callback out that came before."""
        state = self._execute("SELECT state FROM callback WHERE seq = ?", (seq,)).get
        if state is None:
            return
        for table in _BESIDE:
            self._execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))  # noqa: S608 - a constant of this file
        transaction.count(number, "accepted", -1)
        transaction.count(number, _WORDS[state], -1)

    def _carry(self, batch: int, platform: int, group: str, seqs: Sequence[int]) -> None:
        kept = array("q", self._execute("SELECT members FROM batch WHERE number = ?", (batch,)).get or b"")
        there = set(kept)
        kept.extend(seq for seq in seqs if seq not in there)
        self._execute(_BATCH, (batch, platform, group, _DONE, len(kept), kept.tobytes()))

    def _has(self, attempt: AttemptRecord) -> bool:
        """Say whether an attempt was written with another of its callbacks."""
        known = (self._places.batch(attempt.batch), attempt.n, attempt.started_at)
        found: int = self._execute(
            "SELECT EXISTS (SELECT 1 FROM attempt WHERE batch = ? AND n = ? AND started_at = ?)", known
        ).get
        return bool(found)


def forget_unused(execute: Callable[..., Any]) -> bool:
    """Delete one step of batches, attempts and ids from before every callback that is kept: nothing kept shows them.

    A batch is younger than its callbacks, but for a moment: the numbers of a bulk run ahead of the clock. Returns
    whether there may be more.
    """
    oldest = execute("SELECT coalesce(min(seq), 1 << 62) FROM callback").get
    found = execute("SELECT number FROM batch WHERE number < ? ORDER BY number LIMIT ?", (oldest - _AHEAD_US, _STEP))
    gone = [number for (number,) in found]
    if gone:
        execute(
            "DELETE FROM weight WHERE attempt IN (SELECT id FROM attempt WHERE batch IN (SELECT value FROM carray(?)))",
            (numbers(gone),),
        )
        execute("DELETE FROM attempt WHERE batch IN (SELECT value FROM carray(?))", (numbers(gone),))
        execute("DELETE FROM batch WHERE number IN (SELECT value FROM carray(?))", (numbers(gone),))
    execute("DELETE FROM alias WHERE kind = 0 AND here < ?", (oldest,))
    execute("DELETE FROM alias WHERE kind = 1 AND here < (SELECT coalesce(min(number), ?) FROM batch)", (oldest,))
    return len(gone) == _STEP


def keyed(execute: Callable[..., Any], keys: Sequence[int]) -> list[int]:
    """Return the callbacks with ordering keys of these numbers."""
    found = execute(
        f"SELECT seq FROM callback INDEXED BY {MOVED_KEY} WHERE key IS NOT NULL AND key IN "  # noqa: S608 - a constant
        "(SELECT value FROM carray(?))",
        (numbers(keys),),
    )
    return [seq for (seq,) in found]


def _as_moved(record: CallbackRecord) -> CallbackRecord:
    """Return a callback without what only a queue needs: a repeat of its idempotency key is a new callback now."""
    return replace(
        record, idempotency_hash="", post_hash="", idempotency_key=None, blocks=False, frozen=False, held=False
    )
