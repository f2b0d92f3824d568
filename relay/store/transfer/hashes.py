"""What stands for ordering keys and idempotency keys in a store: hashes, keyed with a secret of the store.

A store in a file and one on a server make them in ways of their own. Neither keeps all the texts, so a store that was
copied goes on with the way and the secret of the one that it was copied from (``HashWay``).
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

_NEAR_BITS = 10  # few, so that the other 53 tell keys apart even where a hundred thousand share their start
_NEAR_KEPT = 1024  # starts remembered; traffic has few at a time
SHORT_DIGEST: Final = 9
"""Bytes of a body's digest that a store on a server keeps."""
FILE: Final = "file"
SERVER: Final = "server"


class HashWay(msgspec.Struct, frozen=True):
    """How a store makes its hashes: as a ``file`` does, or as a ``server`` does.

    ``secret``: None stands for the store's own, which is kept apart because it may be sealed.
    """

    way: str
    secret: bytes | None = None
    digest_bytes: int = 16


class FileHashes:
    """Hashes as a file makes them: 63 bits for a key of a platform, 16 bytes for a body.

    The first ten bits of a key's hash come from the key without its last third. Order numbers made one after the other
    differ at their end, so their rows lie close together in the index of keys: a group of 2,000 then writes some ten
    pages of it and not 2,000, which is a third of what accepting costs (docs/performance.md). Random keys lie scattered
    as ever.
    """

    def __init__(self, secret: bytes, *, digest_bytes: int = 16) -> None:
        self._secret = secret
        self._digest_bytes = digest_bytes
        self._keyed = hashlib.blake2b(digest_size=8, key=secret)
        self._near: dict[bytes, int] = {}

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

    def body_digest(self, payload: bytes, key: str | None, event: str | None) -> bytes:
        """Return bytes that tell whether two rows are "the same body": payload, ordering key and event."""
        about = f"{-1 if key is None else len(key)} {-1 if event is None else len(event)} {key}{event}".encode()
        return hashlib.blake2b(about + b"\0" + payload, digest_size=16, key=self._secret).digest()[: self._digest_bytes]


class ServerHashes(FileHashes):
    """Hashes as a server makes them, as numbers: what came from one is found under the same number."""

    def key_hash(self, prefix: bytes, key: bytes) -> int:
        """Return the number of an ordering key."""
        return number_of(prefix, server_hash(key, self._secret))

    def idempotency_hash(self, prefix: bytes, key: str) -> int:
        """Return the number of an idempotency key."""
        return number_of(prefix, server_hash(key.encode(), self._secret))

    def body_digest(self, payload: bytes, key: str | None, event: str | None) -> bytes:
        """Return the digest of a body."""
        return server_digest(payload, key, event, self._secret)


def server_hash(text: bytes, secret: bytes) -> str:
    """Return 16 characters that stand for a key of any length."""
    return urlsafe_b64encode(hashlib.blake2b(text, digest_size=12, key=secret).digest()).decode()


def server_digest(payload: bytes, key: str | None, event: str | None, secret: bytes) -> bytes:
    """Return the digest of a body as a server keeps it."""
    digest = hashlib.blake2b(digest_size=SHORT_DIGEST, key=secret)
    for part in (payload, (key or "").encode(), (event or "").encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def number_of(prefix: bytes, hashed: str) -> int:
    """Return the number that stands for what a server hashed, at the platform with ``prefix``; never 0."""
    digest = hashlib.blake2b(prefix + hashed.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 or 1


def hashes_of(way: HashWay, secret: bytes) -> FileHashes:
    """Return what makes hashes; ``secret`` is the store's own."""
    kind = ServerHashes if way.way == SERVER else FileHashes
    return kind(secret if way.secret is None else way.secret, digest_bytes=way.digest_bytes)


def text_of(number: int) -> str:
    """Return a number as the text that a server keeps, always of 16 characters."""
    return f"{number:016x}"


def digest_text(digest: bytes) -> str:
    """Return a digest as a server keeps it."""
    return urlsafe_b64encode(digest[:SHORT_DIGEST]).decode()


def digest_bytes(text: bytes) -> bytes:
    """Return the digest that a server keeps as this text."""
    return urlsafe_b64decode(text)
