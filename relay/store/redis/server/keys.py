"""The names of keys. All of a platform's lie in one slot of a cluster: ``relay:{shop-a}:r``."""

from relay.store.transfer.hashes import (
    SERVER,
    SHORT_DIGEST,
    FileHashes,
    HashWay,
    digest_text,
    hashes_of,
    server_digest,
    server_hash,
    text_of,
)

_SHARED = ":relay"  # no platform's name begins with a colon


class KeyNames:
    """Keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.secret = b""  # what hashes are keyed with; empty while the store is not sealed
        self.way: HashWay | None = None  # of the store that this one was copied from
        self._hashes: FileHashes | None = None

    def hash_as(self, way: HashWay | None) -> None:
        """Make hashes as the store that this one was copied from; None: as every server. Set ``secret`` before."""
        self.way = way
        self._hashes = None if way is None else hashes_of(way, self.secret)

    @property
    def own_way(self) -> HashWay:
        """How hashes are made here, for a copy: of a digest no more is kept than ``SHORT_DIGEST`` bytes."""
        if self.way is None:
            return HashWay(SERVER, None if self.secret else b"", SHORT_DIGEST)
        return HashWay(self.way.way, self.way.secret, SHORT_DIGEST)

    def of(self, platform: str, suffix: str) -> str:
        """Return a key of a platform."""
        return f"{self.prefix}:{{{platform}}}:{suffix}"

    def pair(self, platform: str) -> tuple[str, str]:
        """Return what every script of a platform is given: how its keys begin, and the key of its lease."""
        return self.of(platform, ""), self.of(platform, "lease")

    def shared(self, suffix: str) -> str:
        """Return a key that belongs to no platform."""
        return self.of(_SHARED, suffix)

    def key_hash(self, platform: str, key: str) -> str:
        """Return 16 characters that stand for an ordering key of a platform."""
        if self._hashes is not None:
            return text_of(self._hashes.key_number(platform, key))
        return server_hash(key.encode(), self.secret)

    def idempotency_hash(self, platform: str, key: str) -> str:
        """Return 16 characters that stand for an idempotency key of a platform; ``''``: of a routed post."""
        if self._hashes is not None:
            return text_of(self._hashes.idempotency_hash(self._hashes.key_prefix(platform), key))
        return server_hash(key.encode(), self.secret)

    def body_digest(self, payload: bytes, key: str | None, event: str | None) -> str:
        """Return 12 characters that tell whether two posts are the same: payload, key and event."""
        if self._hashes is not None:
            return digest_text(self._hashes.body_digest(payload, key, event))
        return digest_text(server_digest(payload, key, event, self.secret))

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records."""
        return f"hash:{server_hash(key.encode(), self.secret)}"

    @property
    def leases(self) -> str:
        """The channel on which hosts hear that a lease changed its owner."""
        return f"{self.prefix}:leases"

    @property
    def operations(self) -> str:
        """The channel on which hosts hear that an operation was started."""
        return f"{self.prefix}:operations"

    @property
    def wake(self) -> str:
        """The channel on which hosts hear of new work."""
        return f"{self.prefix}:wake"
