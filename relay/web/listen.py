"""Serves and closes one listener: the sockets of its address, or those that systemd opened for it."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from relay.web.admit import Accepting, Connections
from relay.web.refusal import problem
from relay.web.response import Response
from relay.web.sockets import BACKLOG, bind, shown
from relay.web.turns import ParserTurns, is_costly

# Idle connections and dripped headers are closed after this long. Longer than the pools of common HTTP clients keep
# theirs (60 s and less), so that it is the client who closes and no request runs into a closing connection.
_KEEPALIVE_S = 75.0
# After a refusal the rest of the body is read and thrown away for this long, so that the answer is not lost in a reset.
_LINGER_S = 3.0
# Bounds of a head, a little above what common clients and proxies send at the most (RFC 9112 section 3: 8000 and more).
# The two lengths differ so that aiohttp's error, the same for both, tells which one it was.
_MOST_TARGET_BYTES = 8190
_MOST_LINE_BYTES = 8192
_MOST_LINES = 128
_TOO_MANY = "Too many headers received"  # aiohttp has no type of its own for it

Serve = Callable[[BaseRequest], Awaitable[Response | StreamResponse]]


class Listener:
    """A listening socket being served; made by ``open_listener``."""

    def __init__(self, *, serve: Serve, refused: Callable[[str], None], failed: Callable[[str, BaseException], None]):
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
        self._made: tuple[int, int] | None = None  # the file of our socket
        self._web = Server(cast(Callable[[BaseRequest], Awaitable[StreamResponse]], self._handle))
        self._log = _ProtocolLog(refused=refused, failed=failed)

    async def start(self, sockets: Sequence[socket.socket], *, unlink: Path | None) -> None:
        """Serve ``sockets``, which are bound; ``unlink`` is the socket file to remove at the end."""
        self._unlink, self._made = unlink, None if unlink is None else _identity(unlink)
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self.addresses.append(shown(sock.getsockname()))
            self._accepting.append(
                Accepting(sock, connections=self._connections, connected=self._connected, failed=self._failed)
            )

    def _connected(self) -> "_Connection":
        return _Connection(
            self._web,
            closed=self._connections.closed,
            turns=self._turns,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),  # None is aiohttp's word for no access log
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
        if self._unlink is not None and _identity(self._unlink) == self._made:  # else another one's lies there by now
            self._unlink.unlink(missing_ok=True)
        self._closing = True
        if self._open:
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                pass  # told by the count below
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
) -> Listener:
    """Listen on ``address`` (or on the sockets the service manager opened for it) and serve requests with ``serve``.

    ``refused`` and ``failed`` are told of malformed HTTP and of failures outside ``serve``. Raises ``RelayError``
    naming the address and what to do.
    """
    listener = Listener(serve=serve, refused=refused, failed=failed)
    if inherited:
        await listener.start(inherited, unlink=None)
    else:
        unix = address.startswith("unix:")
        await listener.start(await bind(address), unlink=Path(address.removeprefix("unix:")) if unix else None)
    return listener


class _Connection(RequestHandler):
    """aiohttp's protocol, answering malformed HTTP without quoting it: the bytes may be a body read as a head."""

    __slots__ = ("_closed", "_rest", "_turns")

    def __init__(
        self, manager: Server, *, closed: Callable[["_Connection"], None], turns: ParserTurns, **settings: Any
    ) -> None:
        super().__init__(manager, **settings)
        self._closed = closed
        self._turns = turns
        self._rest = b""  # read, and not parsed yet

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep what takes long for turns of its own."""
        if self._rest and data:
            self._rest += data
        elif is_costly(data):
            self._pause_transport_reading()
            self._rest = data
            self._turns.add(self)
        else:
            super().data_received(data)

    def feed(self, most_bytes: int) -> bool:
        """Parse some of what was kept; return whether there is more."""
        part, rest = self._rest[:most_bytes], self._rest[most_bytes:]
        self._rest = b""
        super().data_received(part)
        self._rest = rest
        if rest:
            self._pause_transport_reading()  # whoever took what was parsed may have let it read again
        elif not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()
        return bool(rest)

    def _resume_transport_reading(self) -> None:
        if not self._rest:
            super()._resume_transport_reading()

    @property
    def idle(self) -> bool:
        """Whether no request is under way: it waits for one, or for the rest of a head."""
        return not self._request_in_progress and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note of its end."""
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
    """Return code and detail for a head that goes past one of its bounds, None for anything else."""
    if isinstance(error, LineTooLong):
        if error.args[1] == _MOST_TARGET_BYTES:
            return "target_too_long", f"the request target is longer than {_MOST_TARGET_BYTES} bytes"
        return "head_too_large", f"a header line is longer than {_MOST_LINE_BYTES} bytes"
    if isinstance(error, BadHttpMessage) and error.message == _TOO_MANY:
        return "head_too_large", f"there are more than {_MOST_LINES} header lines"
    return None


class _ProtocolLog(logging.Logger):
    """What aiohttp's protocol would log: malformed HTTP becomes a count, because its lines quote request bytes."""

    def __init__(self, *, refused: Callable[[str], None], failed: Callable[[str, BaseException], None]) -> None:
        super().__init__("relay.web", logging.WARNING)
        self._refused = refused
        self._failed = failed

    def handle(self, record: logging.LogRecord) -> Any:
        """Tell what a record is about instead of writing it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            code, _ = _too_long(error) or ("bad_request", "")
            self._refused(code)
        elif error is not None:
            self._failed("http", error)
