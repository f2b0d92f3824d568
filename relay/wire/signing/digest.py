"""Digests by their names in the configuration, keyed or not, and how their bytes are written as text."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

HASHES: Final = ("md5", "sha1", "sha256", "sha512")
DIGESTS: Final = (*HASHES, *(f"hmac-{name}" for name in HASHES))
OUTS: Final = ("hex", "HEX", "base64")
ENCODINGS: Final = ("text", "base64", "hex")


def digester(name: str, secret: bytes) -> Callable[[bytes], bytes]:
    """Return the function called ``name``; ``hmac-`` ones are keyed with ``secret``. Raises ``ValueError``.

    MD5 and SHA-1 are what platforms ask for; here they are checksums of a shared secret, nothing we would choose.
    """
    if name not in DIGESTS:
        raise ValueError(f"{name!r} is not a digest; use one of {', '.join(DIGESTS)}")
    keyed, _, algorithm = name.rpartition("-")
    if keyed:
        return lambda data: hmac.digest(secret, data, algorithm)
    return lambda data: hashlib.new(algorithm, data, usedforsecurity=False).digest()


def written(raw: bytes, out: str) -> str:
    """Return ``raw`` as ``hex``, ``HEX`` (upper case) or ``base64``. Raises ``ValueError`` for another form."""
    if out == "hex":
        return raw.hex()
    if out == "HEX":
        return raw.hex().upper()
    if out == "base64":
        return base64.b64encode(raw).decode("ascii")
    raise ValueError(f"{out!r} is not a form of a digest; use one of {', '.join(OUTS)}")


def key_bytes(secret: str, encoding: str) -> bytes:
    """Return the key that ``secret`` stands for: its own UTF-8 bytes, or what base64 or hex text decodes to.

    Raises ``ValueError`` that says nothing of the secret.
    """
    try:
        if encoding == "text":
            return secret.encode()
        if encoding == "base64":
            text = secret.strip().replace("-", "+").replace("_", "/")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        if encoding == "hex":
            return bytes.fromhex(secret)
    except (binascii.Error, ValueError):
        raise ValueError(f"the secret is not {encoding}") from None
    raise ValueError(f"{encoding!r} is not an encoding of a secret; use one of {', '.join(ENCODINGS)}")
