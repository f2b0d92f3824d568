"""Settling: everything one answer changes, in the group's commit: items, their keys, batch, attempt, totals, gate."""

from array import array
from collections.abc import Sequence

import msgspec

from relay.core.model import State
from relay.core.raw import Kept
from relay.core.settlement import Ending, Requeue, Settlement
from relay.sealing.codec import NOBODY, Column
from relay.store.slots import Slots
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.write.apart.parts import TRAIL, freeze_part
from relay.store.sqlite.write.claim import Claims
from relay.store.sqlite.write.keys import PRIO_OF, promote
from relay.store.sqlite.write.matches import Matches

_DELIVER = """
UPDATE callback SET state = 1, live = 0, head = 0, held = 0, maybe_applied = 0, ended_at = ?2, reason = ?3,
  message = NULL, code = NULL
WHERE seq IN (SELECT value FROM carray(?1))
"""
_END = """
UPDATE callback SET state = ?2, live = ?3, head = 0, held = 0, ended_at = ?4, reason = ?5,
  maybe_applied = maybe_applied | ?6, message = coalesce(nullif(?7, ''), message), code = ?8
WHERE seq IN (SELECT value FROM carray(?1))
"""
# Dead and expired ones of a key learn that a newer one was delivered; the index is empty on a good day.
_OVERTAKE = """
UPDATE callback SET overtaken = 1 WHERE seq IN (
  SELECT s.seq FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value
    CROSS JOIN callback AS s INDEXED BY callback_shelf_key ON s.key = c.key AND s.seq < c.seq
  WHERE s.state IN (2, 3) AND s.key IS NOT NULL
    AND EXISTS (SELECT 1 FROM callback AS x INDEXED BY callback_shelf_key
                WHERE x.state IN (2, 3) AND x.key IS NOT NULL))
"""
# In its old lane a callback that was out once would go behind the whole backlog; among retries it keeps their share.
_RETRIED_LANE = "CASE WHEN lane = 1 THEN 2 ELSE lane END"
_REQUEUE = f"""
UPDATE callback SET trail = {TRAIL}, batch = NULL, head = key IS NULL, due_at = ?2, spent = spent + ?3,
  maybe_applied = maybe_applied | ?4, reason = ?5, message = coalesce(nullif(?6, ''), message),
  lane = {_RETRIED_LANE}, prio = {PRIO_OF.format(lane=_RETRIED_LANE)}
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608 - built from this file's constants
_HOLD = f"""
UPDATE callback SET trail = {TRAIL}, batch = NULL, held = 1, reason = ?2, code = ?3
WHERE seq IN (SELECT value FROM carray(?1))
"""  # noqa: S608
_RESEND = """
UPDATE callback SET spent = spent + ?2, reason = ?3 WHERE seq IN (SELECT value FROM carray(?1))
"""
_ATTEMPT = """
UPDATE attempt SET ended_at = ?2, outcome = ?3, status = ?4, duration_s = ?5, reason = ?6, excerpt = ?7,
  ambiguous = ?8, raw_bytes = ?9, wire_bytes = ?10
WHERE id = ?1
"""
_OPEN_ATTEMPT = """
SELECT a.ended_at, a.platform, b.grp, b.root, b.members,
  EXISTS (SELECT 1 FROM operation_wait AS w INDEXED BY operation_wait_batch WHERE w.batch = a.batch)
