"""Operations of the memory store: what a person does to many callbacks at once."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from relay.core.errors import CountMismatch, StoreError, StoreFull
from relay.core.model import UNROUTED, Ended, Filter, Lane, NewCallback, PlatformRules, State
from relay.store.base import Reroute, Stepped
from relay.store.memory.outbox import Batches
from relay.store.memory.rows import Row, Shelf
from relay.store.unsealed import plain_mark
from relay.views.moments import Instant, moment
from relay.views.operation_view import OperationOptions, OperationView, filter_view

_LISTED = 100  # ids of skipped callbacks shown with an operation's progress


def matches(row: Row, wanted: Filter) -> bool:
    """Say whether a row is meant by a filter; empty fields match all."""
    return (
        (wanted.platform is None or row.platform == wanted.platform)
        and (wanted.state is None or row.state.word == wanted.state)
        and (row.dropped if wanted.dropped else wanted.state != State.DEAD.word or bool(wanted.ids) or not row.dropped)
        and (wanted.key is None or row.key == wanted.key)
        and (wanted.event is None or row.event == wanted.event)
        and (wanted.reason is None or row.reason == wanted.reason)
        and (wanted.code is None or row.code == wanted.code)
        and (not wanted.ids or row.id in wanted.ids)
        and (wanted.since is None or row.accepted_at >= wanted.since)
        and (wanted.until is None or row.accepted_at < wanted.until)
    )


_MEANT: dict[str, Callable[[Row], bool]] = {
    "retry": lambda row: row.state in (State.DEAD, State.EXPIRED),
    "drop": lambda row: row.state in (State.PENDING, State.DEAD),
    "expire": lambda row: row.state is State.PENDING,
    "resolve": lambda row: row.held,
    "forget": lambda row: True,
    "resend": lambda row: row.state in (State.DELIVERED, State.DEAD, State.EXPIRED),
}
_ENDING = ("drop", "expire", "forget")
_VERDICTS = ("delivered", "retry", "dead")


@dataclass(slots=True)
class _Operation:
    number: int
    action: str
    wanted: Filter
    options: OperationOptions
    matched: int
    meant: set[int]  # matches to do something about, now or later
    turns: deque[int]  # those that had no turn yet, in order
    started_at: float
    finished_at: float | None = None
    waiting: dict[int, int] = field(default_factory=dict)  # those in a frozen batch, and its number
    settled: deque[int] = field(default_factory=deque)  # those whose batch was settled since
    done: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class MemoryOperations:
    """Starts operations and carries them out step by step."""

    def __init__(
        self,
        shelf: Shelf,
        batches: Batches,
        rules: Callable[[str], PlatformRules],
        enqueue: Callable[[Sequence[NewCallback], float], str],
    ) -> None:
        """``enqueue`` accepts rows and returns the id of the first; it raises ``StoreFull``."""
        self._shelf = shelf
        self._batches = batches
        self._rules = rules
        self._enqueue = enqueue
        self._all: dict[int, _Operation] = {}
        self._ended: Counter[tuple[str, State, str]] = Counter()  # in the step that runs
        self._awaited: dict[int, list[_Operation]] = {}  # by the number of the batch they wait for
        self._released = False  # until drained

    def start(
        self, action: str, wanted: Filter, options: OperationOptions, expect_count: int | None, now: float
    ) -> OperationView:
        """Fix the matches, oldest first. Raises ``CountMismatch``, and ``ValueError`` for an unknown action."""
        meant = _MEANT.get(action)
        if meant is None:
            raise ValueError(f"unknown action {action!r}: one of {', '.join(_MEANT)}")
        if action == "resolve" and options.verdict not in _VERDICTS:
            raise ValueError(f'resolve needs "as": one of {", ".join(_VERDICTS)}')
        seqs = sorted(row.seq for row in self._shelf.rows.values() if meant(row) and matches(row, wanted))
        if expect_count is not None and expect_count != len(seqs):
            raise CountMismatch(expect_count, len(seqs))
        number = len(self._all) + 1
        kept = wanted
        if action == "forget" and wanted.key is not None:
            kept = replace(wanted, key=plain_mark(wanted.key))
            for earlier in self._all.values():
                if earlier.wanted.key == wanted.key:
                    earlier.wanted = replace(earlier.wanted, key=kept.key)
        self._all[number] = operation = _Operation(
            number, action, kept, options, len(seqs), set(seqs), deque(seqs), now
        )
        if not seqs:
            operation.finished_at = now
        return self._progress(operation)

    def step(self, number: int, limit: int, now: float, reroute: Reroute) -> Stepped:
        """Apply an operation to its next ``limit`` matches. Raises ``StoreError`` when there is no such operation."""
        operation = self._all.get(number)
        if operation is None:
            raise StoreError(f"there is no operation {number}")
        act: dict[str, Callable[[Row, OperationOptions, float], str | None]]
        act = {
            "retry": partial(self._retry, reroute),
            "drop": self._drop,
            "expire": self._expire,
            "resolve": self._resolve,
            "forget": self._forget,
            "resend": self._resend,
        }
        for _ in range(min(limit, len(operation.settled) + len(operation.turns))):
            waited = bool(operation.settled)
            turn = operation.settled.popleft() if waited else operation.turns.popleft()
            for seq in self._unfrozen(operation, turn):
                operation.meant.remove(seq)
                operation.waiting.pop(seq, None)
                row = self._shelf.rows.get(seq)
                if row is None:
                    skipped: str | None = "gone"
                elif waited and row.state is not State.PENDING and operation.action != "forget":
                    skipped = "state"  # also of what died: it keeps its payload, as what is dropped does
                else:
                    skipped = act[operation.action](row, operation.options, now)
                if skipped is None:
                    operation.done += 1
                    continue
                operation.skipped[skipped] = operation.skipped.get(skipped, 0) + 1
                if row is not None and len(operation.failed) < _LISTED:
                    operation.failed.append(row.id)
        if not operation.meant and operation.finished_at is None:
            operation.finished_at = now
        ended = [Ended(*what, count) for what, count in self._ended.items()]
        self._ended.clear()
        return Stepped(self._progress(operation), ended)

    def _unfrozen(self, operation: _Operation, seq: int) -> Sequence[int]:
        """Return what may be done with a match: itself, or all of a batch that is given up with it.

        Nothing when it ended with such a batch before, or lies in a frozen one, until that is settled.
        """
        if seq not in operation.meant:
            return ()
        row = self._shelf.rows.get(seq)
        if row is None or not row.frozen or operation.action not in _ENDING:
            return (seq,)
        number = row.frozen
        members = self._batches.give_up(number, operation.meant)
        if members:
            self.settled(number)
            return members
        operation.waiting[seq] = number
        self._awaited.setdefault(number, []).append(operation)
        return ()

    def settled(self, number: int) -> None:
        """Let operations look again at what they left in a batch: it was settled, or is no more."""
        for operation in self._awaited.pop(number, ()):
            self._released = True
            for seq in [seq for seq, batch in operation.waiting.items() if batch == number]:
                del operation.waiting[seq]
                operation.settled.append(seq)

    def drain_released(self) -> bool:
        """Return, once, whether an operation can go on that waited."""
        released, self._released = self._released, False
        return released

    def progress(self, number: int) -> OperationView | None:
        """Return an operation's progress, or None."""
        operation = self._all.get(number)
        return None if operation is None else self._progress(operation)

    def every(self) -> list[OperationView]:
        """Return the progress of all operations, oldest first."""
        return [self._progress(operation) for operation in self._all.values()]

    def open(self) -> list[int]:
        """Return the operations that are not done."""
        return [operation.number for operation in self._all.values() if operation.finished_at is None]

    def _progress(self, operation: _Operation) -> OperationView:
        return OperationView(
            id=operation.number,
            action=operation.action,
            state="running" if operation.finished_at is None else "done",
            matched=operation.matched,
            done=operation.done,
            skipped=dict(operation.skipped),
            failed=list(operation.failed),
            waiting=len(operation.waiting),
            started_at=Instant(operation.started_at),
            finished_at=moment(operation.finished_at),
            filter=filter_view(operation.wanted),
            options=operation.options,
        )

    # Each returns why it skipped the row, or None when done.

    def _retry(self, reroute: Reroute, row: Row, options: OperationOptions, now: float) -> str | None:
        if row.state not in (State.DEAD, State.EXPIRED):
            return "state"
        if row.payload is None:
            return "no_payload"
        if row.platform == UNROUTED:
            return self._reroute(reroute, row, row.payload, now)
        if options.reorder is not True and self._shelf.overtaken(row):
            return "overtaken"
        row.spent = 0
        row.first_sent_at = 0.0
        row.lane = Lane.REPLAY
        self._shelf.revive(row, now)
        return None

    def _reroute(self, reroute: Reroute, row: Row, payload: bytes, now: float) -> str | None:
        unrouted = NewCallback(
            row.platform,
            payload,
            row.key,
            row.event,
            row.priority,
            row.expires_s,
            None,
            row.content_type,
            row.traceparent,
            row.group,
            reference=row.reference,
        )
        found = reroute(unrouted)
        if isinstance(found, str):
            return found
        try:
            first = self._enqueue(found, now)
        except StoreFull:
            return "store_full"
        self._shelf.supersede(row, first, "rerouted", now)
        self._ended.update((new.platform, State.DEAD, new.dead_reason) for new in found if new.dead_reason is not None)
        return None

    def _resend(self, row: Row, options: OperationOptions, now: float) -> str | None:
        if row.state in (State.PENDING, State.SUPERSEDED):
            return "state"
        if row.payload is None:
            return "no_payload"
        if options.reorder is not True and self._shelf.overtaken(row):
            return "overtaken"
        again = NewCallback(
            row.platform,
            row.payload,
            row.key,
            row.event,
            Lane.REPLAY,
            options.expires_s or row.expires_s,
            f"reconcile/{options.run or '-'}/{row.id}",
            row.content_type,
            row.traceparent,
            row.group,
            reference=row.reference,
        )
        if any(other.idempotency_key == again.idempotency_key for other in self._shelf.rows.values()):
            return "resent"
        try:
            first = self._enqueue([again], now)
        except StoreFull:
            return "store_full"
        if row.state is not State.DELIVERED:
            self._shelf.supersede(row, first, "resent", now)
        return None

    def _drop(self, row: Row, options: OperationOptions, now: float) -> str | None:
        if row.state is State.DEAD:
            self._shelf.discard_payload(row)
            self._shelf.unblock(row)
            return None
        return self._end(row, State.DEAD, "dropped", now)

    def _forget(self, row: Row, options: OperationOptions, now: float) -> str | None:
        if row.state is State.PENDING:
            self._finish(row, State.DEAD, "forgotten", now)
            self._shelf.discard_payload(row)
            row.dropped = False
        else:
            self._shelf.discard_payload(row)
            self._shelf.unblock(row)
        row.forgotten, row.message = True, ""
        self._batches.kept.forget_excerpts(row.attempt_ids)
        return None

    def _expire(self, row: Row, options: OperationOptions, now: float) -> str | None:
        return self._end(row, State.EXPIRED, "operator", now)

    def _end(self, row: Row, state: State, reason: str, now: float) -> str | None:
        if row.state is not State.PENDING:
            return "state"
        self._finish(row, state, reason, now)
        return None

    def _finish(self, row: Row, state: State, reason: str, now: float, *, blocks: bool = False) -> None:
        self._shelf.finish(row, state, reason, now, blocks=blocks)
        self._ended[row.platform, state, reason] += 1

    def _resolve(self, row: Row, options: OperationOptions, now: float) -> str | None:
        if not row.held:
            return "state"
        if options.verdict == "delivered":
            row.maybe_applied = False
            self._shelf.finish(row, State.DELIVERED, "resolved", now)
        elif options.verdict == "retry":
            self._shelf.requeue(row, now, Lane.RETRY if row.lane is Lane.NORMAL else row.lane)
        else:
            blocks = self._rules(row.platform).block_on_dead
            self._finish(row, State.DEAD, "resolved", now, blocks=blocks)
        return None
