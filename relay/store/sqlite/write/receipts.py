"""Receipts: whatever ends or holds a callback is noted by a trigger, and told at the end of the same transaction.

The trigger and its table are temporary: they belong to the writing connection, and are there only while receipts are
configured. A new way to end a callback needs nothing here. What is rolled back leaves no note.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from relay.core.model import State
from relay.core.receipts import HELD, RECEIPTS, ReceiptRules
from relay.sealing.codec import Column
from relay.store.receipts import Receipt, receipt_row, shift_s
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.write.accept import PostWriter
from relay.store.sqlite.write.rows import Packed, pack
from relay.views.moments import instant_text

_NOTES = """
CREATE TEMP TABLE IF NOT EXISTS receipt_due (seq, platform, state, at, reason, code, attempts, maybe_applied, keyed,
  event, traceparent)
"""
# The state of one that is held is 0, as it is pending. What no receipt is wanted of is left out here.
_TRIGGER = """
CREATE TEMP TRIGGER receipt_end AFTER UPDATE OF state, held ON main.callback
WHEN ((NEW.state <> OLD.state AND NEW.state IN ({states})) OR ({held} AND NEW.held > OLD.held))
  AND NEW.platform <> {receipts}
BEGIN
  INSERT INTO receipt_due VALUES (NEW.seq, NEW.platform, NEW.state, NEW.ended_at, NEW.reason, NEW.code, NEW.attempts,
    NEW.maybe_applied, NEW.key IS NOT NULL, NEW.event, NEW.traceparent);
END
"""
# The ordering key is read at the end of the transaction: it is gone by then where the callback was forgotten in it.
_DUE = """
SELECT d.seq, d.platform, d.state, d.at, d.reason, d.code, d.attempts, d.maybe_applied, d.keyed, c.key_text,
  d.event, d.traceparent, o.idempotency_key, o.reference
FROM temp.receipt_due AS d LEFT JOIN main.callback AS c ON c.seq = d.seq LEFT JOIN main.origin AS o ON o.seq = d.seq
ORDER BY d.rowid
"""


class Receipts:
    """Queues receipts; on the writer thread. ``then`` is called after it, at the end of each transaction."""

    def __init__(self, *, names: Names, seals: Seals, accepts: PostWriter, ids: PublicIds) -> None:
        self.then: Callable[[Transaction], None] = lambda _: None
        self._names = names
        self._seals = seals
        self._accepts = accepts
        self._ids = ids
        self._rules: ReceiptRules | None = None

    def watch(self, transaction: Transaction, rules: ReceiptRules | None) -> None:
        """Note from now on what ``rules`` want receipts of."""
        self._rules = rules
        self.watch_again(transaction)

    def watch_again(self, transaction: Transaction) -> None:
        """Do so on a connection that was opened anew."""
        transaction.execute("DROP TRIGGER IF EXISTS temp.receipt_end")
        if self._rules is None:
            return
        states = [int(state) for state in State if state.word in self._rules.on]
        transaction.execute(_NOTES)
        transaction.execute(
            _TRIGGER.format(
                states=", ".join(map(str, states)) or "-1",
                held=int(HELD in self._rules.on),
                receipts=self._names.number(RECEIPTS),
            )
        )

    def write(self, transaction: Transaction) -> None:
        """Queue a receipt for each end that was noted."""
        if self._rules is not None:
            self._tell(transaction, self._rules)
        self.then(transaction)

    def _tell(self, transaction: Transaction, rules: ReceiptRules) -> None:
        due: list[Any] = transaction.execute(_DUE).fetchall()
        if not due:
            return
        now = transaction.now
        ahead_s = shift_s(now)
        rows = []
        shown = self._seals.shown
        for seq, number, state, at, reason, code, attempts, applied, keyed, key, event, trace, idem, reference in due:
            told = shown(Column.REFERENCE, number, seq, reference)
            receipt = Receipt(
                id=self._ids.callback(transaction.execute, seq),
                platform=self._names.name(number),
                key=self._key(transaction, number, seq, key) if keyed else None,
                event=event,
                idempotency_key=shown(Column.IDEMPOTENCY_KEY, number, seq, idem),
                traceparent=trace,
                state=State(state).word if state else HELD,
                reason=reason or "",
                code=code,
                attempts=attempts,
                at=instant_text(at or now, ahead_s),
                maybe_applied=bool(applied),
                reference=UNSET if told is None else told,
            )
            rows.append(receipt_row(receipt, rules))
        packed = Packed(framed=self._seals.codec is not None)
        pack(packed, self._names, rows)
        self._accepts.add(transaction, packed)
        transaction.execute("DELETE FROM temp.receipt_due")

    def _key(self, transaction: Transaction, platform: int, seq: int, kept: Any) -> str | None:
        """Return the ordering key of a row; where the file is sealed it lies with the payload."""
        if kept is not None:
            key: str = self._seals.shown(Column.KEY, platform, seq, kept)
            return key
        body = transaction.execute("SELECT body, sealed FROM payload WHERE seq = ?", (seq,)).get
        return None if body is None else self._seals.body(platform, seq, *body)[1]
