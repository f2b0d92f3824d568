"""Pruning: what need not be kept is deleted, in small steps."""

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import apsw
import msgspec

from relay.core.errors import StoreDamaged
from relay.core.model import State, StoreRules
from relay.store.history import MINUTE_S
from relay.store.slots import Slots
from relay.store.sqlite.file.checksums import as_damaged
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.trail import prune_trail
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.limits.lending import forget_lent
from relay.store.sqlite.write.apart.around import STEP_ROWS, Around, AroundNothing, naming
from relay.store.sqlite.write.keys import promote

_VACUUM_PAGES = 256  # freed pages given back to the file system per step
_VACUUM_FROM = 4096  # keep 16 MiB of free pages: they are used again soon
# A window of a day may be configured later and must find the attempts it has to count.
_KEEP_ATTEMPTS_S = 86400.0
_BATCHES_STEP = 50
_WORDS = {int(state): state.word for state in State}

_AGED = """
SELECT json_group_array(seq) FROM (
  SELECT seq FROM callback INDEXED BY callback_ended
  WHERE state = ?1 AND state > 0 AND ended_at <= ?2 AND seq NOT IN (SELECT value FROM carray(?3))
  ORDER BY ended_at {} LIMIT ?4)
"""
_PLATFORMS = """
SELECT json_group_array(json_array(seq, platform)) FROM callback WHERE seq IN (SELECT value FROM carray(?))
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
_DONE_BATCHES = """
SELECT number, members FROM batch WHERE number > ? AND number < ? AND state = 2
  AND number NOT IN (SELECT value FROM carray(?)) ORDER BY number {} LIMIT ?
"""
_ALL = 1 << 62  # a number that no batch has
_Pairs = list[tuple[int, int]]
_decode_pairs = msgspec.json.Decoder(_Pairs).decode
_decode_seqs = msgspec.json.Decoder(list[int]).decode


class Pruning:
    """Steps of upkeep; on the writer thread."""

    def __init__(
        self,
        *,
        names: Names,
        slots: Slots,
        rules: Callable[[], StoreRules],
        drop_unused_keys: Callable[[Transaction], None],
    ) -> None:
        self._names = names
        self._slots = slots
        self._rules = rules
        self._drop_unused_keys = drop_unused_keys
        self.batches: Callable[[Transaction, Around], bool] = self._prune_batches  # how they are pruned
        self._early: dict[State, Around] = defaultdict(Around)  # of what goes early, for want of room

    def make_room(self, transaction: Transaction) -> int:
        """Delete one step of delivered and superseded rows whatever their age; return how many."""
        for state in (State.SUPERSEDED, State.DELIVERED):
            around = self._early[state]
            if around.stuck:
                continue
            try:
                deleted = self._delete_aged(transaction, around, state, math.inf, around.limit)
            except (apsw.Error, StoreDamaged) as error:
                if (damaged := as_damaged(error)) is not None:
                    around.met(damaged.rows)  # this group is undone; the next one goes around it
                raise
            if deleted:
                transaction.on_commit.append(around.went)
                return deleted
        return 0

    def parts(self) -> dict[str, tuple[type[Around], Callable[[Transaction, Around], bool]]]:
        """Return what one step consists of, each by name, with what it goes around damage by.

        A part returns whether there may be more of its kind.
        """
        rules, left = self._rules(), _Budget(STEP_ROWS)
        for around in self._early.values():
            around.begin()
        kept_s = {
            State.DELIVERED: rules.keep_delivered_s,
            State.SUPERSEDED: rules.keep_delivered_s,
            State.DEAD: rules.keep_dead_s,
            State.EXPIRED: rules.keep_dead_s,
        }
        aged = {
            state.word: (Around, partial(self._prune_aged, state=state, keep_s=keep_s, left=left))
            for state, keep_s in kept_s.items()
        }
        return {
            **aged,
            "samples": (AroundNothing, partial(self._prune_samples, keep_s=rules.keep_samples_s)),
            "trail": (AroundNothing, partial(self._prune_trail, keep_s=rules.keep_audit_s)),
            "lent": (AroundNothing, self._prune_lent),
            "batches": (Around, self.batches),
            "data keys": (AroundNothing, self._prune_keys),
        }

    def _prune_aged(
        self, transaction: Transaction, around: Around, *, state: State, keep_s: float, left: "_Budget"
    ) -> bool:
        if left.rows <= 0:
            return True
        most = min(left.rows, around.limit)
        deleted = self._delete_aged(transaction, around, state, transaction.now - keep_s, most)
        left.rows -= deleted
        return deleted == most

    def _prune_samples(self, transaction: Transaction, _around: Around, *, keep_s: float) -> bool:
        """Delete minutes over their time, at most ``STEP_ROWS`` of each platform; the next step takes the rest."""
        before = int((transaction.now - keep_s) // MINUTE_S)
        for platform in (0, *self._names.all().values()):  # 0: the samples of all platforms together
            transaction.execute(_AGED_SAMPLES, (platform, before, STEP_ROWS))
        return False

    def _prune_trail(self, transaction: Transaction, _around: Around, *, keep_s: float) -> bool:
        prune_trail(transaction.execute, transaction.now - keep_s, transaction.now)
        return False

    def _prune_lent(self, transaction: Transaction, _around: Around) -> bool:
        forget_lent(transaction, self._counted_since(transaction))
        return False

    def _prune_keys(self, transaction: Transaction, _around: Around) -> bool:
        self._drop_unused_keys(transaction)
        return False

    def _counted_since(self, transaction: Transaction) -> float:
        return transaction.now - max(_KEEP_ATTEMPTS_S, self._slots.longest_window_s)

    def vacuum_step(self, transaction: Transaction) -> None:
        """Give free pages back to the file system, a few per step."""
        free = transaction.execute("PRAGMA freelist_count").get
        if free > _VACUUM_FROM:
            for _ in transaction.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})"):
                pass  # it works while it is stepped; it returns no rows

    def _delete_aged(self, transaction: Transaction, around: Around, state: State, before: float, limit: int) -> int:
        found = transaction.execute(_AGED.format(around.order), (int(state), before, around.left_out, limit))
        aged = _decode_seqs(found.get)
        if aged:
            with naming(aged):
                self._delete(transaction, _decode_pairs(transaction.execute(_PLATFORMS, (numbers(aged),)).get), state)
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

    def _prune_batches(self, transaction: Transaction, around: Around) -> bool:
        """Delete done batches that no kept callback shows, with their attempts, from where the last step ended."""
        before = self._counted_since(transaction)
        low, high = (0, around.cursor or _ALL) if around.newest_first else (around.cursor, _ALL)
        most = min(around.limit, _BATCHES_STEP)
        sought = (low, min(high, int(before * 1e6)), around.left_out, most)
        found = list(transaction.execute(_DONE_BATCHES.format(around.order), sought))
        with naming([number for number, _ in found]):
            self._delete_batches(transaction, found, before)
        more = len(found) == most
        transaction.on_commit.append(partial(setattr, around, "cursor", found[-1][0] if more else 0))
        return more

    def _delete_batches(self, transaction: Transaction, found: Sequence[tuple[int, bytes]], before: float) -> None:
        execute = transaction.execute
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


class _Budget:
    """How many rows a step may still delete, over all states."""

    __slots__ = ("rows",)

    def __init__(self, rows: int) -> None:
        self.rows = rows
