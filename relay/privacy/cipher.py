"""Encrypts small texts at rest: AES-256-GCM with a random nonce (NIST SP 800-38D), bound to a purpose."""

import os
from typing import Final

from relay.core.errors import RelayError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # the usual size for GCM; random nonces are safe for 2^32 texts under one key


class NotDecrypted(RelayError):
    """The text was encrypted with another key or for another purpose, or it was changed."""


class Cipher:
    """Seals and opens texts with one key. Raises ``ValueError`` unless the key has 32 bytes.

    ``cryptography`` is imported here, so that a relay that encrypts nothing does not load it.
    """

    __slots__ = ("_gcm", "_purpose")

    def __init__(self, key: bytes, *, purpose: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes, not {len(key)}")
        self._gcm = AESGCM(key)
        self._purpose = purpose

    def seal(self, plain: bytes) -> bytes:
        """Return nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._gcm.encrypt(nonce, plain, self._purpose)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed. Raises ``NotDecrypted``."""
        from cryptography.exceptions import InvalidTag

        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._gcm.decrypt(nonce, ciphertext, self._purpose)
        except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
            raise NotDecrypted("it cannot be decrypted with this key") from None
