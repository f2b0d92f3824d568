"""Speaks to a running relay: a small blocking HTTP client from the standard library.

A command must start at once, and the import of aiohttp alone would take longer than the whole command.
"""

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from relay.cli.main import EXIT_UNREACHABLE, ExitWith
from relay.cli.words.language import spoken
from relay.cli.words.sentences import say
from relay.core.errors import RelayError
from relay.core.raw import JsonObject

if TYPE_CHECKING:
    import ssl

TIMEOUT_S = 30.0
_V = TypeVar("_V")
Query = Mapping[str, str | int | None]
"""The query of a request by key; None is left out."""


class Unreachable(ExitWith):
    """No daemon answers at an address: exit code 4."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_UNREACHABLE, message)


class Refused(RelayError):
    """The daemon answered with a problem (RFC 9457): exit code 1."""

    def __init__(self, status: int, problem: JsonObject) -> None:
        # A title that is not English is in the language that was asked for; details are English.
        title, detail = str(problem.get("title", "")), str(problem.get("detail", ""))
        if detail and not title.isascii() and not detail.startswith(title):
            detail = f"{title}: {detail}"
        super().__init__(detail or title or f"HTTP status {status}")
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = problem


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One daemon's listener; ``address`` is ``host:port``, ``unix:/path`` or an http(s) URL.

    ``token_from`` names the environment variable for its token.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        token_from: str = "RELAY_TOKEN",  # noqa: S107 - its name, not its value
        timeout_s: float | None = TIMEOUT_S,
        shown: str | None = None,
        hint: Callable[[], str] = str,
    ) -> None:
        """``shown``: file with the certificate that the listener shows; then it is spoken to over TLS.

        ``hint()`` says more where nobody answers.
        """
        self._hint = hint
        self.address = (
            address if shown is None or "://" in address or address.startswith("unix:") else f"https://{address}"
        )
        self._shown = shown
        self._token = token
        self._token_from = token_from
        self._timeout_s = timeout_s

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the JSON answer of ``path``; raises ``Unreachable`` or ``Refused``."""
        given = {key: value for key, value in (query or {}).items() if value is not None}
        return self.send("GET", f"{path}?{urlencode(given)}" if given else path)

    def view(self, kind: type[_V], path: str, query: Query | None = None) -> _V:
        """Return the answer of ``path`` as a view, with wall times; raises ``Refused`` also where it is none."""
        return self.viewed(kind, self.get(path, query))

    def viewed(self, kind: type[_V], answer: Any) -> _V:
        """Return an answer as a view. Raises ``Refused`` where it is none: another version of the relay answers."""
        from msgspec import ValidationError  # loaded with the views, by those commands that read them

        from relay.views.moments import read

        try:
            return read(kind, answer)
        except ValidationError as error:
            words = "{address} answers in a way this version does not know ({error}); is it another version?"
            detail = say(words, address=self.address, error=error)
            raise Refused(502, {"detail": detail}) from error

    def post(self, path: str, body: JsonObject | None = None) -> Any:
        """Post a JSON object and return the JSON answer."""
        return self.send("POST", path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"})

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        size: int | None = None,
    ) -> Any:
        """Send one request and return the JSON answer. A body in pieces needs its ``size`` in bytes."""
        sent = {"Accept": "application/json", "Accept-Language": spoken(), **(headers or {})}
        if size is not None:
            sent["Content-Length"] = str(size)
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            words = "daemon not reachable at {address}: {why}"
            raise Unreachable(say(words, address=self.address, why=why) + self._hint()) from error
        finally:
            connection.close()
        try:
            answer = json.loads(content) if content else {}
        except ValueError:
            words = "{address} answered {status} without JSON; is it a relay?"
            answer = {"detail": say(words, address=self.address, status=status)}
            status = status if status >= 400 else 502
        if status >= 400:
            problem = answer if isinstance(answer, dict) else {}
            if status == 401:
                words = "{address} refused: it wants a token; put the right one into ${name}"
                if self._token:
                    words = "{address} refused: the token it got is not known there; put the right one into ${name}"
                problem = {**problem, "detail": say(words, address=self.address, name=self._token_from)}
            raise Refused(status, problem)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return _UnixConnection(self.address.removeprefix("unix:").removeprefix("//"), self._timeout_s)
        try:
            parts = urlsplit(self.address if "://" in self.address else f"http://{self.address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https"):
            words = "{address} is no address; write host:port, unix:/path or http://host:port"
            raise Unreachable(say(words, address=self.address))
        if host == "0.0.0.0":  # noqa: S104 - a listener on all addresses can be reached on this one
            host = "127.0.0.1"
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._context())

    def _context(self) -> "ssl.SSLContext":
        """Return what trusts the listener's own certificate, or what this machine trusts where that is not known."""
        import ssl  # takes longer to load than most commands take

        try:
            context = ssl.create_default_context(cafile=self._shown)
            if self._shown is not None:  # this very certificate, by whatever name it is reached
                context.check_hostname = False
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            if mine := os.environ.get("RELAY_CLIENT_CERT"):
                context.load_cert_chain(mine)
        except OSError as error:
            words = "{address}: a certificate cannot be read: {error}"
            raise Unreachable(say(words, address=self.address, error=error)) from error
        return context


def segment(text: str) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(text, safe="")
