"""Callbacks that are accepted anew.

* Retrying what no route took: the routes are asked again, targets are accepted and the original is superseded.
* Sending once more what a platform said ok to and does not show, or what died here. Each new callback has the lane
  ``REPLAY``, a fresh expiry, and the idempotency key ``reconcile/RUN/ID`` of the one it repeats: however often an
  operation is carried out, each is repeated once. A dead or expired one is superseded by it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from relay.core.errors import StoreFull
from relay.core.model import UNROUTED, Ended, Lane, NewCallback, State
from relay.sealing.codec import Column
from relay.store.base import Reroute
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.sqlite.write.accept import PostWriter
from relay.store.sqlite.write.apart.unopened import REASON
from relay.store.sqlite.write.keys import promote
from relay.store.sqlite.write.matches import MatchFacts, Sorted
from relay.store.sqlite.write.rows import Packed, pack
from relay.views.operation_view import OperationOptions

# Payloads looked into within one transaction: some milliseconds that claims and settles wait for.
_STEP_BYTES = 1024 * 1024
_SIZES = """
SELECT a.rowid - 1, c.bytes FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value WHERE c.platform = ?2
"""
_READ = """
SELECT c.seq, p.body, p.sealed, c.key_text, c.event, c.priority, c.expires_s, c.content_type, c.traceparent, c.grp,
  o.reference
FROM carray(?1) AS a CROSS JOIN callback AS c ON c.seq = a.value JOIN payload AS p ON p.seq = c.seq
  LEFT JOIN origin AS o ON o.seq = c.seq
"""
_SUPERSEDE = """
UPDATE callback SET state = 4, live = 0, head = 0, ended_at = ?2, reason = 'rerouted', superseded_by = ?3 WHERE seq = ?1
"""
RESENT = (State.DELIVERED, State.DEAD, State.EXPIRED)
_READ_ONE = """
SELECT p.body, p.sealed, c.key_text, c.event, c.expires_s, c.content_type, c.traceparent, c.grp, o.reference,
  EXISTS (SELECT 1 FROM callback AS n INDEXED BY callback_key WHERE n.key = c.key AND n.seq > c.seq AND n.live = 1)
FROM callback AS c JOIN payload AS p ON p.seq = c.seq LEFT JOIN origin AS o ON o.seq = c.seq WHERE c.seq = ?1
"""
_RESENT = """
UPDATE callback SET state = 4, live = 0, head = 0, ended_at = ?2, reason = 'resent', superseded_by = ?3 WHERE seq = ?1
"""
_Row = TypeVar("_Row", bound=Sequence[Any])


class Reroutes:
    """Moves unrouted callbacks to their targets; on the writer thread."""

    def __init__(self, *, names: Names, seals: Seals, accepts: PostWriter) -> None:
        self._names = names
        self._seals = seals
        self._accepts = accepts

    def bounded(self, transaction: Transaction, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return as many of ``rows`` (sequence number first) as one transaction should ask the routes about."""
        platform = self._names.known(UNROUTED)
        if platform is None or not rows:
            return rows
        found: list[Any] = transaction.execute(_SIZES, (numbers(row[0] for row in rows), platform)).fetchall()
        for (place, _), total in zip(found, accumulate(size for _, size in found), strict=True):
            if total > _STEP_BYTES:
                return rows[: max(1, place)]
        return rows

    def carry_out(self, transaction: Transaction, seqs: Sequence[int], reroute: Reroute, sorted_out: Sorted) -> None:
        """Reroute dead callbacks of the platform ``UNROUTED``; note who stays, and which targets are dead at once."""
        if not seqs:
            return
        moved: list[int] = []
        bundles: list[Packed] = []
        targets: list[Sequence[NewCallback]] = []
        strays: list[Any] = transaction.execute(_READ, (numbers(seqs),)).fetchall()
        platform = self._names.known(UNROUTED)
        assert platform is not None
        for seq, body, sealed, key, event, lane, expires_s, kind, traceparent, group, reference in strays:
            (body,), (key,) = self._seals.opened(platform, (seq,), (body,), (key,), (sealed,))
            if body is None:
                sorted_out.skip(REASON, seq)
                continue
            stray = NewCallback(UNROUTED, body, key, event, lane, expires_s, None, kind, traceparent, group)
            stray = stray._replace(reference=self._seals.shown(Column.REFERENCE, platform, seq, reference))
            found = reroute(stray)
            if isinstance(found, str):
                sorted_out.skip(found, seq)
                continue
            bundle = Packed(framed=self._seals.codec is not None)
            pack(bundle, self._names, found)  # of configured platforms, which all have their numbers
            moved.append(seq)
            bundles.append(bundle)
            targets.append(found)
        buried: Counter[tuple[str, str]] = Counter()
        for seq, first, rows in zip(moved, self._accepts.move(transaction, bundles), targets, strict=True):
            if isinstance(first, StoreFull):
                sorted_out.skip("store_full", seq)
                continue
            transaction.execute(_SUPERSEDE, (seq, transaction.now, first))
            transaction.count(platform, State.DEAD.word, -1)
            transaction.count(platform, State.SUPERSEDED.word, 1)
            buried.update((row.platform, row.dead_reason) for row in rows if row.dead_reason is not None)
        sorted_out.ended += [Ended(name, State.DEAD, reason, count) for (name, reason), count in buried.items()]


