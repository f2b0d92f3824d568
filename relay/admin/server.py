"""The admin listener: wires guard, health and the admin routes to a socket."""

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
    """The ``admin:`` section of the configuration, as far as a running listener acts on it."""

    listen: str
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


class AdminServer:
    """Everything operators talk to, on one address."""

    def __init__(
        self, *, settings: AdminSettings, api: AdminApi, ping: Callable[[], Awaitable[None]], events: Events
    ) -> None:
        self.health = Health(ping=ping)
        self._events = events
        self._listen = settings.listen
        self._listener: Listener | None = None
        routes = Routes()
        api.add_to(routes)
        self.health.add_to(routes)
        self._router = Router(routes=routes, checks=(), refused=self._refused, failed=self._failed)
        self.configure(settings)

    @property
    def address(self) -> str:
        """Where it listens, with the port it really got."""
        return self._listener.address if self._listener is not None else self._listen

    def configure(self, settings: AdminSettings) -> None:
        """Put other hosts and origins in force; the listening address stays until a restart."""
        guard = Guard(listen=self._listen, hosts=settings.hosts, origins=settings.origins)
        self._router.checks = (guard.check,)

    async def start(self) -> None:
        """Listen. Raises ``RelayError`` when the address cannot be had."""
        self._listener = await open_listener(
            self._listen, serve=self._router, refused=self._refused, failed=self._failed
        )

    async def close(self, grace_s: float) -> int:
        """Stop accepting, finish requests under way within ``grace_s``; return how many were cut off."""
        self.health.stopping = True
        return 0 if self._listener is None else await self._listener.close(grace_s)

    def _refused(self, code: str) -> None:
        self._events.refused(listener=LISTENER, code=code)

    def _failed(self, route: str, error: BaseException) -> None:
        self._events.handler_failed(listener=LISTENER, route=route, error=error)
