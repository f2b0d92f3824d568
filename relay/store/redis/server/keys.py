"""The names of keys. All of a platform's lie in one slot of a cluster: ``relay:{shop-a}:r``."""

import hashlib
from base64 import urlsafe_b64encode

_SHARED = ":relay"  # no platform's name begins with a colon


class KeyNames:
    """Keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.secret = b""  # what hashes are keyed with; empty while the store is not sealed

    def of(self, platform: str, suffix: str) -> str:
        """Return a key of a platform."""
        return f"{self.prefix}:{{{platform}}}:{suffix}"

    def pair(self, platform: str) -> tuple[str, str]:
        """Return what every script of a platform is given: how its keys begin, and the key of its lease."""
        return self.of(platform, ""), self.of(platform, "lease")

    def shared(self, suffix: str) -> str:
        """Return a key that belongs to no platform."""
        return self.of(_SHARED, suffix)

    def short_hash(self, text: str) -> str:
        """Return 16 characters that stand for a key of any length."""
        return urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=12, key=self.secret).digest()).decode()

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
