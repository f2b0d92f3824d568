"""Decides who may talk to a listener at all: by Host, Origin and token.

A web page can make a browser send requests to 127.0.0.1, and a DNS name can be rebound to that address. Headers that a
page cannot forge show both: ``Host`` has the page's own domain, ``Origin`` is present, or ``Sec-Fetch-Site`` says that
another site asks. They are checked before anything else.
"""

from collections.abc import Iterable
from hmac import compare_digest
from ipaddress import ip_address
from typing import NamedTuple

from aiohttp.web import BaseRequest

from relay.web.message import authority
from relay.web.refusal import Refusal

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# "none": typed, bookmarked or from outside the browser (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header).
# "same-site" is another port or a subdomain: another origin, as for the Origin header.
_OWN_SITES = ("none", "same-origin")
_REMEMBERED = 64  # Host values that passed the check; a client pool uses one or two


class Guard:
    """Checks Host and Origin; build a new one when the configuration changes."""

    def __init__(
        self, *, listen: str, hosts: Iterable[str] = (), origins: Iterable[str] = (), same_origin: bool = False
    ) -> None:
        """Allow loopback names, the ``listen`` address and ``hosts`` (with any port unless they name one).

        ``same_origin`` also allows an Origin that equals the checked Host: a console served by this listener.
        """
        names = [*_LOOPBACK, *hosts]
        # No browser can connect to a unix socket, and other clients of one put anything into Host.
        self._any_host = listen.startswith("unix:")
        if not self._any_host:
            names.append(split_port(listen)[0])
        self._names = {name.lower() for name in names}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._same_origin = same_origin
        self._good: set[str] = set()

    def check(self, request: BaseRequest) -> None:
        """Raise ``Refusal`` (``forbidden_host``, ``forbidden_origin``) for a request that must not be served."""
        headers = request.headers
        host = headers.get("Host")
        if host not in self._good or request.raw_path[:1] != "/":  # else it was checked before, and is all there is
            host = authority(request)
            if host not in self._good and not self._any_host:
                self._check_host(host)
        origin = headers.get("Origin")
        if origin is not None:
            self._check_origin(origin.lower(), host.lower())
            return
        site = headers.get("Sec-Fetch-Site")
        if site is not None and site.lower() not in _OWN_SITES and not _opens_page(request):
            raise Refusal("forbidden_origin", "a page of another site asked a browser for this; open it by itself")

    def _check_host(self, host: str) -> None:
        if not host:
            # Only HTTP/1.0 may leave it out, and HTTP/1.1 may leave it empty (RFC 9112 section 3.2). Which host such a
            # request is for is not known. It could be a page's, through a proxy that drops the header.
            raise Refusal(
                "forbidden_host", "the request names no host; send one that is served, such as `Host: localhost`"
            )
        wanted = host.lower()
        if wanted not in self._names and split_port(wanted)[0] not in self._names:
            raise Refusal("forbidden_host", "add this Host to `hosts` of the listener if it is meant to be served")
        if len(self._good) < _REMEMBERED:
            self._good.add(host)

    def _check_origin(self, origin: str, host: str) -> None:
        if origin in self._origins or (self._same_origin and origin in _origins_of(host)):
            return
        raise Refusal("forbidden_origin", "add this Origin to `origins` of the listener if it is meant to be served")


def from_own_page(request: BaseRequest) -> bool:
    """Return whether the request says with ``Origin`` that a page of this very listener made it."""
    origin = request.headers.get("Origin", "").lower()
    return origin in _origins_of(authority(request).lower())


def _origins_of(host: str) -> tuple[str, str]:
    return f"http://{host}", f"https://{host}"  # behind a proxy that ends TLS it is the second


def _opens_page(request: BaseRequest) -> bool:
    """Return whether a person follows a link to the console.

    Its page is the same for everybody. It changes nothing, and the linking page sees none of it.

    Wikis and chats have links to a relay, so this is allowed. On any other path a foreign page could start work unseen.
    """
    headers = request.headers
    return (
        (request.raw_path == "/" or request.raw_path.startswith("/ui/"))
        and request.method == "GET"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


class PostToken(NamedTuple):
    """A token, and the platforms it is for; None: all."""

    token: str
    platforms: frozenset[str] | None


class Bearer:
    """Checks the tokens of a listener; with none everyone may pass."""

    def __init__(self, token: str | None, tokens: Iterable[PostToken] = ()) -> None:
        shared = [PostToken(token, None)] if token else []
        self._tokens = [(each.token.encode(), each.platforms) for each in (*shared, *tokens)]

    def check(self, request: BaseRequest) -> frozenset[str] | None:
        """Return the platforms that the request's token is for, None for all; raises 401 ``unauthorized``."""
        if not self._tokens:
            return None
        given = bearer_token(request)
        found = False
        platforms: frozenset[str] | None = None
        for token, its in self._tokens:  # all of them, so that the time taken tells nothing
            if given is not None and compare_digest(given, token):
                found, platforms = True, its
        if not found:
            raise Refusal("unauthorized", "send `Authorization: Bearer` with the token of this listener")
        return platforms


def bearer_token(request: BaseRequest) -> bytes | None:
    """Return the token of ``Authorization: Bearer`` (RFC 6750 section 2.1), or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    return token.strip().encode("utf-8", "surrogateescape")


def split_port(address: str) -> tuple[str, int | None]:
    """Split ``host:port``, ``[v6]:port`` or a bare host (no port: None); v6 keeps its brackets."""
    host, colon, port = address.rpartition(":")
    if colon and port.isascii() and port.isdigit() and (":" not in host or host.endswith("]")):
        return host, int(port)
    return address, None


def is_loopback(address: str) -> bool:
    """Return whether a listening address can be reached from this machine only."""
    host = split_port(address)[0].strip("[]")
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
