"""A request in the making: what authorisation and signing add their headers, query parameters and form fields to.

Every change makes a new draft. The URL and the body are the exact texts sent: a signature may cover either.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

import msgspec

from relay.core.secret import NO_SECRET, Secret

_FORM: Final = "application/x-www-form-urlencoded"
# Reserved and unreserved characters of RFC 3986 and "%": a URL of these goes over the wire as it stands.
_URL_CHARACTERS: Final = "-._~:/?#[]@!$&'()*+,;=%"
_READY: Final = re.compile(r"https?://[^/?#]+/[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]*")

CONTENT_TYPE: Final = "Content-Type"
Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Draft:
    """One request before it is sent. ``id`` is the batch's; ``token`` what it was authorised with, if anything.

    Nothing but the method and the id is shown: URL, headers and body may hold secrets.
    """

    id: str
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    token: Secret = NO_SECRET

    @property
    def path(self) -> str:
        """The URL's path, encoded as it is sent."""
        return urlsplit(self.url).path

    @property
    def query(self) -> str:
        """The URL's query without the question mark, encoded as it is sent."""
        return urlsplit(self.url).query

    @property
    def authority(self) -> str:
        """Host and port as RFC 9421 section 2.2.3 has them: lower case, without a port that goes without saying."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2].lower()
        usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        return host.removesuffix(usual) if usual else host

    @property
    def is_form(self) -> bool:
        """Whether the body is a form."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower() == _FORM

    def header(self, name: str) -> str | None:
        """Return a header's value, looked up in any case."""
        lower = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == lower), None)

    def with_headers(self, pairs: Pairs) -> "Draft":
        """Set headers; one of the same name in any case is replaced."""
        added = dict(pairs)
        names = {name.lower() for name in added}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in names}
        return replace(self, headers={**kept, **added})

    def with_query(self, pairs: Pairs) -> "Draft":
        """Set query parameters, percent-encoded; those of the same name are replaced, the others stay as they are."""
        parts = urlsplit(self.url)
        return replace(self, url=urlunsplit(parts._replace(query=_with_fields(parts.query, pairs))))

    def with_form(self, pairs: Pairs) -> "Draft":
        """Set fields of a form body. Raises ``ValueError`` where the body is something else."""
        if self.body and not self.is_form:
            raise ValueError("only a form body can take form fields")
        body = _with_fields(self.body.decode("ascii", "surrogateescape"), pairs)
        made = replace(self, body=body.encode("ascii", "surrogateescape"))
        return made if self.is_form else made.with_headers([("Content-Type", _FORM)])

    def with_members(self, pairs: Pairs) -> "Draft":
        """Put members at the front of a JSON object; the rest stays byte for byte. ``ValueError`` for another body."""
        body = self.body.lstrip()
        if not body.startswith(b"{"):
            raise ValueError("only a JSON object can take members")
        rest = body[1:].lstrip()
        added = msgspec.json.encode(dict(pairs))[:-1]
        return replace(self, body=added + (rest if rest.startswith(b"}") else b"," + rest))


def merged_headers(*sets: Mapping[str, str]) -> dict[str, str]:
    """Return headers with later ones in the place of earlier ones of the same name in any case."""
    merged: dict[str, tuple[str, str]] = {}
    for headers in sets:
        merged |= {name.lower(): (name, value) for name, value in headers.items()}
    return {CONTENT_TYPE if lower == "content-type" else name: value for lower, (name, value) in merged.items()}


def ready_url(url: str) -> str:
    """Return ``url`` as it goes over the wire: ASCII only, at least ``/`` as its path.

    Raises ``ValueError`` (``UnicodeError``) for a host that has no ASCII form.
    """
    if _READY.fullmatch(url):
        return url
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    return urlunsplit(
        (
            parts.scheme,
            host,
            quote(parts.path, safe=_URL_CHARACTERS) or "/",
            quote(parts.query, safe=_URL_CHARACTERS),
            "",
        )
    )


def fields_of(encoded: str) -> list[tuple[str, str]]:
    """Return the decoded names and values of a query or form (WHATWG URL, section 5.1), in their order."""
    pairs = (part.partition("=") for part in encoded.split("&") if part)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


def _with_fields(encoded: str, pairs: Pairs) -> str:
    added = dict(pairs)
    kept = [part for part in encoded.split("&") if part and unquote_plus(part.partition("=")[0]) not in added]
    return "&".join([*kept, *(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in added.items())])
