"""The signature algorithms of RFC 9421 section 3.3, by name: a function from bytes to a signature.

``cryptography`` is imported only where an asymmetric key is configured.
"""

import hmac
from collections.abc import Callable
from typing import Final

_P256_BYTES: Final = 32
_PSS_SALT_BYTES: Final = 64  # RFC 9421 section 3.3.1

Signature = Callable[[bytes], bytes]


def shared_key(key: bytes) -> Signature:
    """Return ``hmac-sha256`` with ``key``."""
    return lambda data: hmac.digest(key, data, "sha256")


def private_key(pem: str, algorithm: str) -> Signature:
    """Return ``algorithm`` with the private key in ``pem`` (PKCS#8 or the older forms, without a passphrase).

    Raises ``ValueError`` for text that is no private key, or one of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise ValueError("the private key is not PEM text without a passphrase") from None
    if algorithm == "ed25519" and isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    if algorithm == "rsa-pss-sha512" and isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=_PSS_SALT_BYTES)
        rsa_key = key
        return lambda data: rsa_key.sign(data, pss, hashes.SHA512())
    if (
        algorithm == "ecdsa-p256-sha256"
        and isinstance(key, ec.EllipticCurvePrivateKey)
        and isinstance(key.curve, ec.SECP256R1)
    ):
        ec_key = key

        def signed(data: bytes) -> bytes:
            """Return r and s as RFC 9421 section 3.3.4 has them, not as DER."""
            r, s = decode_dss_signature(ec_key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")

        return signed
    raise ValueError(f"the private key is not one for {algorithm}")
