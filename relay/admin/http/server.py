"""The admin listener: serves the API's routes, and takes new settings at a reload."""

from dataclasses import dataclass
from ssl import SSLContext

from relay.admin.http.api import AdminApi
from relay.telemetry.events import Events
from relay.web.dispatch import Routes
from relay.web.health import Ping
from relay.web.server import WebServer

LISTENER = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The ``admin:`` section of the configuration, as far as a running listener acts on it (users: ``Access``)."""

    listen: str = "127.0.0.1:8788"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    tls: SSLContext | None = None


class AdminServer(WebServer):
    """Everything between operators and the relay."""

    def __init__(self, *, settings: AdminSettings, api: AdminApi, ping: Ping, events: Events) -> None:
        super().__init__(name=LISTENER, listen=settings.listen, ping=ping, events=events)
        self._api = api
        self.configure(settings)

    def configure(self, settings: AdminSettings) -> None:
        """Put new settings in force for requests from now on; the listening address stays until a restart."""
        routes = Routes()
        self._api.add_to(routes)
        self._serve(routes, hosts=settings.hosts, origins=settings.origins, same_origin=True, tls=settings.tls)
