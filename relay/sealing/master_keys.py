"""The keys that wrap data keys: one in force, and former ones that still open what they wrapped.

A key is 32 random bytes. People meet it by its id: the first 12 hex digits of a hash of it, which tell nothing of it.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from relay.core.errors import RelayError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # the usual size for GCM (NIST SP 800-38D section 8.2)
_ID_DIGITS: Final = 12


class DoesNotOpen(RelayError):
    """A sealed value was changed or moved, or it was sealed with a key that is not here."""


class KeysUnavailable(RelayError):
    """The keys cannot be had now, or they are not those that the store was sealed with."""


def new_key() -> str:
    """Return a new key as the configuration takes it: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class MasterKey:
    """Wraps and unwraps data keys. Raises ``ValueError`` unless it has 32 bytes.

    ``cryptography`` is imported here, so that a relay that seals nothing does not load it.
    """

    __slots__ = ("_gcm", "id")

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes, not {len(key)}")
        self._gcm = AESGCM(key)
        self.id = hashlib.sha256(b"relay master key\0" + key).hexdigest()[:_ID_DIGITS]

    def wrap(self, key: bytes, about: bytes) -> bytes:
        """Return a data key sealed with this one, together with what it is for."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._gcm.encrypt(nonce, key, about)

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        """Return what was wrapped for the same purpose. Raises ``DoesNotOpen``."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._gcm.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
            raise DoesNotOpen(f"a data key does not open with the key {self.id}") from None


class MasterKeys:
    """The key in force and former ones, by id."""

    def __init__(self, current: MasterKey, previous: Iterable[MasterKey] = ()) -> None:
        self.current = current
        self._by_id = {key.id: key for key in (*previous, current)}

    @property
    def ids(self) -> Sequence[str]:
        """Their ids, that of the one in force first."""
        return [self.current.id, *(key for key in self._by_id if key != self.current.id)]

    def followed_by(self, current: MasterKey) -> "MasterKeys":
        """Return these keys as former ones of ``current``."""
        return MasterKeys(current, self._by_id.values())

    def and_those_of(self, newer: "MasterKeys") -> "MasterKeys":
        """Return these keys and those of ``newer``, whose one in force is that of both."""
        return MasterKeys(newer.current, [*self._by_id.values(), *newer._by_id.values()])

    def get(self, key_id: str) -> MasterKey | None:
        """Return the key with this id, or None."""
        return self._by_id.get(key_id)


class KeySource(Protocol):
    """Where the master keys come from: the configuration, or a service that keeps them (KMS).

    ``renews``: asked with nothing kept, it makes another key; a rotation then needs no other configuration.
    """

    @property
    def renews(self) -> bool:
        """Whether it makes keys by itself."""
        ...

    def keys(self, kept: str | None) -> tuple[MasterKeys, str | None]:
        """Return the keys, and what the store must keep for the next start (None: nothing).

        ``kept`` is what it was given to keep before. It may block. Raises ``KeysUnavailable``.
        """
        ...


class GivenKeys:
    """Keys as the configuration gives them."""

    renews = False

    def __init__(self, current: bytes, previous: Iterable[bytes] = ()) -> None:
        self._keys = MasterKeys(MasterKey(current), [MasterKey(key) for key in previous])

    def keys(self, kept: str | None) -> tuple[MasterKeys, str | None]:
        """Return the keys; nothing is to be kept."""
        return self._keys, None
