"""Sends one request and says what came back: an answer, or why there is none. Never sends anything twice.

One ``HttpSender`` per platform, so that a platform that hangs holds up only its own connections.
"""

import asyncio
import math
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from ssl import SSLContext, cert_time_to_seconds
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from relay.delivery.connection import Connector
from relay.delivery.exchange import DENIED, Body, Exchange, ExchangeRequest, failure_of
from relay.wire.answers.answer import MAX_ANSWER_BYTES, Answer, Failure, Headers
from relay.wire.compress import decompress_start

# Shorter than the idle timeouts common at the other end (Apache and Node 5 s, nginx 75 s): a connection that the
# platform closes just as we send on it is an ambiguous attempt, and costs far more than a new connection.
_KEEPALIVE_S: Final = 4.0
# A URL made of these characters only is sent as it stands: normalising it could break a signature over it.
_READY_URL: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_PROXY_WANTS_LOGIN: Final = 407  # RFC 9110 section 15.5.8: only a proxy says it
_LINGER_RESET: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger {l_onoff = 1, l_linger = 0}
# aiohttp's own timers round long timeouts up to whole seconds; ours is the only one.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


def always() -> bool:
    """Say that a request may be sent whenever it is ready."""
    return True


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to send. ``timeout_s`` covers connecting, sending and reading the answer."""

    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    answer_bytes: int = MAX_ANSWER_BYTES  # more of the answer is not read
    may_go: Callable[[], bool] = always  # asked right before the first byte; False: nothing is sent


class Sender(Protocol):
    """Sends requests to one platform, each exactly once."""

    async def send(self, request: Request) -> Answer | Failure:
        """Send ``request`` once and return what came of it; cancelling it takes back what is not on the wire yet."""
        ...

    async def close(self) -> None:
        """Reset every connection. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Outbound:
    """How requests leave this machine. ``tls`` None trusts what the system trusts; ``source`` is a local address."""

    proxy: str | None = None
    proxy_auth: tuple[str, str] | None = field(default=None, repr=False)  # user, password
    tls: SSLContext | None = None
    dns_cache_s: float = 30.0
    source: str | None = None
    denied: Callable[[str], str | None] | None = None  # says why nothing may go to an address, None where it may


_DIRECT: Final = Outbound()


class HttpSender:
    """A ``Sender`` over aiohttp: at most ``concurrency`` connections, no redirects, cookies, proxies or re-sends.

    Every socket is set to be reset on close (``SO_LINGER`` with 0 s): a request given up leaves nothing in the kernel
    that could still arrive while its slot is counted as free again. Through a ``proxy`` of ``outbound`` "connected"
    means to the proxy: a 5xx of its own is taken for the platform's, which is the safe side; a 407 is always its own.
    ``certificate`` is told with each connection over TLS when the other end's certificate ends (since the epoch).
    """

    def __init__(
        self,
        *,
        concurrency: int,
        user_agent: str,
        outbound: Outbound = _DIRECT,
        certificate: Callable[[float], None] | None = None,
    ) -> None:
        login = outbound.proxy_auth
        self._proxy_headers = None if login is None else {"Proxy-Authorization": aiohttp.encode_basic_auth(*login)}
        self._proxy_name = "" if outbound.proxy is None else urlsplit(outbound.proxy).netloc.rpartition("@")[2]
        self._session = aiohttp.ClientSession(
            connector=Connector(
                limit=concurrency,
                keepalive_timeout=_KEEPALIVE_S,
                use_dns_cache=outbound.dns_cache_s > 0,
                ttl_dns_cache=max(1, math.ceil(outbound.dns_cache_s)),
                local_addr=None if outbound.source is None else (outbound.source, 0),
                socket_factory=partial(_resetting_socket, outbound.denied),
                ssl=outbound.tls or True,
                secured=None if certificate is None else lambda text: certificate(cert_time_to_seconds(text)),
            ),
            proxy=outbound.proxy,
            # Answers are small and cut at 64 KiB: coding them gains nothing and is one more thing to go wrong.
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            trust_env=False,
            request_class=ExchangeRequest,
        )
        self._url = lru_cache(maxsize=64)(_url)

    async def send(self, request: Request) -> Answer | Failure:
        """Send ``request`` once and return what came of it.

        Raises nothing of aiohttp or the OS; ``ValueError`` for headers that HTTP cannot carry.
        """
        exchange = Exchange(request.may_go)
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._send(request, exchange)
        except TimeoutError:
            limit = f"{request.timeout_s:g} s"
            if exchange.connected:
                return Failure("timeout", connected=True, detail=f"timeout after {limit}")
            return Failure("unreachable", connected=False, detail=f"no connection within {limit}")
        except aiohttp.ClientHttpProxyError as error:  # what it answered to CONNECT: nothing went further
            if error.status == _PROXY_WANTS_LOGIN:
                return Answer(error.status, Headers((error.headers or {}).items()), b"", proxy=self._proxy_name)
            detail = f"the proxy {self._proxy_name} answered {error.status} to CONNECT"
            return Failure("unreachable", connected=False, detail=detail)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return failure_of(error, exchange)
        finally:
            exchange.end()

    async def close(self) -> None:
        """Reset every connection. Safe to call twice."""
        await self._session.close()

    async def _send(self, request: Request, exchange: Exchange) -> Answer:
        url, headers = self._url(request.url), request.headers
        if self._proxy_headers is not None and url.scheme == "http":
            headers = {**headers, **self._proxy_headers}  # aiohttp shows the login only where it asks for a tunnel
        response = await self._session.request(
            request.method,
            url,
            headers=headers,
            proxy_headers=self._proxy_headers,
            data=Body(request.body) if request.body else None,
            allow_redirects=False,
            middlewares=(exchange,),
        )
        exchange.answering(response)
        raw, most = bytearray(), request.answer_bytes
        while len(raw) <= most and (part := await response.content.readany()):
            raw += part
        body, whole = bytes(raw), len(raw) <= most
        answered = Headers(response.headers.items())
        coding = answered.get("content-encoding", "")
        transfer = answered.get("transfer-encoding", "chunked")
        if transfer.lower() != "chunked":  # coded once more on the way (RFC 9112 section 7), though nobody asked for it
            coding = f"{coding},{transfer}"
        if coding:
            body, decoded = decompress_start(body, coding, most)
            whole = whole and decoded
        proxy = self._proxy_name if response.status == _PROXY_WANTS_LOGIN else ""
        return Answer(response.status, answered, body[:most], complete=whole, proxy=proxy)


def _url(text: str) -> URL:
    return URL(text, encoded=_READY_URL.fullmatch(text) is not None)


def _resetting_socket(denied: Callable[[str], str | None] | None, address: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an address that a name resolved to; raises ``OSError`` where nothing may go there."""
    family, kind, protocol = address[:3]
    if denied is not None and (why := denied(address[4][0])) is not None:
        raise OSError(DENIED, why)
    created = socket.socket(family, kind, protocol)
    created.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    return created
