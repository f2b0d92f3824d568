"""Ordering keys that an operator holds back: rows of a table, which ``write/keys.py`` looks into for each new head."""

from relay.core.raw import Record
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.trail import keep_deed
from relay.store.sqlite.file.transaction import Transaction, Writes
from relay.store.sqlite.write.accept import PostWriter
from relay.store.sqlite.write.keys import promote


class SqliteHeldKeys:
    """Implements ``relay.store.held_keys.HeldKeys``."""

    def __init__(self, *, write: Writes, names: Names, accepts: PostWriter) -> None:
        self._write = write
        self._names = names
        self._accepts = accepts

    def look(self, transaction: Transaction) -> None:
        """Find out whether any key is held: only then new callbacks are compared with those that are."""
        self._accepts.looks_at_holds = bool(transaction.execute("SELECT EXISTS (SELECT 1 FROM key_hold)").get)

    async def hold(self, platform: str, key: str, reason: str, *, deed: Record | None = None) -> int:
        """Claim nothing more of a key; return how many callbacks of it are pending."""
        number, hashed = self._names.number(platform), self._names.key_number(platform, key)

        def write(transaction: Transaction) -> int:
            self._names.save(transaction)
            transaction.execute(
                "INSERT INTO key_hold VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET reason = excluded.reason",
                (hashed, number, reason, transaction.now),
            )
            transaction.execute("UPDATE callback SET head = 0 WHERE key = ? AND live = 1 AND head = 1", (hashed,))
            keep_deed(transaction, deed)
            self.look(transaction)
            pending: int = transaction.execute(
                "SELECT count(*) FROM callback INDEXED BY callback_key WHERE key = ? AND live = 1 AND key IS NOT NULL "
                "AND state = 0",
                (hashed,),
            ).get
            return pending

        pending: int = await self._write(write)
        return pending

    async def release(self, platform: str, key: str, *, deed: Record | None = None) -> bool:
        """Let a key go on; return whether it was held."""
        hashed = self._names.key_number(platform, key)

        def write(transaction: Transaction) -> bool:
            transaction.execute("DELETE FROM key_hold WHERE key = ?", (hashed,))
            held = bool(transaction.connection.changes())
            first = transaction.execute(
                "SELECT min(seq) FROM callback INDEXED BY callback_key WHERE key = ? AND live = 1 AND key IS NOT NULL",
                (hashed,),
            ).get
            keep_deed(transaction, deed)
            self.look(transaction)
            if first is not None:
                transaction.wake(platform, promote(transaction, [first]))
            return held

        held: bool = await self._write(write)
        return held
