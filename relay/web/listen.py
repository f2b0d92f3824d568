"""Serves and closes one listener: the sockets of its address, or those that systemd opened for it."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from ssl import SSLContext
from typing import Any, cast

from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from relay.web.admit import Accepting, Connections
from relay.web.refusal import problem
from relay.web.response import Response
from relay.web.sockets import BACKLOG, SocketFile, address_text, bind
from relay.web.turns import LONG_BYTES, ParserTurns, is_costly

# After this long an idle connection, or one whose head is not complete, is closed. The pools of common HTTP clients
# close theirs earlier (after 60 s or less). So the client closes, and no request meets a connection that is closing.
_KEEPALIVE_S = 75.0
# After a refusal the rest of the body is read and dropped for this long; else a reset could destroy the answer.
_LINGER_S = 3.0
# Bounds of a head, a little above the most that common clients and proxies send (RFC 9112 section 3: 8000 or more).
# aiohttp has one error for both lengths; they differ so that it shows which one was exceeded.
_MOST_TARGET_BYTES = 8190
_MOST_LINE_BYTES = 8192
_MOST_LINES = 128
_TOO_MANY = "Too many headers received"  # aiohttp has no type of its own for it

_ANY_FILE = SocketFile()
Tls = Callable[[], SSLContext | None]
Serve = Callable[[BaseRequest], Awaitable[Response | StreamResponse]]


def _plain() -> None:
    """Serve plain HTTP."""


class Listener:
    """A listening socket being served; made by ``open_listener``."""

    def __init__(
        self,
        *,
        serve: Serve,
        refused: Callable[[str], None],
        failed: Callable[[str, BaseException], None],
        tls: Tls,
    ) -> None:
        self._tls = tls
        self.addresses: list[str] = []
        self._serve = serve
        self._failed = failed
        self._open = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._accepting: list[Accepting] = []
        self._connections = Connections()
        self._turns = ParserTurns()
        self._unlink: Path | None = None
        self._made: tuple[int, int] | None = None  # device and inode of our socket file
        self._web = Server(cast(Callable[[BaseRequest], Awaitable[StreamResponse]], self._handle))
        self._log = _ProtocolLog(refused=refused, failed=failed)

    async def start(self, sockets: Sequence[socket.socket], *, unlink: Path | None) -> None:
        """Serve ``sockets``, which are bound; ``unlink`` is the socket file to remove at the end."""
        self._unlink, self._made = unlink, None if unlink is None else _identity(unlink)
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self.addresses.append(address_text(sock.getsockname()))
            self._accepting.append(
                Accepting(
                    sock,
                    connections=self._connections,
                    connected=self._connected,
                    failed=self._failed,
                    tls=self._tls,
                )
            )

    def _connected(self) -> "_Connection":
        return _Connection(
            self._web,
            closed=self._connections.closed,
            turns=self._turns,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),  # None: no access log
            auto_decompress=False,  # bounded decoding is ours (web/body.py)
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            logger=self._log,
            max_line_size=_MOST_TARGET_BYTES,
            max_field_size=_MOST_LINE_BYTES,
            max_headers=_MOST_LINES,
        )

    async def _handle(self, request: BaseRequest) -> Response | StreamResponse:
        self._open += 1
        self._connections.used(cast(_Connection, request.protocol))
        try:
            answer = await self._serve(request)
            if self._closing and isinstance(answer, Response):
                answer.keep_alive = False
            return answer
        finally:
            self._open -= 1
            if self._closing and not self._open:
                self._idle.set()

    async def close(self, grace_s: float) -> int:
        """Stop accepting connections, let requests under way finish for ``grace_s``; return how many were cut off."""
        for accepting in self._accepting:
            accepting.close()
        if self._unlink is not None and _identity(self._unlink) == self._made:  # else it is another process's by now
            self._unlink.unlink(missing_ok=True)
        self._closing = True
        if self._open:
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                pass  # the count below says so
        unfinished = self._open
        self._web.pre_shutdown()
        await self._web.shutdown(0.1 if unfinished else 1.0)  # the last answers are being written
        return unfinished


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        about = path.lstat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


async def open_listener(
    address: str,
    *,
    serve: Serve,
    refused: Callable[[str], None],
    failed: Callable[[str, BaseException], None],
    inherited: Sequence[socket.socket] = (),
    tls: Tls = _plain,
    file: SocketFile = _ANY_FILE,
) -> Listener:
    """Listen on ``address`` (or on the sockets the service manager opened for it) and serve requests with ``serve``.

    ``refused`` is called for malformed HTTP, ``failed`` for failures outside ``serve``. ``tls()`` is the context for
    the next connection, None for plain HTTP. Raises ``RelayError`` that names the address and says what to do.
    """
    listener = Listener(serve=serve, refused=refused, failed=failed, tls=tls)
    if inherited:
        await listener.start(inherited, unlink=None)
    else:
        unix = address.startswith("unix:")
        await listener.start(await bind(address, file), unlink=Path(address.removeprefix("unix:")) if unix else None)
    return listener


class _Connection(RequestHandler):
    """aiohttp's protocol with another answer to malformed HTTP.

    That answer quotes nothing of it: the bytes may be a body, read as a head.
    """

    __slots__ = ("_closed", "_rest", "_turns")

    def __init__(
        self, manager: Server, *, closed: Callable[["_Connection"], None], turns: ParserTurns, **settings: Any
    ) -> None:
        super().__init__(manager, **settings)
        self._closed = closed
        self._turns = turns
        self._rest = b""  # read but not parsed yet

    def data_received(self, data: bytes) -> None:
        """Parse what came at once; or, if it takes long, in parts."""
        if len(data) <= LONG_BYTES and not self._rest:
            RequestHandler.data_received(self, data)
        elif self._rest and data:
            self._rest += data
        elif is_costly(data):
            self._pause_transport_reading()
            self._rest = data
            self._turns.add(self)
        else:
            super().data_received(data)

    def feed(self, most_bytes: int) -> bool:
        """Parse the next part of what was kept; return whether more is left."""
        part, rest = self._rest[:most_bytes], self._rest[most_bytes:]
        self._rest = b""
        super().data_received(part)
        self._rest = rest
        if rest:
            self._pause_transport_reading()  # handling the part may have resumed reading
        elif not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()
        return bool(rest)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on where reading was paused. aiohttp asks for it after each read of a body, mostly without need."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _resume_transport_reading(self) -> None:
        if not self._rest:
            super()._resume_transport_reading()

    @property
    def idle(self) -> bool:
        """Whether no request is under way. It may have read a part of a head."""
        return not self._request_in_progress and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report its end."""
        self._closed(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Return the response to a request that could not be parsed or served."""
        self.log_exception("request failed", exc_info=exc)
        code, detail = ("internal", "") if status >= 500 else _too_long(exc) or ("bad_request", "")
        return cast(StreamResponse, problem(code, detail, close=True))


def _too_long(error: BaseException | None) -> tuple[str, str] | None:
    """Return code and detail for a head that exceeds a bound; None for any other error."""
    if isinstance(error, LineTooLong):
        if error.args[1] == _MOST_TARGET_BYTES:
            return "target_too_long", f"the request target is longer than {_MOST_TARGET_BYTES} bytes"
        return "head_too_large", f"a header line is longer than {_MOST_LINE_BYTES} bytes"
    if isinstance(error, BadHttpMessage) and error.message == _TOO_MANY:
        return "head_too_large", f"there are more than {_MOST_LINES} header lines"
    return None


class _ProtocolLog(logging.Logger):
    """Replaces the log of aiohttp's protocol, whose lines quote request bytes: malformed HTTP is only counted."""

    def __init__(self, *, refused: Callable[[str], None], failed: Callable[[str, BaseException], None]) -> None:
        super().__init__("relay.web", logging.WARNING)
        self._refused = refused
        self._failed = failed

    def handle(self, record: logging.LogRecord) -> Any:
        """Report the error of a record instead of writing the record."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            code, _ = _too_long(error) or ("bad_request", "")
            self._refused(code)
        elif error is not None:
            self._failed("http", error)
