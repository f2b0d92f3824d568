"""Seals and opens what the file keeps: bodies in one go, texts one by one."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from relay.core.errors import StoreUnusable
from relay.sealing.codec import Codec, Column, unframed
from relay.sealing.master_keys import DoesNotOpen
from relay.store.sqlite.file.names import OWN_WAY, Names
from relay.store.sqlite.file.transaction import Transaction, numbers
from relay.store.transfer.hashes import HashWay

UNREADABLE = "(sealed: does not open)"
"""Stands for a text that does not open, or for which no key was given."""

_BATCH_S = 1e6  # numbers of callbacks and batches are microseconds
_SEALED_BODIES = """
SELECT p.seq, c.platform, p.body FROM carray(?) AS a CROSS JOIN payload AS p ON p.seq = a.value
  JOIN callback AS c ON c.seq = p.seq WHERE p.sealed = 1
"""
SAVE = "INSERT OR REPLACE INTO data_key (id, platform, day, master, wrapped) VALUES (?, ?, ?, ?, ?)"


class Seals:
    """Seals and opens what the file holds. Without a codec nothing is sealed, and what is sealed cannot be read."""

    def __init__(self, codec: Codec | None, secret: bytes | None, way: HashWay = OWN_WAY) -> None:
        """``secret`` is what hashes are keyed with; None where it is sealed and no key was given."""
        self.codec = codec
        self.secret = secret
        self.only_sealed = (
            False  # all that was there in plain is sealed: a plain payload was put there by somebody else
        )
        self._names = None if secret is None else Names(secret, {}, way)

    def hash_as(self, secret: bytes, way: HashWay) -> None:
        """Make hashes in this way from now on."""
        self.secret = secret
        self._names = Names(secret, {}, way)

    def save(self, transaction: Transaction) -> None:
        """Write the data keys made since the last commit. Call it after the last value was sealed."""
        codec = self.codec
        if codec is None or not codec.fresh:
            return
        saved = list(codec.fresh)
        transaction.connection.executemany(SAVE, saved)
        transaction.on_commit.append(lambda: codec.fresh.clear())

    def text(self, column: Column, platform: int, since: int, row: int, text: str) -> str | bytes:
        """Return a text as it is kept: sealed, with the platform's data key of the day of ``since``, in microseconds.

        An empty text says nothing and stays one.
        """
        if self.codec is None or not text:
            return text
        return self.codec.seal(column, platform, since / _BATCH_S, row, text.encode("utf-8", "surrogatepass"))

    def words(self, transaction: Transaction, platform: int, seqs: Sequence[int], message: str) -> None:
        """Keep a platform's words about callbacks, each sealed for its row; without a codec that is done already."""
        if self.codec is not None and message:
            rows = [(self.text(Column.MESSAGE, platform, seq, seq, message), seq) for seq in seqs]
            transaction.connection.executemany("UPDATE callback SET message = ? WHERE seq = ?", rows)
            self.save(transaction)

    def shown(self, column: Column, platform: int, row: int, kept: Any) -> Any:
        """Return a kept text as it was; what was not sealed is returned as it is."""
        if not isinstance(kept, bytes):
            return kept
        if self.codec is None:
            return UNREADABLE
        try:
            return self.codec.open(column, platform, row, kept).decode("utf-8", "surrogatepass")
        except DoesNotOpen:
            return UNREADABLE

    def opened(
        self,
        platform: int,
        seqs: Sequence[int],
        bodies: Sequence[bytes],
        keys: Sequence[str | None],
        sealed: Sequence[int],
    ) -> tuple[list[Any], list[str | None]]:
        """Return payloads and ordering keys of rows, some of which are sealed; None is a payload that does not open."""
        payloads: list[Any] = list(bodies)
        texts = list(keys)
        places = [place for place, one in enumerate(sealed) if one]
        if self.codec is None:
            found: list[bytes | None] = [None] * len(places)
        else:
            rows = [seqs[place] for place in places]
            found = self.codec.open_rows(Column.BODY, platform, rows, [bodies[place] for place in places])
        for place, text in zip(places, found, strict=True):
            payloads[place], texts[place] = (None, None) if text is None else unframed(text)
        if self.only_sealed:
            payloads = [payload if one else None for payload, one in zip(payloads, sealed, strict=True)]
        return payloads, texts

    def body(self, platform: int, seq: int, body: bytes, sealed: int) -> tuple[bytes | None, str | None]:
        """Return one kept payload, and the ordering key sealed with it; None is a payload that does not open."""
        (payload,), (key,) = self.opened(platform, (seq,), (body,), (None,), (sealed,))
        return payload, key

    def keep_keys(self, transaction: Transaction, seqs: Sequence[int]) -> None:
        """Keep the ordering keys of callbacks whose payloads, with which they are sealed, are to be deleted."""
        if self.codec is None:
            return
        rows = list(transaction.execute(_SEALED_BODIES, (numbers(seqs),)))
        kept = [(self.body(platform, seq, body, 1)[1], platform, seq) for seq, platform, body in rows]
        anew = [(self.text(Column.KEY, platform, seq, seq, key), seq) for key, platform, seq in kept if key is not None]
        transaction.connection.executemany("UPDATE callback SET key_text = ? WHERE seq = ?", anew)
        self.save(transaction)

    @property
    def marks(self) -> bool:
        """Whether ``mark`` can be asked: not of a sealed file without its key."""
        return self._names is not None

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records: a hash of it, keyed with the store's secret."""
        assert self._names is not None, "asked of a sealed file without its key"
        return self._names.mark(key)

    def key_numbers(self, key: str, platforms: Iterable[str]) -> tuple[int, ...]:
        """Return the numbers of an ordering key at each of ``platforms``. Raises ``StoreUnusable`` as ``with_key``."""
        if self._names is None:
            raise StoreUnusable("the store is sealed: without privacy.encrypt.key no ordering key is found in it")
        return tuple(self._names.key_number(platform, key) for platform in platforms)

    def with_key(self, key: str, platforms: Mapping[str, int]) -> tuple[str, tuple[object, ...]]:
        """Return the condition that a callback of one of ``platforms`` has the ordering key, and its values.

        Raises ``StoreUnusable`` where the file is sealed and no key was given.
        """
        numbers = self.key_numbers(key, platforms)
        condition = f"key IN ({', '.join('?' * len(numbers))})"
        return (condition, numbers) if self.codec is not None else (f"{condition} AND key_text = ?", (*numbers, key))

    def bodies(self, first: int, platforms: Sequence[int], bodies: Sequence[bytes]) -> Sequence[bytes]:
        """Return framed bodies as they are kept; rows are numbered from ``first``, each of the platform beside it."""
        codec = self.codec
        if codec is None:
            return bodies
        sealed: list[bytes] = []
        at = 0
        for platform, run in groupby(platforms):
            end = at + len(list(run))
            rows = range(first + at, first + end)
            sealed += codec.seal_rows(Column.BODY, platform, rows[0] / _BATCH_S, rows, bodies[at:end])
            at = end
        return sealed
