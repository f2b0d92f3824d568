"""Seals what waits in the spool: each post as a whole, with a data key of the file's own.

The file also keeps, sealed, what the store keys its hashes with: a host that starts while the store is away needs it.
"""

import zlib
from typing import Final

import apsw

from relay.core.errors import StoreUnusable
from relay.sealing.codec import NOBODY, Codec, Column, WrappedKey
from relay.sealing.master_keys import DoesNotOpen, KeySource
from relay.store.redis.sealed.data_keys import missing_keys
from relay.store.redis.spool.set_aside import SetAside

_TABLE = """
CREATE TABLE IF NOT EXISTS sealing (one INTEGER PRIMARY KEY, master TEXT, wrapped BLOB, kept TEXT, secret BLOB) STRICT
"""
_ONLY = 1  # the number of the file's data key


CHANGED: Final = "it was changed: its checksum is another"


def sum_of(number: int, packed: bytes) -> int:
    """Return the checksum of a post that lies there in plain; a sealed one opens only as it was."""
    return zlib.crc32(packed, number & 0xFFFFFFFF)


class SpoolSeal:
    """The data key of one file; without ``source`` nothing is sealed."""

    def __init__(self, connection: apsw.Connection, source: KeySource | None, aside: SetAside) -> None:
        """Take the file's data key over, or make one. Raises ``StoreUnusable`` and ``KeysUnavailable``."""
        self._connection = connection
        self._aside = aside
        self._codec: Codec | None = None
        connection.execute(_TABLE)
        if not connection.execute("SELECT 1 FROM pragma_table_info('entry') WHERE name = 'sealed'").get:
            connection.execute("ALTER TABLE entry ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0")
        if source is not None:
            connection.execute("PRAGMA secure_delete = ON")  # what waited in plain before is overwritten
            self.use(source)
        elif (used := connection.execute("SELECT master FROM sealing").get) and self._holds_sealed():
            raise StoreUnusable(f"the spool holds posts sealed with the key {used}: give it as privacy.encrypt.key")

    def _holds_sealed(self) -> bool:
        try:
            return self._connection.execute("SELECT 1 FROM entry WHERE sealed LIMIT 1").get is not None
        except apsw.CorruptError:
            return True  # it may: what cannot be read cannot be told

    @property
    def on(self) -> bool:
        """Whether posts are sealed."""
        return self._codec is not None

    def use(self, source: KeySource) -> None:
        """Take over master keys, and wrap the data key with the one in force."""
        row = self._connection.execute("SELECT master, wrapped, kept FROM sealing").fetchone()
        masters, keep = source.keys(None if row is None else row[2])
        if row is None:
            codec = Codec(masters)
            codec.take(codec.make(_ONLY, NOBODY, 0))
        else:
            missing = missing_keys((str(row[0]),), masters)
            if missing:
                raise StoreUnusable(f"the spool {missing}")
            codec = Codec(masters, [WrappedKey(_ONLY, NOBODY, 0, str(row[0]), bytes(row[1]))])
            codec.rewrapped(codec.wrapped_anew(masters.current))
        (kept,) = codec.kept
        with self._connection:
            self._connection.execute(
                "INSERT INTO sealing (one, master, wrapped, kept) VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE SET "
                "master = ?1, wrapped = ?2, kept = coalesce(?3, kept)",
                (kept.master, kept.wrapped, keep),
            )
            if row is None:
                self._seal_what_waits(codec)
        self._codec = codec  # not before it is kept
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the plain text stands in the file until then

    def _seal_what_waits(self, codec: Codec) -> None:
        """Seal the posts that waited in plain before; a plain one that is found later was put there by somebody."""
        for number, packed, kept in list(self._connection.execute("SELECT n, packed, sum FROM entry WHERE sealed = 0")):
            if kept not in (None, sum_of(number, packed)):
                self._aside.add(number, CHANGED)  # once it is sealed nothing shows it
            sealed = codec.seal(Column.BODY, NOBODY, 0.0, number, packed)
            self._connection.execute("UPDATE entry SET packed = ?, sealed = 1 WHERE n = ?", (sealed, number))

    def seal(self, number: int, packed: bytes) -> bytes:
        """Return a post as it is kept."""
        return packed if self._codec is None else self._codec.seal(Column.BODY, NOBODY, 0.0, number, packed)

    def open(self, number: int, kept: bytes, sealed: int) -> bytes:
        """Return a kept post. Raises ``StoreUnusable`` where it does not open."""
        if self._codec is None and not sealed:
            return kept
        try:
            assert self._codec is not None
            if not sealed:
                raise DoesNotOpen("not sealed")
            return self._codec.open(Column.BODY, NOBODY, number, kept)
        except DoesNotOpen:
            raise StoreUnusable(f"post {number} in the spool does not open: it was changed, or put there") from None

    @property
    def secret(self) -> bytes | None:
        """What the store keys its hashes with; None where this host never reached it."""
        kept = self._connection.execute("SELECT secret FROM sealing").get
        return None if kept is None or self._codec is None else self._codec.open(Column.SECRET, NOBODY, 0, kept)

    def keep_secret(self, secret: bytes) -> None:
        """Keep what the store keys its hashes with."""
        if self._codec is not None and self.secret != secret:
            sealed = self._codec.seal(Column.SECRET, NOBODY, 0.0, 0, secret)
            self._connection.execute("UPDATE sealing SET secret = ?", (sealed,))
