"""HTTP Message Signatures (RFC 9421) over a request, with the digest of its content (RFC 9530)."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from relay.wire.signing.draft import Draft
from relay.wire.signing.stamp import Stamp

DERIVED: Final = ("@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query")
PARAMETERS: Final = ("created", "keyid", "alg")
MADE_HEADERS: Final = ("content-digest", "content-length", "host", "date")
"""Headers a signature may cover without anybody setting them: the signer states them from the request."""

_HTTP_DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"


class MessageSigner:
    """Adds ``Signature-Input`` and ``Signature``, and before them what it covers and nobody has set.

    ``components`` are derived ones (DERIVED) and names of headers. A header that a request does not carry, such as
    Content-Encoding on a body too small to compress, is left out of that signature: RFC 9421 section 2.1 lets only
    present fields be covered. ``parameters`` says which of PARAMETERS are stated. Raises ``ValueError``.
    """

    before_coding: Final = False

    def __init__(
        self,
        *,
        key_id: str,
        algorithm: str,
        signature: Callable[[bytes], bytes],
        components: Sequence[str] = ("@method", "@target-uri", "content-digest"),
        parameters: Sequence[str] = PARAMETERS,
        label: str = "sig1",
    ) -> None:
        for component in components:
            if component.startswith("@") and component not in DERIVED:
                raise ValueError(
                    f"{component!r} is not a component of a request; derived ones are {', '.join(DERIVED)}"
                )
        unknown = [name for name in parameters if name not in PARAMETERS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a parameter; use {', '.join(PARAMETERS)}")
        if not components or len(set(components)) != len(components):
            raise ValueError("components must name something, and nothing twice")
        self._components = tuple(component.lower() for component in components)
        self._signature = signature
        self._label = label
        stated = {
            "created": "created={created}",
            "keyid": f"keyid={_quoted(key_id)}",
            "alg": f"alg={_quoted(algorithm)}",
        }
        self._parameters = [(name, ";" + stated[name]) for name in parameters]

    def sign(self, draft: Draft, *, wall: float) -> Draft:
        """Return ``draft`` with its signature, created at ``wall``."""
        draft = self._with_made(draft, wall)
        covered = [name for name in self._components if name.startswith("@") or _header(draft, name) is not None]
        inner = " ".join(f'"{name}"' for name in covered)
        told = "".join(f";created={int(wall)}" if name == "created" else text for name, text in self._parameters)
        parameters = f"({inner}){told}"
        base = signature_base(draft, covered, parameters)
        signature = base64.b64encode(self._signature(base)).decode("ascii")
        return draft.with_headers(
            [("Signature-Input", f"{self._label}={parameters}"), ("Signature", f"{self._label}=:{signature}:")]
        )

    def _with_made(self, draft: Draft, wall: float) -> Draft:
        made = []
        if "content-digest" in self._components:
            made.append(("Content-Digest", content_digest(draft.body)))
        if "date" in self._components and draft.header("Date") is None:
            made.append(("Date", Stamp(_HTTP_DATE).write(wall)))
        return draft.with_headers(made) if made else draft


def signature_base(draft: Draft, components: Sequence[str], parameters: str) -> bytes:
    """Return the signature base (RFC 9421 section 2.5): a line per component, then the parameters.

    Raises ``KeyError`` for a header that the request does not carry.
    """
    lines = [f'"{name}": {_component(draft, name)}' for name in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("latin-1", "replace")


def content_digest(body: bytes) -> str:
    """Return the ``Content-Digest`` of the content as sent, after any content coding (RFC 9530 section 2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def _component(draft: Draft, name: str) -> str:
    if not name.startswith("@"):
        value = _header(draft, name)
        if value is None:
            raise KeyError(name)
        return value
    parts = urlsplit(draft.url)
    match name:
        case "@method":
            return draft.method
        case "@target-uri":
            return draft.url
        case "@authority":
            return draft.authority
        case "@scheme":
            return parts.scheme.lower()
        case "@request-target":
            return parts.path + (f"?{parts.query}" if parts.query else "")
        case "@path":
            return parts.path or "/"
        case _:
            return f"?{parts.query}"


def _header(draft: Draft, name: str) -> str | None:
    """Return a header as it is signed: without white space at its ends (RFC 9421 section 2.1)."""
    value = draft.header(name)
    if value is None and name == "host":
        return draft.authority
    if value is None and name == "content-length":
        return str(len(draft.body))
    return None if value is None else " ".join(value.split("\n")).strip()


def _quoted(text: str) -> str:
    """Return a structured field string (RFC 8941 section 3.3.3). Raises ``ValueError`` for what it cannot hold."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("a key id must be printable ASCII")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
