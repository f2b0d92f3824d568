"""Expiring and pruning: what is over its time ends, what need not be kept is deleted, in small steps."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from relay.core.model import Ended, Expired, State, StoreRules
from relay.core.settlement import Ending
from relay.store.history import MINUTE_S
from relay.store.slots import Slots
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.trail import prune_trail
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.limits.lending import forget_lent
from relay.store.sqlite.write.keys import promote
from relay.store.sqlite.write.matches import Matches
from relay.store.sqlite.write.settle import end

STEP_ROWS = 500  # a step holds up claims and settles for a few milliseconds only
_VACUUM_PAGES = 256  # freed pages given back to the file system per step
_VACUUM_FROM = 4096  # keep 16 MiB of free pages: they are used again soon
_LATE_S = 1.0  # a frozen batch holds something over its time: its settle is near
# A window of a day may be configured later and must find the attempts it has to count.
_KEEP_ATTEMPTS_S = 86400.0
_LATE_BATCHES_STEP = 20  # of up to some thousand items each
_WORDS = {int(state): state.word for state in State}

_LATE = """
SELECT seq FROM callback INDEXED BY callback_expiry
WHERE platform = ?1 AND state = 0 AND expires_at <= ?2 AND batch IS NULL AND held = 0 ORDER BY expires_at LIMIT ?3
"""
_LATE_BATCHES = """
SELECT number, platform, members FROM batch INDEXED BY batch_expiry
WHERE state = 0 AND expires_at <= ? ORDER BY expires_at LIMIT ?
"""
_AGED = """
SELECT json_group_array(json_array(seq, platform)) FROM (
  SELECT seq, platform FROM callback INDEXED BY callback_ended
  WHERE state = ?1 AND state > 0 AND ended_at <= ?2 ORDER BY ended_at LIMIT ?3)
"""
# The keys of rows that go; that of a routed post stays while the row of another of its targets does.
_FORGET = """
DELETE FROM idempotency WHERE hash IN (
    SELECT c.idem FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value WHERE c.idem IS NOT NULL)
  AND (targets IS NULL OR NOT EXISTS (
    SELECT 1 FROM json_each(idempotency.targets) AS t CROSS JOIN callback AS s
      ON s.seq = CASE t.type WHEN 'array' THEN t.value ->> 1 ELSE idempotency.seq + t.key END
    WHERE s.seq NOT IN (SELECT value FROM carray(?1))))
"""
_AGED_SAMPLES = """
DELETE FROM sample WHERE platform = ?1
  AND minute < min(?2, (SELECT min(minute) FROM sample WHERE platform = ?1) + ?3)
