"""Signs a request by a header: Standard Webhooks, and the HMAC with a timestamp that most webhook senders use.

A signer is compiled once from the configuration and asked anew for each attempt: the timestamp is fresh, the batch id
stays. ``before_coding`` says what it looks at: the fields of the request (then the body is compressed after it), or
the exact bytes sent.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from relay.wire.signing.digest import SecretDigest
from relay.wire.signing.draft import Draft
from relay.wire.signing.stamp import Stamp
from relay.wire.signing.template import Template

HMAC_NAMES: Final = ("timestamp", "body", "id", "method", "url", "authority", "path", "query", "token", "secret")


class Signer(Protocol):
    """Adds a platform's signature to a request."""

    @property
    def before_coding(self) -> bool:
        """Whether it signs fields, and so runs before compression; else it signs the bytes as they are sent."""
        ...

    def sign(self, draft: Draft, *, wall: float) -> Draft:
        """Return ``draft`` signed; ``wall`` is the time to state: seconds since the epoch on the platform's clock."""
        ...


class StandardWebhooks:
    """The symmetric scheme of Standard Webhooks (https://www.standardwebhooks.com, version 1).

    ``secrets`` are ``whsec_`` and base64, or the base64 alone; the first is the newest, and each gives one signature,
    so that a receiver may change over in its own time. Raises ``ValueError`` for a secret of another form.
    """

    before_coding: Final = False

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("there is no secret to sign with")
        self._keys = [_webhooks_key(secret) for secret in secrets]

    def sign(self, draft: Draft, *, wall: float) -> Draft:
        """Add ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature`` over ``id.timestamp.body``."""
        timestamp = str(int(wall))
        signed = b"%b.%b.%b" % (draft.id.encode(), timestamp.encode(), draft.body)
        signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii") for key in self._keys)
        return draft.with_headers(
            [
                ("webhook-id", draft.id),
                ("webhook-timestamp", timestamp),
                ("webhook-signature", " ".join(f"v1,{signature}" for signature in signatures)),
            ]
        )


def _webhooks_key(secret: str) -> bytes:
    if secret.startswith(("whsk_", "whpk_")):
        raise ValueError("the secret is one of the asymmetric scheme; use a whsec_ one")
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret is not whsec_ followed by base64")
    return key


class HeaderHmac:
    """An HMAC in a header over a text with the body in it, such as ``{timestamp}.{body}``.

    ``over`` may name HMAC_NAMES. Raises ``ValueError`` where it names something else.
    """

    before_coding: Final = False

    def __init__(
        self,
        digest: SecretDigest,
        *,
        over: str = "{timestamp}.{body}",
        header: str = "X-Signature",
        prefix: str = "",
        timestamp_header: str | None = "X-Timestamp",
        stamp: Stamp | None = None,
    ) -> None:
        self._digest = digest
        self._over = Template(over, HMAC_NAMES)
        self._header = header
        self._prefix = prefix
        self._timestamp_header = timestamp_header
        self._stamp = stamp or Stamp()

    def sign(self, draft: Draft, *, wall: float) -> Draft:
        """Add the signature, and the timestamp it covers."""
        timestamp = self._stamp.write(wall)
        signed = self._over.fill_lazily(request_values(draft, timestamp, self._digest.secret))
        pairs = [(self._header, self._prefix + self._digest.of(signed))]
        if self._timestamp_header is not None:
            pairs.append((self._timestamp_header, timestamp))
        return draft.with_headers(pairs)


def request_values(draft: Draft, timestamp: str, secret: bytes) -> Mapping[str, Callable[[], bytes]]:
    """Return what templates may name of a request; computed when asked for."""
    return {
        "timestamp": timestamp.encode,
        "body": lambda: draft.body,
        "id": draft.id.encode,
        "method": draft.method.encode,
        "url": lambda: draft.url.partition("?")[0].encode(),
        "authority": lambda: draft.authority.encode(),
        "path": lambda: draft.path.encode(),
        "query": lambda: draft.query.encode(),
        "token": lambda: draft.token.reveal().encode(),
        "secret": lambda: secret,
    }