FROM attempt AS a JOIN batch AS b ON b.number = a.batch WHERE a.id = ?
"""


class Settles:
    """Settlements for all platforms; on the writer thread."""

    def __init__(
        self, *, names: Names, seals: Seals, slots: Slots, claims: Claims, matches: Matches, ids: PublicIds
    ) -> None:
        self._names = names
        self._seals = seals
        self._matches = matches
        self._slots = slots
        self._claims = claims
        self._ids = ids

    def settle(self, transaction: Transaction, settlement: Settlement, *, blocks: bool) -> None:
        """Carry out what an answer decided, once per attempt.

        Raises ``ValueError`` when the parts do not name each item of the batch exactly once.
        """
        result, attempt_id = settlement.result, settlement.attempt_id

        def release() -> None:
            self._claims.under_way.discard(attempt_id)
            self._slots.release(attempt_id, result.ended_at, result.duration_s, result.wire_bytes)

        found = transaction.execute(
            _OPEN_ATTEMPT,
            (attempt_id,),
        ).get
        if found is None or found[0] is not None:
            # Settled before, perhaps by a commit whose answer was lost: only memory may still be behind.
            transaction.on_commit += (release, self._matches.released)
            return
        _, platform, group, root, packed, awaited = found
        members = array("q", packed)
        settlement.check(members, tag=self._ids.tag)
        self._record(transaction, settlement, platform)
        if result.ambiguous and members:
            transaction.execute(
                "UPDATE callback SET maybe_applied = 1 WHERE seq IN (SELECT value FROM carray(?))", (numbers(members),)
            )
        moved = [*settlement.delivered]
        self.deliver(transaction, platform, settlement.delivered, result.reason)
        for ending in settlement.endings:
            end(transaction, platform, ending, blocks=blocks, message=self._plain(ending.message))
            self._seals.words(transaction, platform, ending.seqs, ending.message)
            moved += ending.seqs
        for again in settlement.requeue:
            _requeue(transaction, again, message=self._plain(again.message))
            self._seals.words(transaction, platform, again.seqs, again.message)
            moved += again.seqs
        if settlement.held:
            transaction.execute(_HOLD, (numbers(settlement.held), result.reason, result.code))
        self._refreeze(transaction, settlement, platform, group, root, members)
        if awaited:
            self._matches.release(transaction, settlement.batch)
        returned = sum(len(again.seqs) for again in settlement.requeue)
        frozen = sum(len(part) for part in settlement.split) + (len(settlement.ask.seqs) if settlement.ask else 0)
        freed = promote(transaction, moved) + returned + frozen
        if settlement.gate is not None:
            save_gate(transaction, platform, settlement.gate)
        transaction.rows += len(members)
        transaction.wake(settlement.platform, freed)
        transaction.on_commit.append(release)

    def _plain(self, message: str) -> str:
        """Return a message as it is kept unsealed."""
        return message if self._seals.codec is None else ""

    def deliver(self, transaction: Transaction, platform: int, seqs: Sequence[int], reason: str) -> None:
        """End items as delivered."""
        if seqs:
            transaction.execute(_DELIVER, (numbers(seqs), transaction.now, reason))
            transaction.count(platform, "delivered", transaction.connection.changes())
            transaction.execute(_OVERTAKE, (numbers(seqs),))

    def _record(self, transaction: Transaction, settlement: Settlement, platform: int) -> None:
        result = settlement.result
        transaction.execute(
            _ATTEMPT,
            (
                settlement.attempt_id,
                result.ended_at,
                result.outcome.value,
                result.status,
                result.duration_s,
                result.reason,
                self._seals.text(Column.EXCERPT, platform, settlement.batch, settlement.attempt_id, result.excerpt),
                result.ambiguous,
                result.raw_bytes,
                result.wire_bytes,
            ),
        )
        if not result.outcome.accepted:
            last_error = {
                "at": result.ended_at,
                "outcome": result.outcome.value,
                "status": result.status,
                "reason": result.reason,
                "excerpt": result.excerpt,
                "batch": self._ids.batch(transaction.execute, settlement.batch),
            }
            transaction.execute(
                "UPDATE ledger SET last_error = ? WHERE platform = ?",
                (
                    self._seals.text(Column.LAST_ERROR, NOBODY, 0, platform, msgspec.json.encode(last_error).decode()),
                    platform,
                ),
            )
        self._seals.save(transaction)

    def _refreeze(
        self,
        transaction: Transaction,
        settlement: Settlement,
        platform: int,
        group: str,
        root: int,
        members: "array[int]",
    ) -> None:
        """End the batch, or let it wait for its re-send; freeze the parts of a split."""
        again = settlement.resend
        if again is None:
            transaction.execute("UPDATE batch SET state = 2 WHERE number = ?", (settlement.batch,))
        else:
            transaction.execute(
                "UPDATE batch SET state = 0, due_at = ? WHERE number = ?", (again.due_at, settlement.batch)
            )
            transaction.execute(_RESEND, (numbers(members), again.charge, again.reason))
        now = transaction.now
        parts = [(part, now, False) for part in settlement.split]
        if settlement.ask is not None:
            asked = settlement.ask
            parts += [([seq], asked.due_at, True) for seq in asked.seqs]
            transaction.execute(_RESEND, (numbers(asked.seqs), 0, asked.reason))
        for part, due_at, confirm in parts:
            number = self._claims.number_batch(now)
            freeze_part(
                transaction,
                number,
                part,
                platform=platform,
                group=group,
                root=root,
                due_at=due_at,
                confirm=confirm,
            )


def end(transaction: Transaction, platform: int, ending: Ending, *, blocks: bool, message: str = "") -> None:
    """End pending items without delivery; a dead one that ``blocks`` keeps its place in its key.

    ``message`` is the ending's where that is kept unsealed.
    """
    if ending.seqs:
        live = int(blocks and ending.state is State.DEAD)
        transaction.execute(
            _END,
            (
                numbers(ending.seqs),
                int(ending.state),
                live,
                transaction.now,
                ending.reason,
                int(ending.maybe_applied),
                message,
                ending.code,
            ),
        )
        transaction.count(platform, ending.state.word, transaction.connection.changes())


def save_gate(transaction: Transaction, platform: int, gate: Kept) -> None:
    """Keep a platform's gate, and of its groups' stops those it names; None is one that is over."""
    groups = gate.get("groups", {})
    own = {name: value for name, value in gate.items() if name != "groups"}
    transaction.execute("INSERT OR REPLACE INTO gate VALUES (?, ?)", (platform, msgspec.json.encode(own).decode()))
    for group, stop in groups.items():
        if stop is None:
            transaction.execute("DELETE FROM stop WHERE platform = ? AND grp = ?", (platform, group))
        else:
            kept = (platform, group, msgspec.json.encode(stop).decode())
            transaction.execute("INSERT OR REPLACE INTO stop VALUES (?, ?, ?)", kept)


def read_gates(transaction: Transaction) -> dict[str, Kept]:
    """Return each platform's gate, with the stops of its groups."""
    decode = msgspec.json.decode
    rows = transaction.execute("SELECT p.name, g.gate FROM gate AS g JOIN platform AS p ON p.id = g.platform")
    gates: dict[str, Kept] = {name: decode(gate) for name, gate in rows}
    stops = transaction.execute("SELECT p.name, s.grp, s.stop FROM stop AS s JOIN platform AS p ON p.id = s.platform")
    for name, group, stop in stops:
        gates[name].setdefault("groups", {})[group] = decode(stop)
    return gates


def _requeue(transaction: Transaction, again: Requeue, *, message: str) -> None:
    if again.seqs:
        transaction.execute(
            _REQUEUE,
            (
                numbers(again.seqs),
                again.due_at,
                int(again.charge),
                int(again.maybe_applied),
                again.reason,
                message,
            ),
        )
