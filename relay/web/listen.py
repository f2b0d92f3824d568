"""Serves and closes one listener: the sockets of its address, or those that systemd opened for it."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from ssl import SSLContext
from typing import Protocol, cast

from aiohttp.web import BaseRequest, Server, StreamResponse

from relay.web.admit import Accepting, Connections
from relay.web.connection.begun import Begun
from relay.web.connection.movable import MovableConnection
from relay.web.connection.protocol import HttpConnection
from relay.web.connection.refused import MOST_LINE_BYTES, MOST_LINES, MOST_TARGET_BYTES, ProtocolLog
from relay.web.connection.remembered import Cut, KnownHead
from relay.web.connection.turns import ParserTurns
from relay.web.response import Response
from relay.web.sockets import BACKLOG, SocketFile, address_text, bind

# After this long an idle connection, or one whose head is not complete, is closed. The pools of common HTTP clients
# close theirs earlier (after 60 s or less). So the client closes, and no request meets a connection that is closing.
_KEEPALIVE_S = 75.0
# After a refusal the rest of the body is read and dropped for this long; else a reset could destroy the answer.
_LINGER_S = 3.0

_ANY_FILE = SocketFile()
Tls = Callable[[], SSLContext | None]
Move = Callable[[HttpConnection, bytes], bool]
"""Gives a connection between two requests to another process, with what was read; returns whether it did."""
Serve = Callable[[BaseRequest], Awaitable[Response | StreamResponse]]


def _plain() -> None:
    """Serve plain HTTP."""


class ShortWay(Protocol):
    """Begins requests that need no task; ``dispatch.Router`` is one."""

    def recall(self, rest: bytes) -> KnownHead | None:
        """Return what is known of a head."""

    def learn(self, rest: bytes, request: BaseRequest) -> None:
        """Remember the head of a request, if requests with it need no task."""

    def begin(self, known: KnownHead, part: Cut) -> Begun | Response | None:
        """Begin to answer a request with a known head. A response is the whole answer; None: it needs a task."""


class Listener:
    """A listening socket being served; made by ``open_listener``."""

    def __init__(
        self,
        *,
        serve: Serve,
        short: ShortWay | None,
        refused: Callable[[str], None],
        failed: Callable[[str, BaseException], None],
        tls: Tls,
        move: Move | None,
    ) -> None:
        self._tls = tls
        self._move = move
        self.addresses: list[str] = []
        self._serve = serve
        self._short = short
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
        self._log = ProtocolLog(refused=refused, failed=failed)

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

    def _connected(self) -> HttpConnection:
        made = HttpConnection if self._move is None else MovableConnection
        return made(
            self._web,
            serving=self,
            turns=self._turns,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),  # None: no access log
            auto_decompress=False,  # bounded decoding is ours (web/body.py)
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            logger=self._log,
            max_line_size=MOST_TARGET_BYTES,
            max_field_size=MOST_LINE_BYTES,
            max_headers=MOST_LINES,
        )

    async def _handle(self, request: BaseRequest) -> Response | StreamResponse:
        self._open += 1
        self._connections.used(cast(HttpConnection, request.protocol))
        try:
            answer = await self._serve(request)
            if self._closing and isinstance(answer, Response):
                answer.keep_alive = False
            return answer
        finally:
            self._one_less()

    @property
    def sockets(self) -> list[socket.socket]:
        """What it listens on."""
        return [accepting.sock for accepting in self._accepting]

    def rest(self, resting: bool) -> None:
        """Take no connections for now, because other processes take them from the same sockets; or take them again."""
        for accepting in self._accepting:
            accepting.rest(resting)

    def take(self, taken: socket.socket, data: bytes) -> None:
        """Serve a connection that another process took, and of which it read ``data``."""
        self._accepting[0].take(taken, data)

    def move(self, connection: HttpConnection, data: bytes) -> bool:
        """Give a connection away, with what was read of it; return whether that was done."""
        return self._move is not None and self._move(connection, data)

    def recall(self, rest: bytes) -> KnownHead | None:
        """Return what is known of a head; a connection calls it, and what follows."""
        return None if self._short is None else self._short.recall(rest)

    def learn(self, rest: bytes, request: BaseRequest) -> None:
        """Remember the head of a request, if requests with it need no task."""
        if self._short is not None:
            self._short.learn(rest, request)

    def begin(self, connection: HttpConnection, known: KnownHead, part: Cut) -> Begun | Response | None:
        """Begin to answer a request with a known head."""
        assert self._short is not None, "it remembered the head"
        begun = self._short.begin(known, part)
        if begun is not None:
            self._connections.used(connection)
            self._open += 1
            if isinstance(begun, Response):
                self.ended(begun)
        return begun

    def ended(self, response: Response) -> None:
        """Count the end of what ``begin`` began."""
        if self._closing:
            response.keep_alive = False
        self._one_less()

    def closed(self, connection: HttpConnection) -> None:
        """Forget a connection that has ended."""
        self._connections.closed(connection)

    def _one_less(self) -> None:
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
    short: ShortWay | None = None,
    inherited: Sequence[socket.socket] = (),
    tls: Tls = _plain,
    move: Move | None = None,
    file: SocketFile = _ANY_FILE,
) -> Listener:
    """Listen on ``address`` (or on the sockets the service manager opened for it) and serve requests with ``serve``.

    ``short`` begins those that need no task. ``refused`` is called for malformed HTTP, ``failed`` for failures
    outside ``serve``. ``tls()`` is the context for the next connection, None for plain HTTP. ``move`` gives connections
    away whose next request others serve. Raises ``RelayError`` that names the address and says what to do.
    """
    listener = Listener(serve=serve, short=short, refused=refused, failed=failed, tls=tls, move=move)
    if inherited:
        await listener.start(inherited, unlink=None)
    else:
        unix = address.startswith("unix:")
        await listener.start(await bind(address, file), unlink=Path(address.removeprefix("unix:")) if unix else None)
    return listener
