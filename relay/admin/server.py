"""The admin listener: wires guard, health and the API's routes to a socket, and takes new settings at a reload."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.admin.api import AdminApi
from relay.telemetry.events import Events
from relay.web.guard import Guard
from relay.web.health import Health
from relay.web.listen import Listener, open_listener
from relay.web.router import Router, Routes

LISTENER = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The ``admin:`` section of the configuration, as far as a running listener acts on it (users: ``Access``)."""

    listen: str = "127.0.0.1:8788"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


class AdminServer:
    """Everything between operators and the relay."""

    def __init__(
        self, *, settings: AdminSettings, api: AdminApi, ping: Callable[[], Awaitable[None]], events: Events
    ) -> None:
        self.health = Health(ping=ping)
        self._events = events
        self._listener: Listener | None = None
        self._listen = settings.listen
        routes = Routes()
        api.add_to(routes)
        self.health.add_to(routes)
        self._router = Router(routes=routes, checks=(), refused=self._refused, failed=self._failed)
        self.configure(settings)

    name = LISTENER  # also the ``FileDescriptorName=`` of a socket unit

    @property
    def address(self) -> str:
        """Where it listens, with the port it really got."""
        return self._listener.address if self._listener is not None else self._listen

    def configure(self, settings: AdminSettings) -> None:
        """Put new settings in force for requests from now on; the listening address stays until a restart."""
        guard = Guard(listen=self._listen, hosts=settings.hosts, origins=settings.origins)
        self._router.checks = (guard.check,)

    async def start(self, *, inherited: socket.socket | None = None) -> None:
        """Listen. Raises ``RelayError`` when the address cannot be had."""
        self._listener = await open_listener(
            self._listen, serve=self._router, refused=self._refused, failed=self._failed, inherited=inherited
        )

    async def close(self, grace_s: float) -> int:
        """Stop accepting, finish requests under way within ``grace_s``; return how many were cut off."""
        self.health.stopping = True
        if self._listener is None:
            return 0
        return await self._listener.close(grace_s)

    def _refused(self, code: str) -> None:
        self._events.refused(listener=LISTENER, code=code)

    def _failed(self, route: str, error: BaseException) -> None:
        self._events.handler_failed(listener=LISTENER, route=route, error=error)
