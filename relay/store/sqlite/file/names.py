"""Names as the file keeps them: platforms as small numbers, keys and idempotency keys as keyed hashes.

The hashes are keyed with a secret of the store, so that nobody outside can choose keys that collide, and 63 bits of a
key's hash name platform and key together: among a million live keys two share a number with probability of at most
1e-6, and then merely wait for each other.
"""

import hashlib

from relay.store.sqlite.file.transaction import Transaction
from relay.store.transfer.hashes import FILE, FileHashes, HashWay, hashes_of

SECRET_BYTES = 16  # of what hashes are keyed with; a sealed one is longer
OWN_WAY = HashWay(FILE)
"""How a file makes hashes that was not copied from another store."""


class Names:
    """Platform numbers and hashes. Numbers are given on the loop and saved by the first transaction that uses them."""

    def __init__(self, secret: bytes, platforms: dict[str, int], way: HashWay = OWN_WAY) -> None:
        self.hash_as(secret, way)
        self._numbers = dict(platforms)
        self._words = {number: name for name, number in platforms.items()}
        self._unsaved: dict[str, int] = {}
        self.keeps_keys = False  # the texts of idempotency keys are kept beside their hashes, for receipts

    def hash_as(self, secret: bytes, way: HashWay) -> None:
        """Make hashes in this way from now on."""
        self._secret = secret
        hashes: FileHashes = hashes_of(way, secret)
        # Bound here, so that a hash costs no call more than it must.
        self.key_prefix, self.key_number, self.key_hash = hashes.key_prefix, hashes.key_number, hashes.key_hash
        self.idempotency_hash, self.body_digest = hashes.idempotency_hash, hashes.body_digest

    def number(self, platform: str) -> int:
        """Return the platform's number, giving it one when it has none yet."""
        number = self._numbers.get(platform)
        if number is None:
            number = self._numbers[platform] = len(self._numbers) + 1
            self._words[number] = platform
            self._unsaved[platform] = number
        return number

    def known(self, platform: str) -> int | None:
        """Return the platform's number, or None when the store never saw it."""
        return self._numbers.get(platform)

    def name(self, number: int) -> str:
        """Return the platform with ``number``."""
        return self._words[number]

    def all(self) -> dict[str, int]:
        """Return every platform with its number."""
        return dict(self._numbers)

    def save(self, transaction: Transaction) -> None:
        """Write the numbers given since the last commit."""
        if not self._unsaved:
            return
        saved = dict(self._unsaved)
        for name, number in saved.items():
            transaction.execute("INSERT OR IGNORE INTO platform VALUES (?, ?)", (number, name))
            transaction.execute("INSERT OR IGNORE INTO ledger (platform) VALUES (?)", (number,))

        def forget() -> None:
            for name in saved:
                self._unsaved.pop(name, None)

        transaction.on_commit.append(forget)

    def mark(self, key: str) -> str:
        """Return a hash that stands for an ordering key of any platform in records."""
        digest = hashlib.blake2b(key.encode(), digest_size=12, key=self._secret, person=b"mark").hexdigest()
        return f"hash:{digest}"