class Resends:
    """Repeats callbacks; on the writer thread."""

    def __init__(self, *, names: Names, seals: Seals, accepts: PostWriter, ids: PublicIds) -> None:
        self._names = names
        self._seals = seals
        self._accepts = accepts
        self._ids = ids

    def carry_out(self, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions) -> Sorted:
        """Repeat what can be; note who stays as it is, and why."""
        sorted_out = Sorted()
        for seq, platform, state, _, _, overtaken, has_payload, _ in facts:
            if state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif state not in RESENT:
                sorted_out.skip("state", seq)
            elif not has_payload:
                sorted_out.skip("no_payload", seq)
            elif overtaken and options.reorder is not True:
                sorted_out.skip("overtaken", seq)
            else:
                self._again(transaction, seq, platform, State(state), options, sorted_out.skip)
        return sorted_out

    def _again(
        self,
        transaction: Transaction,
        seq: int,
        platform: int,
        state: State,
        options: OperationOptions,
        skip: Callable[[str, int], None],
    ) -> None:
        row: Any = transaction.execute(_READ_ONE, (seq,)).get
        body, sealed, key, event, expires_s, kind, traceparent, group, reference, newer = row
        (body,), (key,) = self._seals.opened(platform, (seq,), (body,), (key,), (sealed,))
        if body is None:
            return skip(REASON, seq)
        if newer and options.reorder is not True:
            return skip("overtaken", seq)
        again = NewCallback(
            self._names.name(platform),
            body,
            key,
            event,
            Lane.REPLAY,
            options.expires_s or expires_s,
            f"reconcile/{options.run or '-'}/{self._ids.callback(transaction.execute, seq)}",
            kind,
            traceparent,
            group,
            reference=self._seals.shown(Column.REFERENCE, platform, seq, reference),
        )
        bundle = Packed(framed=self._seals.codec is not None)
        pack(bundle, self._names, [again])
        if self._accepts.knows(transaction, bundle):
            return skip("resent", seq)
        (first,) = self._accepts.move(transaction, [bundle])
        if isinstance(first, StoreFull):
            return skip("store_full", seq)
        if state is State.DELIVERED:
            return None
        transaction.execute(_RESENT, (seq, transaction.now, first))
        transaction.count(platform, state.word, -1)
        transaction.count(platform, State.SUPERSEDED.word, 1)
        transaction.wake(again.platform, promote(transaction, [seq]))
        return None
