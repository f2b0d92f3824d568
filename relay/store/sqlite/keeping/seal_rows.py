"""Seals what lies in a file from before it was sealed, a few rows per step, and wipes what deleting leaves.

A step takes rows in the order of their numbers. How far it has come is kept in ``meta``: ``sealing_after`` and
``sealing_to`` are numbers of callbacks, ``sealing_done`` counts them. Attempts and operations follow at the end, in one
step each of theirs. Then the rows of ``meta`` go, and the write-ahead log is emptied: it holds the plain text still.
"""

from typing import Any

import apsw
import msgspec

from relay.sealing.codec import NOBODY, Column, frame
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import Transaction

_STEP_ROWS = 200  # a step holds up claims and settles for some milliseconds
_STEP_BYTES = 1024 * 1024
_BUSY_MS, _USUAL_BUSY_MS = 200, 5000
_PLAIN = """
SELECT c.seq, c.platform, c.key_text, c.message, p.sealed, p.body
FROM callback AS c LEFT JOIN payload AS p ON p.seq = c.seq WHERE c.seq > ? AND c.seq <= ? ORDER BY c.seq LIMIT ?
"""
_ORIGINS = """
SELECT o.seq, c.platform, o.idempotency_key, o.reference FROM origin AS o JOIN callback AS c ON c.seq = o.seq
WHERE o.seq > ? AND (typeof(o.idempotency_key) = 'text' OR typeof(o.reference) = 'text') ORDER BY o.seq LIMIT ?
"""
_ATTEMPTS = """
SELECT id, platform, batch, excerpt FROM attempt WHERE id > ? AND typeof(excerpt) = 'text' AND excerpt <> ''
ORDER BY id LIMIT ?
"""


