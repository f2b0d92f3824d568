"""Digests by their names in the configuration, keyed or not, and how their bytes are written as text."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Literal

Hash = Literal["md5", "sha1", "sha256", "sha512"]
DigestName = Literal["md5", "sha1", "sha256", "sha512", "hmac-md5", "hmac-sha1", "hmac-sha256", "hmac-sha512"]
Out = Literal["hex", "HEX", "base64"]
Encoding = Literal["text", "base64", "hex"]


class SecretDigest:
    """A digest with a secret, written as text: ``hmac-sha256`` as ``hex`` is 64 characters, ``md5`` as ``HEX`` 32.

    ``hmac-`` digests are keyed with the secret; for the others it is a part of the text that is digested. Raises
    ``ValueError`` for a secret that is not in its ``encoding``.
    """

    __slots__ = ("_digest", "_name", "_out", "secret")

    def __init__(self, name: DigestName, secret: str, *, encoding: Encoding = "text", out: Out = "hex") -> None:
        self.secret = secret.encode()
        self._name = name
        self._digest = _digester(name, key_bytes(secret, encoding))
        self._out = out

    @property
    def is_keyed(self) -> bool:
        """Whether it is an HMAC."""
        return self._name.startswith("hmac-")

    def of(self, data: bytes, *, key: bytes | None = None) -> str:
        """Return the digest of ``data``. ``key`` takes the secret's place, where a key is made for each request."""
        digest = self._digest if key is None else _digester(self._name, key)
        return _written(digest(data), self._out)


def _digester(name: DigestName, secret: bytes) -> Callable[[bytes], bytes]:
    """Return the function called ``name``.

    MD5 and SHA-1 are what platforms ask for; here they are checksums of a shared secret, nothing we would choose.
    """
    keyed, _, algorithm = name.rpartition("-")
    if keyed:
        return lambda data: hmac.digest(secret, data, algorithm)
    return lambda data: hashlib.new(algorithm, data, usedforsecurity=False).digest()


def _written(raw: bytes, out: Out) -> str:
    match out:
        case "hex":
            return raw.hex()
        case "HEX":
            return raw.hex().upper()
        case "base64":
            return base64.b64encode(raw).decode("ascii")


def key_bytes(secret: str, encoding: Encoding) -> bytes:
    """Return the key that ``secret`` stands for: its own UTF-8 bytes, or what base64 or hex text decodes to.

    Raises ``ValueError`` that says nothing of the secret.
    """
    try:
        match encoding:
            case "text":
                return secret.encode()
            case "base64":
                text = secret.strip().replace("-", "+").replace("_", "/")
                return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            case "hex":
                return bytes.fromhex(secret)
    except (binascii.Error, ValueError):
        raise ValueError(f"the secret is not {encoding}") from None
