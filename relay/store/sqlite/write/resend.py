"""Sending callbacks once more as new ones: what a platform said ok to and does not show, or what died here.

Each new callback has the lane ``REPLAY``, a fresh expiry, and the idempotency key ``reconcile/RUN/ID`` of the one it
repeats: however often an operation is carried out, each is repeated once. A dead or expired one is superseded by it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from relay.core.errors import StoreFull
from relay.core.ids import encode_id
from relay.core.model import Lane, NewCallback, State
from relay.sealing.codec import Column
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.seals import Seals
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.write.accept import PostWriter
from relay.store.sqlite.write.keys import promote
from relay.store.sqlite.write.matches import MatchFacts, Sorted
from relay.store.sqlite.write.rows import Packed, pack
from relay.store.sqlite.write.unopened import REASON
from relay.views.operation_view import OperationOptions

MEANT = (State.DELIVERED, State.DEAD, State.EXPIRED)
_READ = """
SELECT p.body, p.sealed, c.key_text, c.event, c.expires_s, c.content_type, c.traceparent, c.grp, o.reference,
  EXISTS (SELECT 1 FROM callback AS n INDEXED BY callback_key WHERE n.key = c.key AND n.seq > c.seq AND n.live = 1)
FROM callback AS c JOIN payload AS p ON p.seq = c.seq LEFT JOIN origin AS o ON o.seq = c.seq WHERE c.seq = ?1
"""
_SUPERSEDE = """
UPDATE callback SET state = 4, live = 0, head = 0, ended_at = ?2, reason = 'resent', superseded_by = ?3 WHERE seq = ?1
"""


class Resends:
    """Repeats callbacks; on the writer thread."""

    def __init__(self, *, names: Names, seals: Seals, accepts: PostWriter, tag: int) -> None:
        self._names = names
        self._seals = seals
        self._accepts = accepts
        self._tag = tag

    def carry_out(self, transaction: Transaction, facts: Sequence[MatchFacts], options: OperationOptions) -> Sorted:
        """Repeat what can be; note who stays as it is, and why."""
        sorted_out = Sorted()
        for seq, platform, state, _, _, overtaken, has_payload, _ in facts:
            if state is None or platform is None:
                sorted_out.skip("gone", seq)
            elif state not in MEANT:
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
        row: Any = transaction.execute(_READ, (seq,)).get
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
            f"reconcile/{options.run or '-'}/{encode_id(seq, self._tag)}",
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
        transaction.execute(_SUPERSEDE, (seq, transaction.now, first))
        transaction.count(platform, state.word, -1)
        transaction.count(platform, State.SUPERSEDED.word, 1)
        transaction.wake(again.platform, promote(transaction, [seq]))
        return None
