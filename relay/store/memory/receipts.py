"""The memory store's receipts: noted where a row ends or is held, queued before the call that did it returns."""

from collections.abc import Callable

from msgspec import UNSET

from relay.core.model import NewCallback, State, StoreRules
from relay.core.receipts import HELD, RECEIPTS
from relay.store.memory.rows import Row
from relay.store.receipts import Receipt, receipt_row, shift_s
from relay.views.moments import instant_text


class MemoryReceipts:
    """Notes and queues. ``enqueue(row, now)`` accepts a row whatever room there is."""

    def __init__(self, *, rules: Callable[[], StoreRules], enqueue: Callable[[NewCallback, float], object]) -> None:
        self._rules = rules
        self._enqueue = enqueue
        self._due: list[tuple[Row, str, float, str, str | None, int, bool]] = []

    def note(self, row: Row) -> None:
        """A row ended just now, or is held from now on."""
        rules = self._rules().receipts
        word = row.state.word if row.state is not State.PENDING else HELD
        if rules is not None and word in rules.on and row.platform != RECEIPTS:
            self._due.append((row, word, row.ended_at, row.reason, row.code, row.attempts, row.maybe_applied))

    def write(self, now: float) -> None:
        """Queue a receipt for each row that was noted."""
        due, self._due = self._due, []
        rules = self._rules().receipts
        if rules is None:
            return
        ahead_s = shift_s(now)
        for row, word, ended_at, reason, code, attempts, applied in due:
            receipt = Receipt(
                id=row.id,
                platform=row.platform,
                key=None if row.forgotten else row.key,
                event=row.event,
                idempotency_key=None if row.forgotten else row.idempotency_key or row.post,
                traceparent=row.traceparent,
                state=word,
                reason=reason,
                code=code,
                attempts=attempts,
                at=instant_text(ended_at or now, ahead_s),
                maybe_applied=applied,
                reference=UNSET if row.reference is None or row.forgotten else row.reference,
            )
            self._enqueue(receipt_row(receipt, rules), now)
