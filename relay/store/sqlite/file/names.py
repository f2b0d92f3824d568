"""Names as the file keeps them: platforms as small numbers, keys and idempotency keys as keyed hashes.

The hashes are keyed with a secret of the store, so that nobody outside can choose keys that collide, and 63 bits of a
key's hash name platform and key together: among a million live keys two share a number with probability of at most
1e-6, and then merely wait for each other.

The first ten of those bits come from the key without its last third. Order numbers made one after the other differ at
their end, so their rows lie close together in the index of keys: a group of 2,000 then writes some ten pages of it
and not 2,000, which is a third of what accepting costs (docs/performance.md). Random keys lie scattered as ever.
"""

import hashlib

from relay.store.sqlite.file.transaction import Transaction

_NEAR_BITS = 10  # few, so that the other 53 tell keys apart even where a hundred thousand share their start
_NEAR_KEPT = 1024  # starts remembered; traffic has few at a time


class Names:
    """Platform numbers and hashes. Numbers are given on the loop and saved by the first transaction that uses them."""

    def __init__(self, secret: bytes, platforms: dict[str, int]) -> None:
        self._secret = secret
        self._keyed = hashlib.blake2b(digest_size=8, key=secret)
        self._numbers = dict(platforms)
        self._words = {number: name for name, number in platforms.items()}
        self._unsaved: dict[str, int] = {}
        self._near: dict[bytes, int] = {}
        self.keeps_keys = False  # the texts of idempotency keys are kept beside their hashes, for receipts

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

    def key_prefix(self, platform: str) -> bytes:
        """Return what ``key_hash`` needs of the platform."""
        return platform.encode() + b"\0"

    def key_number(self, platform: str, key: str) -> int:
        """Return the number of an ordering key of a platform."""
        return self.key_hash(self.key_prefix(platform), key.encode())

    def key_hash(self, prefix: bytes, key: bytes) -> int:
        """Return the 63-bit number of an ordering key of the platform with ``prefix``; never 0, that is "no key"."""
        start = prefix + key[: -(len(key) // 3 or len(key))]
        near = self._near.get(start)
        if near is None:
            if len(self._near) >= _NEAR_KEPT:
                self._near.clear()
            near = self._near[start] = (self._hash(start) & ((1 << _NEAR_BITS) - 1)) << (63 - _NEAR_BITS)
        return near | self._hash(prefix + key) >> (_NEAR_BITS + 1) or 1

    def _hash(self, text: bytes) -> int:
        keyed = self._keyed.copy()  # two thirds of the cost of keying one anew
        keyed.update(text)
        return int.from_bytes(keyed.digest(), "little")

    def idempotency_hash(self, prefix: bytes, key: str) -> int:
        """Return the 63-bit number of an idempotency key of the platform with ``prefix``."""
        digest = hashlib.blake2b(prefix + key.encode(), digest_size=8, key=self._secret, person=b"idempotency").digest()
        return int.from_bytes(digest, "little") >> 1

    def mark(self, key: str) -> str:
        """Return a hash that stands for an ordering key of any platform in records."""
        digest = hashlib.blake2b(key.encode(), digest_size=12, key=self._secret, person=b"mark").hexdigest()
        return f"hash:{digest}"

    def body_digest(self, payload: bytes, key: str | None, event: str | None) -> bytes:
        """Return 16 bytes that tell whether two rows are "the same body": payload, ordering key and event."""
        about = f"{-1 if key is None else len(key)} {-1 if event is None else len(event)} {key}{event}".encode()
        return hashlib.blake2b(about + b"\0" + payload, digest_size=16, key=self._secret).digest()
