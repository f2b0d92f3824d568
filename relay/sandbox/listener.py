"""A listening socket that can stop answering: while shut, a client's connect is refused, and the port stays ours."""

import asyncio
import socket
from collections.abc import Callable


class Listener:
    """Serves one address and can be shut and opened again.

    The port is kept by a bound socket; ``shutdown`` takes it out of the listening state (as HAProxy pauses its
    listeners), so that the kernel answers a SYN with RST, and ``listen`` brings it back. Linux only.
    """

    def __init__(self, factory: Callable[[], asyncio.Protocol], *, host: str, port: int, backlog: int = 1024) -> None:
        self._factory = factory
        self._backlog = backlog
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.host = host
        self.port: int = self._socket.getsockname()[1]
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
        """Refuse new connections from now on; the ones there are stay."""
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