"""
_Pairs = list[tuple[int, int]]
_decode_pairs = msgspec.json.Decoder(_Pairs).decode
_decode_seqs = msgspec.json.Decoder(list[int]).decode


class Pruning:
    """Steps of upkeep; on the writer thread."""

    def __init__(
        self,
        *,
        names: Names,
        matches: Matches,
        slots: Slots,
        rules: Callable[[], StoreRules],
        drop_unused_keys: Callable[[Transaction], None],
    ) -> None:
        self._names = names
        self._matches = matches
        self._slots = slots
        self._rules = rules
        self._drop_unused_keys = drop_unused_keys
        self._batch_cursor = 0

    def expire_step(self, transaction: Transaction) -> Expired:
        """End up to ``STEP_ROWS`` callbacks per platform that are over their time, and some batches of such."""
        now = transaction.now
        ended: Counter[str] = Counter()
        more = self._expire_batches(transaction, ended)
        next_at = math.inf
        for name, platform in self._names.all().items():
            late = transaction.execute(
                f"SELECT json_group_array(seq) FROM ({_LATE})",  # noqa: S608 - a constant of this file
                (platform, now, STEP_ROWS),
            ).get
            seqs = _decode_seqs(late)
            if seqs:
                end(transaction, platform, Ending(seqs, State.EXPIRED, "expired"), blocks=False)
                transaction.wake(name, promote(transaction, seqs))
                ended[name] += len(seqs)
                more = more or len(seqs) == STEP_ROWS
            coming, waiting = transaction.execute(
                "SELECT (SELECT min(expires_at) FROM callback INDEXED BY callback_expiry "
                "WHERE platform = ?1 AND state = 0 AND expires_at > ?2), "
                "EXISTS (SELECT 1 FROM callback INDEXED BY callback_expiry "
                "WHERE platform = ?1 AND state = 0 AND expires_at <= ?2 AND held = 0)",
                (platform, now),
            ).get
            next_at = min(next_at, coming if coming is not None else math.inf, now + _LATE_S if waiting else math.inf)
        reported = [Ended(name, State.EXPIRED, "expired", count) for name, count in ended.items()]
        return Expired(reported, more, next_at)

    def _expire_batches(self, transaction: Transaction, ended: Counter[str]) -> bool:
        """End batches that wait for a re-send with all their items over their time; return whether there may be more.

        What an attempt has left open stays recorded with the items, which are counted in ``ended``.
        """
        late = list(transaction.execute(_LATE_BATCHES, (transaction.now, _LATE_BATCHES_STEP)))
        for number, platform, packed in late:
            members = array("q", packed)
            end(transaction, platform, Ending(members, State.EXPIRED, "expired"), blocks=False)
            transaction.execute("UPDATE batch SET state = 2 WHERE number = ?", (number,))
            self._matches.release(transaction, number)
            name = self._names.name(platform)
            transaction.wake(name, promote(transaction, list(members)))
            ended[name] += len(members)
        return len(late) == _LATE_BATCHES_STEP

    def make_room(self, transaction: Transaction) -> int:
        """Delete one step of delivered and superseded rows whatever their age; return how many."""
        for state in (State.SUPERSEDED, State.DELIVERED):
            deleted = self._delete_aged(transaction, state, math.inf, STEP_ROWS)
            if deleted:
                return deleted
        return 0

    def prune_step(self, transaction: Transaction) -> bool:
        """Delete one step of what is over its keeping time; return whether there may be more."""
        rules, now = self._rules(), transaction.now
        budget = STEP_ROWS
        for state, keep_s in (
            (State.DELIVERED, rules.keep_delivered_s),
            (State.SUPERSEDED, rules.keep_delivered_s),
            (State.DEAD, rules.keep_dead_s),
            (State.EXPIRED, rules.keep_dead_s),
        ):
            if budget:
                budget -= self._delete_aged(transaction, state, now - keep_s, budget)
        self._delete_samples(transaction, now - rules.keep_samples_s)
        prune_trail(transaction.execute, now - rules.keep_audit_s, now)
        counted_since = now - max(_KEEP_ATTEMPTS_S, self._slots.longest_window_s)
        forget_lent(transaction, counted_since)
        more_batches = self._delete_batches(transaction, counted_since)
        self._drop_unused_keys(transaction)
        return budget == 0 or more_batches

    def _delete_samples(self, transaction: Transaction, before: float) -> None:
        """Delete minutes over their time, at most ``STEP_ROWS`` of each platform; the next step takes the rest."""
        for platform in (0, *self._names.all().values()):  # 0: the samples of all platforms together
            transaction.execute(_AGED_SAMPLES, (platform, int(before // MINUTE_S), STEP_ROWS))

    def vacuum_step(self, transaction: Transaction) -> None:
        """Give free pages back to the file system, a few per step."""
        free = transaction.execute("PRAGMA freelist_count").get
        if free > _VACUUM_FROM:
            for _ in transaction.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})"):
                pass  # it works while it is stepped; it returns no rows

    def _delete_aged(self, transaction: Transaction, state: State, before: float, limit: int) -> int:
        aged = _decode_pairs(transaction.execute(_AGED, (int(state), before, limit)).get)
        if aged:
            self._delete(transaction, aged, state)
        return len(aged)

    def _delete(self, transaction: Transaction, rows: Sequence[tuple[int, int]], state: State) -> None:
        seqs: list[int] = []
        for seq, platform in rows:
            seqs.append(seq)
            transaction.count(platform, f"pruned_{_WORDS[int(state)]}", 1)
        execute = transaction.execute
        if state is State.DEAD:
            # A dead one that blocked its key no longer does.
            execute(
                "UPDATE callback SET live = 0 WHERE live = 1 AND seq IN (SELECT value FROM carray(?))", (numbers(seqs),)
            )
            if transaction.connection.changes():
                for name, platform in self._names.all().items():
                    if any(platform == other for _, other in rows):
                        transaction.wake(name, 0)
                promote(transaction, seqs)
        execute(
            _FORGET,
            (numbers(seqs),),
        )
        execute("DELETE FROM cost WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),))
        execute("DELETE FROM origin WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),))
        execute("DELETE FROM payload WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),))
        execute("DELETE FROM callback WHERE seq IN (SELECT value FROM carray(?))", (numbers(seqs),))

    def _delete_batches(self, transaction: Transaction, before: float) -> bool:
        """Delete done batches that no kept callback shows, with their attempts, from where the last step ended."""
        execute = transaction.execute
        found = list(
            execute(
                "SELECT number, members FROM batch WHERE number > ? AND number < ? AND state = 2 "
                "ORDER BY number LIMIT 50",
                (self._batch_cursor, int(before * 1e6)),
            )
        )
        gone = [
            number
            for number, members in found
            if not members
            or not execute(
                "SELECT EXISTS (SELECT 1 FROM callback WHERE seq IN (SELECT value FROM carray(?)))",
                (numbers(array("q", members)),),
            ).get
        ]
        if gone:
            recent = execute(
                "SELECT json_group_array(DISTINCT batch) FROM attempt "
                "WHERE batch IN (SELECT value FROM carray(?)) AND (ended_at IS NULL OR ended_at > ?)",
                (numbers(gone), before),
            ).get
            kept = set(_decode_seqs(recent))
            gone = [number for number in gone if number not in kept]
        if gone:
            execute(
                "DELETE FROM weight WHERE attempt IN "
                "(SELECT id FROM attempt WHERE batch IN (SELECT value FROM carray(?)))",
                (numbers(gone),),
            )
            execute("DELETE FROM attempt WHERE batch IN (SELECT value FROM carray(?))", (numbers(gone),))
            execute("DELETE FROM batch WHERE number IN (SELECT value FROM carray(?))", (numbers(gone),))
        more = len(found) == 50
        cursor = found[-1][0] if more else 0
        transaction.on_commit.append(lambda: setattr(self, "_batch_cursor", cursor))
        return more
