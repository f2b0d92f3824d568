"""One request inside aiohttp: whether it got as far as a connection, that it is never re-sent, how it is cut off.

aiohttp sends idempotent methods (PUT, DELETE, GET) a second time after a disconnect, without saying so. The client
middleware below turns the errors it does that for into one it does not know. A request given up is *aborted*:
closing alone would first send what is still buffered, after its slot was counted as answered.
"""

import asyncio
import errno
import re
import socket
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection

from relay.delivery.connection import NeverAsked, PlatformConnection, UnreadableAnswer
from relay.wire.answers.answer import Failure, FailureKind

_PIECE_BYTES: Final = 64 * 1024
DENIED: Final = 100_001
"""The errno, of no system's, of a connection that ``outbound`` denies."""
_SEVERAL: Final = re.compile(rf"Multiple exceptions: |\[Errno {DENIED}\] ")  # how a name with several addresses fails
_LACKING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TooLate(aiohttp.ClientError):
    """The request may no longer be sent; not a byte of it was."""


class NotSentAgain(aiohttp.ClientError):
    """Stands for the disconnect in ``__cause__``, so that aiohttp raises it instead of sending again."""


class Body(aiohttp.Payload):
    """A request body in memory, written in pieces so that a slow platform is waited for between them."""

    _autoclose = True
    _value: bytes

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        try:
            if await self._written(writer):
                return
        except OSError:  # the answer may have come before the connection broke: it decides, not the write
            pass
        await asyncio.Event().wait()  # sent only in part; the end of the exchange cancels this and cuts the connection

    async def _written(self, writer: AbstractStreamWriter) -> bool:
        """Return whether all of it went out."""
        if len(self._value) <= _PIECE_BYTES:
            await writer.write(self._value)  # together with the headers in one segment where it fits
            return True
        connection = writer.protocol  # type: ignore[attr-defined]  # of aiohttp's StreamWriter, which it is
        connection.keep_spare()
        view = memoryview(self._value)
        for start in range(0, len(view), _PIECE_BYTES):
            if await connection.heard():
                return False
            await writer.write(view[start : start + _PIECE_BYTES])
        return True


class ExchangeRequest(aiohttp.ClientRequest):
    """A request that remembers the connection it was written to."""

    connection: PlatformConnection | None = None
    asked = False  # a byte of it may have been written: the platform may have seen some of it
    may_go: Callable[[], bool] = staticmethod(lambda: True)  # looked at right before the first byte

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request to ``conn``, unless that ended or spoke unasked: ``NeverAsked``."""
        connection = conn.protocol
        assert isinstance(connection, PlatformConnection)
        self.connection = connection
        await connection.hold()
        if not self.may_go():
            raise TooLate
        if not self.body:  # written at once; a body is by a task, in the next turn of the loop
            self.asked = connection.ask()
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write head and body, unless the connection ended or spoke since ``send`` looked."""
        assert self.connection is not None
        if not self.may_go():
            self.connection.set_exception(TooLate())
            return
        self.asked = self.connection.ask()
        if self.asked:
            await super().write_bytes(writer, conn, content_length)


class Exchange:
    """The client middleware of one request: lets it through once and keeps hold of its connection."""

    __slots__ = ("_may_go", "_request", "_response")

    def __init__(self, may_go: Callable[[], bool]) -> None:
        self._may_go = may_go
        self._request: ExchangeRequest | None = None
        self._response: aiohttp.ClientResponse | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Connect and send ``request``, once. Kept connections that turn out to be no good are passed over."""
        assert isinstance(request, ExchangeRequest)
        self._request = request
        request.may_go = self._may_go
        while True:
            try:
                return await handler(request)
            except NeverAsked as error:
                if error.fresh:
                    raise
            except aiohttp.ClientConnectorError:
                raise  # never connected, and aiohttp does not try again
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                raise NotSentAgain from error

    @property
    def connected(self) -> bool:
        """Whether a byte may have been written to a connection: then the platform may have seen the request."""
        return self._request is not None and self._request.asked

    @property
    def answered(self) -> bool:
        """Whether the answer's status line and headers arrived."""
        return self._response is not None

    def answering(self, response: aiohttp.ClientResponse) -> None:
        """Note that the answer began."""
        self._response = response

    def end(self) -> None:
        """Cut the connection off, unless the exchange is complete and it went back to the pool."""
        response = self._response
        connection = None if self._request is None else self._request.connection
        if connection is not None:
            connection.drop_spare()
        if response is not None and response.connection is None:
            return
        if connection is not None:
            connection.cut()
        if response is not None:
            response.close()


def failure_of(error: Exception, exchange: Exchange) -> Failure:
    """Translate an error of aiohttp or the OS; what is not surely before the connection counts as after it."""
    cause = error.__cause__ if isinstance(error, NotSentAgain) and error.__cause__ is not None else error
    if exchange.connected:
        if isinstance(cause, UnreadableAnswer) and not cause.begun:
            return Failure("not_http", connected=True, detail=_words(cause))
        began = exchange.answered or isinstance(cause, UnreadableAnswer)
        return Failure("truncated" if began else "reset", connected=True, detail=_words(cause))
    return Failure(_connect_kind(cause), connected=False, detail=_words(cause))


def _connect_kind(error: BaseException) -> FailureKind:
    if isinstance(error, TooLate):
        return "late"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno == DENIED:
        return "denied"
    if _lacks(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error):
        return "lacking"
    if isinstance(error, aiohttp.ClientConnectorDNSError | UnicodeError):
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "refused"
    return "unreachable"


def _lacks(error: BaseException) -> bool:
    """Tell whether it was this machine that had no descriptor or memory for a connection.

    A resolver without a descriptor only says that the name is not known; so one is tried for.
    """
    if isinstance(error, socket.gaierror):
        try:
            socket.socket().close()
        except OSError as own:
            error = own
    return isinstance(error, OSError) and error.errno in _LACKING


def _words(error: BaseException) -> str:
    """Describe an error without its own text where that may hold the URL, and with it a token."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno == DENIED:
        return _SEVERAL.sub("", error.os_error.strerror or "")
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {_os_words(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the platform closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer ended early"
    if isinstance(error, NeverAsked | UnreadableAnswer):
        return str(error)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return "the URL cannot be requested"
    if isinstance(error, UnicodeError):
        return "the host name cannot be resolved"
    return _os_words(error)


def _os_words(error: BaseException) -> str:
    words: Any = error.strerror if isinstance(error, OSError) else None
    return words if isinstance(words, str) and "://" not in words else type(error).__name__
