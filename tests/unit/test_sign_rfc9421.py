"""HTTP Message Signatures against the examples of RFC 9421, and keys of each kind against their public halves."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from relay.wire.signing.draft import Draft
from relay.wire.signing.keys import private_key, shared_key
from relay.wire.signing.rfc9421 import MessageSigner, content_digest, signature_base

# RFC 9421 B.1.5 and B.1.4: keys published for testing
SHARED = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
ED25519 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
# RFC 9421 B.2: the request all examples sign
REQUEST = Draft(
    "bat-1",
    "POST",
    "https://example.com/foo?param=Value&Pet=dog",
    {"Date": "Tue, 20 Apr 2021 02:07:55 GMT", "Content-Type": "application/json"},
    b'{"hello": "world"}',
)


def test_example_b_2_5() -> None:
    """Signing a request using hmac-sha256: the signature, and the input that names what it covers."""
    signer = MessageSigner(
        key_id="test-shared-secret",
        algorithm="hmac-sha256",
        signature=shared_key(SHARED),
        components=["date", "@authority", "content-type"],
        parameters=["created", "keyid"],
        label="sig-b25",
    )
    signed = signer.sign(REQUEST, wall=1618884473.6)
    assert signed.headers["Signature-Input"] == (
        'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    )
    assert signed.headers["Signature"] == "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"


def test_example_b_2_6() -> None:
    """Signing a request using ed25519, with derived components and the length of the content."""
    signer = MessageSigner(
        key_id="test-key-ed25519",
        algorithm="ed25519",
        signature=private_key(ED25519, "ed25519"),
        components=["date", "@method", "@path", "@authority", "content-type", "content-length"],
        parameters=["created", "keyid"],
        label="sig-b26",
    )
    signed = signer.sign(REQUEST, wall=1618884473.0)
    assert signed.headers["Signature"] == (
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
    )


def test_every_derived_component() -> None:
    """The signature base states method, target, authority, scheme, path and query as section 2.2 has them."""
    names = ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query", "host"]
    request = Draft("b", "PUT", "https://WWW.Example.com:443/a%20b?x=1", {}, b"")
    assert signature_base(request, names, "()").decode().split("\n") == [
        '"@method": PUT',
        '"@target-uri": https://WWW.Example.com:443/a%20b?x=1',
        '"@authority": www.example.com',
        '"@scheme": https',
        '"@request-target": /a%20b?x=1',
        '"@path": /a%20b',
        '"@query": ?x=1',
        '"host": www.example.com',
        '"@signature-params": ()',
    ]
    with pytest.raises(KeyError):
        signature_base(request, ["x-gone"], "()")


def test_content_digest_covers_the_bytes_sent() -> None:
    """The digest of RFC 9530 stands in a header of its own, and in the signature."""
    assert (
        content_digest(b'{"hello": "world"}') == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    )  # RFC 9530 B
    signer = MessageSigner(key_id="k", algorithm="hmac-sha256", signature=lambda base: base)
    signed = signer.sign(REQUEST, wall=1.0)
    assert signed.headers["Content-Digest"] == content_digest(REQUEST.body)
    base = base64.b64decode(signed.headers["Signature"].removeprefix("sig1=:").removesuffix(":")).decode()
    assert f'"content-digest": {content_digest(REQUEST.body)}' in base.split("\n")
    assert base.endswith('("@method" "@target-uri" "content-digest");created=1;keyid="k";alg="hmac-sha256"')


def test_headers_a_request_does_not_carry_are_left_out() -> None:
    """A component that is absent, such as Content-Encoding of a small body, is not listed either; a date is made."""
    names = ["content-encoding", "date", "@method"]
    signer = MessageSigner(key_id='k"', algorithm="hmac-sha256", signature=shared_key(b"k"), components=names)
    signed = signer.sign(Draft("b", "POST", "https://h/", {}, b""), wall=1618884475.0)
    assert signed.headers["Date"] == "Tue, 20 Apr 2021 02:07:55 GMT"
    assert signed.headers["Signature-Input"].startswith(r'sig1=("date" "@method");created=1618884475;keyid="k\"";')


def test_rsa_and_ecdsa_signatures_verify() -> None:
    """Signatures of the randomised algorithms verify with the public key, in the forms of section 3.3."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=64)
    rsa_key.public_key().verify(private_key(_pem(rsa_key), "rsa-pss-sha512")(b"base"), b"base", pss, hashes.SHA512())

    ec_key = ec.generate_private_key(ec.SECP256R1())
    raw = private_key(_pem(ec_key), "ecdsa-p256-sha256")(b"base")
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    ec_key.public_key().verify(der, b"base", ec.ECDSA(hashes.SHA256()))


def test_keys_of_another_kind_are_refused() -> None:
    """A key that is none, is encrypted or belongs to another algorithm is an error that does not quote it."""
    curve = ec.generate_private_key(ec.SECP256K1())
    for pem, algorithm in [("nonsense", "ed25519"), (ED25519, "rsa-pss-sha512"), (_pem(curve), "ecdsa-p256-sha256")]:
        with pytest.raises(ValueError, match="the private key is not") as refused:
            private_key(pem, algorithm)
        assert pem not in str(refused.value)
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(ValueError, match="passphrase"):
        private_key(locked.decode(), "ed25519")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"components": ["@status"]}, "not a component"),
        ({"components": []}, "must name something"),
        ({"components": ["date", "date"]}, "nothing twice"),
        ({"parameters": ["nonce"]}, "not a parameter"),
        ({"key_id": "schlüssel"}, "printable ASCII"),
    ],
)
def test_what_could_not_sign_is_refused_at_once(settings: dict[str, object], words: str) -> None:
    """A mistake is an error where the signer is made."""
    usual = {"key_id": "k", "algorithm": "hmac-sha256", "signature": shared_key(b"k")}
    with pytest.raises(ValueError, match=words):
        MessageSigner(**{**usual, **settings})  # type: ignore[arg-type]


def _pem(key: "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey") -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_the_digest_of_the_rfc_is_ours() -> None:
    """The digest is over the content alone."""
    assert content_digest(b"") == "sha-256=:" + base64.b64encode(hashlib.sha256(b"").digest()).decode() + ":"
