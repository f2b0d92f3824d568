"""Accepts connections from a listening socket: many in one turn of the loop, up to a bound of open ones.

uvloop itself accepts one connection per turn and socket. Under load a turn lasts milliseconds, and new clients waited
in the kernel's queue for seconds. Measured with turns of 10 ms: 300 connections took 3.3 s, here they take 0.1 s.
"""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable
from ssl import SSLContext
from typing import Protocol, cast

# Connections taken in one turn: each costs 50 us.
_PER_TURN = 64
# An idle connection takes 20 KB. This many are enough for the pools of a dozen order centers.
_MOST_CONNECTIONS = 1000
_SHARE_OF_DESCRIPTORS = 4  # the rest is for the other listener, for platforms and for the store
_HANDSHAKE_S = 10.0  # who takes longer than that holds a place among the connections for nothing
# How soon it tries again after no connection could be accepted.
_PAUSE_S = 0.05
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connection(Protocol):
    """What serves a connection."""

    @property
    def idle(self) -> bool:
        """Whether no request is under way on it."""
        ...

    def force_close(self) -> None:
        """Close it now."""
        ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        ...


class Connections:
    """The open connections of a listener, the longest idle first."""

    def __init__(self) -> None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.most = min(_MOST_CONNECTIONS, max(1, descriptors // _SHARE_OF_DESCRIPTORS))
        self._open: dict[Connection, None] = {}

    def used(self, connection: Connection) -> None:
        """Move a connection to the end of the line: it was opened, or it sent a request."""
        self._open.pop(connection, None)
        self._open[connection] = None

    def closed(self, connection: Connection) -> None:
        """Forget one."""
        self._open.pop(connection, None)

    def make_room(self) -> bool:
        """Return whether one more may be accepted.

        At the bound, close the connection that has been idle longest for it.
        """
        if len(self._open) < self.most:
            return True
        idle = next((connection for connection in self._open if connection.idle), None)
        if idle is None:
            return False
        self.closed(idle)
        idle.force_close()
        return True


class _Begun(asyncio.Protocol):
    """Gives a connection what was read of it elsewhere, before anything more is read here."""

    def __init__(self, connection: Connection, data: bytes) -> None:
        self._connection = connection
        self._data = data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make place for the connection itself."""
        transport.set_protocol(cast(asyncio.BaseProtocol, self._connection))
        self._connection.connection_made(transport)
        self._connection.data_received(self._data)


class Accepting:
    """One listening socket being served."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        connections: Connections,
        connected: Callable[[], Connection],
        failed: Callable[[str, BaseException], None],
        tls: Callable[[], SSLContext | None],
    ) -> None:
        """Start to accept connections.

        ``connected`` makes the object that serves a connection; ``failed`` is called when none can be accepted;
        ``tls`` returns the context for the next one, None for plain HTTP.
        """
        self._tls = tls
        self.sock = sock
        self._connections = connections
        self._connected = connected
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._starting: set[asyncio.Task[None]] = set()
        self._resting = False
        self._loop.add_reader(sock, self._ready)

    def rest(self, resting: bool) -> None:
        """Take no connections for now, because others take them from the same socket; or take them again."""
        if resting == self._resting or self.sock.fileno() < 0:
            return
        self._resting = resting
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.sock)
        if not resting:
            self._loop.add_reader(self.sock, self._ready)

    def take(self, taken: socket.socket, data: bytes) -> None:
        """Serve a connection that another process took, and of which it read ``data``; close it if there is no room."""
        if not self._connections.make_room():
            taken.close()
            return
        taken.setblocking(False)
        self._begin(taken, data)

    def close(self) -> None:
        """Stop, and close the socket; safe to call twice."""
        if self.sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.sock)
        self.sock.close()

    def _ready(self) -> None:
        for _ in range(_PER_TURN):
            if not self._connections.make_room():
                self._wait()
                return
            try:
                taken, _ = self.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                if not self._exhausted:  # report it once, not twenty times a second
                    self._failed("accept", error)
                self._exhausted = True
                self._wait()
                return
            self._exhausted = False
            taken.setblocking(False)
            self._begin(taken)

    def _begin(self, taken: socket.socket, data: bytes = b"") -> None:
        task = self._loop.create_task(self._start(taken, data))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self, taken: socket.socket, data: bytes) -> None:
        connection = self._connected()
        self._connections.used(connection)
        context = self._tls()
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Begun(connection, data) if data else cast(asyncio.BaseProtocol, connection),
                taken,
                ssl=context,
                ssl_handshake_timeout=None if context is None else _HANDSHAKE_S,
            )
        except OSError:  # it was gone before it was served, or it speaks no TLS that is wanted here
            self._connections.closed(connection)
            taken.close()

    def _wait(self) -> None:
        """Leave new connections in the kernel's queue for a moment."""
        self._loop.remove_reader(self.sock)
        self._pause = self._loop.call_later(_PAUSE_S, self._loop.add_reader, self.sock, self._ready)
