"""One listener with its router, guard and health: what ingest and admin have in common."""

import socket
from collections.abc import Sequence
from ssl import SSLContext
from typing import Protocol

from relay.web.dispatch import Router, Routes
from relay.web.guard import Guard
from relay.web.health import Health, Ping
from relay.web.listen import Listener, Move, open_listener
from relay.web.sockets import SocketFile

_ANY_FILE = SocketFile()


class ListenerEvents(Protocol):
    """The events of a listener; ``telemetry.events.Events`` has them."""

    def refused(self, *, listener: str, code: str) -> None:
        """A request was answered with a problem."""
        ...

    def handler_failed(self, *, listener: str, route: str, error: BaseException) -> None:
        """A handler raised an unexpected exception."""
        ...


class WebServer:
    """Listens on one address. ``name`` is also the ``FileDescriptorName=`` of its socket unit."""

    def __init__(
        self, *, name: str, listen: str, ping: Ping, events: ListenerEvents, file: SocketFile = _ANY_FILE
    ) -> None:
        self._file = file
        self.name = name
        self.listen = listen  # as configured at the start; another address needs a restart
        self.health = Health(ping=ping)
        self._events = events
        self._listener: Listener | None = None
        self._tls: SSLContext | None = None
        self._router = Router(routes=Routes(), checks=(), refused=self._refused, failed=self._failed)

    @property
    def address(self) -> str:
        """The first of ``addresses``."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the port it really got. A host name may have several addresses."""
        return self._listener.addresses if self._listener is not None else [self.listen]

    @property
    def listener(self) -> Listener:
        """What listens, once it was started."""
        assert self._listener is not None
        return self._listener

    async def start(self, *, inherited: Sequence[socket.socket] = (), move: Move | None = None) -> None:
        """Listen; on the ``inherited`` sockets if there are any. Raises ``RelayError`` if it cannot.

        ``move`` gives away connections with requests that others serve.
        """
        self._listener = await open_listener(
            self.listen,
            serve=self._router,
            short=self._router,
            refused=self._refused,
            failed=self._failed,
            inherited=inherited,
            tls=lambda: self._tls,
            move=move,
            file=self._file,
        )

    async def close(self, grace_s: float) -> int:
        """Stop accepting, let requests under way finish within ``grace_s``; return how many were cut off."""
        self.health.stopping = True
        return 0 if self._listener is None else await self._listener.close(grace_s)

    def _serve(
        self,
        routes: Routes,
        *,
        hosts: Sequence[str],
        origins: Sequence[str],
        same_origin: bool = False,
        tls: SSLContext | None = None,
    ) -> None:
        """Serve ``routes`` and the health paths from now on; the address stays until a restart.

        ``same_origin``: pages that this listener serves may ask it too. ``tls``: for connections made from now on.
        """
        self._tls = None if self.listen.startswith("unix:") else tls  # a socket file's mode is its protection
        self.health.add_to(routes)
        guard = Guard(listen=self.listen, hosts=hosts, origins=origins, same_origin=same_origin)
        self._router.replace(routes=routes, checks=(guard.check,))

    def serves(self, method: str, target: str) -> bool:
        """Return whether a route takes such requests."""
        return self._router.serves(method, target)

    def _refused(self, code: str) -> None:
        self._events.refused(listener=self.name, code=code)

    def _failed(self, route: str, error: BaseException) -> None:
        self._events.handler_failed(listener=self.name, route=route, error=error)
