"""What the memory store shows of its rows: totals, status, callbacks."""

from collections import Counter
from collections.abc import Sequence

from msgspec import UNSET, structs

from relay.core.ids import decode_id
from relay.core.model import Filter, Lane, State
from relay.store.memory.operations import matches
from relay.store.memory.outbox import Batches
from relay.store.memory.records import Attempt
from relay.store.memory.rows import Row, Shelf
from relay.store.slots import Slots
from relay.views.callback_view import AttemptView, CallbackFacts, CallbackView, ListedCallback
from relay.views.ledger import QueueTotals
from relay.views.moments import Instant, moment
from relay.views.queue import ErrorView, QueueFacts

_PRIORITIES = {Lane.HIGH: "high", Lane.LOW: "low"}


class Views:
    """Reads rows and attempts; changes nothing."""

    def __init__(self, shelf: Shelf, batches: Batches, slots: Slots) -> None:
        self._shelf = shelf
        self._attempts = batches.kept.attempts
        self._batches = batches
        self._slots = slots

    def totals(self) -> dict[str, QueueTotals]:
        """Return stored totals, and pending counted from rows."""
        pending = Counter(row.platform for row in self._shelf.rows.values() if row.state is State.PENDING)
        return {
            platform: QueueTotals(**totals, pending=pending[platform])
            for platform, totals in self._shelf.totals.items()
        }

    def platform_status(self, configured: Sequence[str], now: float) -> dict[str, QueueFacts]:
        """Return each configured platform's figures, and those of any other that has rows."""
        found = {name: self._empty_status(name, now) for name in (*configured, *self._shelf.totals)}
        for row in self._shelf.rows.values():
            status = found[row.platform]
            if row.state is State.DEAD and not row.dropped:
                status.dead += 1
            if row.state is not State.PENDING:
                continue
            status.pending += 1
            status.held += row.held
            status.in_flight += self._batches.in_flight(row)
            since = self._shelf.waiting_since(row)
            if since is not None:
                oldest = status.oldest_due_at
                status.oldest_due_at = Instant(since if oldest is None else min(oldest, since))
        for attempt in self._attempts.values():
            result = attempt.result
            if result is not None and not result.outcome.accepted:
                status = found.setdefault(attempt.platform, self._empty_status(attempt.platform, now))
                status.last_error = ErrorView(
                    at=Instant(result.ended_at),
                    outcome=result.outcome.value,
                    status=result.status,
                    reason=result.reason,
                    excerpt=result.excerpt,
                    batch=attempt.batch_id,
                )
        return found

    def _empty_status(self, platform: str, now: float) -> QueueFacts:
        accepted = self._shelf.totals.get(platform, {}).get("accepted", 0)
        keys_held = sum(owner == platform for owner, _ in self._shelf.held_keys)
        return QueueFacts(accepted=accepted, keys_held=keys_held, quotas=self._slots.usage(platform, now))

    def callback(self, callback_id: str, tag: int, *, payload: bool) -> CallbackView | None:
        """Return one callback with its attempts, newest last."""
        row = self._shelf.rows.get(decode_id(callback_id, tag) or 0)
        if row is None:
            return None
        return CallbackView(
            **structs.asdict(self._facts(row)),
            attempt_count=row.attempts,
            attempts=[self._attempt(self._attempts[number]) for number in row.attempt_ids],
            superseded_by=UNSET if row.superseded_by is None else row.superseded_by,
            payload_deleted=row.payload is None,
            traceparent=UNSET if row.traceparent is None else row.traceparent,
            reference=UNSET if row.reference is None else row.reference,
            key_held=UNSET if row.key is None else self._shelf.held_keys.get((row.platform, row.key), UNSET),
            payload=row.payload if payload else UNSET,
        )

    def batch_members(self, batch_id: str, limit: int) -> list[str]:
        """Return the ids of up to ``limit`` kept callbacks that a batch carried."""
        carried = {number for number, attempt in self._attempts.items() if attempt.batch_id == batch_id}
        found = [row.id for row in self._shelf.rows.values() if not carried.isdisjoint(row.attempt_ids)]
        return found[:limit]

    def callbacks(self, wanted: Filter, cursor: str | None, limit: int) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first; the cursor is the last sequence number shown."""
        below = int(cursor) if cursor is not None else None
        rows = sorted(
            (row for row in self._shelf.rows.values() if matches(row, wanted) and (below is None or row.seq < below)),
            key=lambda row: -row.seq,
        )
        page = rows[:limit]
        items = [ListedCallback(**structs.asdict(self._facts(row)), attempts=row.attempts) for row in page]
        return items, str(page[-1].seq) if len(rows) > limit else None

    def _facts(self, row: Row) -> CallbackFacts:
        """Return a row as what every view of it tells."""
        return CallbackFacts(
            id=row.id,
            platform=row.platform,
            state=row.state.word,
            key=None if row.forgotten else row.key,
            event=row.event,
            priority=_PRIORITIES.get(row.priority, "normal"),
            group=row.group,
            accepted_at=Instant(row.accepted_at),
            due_at=Instant(row.due_at),
            expires_at=Instant(row.expires_at),
            ended_at=moment(row.ended_at or None),
            spent=row.spent,
            held=row.held,
            in_flight=self._batches.in_flight(row),
            maybe_applied=row.maybe_applied,
            reason=row.reason,
            code=row.code,
            message=row.message,
            bytes=row.bytes,
            batch=row.batch_id,
        )

    @staticmethod
    def _attempt(attempt: Attempt) -> AttemptView:
        result = attempt.result
        return AttemptView(
            attempt=attempt.number,
            batch=attempt.batch_id,
            started_at=Instant(attempt.started_at),
            duration_s=None if result is None else result.duration_s,
            outcome=None if result is None else result.outcome.value,
            status=None if result is None else result.status,
            reason="" if result is None else result.reason,
            excerpt="" if result is None else result.excerpt,
            ambiguous=False if result is None else result.ambiguous,
        )
