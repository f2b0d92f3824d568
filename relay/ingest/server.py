"""The ingest listener: guard, token, health and handlers on one socket. A reload gives it new settings."""

from collections.abc import Callable

from relay.ingest.handlers import Describe, Handlers
from relay.ingest.intake import IngestSettings, Intake
from relay.ingest.lending.routes import QuotaRoutes
from relay.ingest.one_post import StateOf
from relay.ingest.posts import Directory
from relay.ingest.told import IntakeEvents
from relay.ingest.traced import BeginSpan
from relay.web.dispatch import Routes
from relay.web.guard import Bearer
from relay.web.health import Ping
from relay.web.server import WebServer

LISTENER = "ingest"


class IngestServer(WebServer):
    """Everything between the order center and the store."""

    def __init__(
        self,
        *,
        settings: IngestSettings,
        directory: Directory,
        intake: Intake,
        ping: Ping,
        describe: Describe,
        openapi: Callable[[], bytes],
        events: IntakeEvents,
        expiring: Callable[[float], None],
        begin_span: BeginSpan | None = None,
        quotas: QuotaRoutes | None = None,
        state: StateOf | None = None,
    ) -> None:
        """Put it together.

        ``describe`` returns a callback without its payload. ``openapi`` returns what ``/openapi.json`` answers.
        ``expiring`` is called after a commit with the seconds until the first of its callbacks expires.
        ``begin_span`` begins the span of a post, where posts are traced. ``quotas`` hands out slots to others.
        ``state`` returns the state of a callback, where that is cheaper than what ``describe`` returns.
        """
        super().__init__(name=LISTENER, listen=settings.listen, ping=ping, events=events, file=settings.file)
        self._handlers = Handlers(
            settings=settings,
            directory=directory,
            intake=intake,
            describe=describe,
            openapi=openapi,
            events=events,
            expiring=expiring,
            begin_span=begin_span,
            state=state,
        )
        self.watch = intake.admission.watch
        self._quotas = quotas
        self.expiring = expiring
        self.configure(settings=settings, directory=directory)

    def configure(self, *, settings: IngestSettings, directory: Directory) -> None:
        """Use new settings for all requests from now on. The listening address stays until a restart."""
        self._handlers.configure(settings, directory)
        routes = Routes()
        self._handlers.add_to(routes)
        if self._quotas is not None:
            self._quotas.add_to(routes, Bearer(settings.token, settings.tokens))
        self._serve(routes, hosts=settings.hosts, origins=settings.origins, tls=settings.tls)
