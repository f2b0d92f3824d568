"""Reads host and path of a request, in each form that a request target may have (RFC 9112 section 3.2).

It also refuses what a parser accepts and a server must not: a Host that can be no host, and codings and versions of
HTTP that are not read here.
"""

import re
from urllib.parse import urlsplit

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.web import BaseRequest

from relay.web.refusal import Refusal

_SCHEMES = ("http", "https")
# host [ ":" port ] of RFC 3986 section 3.2, without escapes, which no host name needs. It may be empty.
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]*)(?::[0-9]*)?")


def check_message(request: BaseRequest) -> None:
    """Raise ``Refusal`` for a message with a framing or version that cannot be trusted; it also ends the connection."""
    if request.version not in (HttpVersion11, HttpVersion10):
        raise Refusal("version_not_supported", "send HTTP/1.1", close=True)
    coding = request.headers.get("Transfer-Encoding")
    if coding is not None:
        if request.version == HttpVersion10:  # RFC 9112 section 6.1: its framing is faulty
            raise Refusal("bad_request", "HTTP/1.0 has no Transfer-Encoding", close=True)
        if coding.strip().lower() != "chunked":  # another coding would be taken for a part of the payload
            raise Refusal("not_supported", "of Transfer-Encoding only chunked is read", close=True)


def authority(request: BaseRequest) -> str:
    """Return the host that the request is for: the host in a target in absolute form, else the Host header.

    RFC 9112 sections 3.2 and 3.2.2. Raises ``Refusal`` (400 ``bad_request``) for what can be no host.
    """
    target = request.raw_path
    host = request.headers.get("Host", "")
    if not _AUTHORITY.fullmatch(host):
        raise Refusal("bad_request", "the Host header holds no host", close=True)
    if target[:1] == "/" or "://" not in target:
        return host
    try:
        parts = urlsplit(target)
    except ValueError:
        raise Refusal("bad_request", "the request target is no URL", close=True) from None
    if parts.scheme not in _SCHEMES or not parts.netloc or not _AUTHORITY.fullmatch(parts.netloc):
        raise Refusal("bad_request", "the request target is no http URL with a host alone", close=True)
    return parts.netloc


def origin_form(target: str) -> str:
    """Return path and query of a target; ``*`` and a target without a scheme stay as they are."""
    if target[:1] == "/" or "://" not in target:
        return target
    rest = target.partition("://")[2]
    slash, query = rest.find("/"), rest.find("?")
    if slash < 0 or 0 <= query < slash:
        return "/" + (rest[query:] if query >= 0 else "")
    return rest[slash:]