class SealsRows:
    """Seals rows from before; on the writing thread."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals
        self._attempt = self._origin = 0  # the last ones looked at
        self._all_sealed = False
        # The write-ahead log may hold what must not be found any more; at the start, what a crash left in it
        self.wipe = seals.codec is not None

    def step(self, transaction: Transaction) -> bool:
        """Seal a few rows, or wipe; return whether there is more to do."""
        if self._seals.codec is None:
            return self._wiped(transaction)
        span = dict(transaction.execute("SELECT name, value FROM meta WHERE name LIKE 'sealing_%'"))
        if not span:
            return self._wiped(transaction)
        if self._callbacks(transaction, span) or self._origins(transaction) or self._excerpts(transaction):
            return True
        if not self._all_sealed:
            self._small(transaction)
            transaction.on_commit.append(lambda: setattr(self, "_all_sealed", True))
            self.wipe_after(transaction)
            return True
        if not self._wiped(transaction):  # only now is it told as sealed: no plain text is left anywhere
            transaction.execute("DELETE FROM meta WHERE name LIKE 'sealing_%'")
            transaction.on_commit.append(lambda: setattr(self._seals, "only_sealed", True))
        return True

    def _wiped(self, transaction: Transaction) -> bool:
        if not self.wipe:
            return False
        self.wipe_after(transaction)
        return True

    def wipe_after(self, transaction: Transaction) -> None:
        """Empty the write-ahead log after the commit, so that nothing is left of what it deletes."""
        self.wipe = True
        transaction.on_commit.append(lambda: self._empty_wal(transaction.connection))

    def _empty_wal(self, connection: apsw.Connection) -> None:
        """Empty the write-ahead log. While somebody reads an older state it cannot be; the next step tries again.

        A disk that fails here fails the next commit too, which deals with that.
        """
        connection.set_busy_timeout(_BUSY_MS)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self.wipe = False
        except apsw.Error:
            self.wipe = True
        finally:
            connection.set_busy_timeout(_USUAL_BUSY_MS)

    def _callbacks(self, transaction: Transaction, span: dict[str, int]) -> bool:
        """Seal the next callbacks; return False when there are none."""
        seals = self._seals
        bodies: list[tuple[bytes | str, int]] = []
        texts: list[tuple[bytes | str | None, bytes | str | None, int]] = []
        after = done = size = 0
        rows: Any = transaction.execute(_PLAIN, (span["sealing_after"], span["sealing_to"], _STEP_ROWS))
        for seq, platform, key, message, sealed, body in rows:
            after, done = seq, done + 1
            if sealed == 0:
                text = frame(body, key)
                bodies.append((self._sealed(platform, seq, text), seq))
                size += len(text)
                key = None
            key = self._plain(Column.KEY, platform, seq, key)
            texts.append((key, self._plain(Column.MESSAGE, platform, seq, message), seq))
            if size >= _STEP_BYTES:
                break
        if not done:
            return False
        many = transaction.connection.executemany
        many("UPDATE payload SET body = ?, sealed = 1 WHERE seq = ?", bodies)
        many("UPDATE callback SET key_text = ?, message = ? WHERE seq = ?", texts)
        moved = [("sealing_after", after), ("sealing_done", span["sealing_done"] + done)]
        many("INSERT OR REPLACE INTO meta VALUES (?, ?)", moved)
        seals.save(transaction)
        return True

    def _sealed(self, platform: int, seq: int, text: bytes) -> bytes:
        assert self._seals.codec is not None
        return self._seals.codec.seal(Column.BODY, platform, seq / 1e6, seq, text)

    def _origins(self, transaction: Transaction) -> bool:
        """Seal the next texts of who posted; return False when there are none."""
        rows = list(transaction.execute(_ORIGINS, (self._origin, _STEP_ROWS)))
        anew = [
            (
                self._plain(Column.IDEMPOTENCY_KEY, platform, seq, key),
                self._plain(Column.REFERENCE, platform, seq, reference),
                seq,
            )
            for seq, platform, key, reference in rows
        ]
        many = transaction.connection.executemany
        many("UPDATE origin SET idempotency_key = ?, reference = ? WHERE seq = ?", anew)
        self._seals.save(transaction)
        if not rows:
            return False
        last = rows[-1][0]
        transaction.on_commit.append(lambda: setattr(self, "_origin", last))
        return True

    def _plain(self, column: Column, platform: int, seq: int, text: Any) -> Any:
        """Seal what is a text; what is sealed already, or nothing, stays."""
        return self._seals.text(column, platform, seq, seq, text) if isinstance(text, str) else text

    def _excerpts(self, transaction: Transaction) -> bool:
        """Seal the next excerpts of answers; return False when there are none."""
        rows = list(transaction.execute(_ATTEMPTS, (self._attempt, _STEP_ROWS)))
        anew = [
            (self._seals.text(Column.EXCERPT, platform, batch, number, excerpt), number)
            for number, platform, batch, excerpt in rows
        ]
        transaction.connection.executemany("UPDATE attempt SET excerpt = ? WHERE id = ?", anew)
        self._seals.save(transaction)
        if not rows:
            return False
        last = rows[-1][0]
        transaction.on_commit.append(lambda: setattr(self, "_attempt", last))
        return True

    def _small(self, transaction: Transaction) -> None:
        """Seal what there is little of: each platform's last error, the keys that operations were about."""
        execute, many = transaction.execute, transaction.connection.executemany
        errors = list(execute("SELECT platform, last_error FROM ledger WHERE typeof(last_error) = 'text'"))
        sealed = [(self._seals.text(Column.LAST_ERROR, NOBODY, 0, one, error), one) for one, error in errors]
        many("UPDATE ledger SET last_error = ? WHERE platform = ?", sealed)
        meant = list(execute("SELECT number, filter FROM operation WHERE filter ->> 'key' IS NOT NULL"))
        keys = []
        for number, text in meant:
            wanted = msgspec.json.decode(text)
            key = self._seals.text(Column.FILTER, NOBODY, 0, number, wanted.pop("key"))
            keys.append((msgspec.json.encode(wanted).decode(), key, number))
        many("UPDATE operation SET filter = ?, sealed_key = ? WHERE number = ?", keys)
        self._seals.save(transaction)
