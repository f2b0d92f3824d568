"""A listening socket that can stop answering: while shut, a client's connect is refused, and the port stays ours."""

import asyncio
import socket
from collections.abc import Callable


class ClosableSocket:
    """Serves one address and can be shut and opened again.

    A bound socket keeps the port. ``shutdown`` ends its listening state, and the kernel answers a SYN with RST;
    ``listen`` brings the state back. HAProxy pauses its listeners in the same way. Linux only.
    """

    def __init__(self, factory: Callable[[], asyncio.Protocol], *, host: str, port: int, backlog: int = 1024) -> None:
        self._factory = factory
        self._backlog = backlog
        first = _bound(host, port)
        self.port: int = first.getsockname()[1]
        # The kernel forgets a port it chose itself when a socket stops listening: bind again by number, without a gap.
        self._socket = first if port else _bound(host, self.port)
        if not port:
            first.close()
        self.host = host
        self._server: asyncio.AbstractServer | None = None

    @property
    def url(self) -> str:
        """The base URL of the address."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether connections are taken."""
        return self._server is not None

    async def open(self) -> None:
        """Take connections; a second call does nothing."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._factory, sock=self._socket.dup(), backlog=self._backlog)

    def shut(self) -> None:
        """Refuse new connections from now on; those already open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the port back."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return bound
