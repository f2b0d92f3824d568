"""Cancelling: the order center takes back what is in no frozen batch; on the writer thread."""

import msgspec

from relay.core.model import Cancelled, State
from relay.core.settlement import Ending
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.write.keys import promote
from relay.store.sqlite.write.settle import end

_OF_KEY = """
SELECT json_group_array(json_array(seq, batch)) FROM callback INDEXED BY callback_key
WHERE key = ? AND live = 1 AND key IS NOT NULL AND state = 0
"""
_decode = msgspec.json.Decoder(list[tuple[int, int | None]]).decode


class Cancels:
    """Ends what may be ended, all of it or nothing."""

    def __init__(self, *, names: Names, ids: PublicIds) -> None:
        self._names = names
        self._ids = ids

    def by_id(self, transaction: Transaction, callback_id: str) -> Cancelled:
        """Cancel one callback."""
        seq = self._ids.callback_number(transaction.execute, callback_id)
        found = transaction.execute("SELECT platform, state, batch FROM callback WHERE seq = ?", (seq,)).get
        if found is None:
            return Cancelled(why="unknown")
        platform, state, batch = found
        if state != State.PENDING:
            return Cancelled(why="final")
        return self._end(transaction, platform, [(seq or 0, batch)])

    def of_key(self, transaction: Transaction, platform: str, key: str) -> Cancelled:
        """Cancel all that is pending of a key of a platform."""
        number = self._names.known(platform)
        if number is None:
            return Cancelled()
        found = _decode(transaction.execute(_OF_KEY, (self._names.key_number(platform, key),)).get)
        return self._end(transaction, number, found)

    def _end(self, transaction: Transaction, platform: int, found: list[tuple[int, int | None]]) -> Cancelled:
        if any(batch is not None for _, batch in found):
            return Cancelled(why="in_flight")
        seqs = [seq for seq, _ in found]
        end(transaction, platform, Ending(seqs, State.SUPERSEDED, "cancelled"), blocks=False)
        transaction.wake(self._names.name(platform), promote(transaction, seqs))
        return Cancelled(self._ids.callbacks(transaction.execute, seqs))
