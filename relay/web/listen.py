"""Opens, serves and closes one listener: ``host:port``, ``[v6]:port``, ``unix:/path`` or an inherited socket."""

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from relay.core.errors import RelayError
from relay.web.answer import Answer
from relay.web.guard import split_port
from relay.web.problem import problem

_BACKLOG = 1024
# Idle connections and dripped headers are closed after this long. Longer than the pools of common HTTP clients keep
# theirs (60 s and less), so that it is the client who closes and no request runs into a closing connection.
_KEEPALIVE_S = 75.0
# After a refusal the rest of the body is read and thrown away for this long, so that the answer is not lost in a reset.
_LINGER_S = 3.0
_UNIX_MODE = 0o660  # who may connect is decided by the file's group
_FIRST_INHERITED_FD = 3  # sd_listen_fds(3)

Serve = Callable[[BaseRequest], Awaitable[Answer | StreamResponse]]


class Listener:
    """A listening socket being served; made by ``open_listener``."""

    def __init__(self, *, serve: Serve, refused: Callable[[str], None], failed: Callable[[str, BaseException], None]):
        self.address = ""
        self._serve = serve
        self._open = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._unlink: Path | None = None
        self._web = Server(cast(Callable[[BaseRequest], Awaitable[StreamResponse]], self._handle))
        self._log = _ProtocolLog(refused=refused, failed=failed)

    async def start(self, sock: socket.socket, *, unlink: Path | None) -> None:
        """Serve ``sock``, which is bound; ``unlink`` is the socket file to remove at the end."""
        loop = asyncio.get_running_loop()
        self._unlink = unlink
        if sock.family == socket.AF_UNIX:
            self.address = f"unix:{sock.getsockname()}"
            self._server = await loop.create_unix_server(self._connected, sock=sock, backlog=_BACKLOG)
        else:
            host, port = sock.getsockname()[:2]
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._server = await loop.create_server(self._connected, sock=sock, backlog=_BACKLOG)

    def _connected(self) -> RequestHandler:
        return _Connection(
            self._web,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),  # None is aiohttp's word for no access log
            auto_decompress=False,  # bounded decoding is ours (web/body.py)
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            logger=self._log,
        )

    async def _handle(self, request: BaseRequest) -> Answer | StreamResponse:
        self._open += 1
        try:
            answer = await self._serve(request)
            if self._closing and isinstance(answer, Answer):
                answer.keep_alive = False
            return answer
        finally:
            self._open -= 1
            if self._closing and not self._open:
                self._idle.set()

    async def close(self, grace_s: float) -> int:
        """Stop accepting connections, let requests under way finish for ``grace_s``; return how many were cut off."""
        if self._server is None:
            return 0
        self._server.close()
        self._server = None
        if self._unlink is not None:
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


async def open_listener(
    address: str,
    *,
    serve: Serve,
    refused: Callable[[str], None],
    failed: Callable[[str, BaseException], None],
    inherited: socket.socket | None = None,
) -> Listener:
    """Listen on ``address`` (or on a socket the service manager opened for it) and serve requests with ``serve``.

    ``refused`` and ``failed`` are told of malformed HTTP and of failures outside ``serve``. Raises ``RelayError``
    naming the address and what to do.
    """
    listener = Listener(serve=serve, refused=refused, failed=failed)
    if inherited is not None:
        await listener.start(inherited, unlink=None)
    elif address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        await listener.start(_bind_unix(path), unlink=path)
    else:
        await listener.start(await _bind_tcp(address), unlink=None)
    return listener


async def _bind_tcp(address: str) -> socket.socket:
    host, port = split_port(address)
    if port is None:
        raise RelayError(f"cannot listen on {address}: write host:port, [v6]:port or unix:/path")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RelayError(f"cannot listen on {address}: the name does not resolve ({error.strerror})") from error
    family, kind, protocol, _, target = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart finds old connections in TIME_WAIT
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] must not also claim 0.0.0.0
        sock.bind(target)
        sock.listen(_BACKLOG)  # two sockets may bind one address; only listening tells that it is in use
    except OSError as error:
        sock.close()
        raise RelayError(f"cannot listen on {address}: {_why(error)}") from error
    sock.setblocking(False)
    return sock


def _bind_unix(path: Path) -> socket.socket:
    try:
        if path.exists():
            _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise RelayError(f"cannot listen on unix:{path}: {_why(error)}") from error
    try:
        sock.bind(str(path))
        os.chmod(path, _UNIX_MODE)  # nobody can connect before listen(), so there is no moment with another mode
    except OSError as error:
        sock.close()
        raise RelayError(f"cannot listen on unix:{path}: {_why(error)}") from error
    sock.setblocking(False)
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket file nobody listens on; whatever else lies there is not ours to remove."""
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise RelayError(
            f"cannot listen on unix:{path}: a file that is no socket lies there; move it or listen elsewhere"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        else:
            raise RelayError(f"cannot listen on unix:{path}: another process serves it; stop it or listen elsewhere")


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the process that has it (`ss -ltnp` shows it) or listen elsewhere"
    if error.errno == errno.EACCES:
        return (
            "permission denied; ports below 1024 and other people's directories need rights the relay should not have"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return str(error.strerror or error)


def inherited_sockets(environ: Mapping[str, str], *, pid: int) -> dict[str, socket.socket]:
    """Return the sockets systemd opened for this process by their ``FileDescriptorName=`` (sd_listen_fds(3))."""
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for place in range(count):
        sock = socket.socket(fileno=_FIRST_INHERITED_FD + place)
        sock.setblocking(False)
        sock.set_inheritable(False)
        found[names[place] if place < len(names) and names[place] else f"fd{place}"] = sock
    return found


class _Connection(RequestHandler):
    """aiohttp's protocol, answering malformed HTTP without quoting it: the bytes may be a body read as a head."""

    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Return the response to a request that could not be parsed or served."""
        self.log_exception("request failed", exc_info=exc)
        return cast(StreamResponse, problem("internal" if status >= 500 else "bad_request", close=True))


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
            self._refused("bad_request")
        elif error is not None:
            self._failed("http", error)
