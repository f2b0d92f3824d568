"""The ingest listener: wires guard, token, health and handlers to a socket, and takes new settings at a reload."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.ingest.admission import Admission
from relay.ingest.handlers import Describe, DropIn, Handlers
from relay.ingest.posts import Directory
from relay.store.base import Inbox, Ledger
from relay.telemetry.events import Events
from relay.web.guard import Bearer
from relay.web.problem import Refusal
from relay.web.router import Routes
from relay.web.server import WebServer
from relay.wire.compress import BadEncoding, TooLarge, UnsupportedEncoding, decompress

LISTENER = "ingest"
# Two of the largest bulk requests, or 100,000 callbacks of 640 bytes: seconds of a slow disk, and small beside
# the memory a relay is given.
_MAX_WAITING_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """The ``ingest:`` section of the configuration, as far as a running listener acts on it."""

    listen: str = "127.0.0.1:8787"
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body: int = 1024 * 1024  # bytes of one payload
    max_bulk: int = 32 * 1024 * 1024  # bytes of one NDJSON request
    body_timeout_s: float = 30.0
    max_waiting_bytes: int = _MAX_WAITING_BYTES


class IngestServer(WebServer):
    """Everything between the order center and the store."""

    def __init__(
        self,
        *,
        settings: IngestSettings,
        directory: Directory,
        drop_ins: Sequence[DropIn] = (),
        inbox: Inbox,
        ledger: Ledger,
        describe: Describe,
        events: Events,
        duration: Callable[[str], float],
        expiring: Callable[[float], None],
    ) -> None:
        """Wire it; ``duration`` reads ``30m`` as seconds and raises ``ValueError``.

        ``describe`` tells all about a callback but its payload; ``expiring`` is told, after a commit, in how many
        seconds the first of its callbacks expires.
        """
        super().__init__(name=LISTENER, listen=settings.listen, ping=ledger.ping, events=events)
        self._admission = Admission(inbox=inbox, max_bytes=settings.max_waiting_bytes)
        self._handlers = Handlers(
            bearer=Bearer(settings.token),
            directory=directory,
            admission=self._admission,
            describe=describe,
            events=events,
            decode=decode,
            duration=duration,
            max_body=settings.max_body,
            max_bulk=settings.max_bulk,
            body_timeout_s=settings.body_timeout_s,
            expiring=expiring,
        )
        self.configure(settings=settings, directory=directory, drop_ins=drop_ins)

    def configure(self, *, settings: IngestSettings, directory: Directory, drop_ins: Sequence[DropIn] = ()) -> None:
        """Put new settings in force for requests from now on; the listening address stays until a restart."""
        self._handlers.bearer = Bearer(settings.token)
        self._handlers.directory = directory
        self._handlers.max_body = settings.max_body
        self._handlers.max_bulk = settings.max_bulk
        self._handlers.body_timeout_s = settings.body_timeout_s
        self._admission.max_bytes = settings.max_waiting_bytes
        routes = Routes()
        self._handlers.add_to(routes, drop_ins)
        self._serve(routes, hosts=settings.hosts, origins=settings.origins)


def decode(body: bytes, coding: str, limit: int) -> bytes:
    """Decode a body as ``web.body`` wants it: failures become refusals that quote nothing of the body."""
    try:
        return decompress(body, coding, limit)
    except UnsupportedEncoding:
        raise Refusal("unsupported_encoding", "use gzip, zstd or no Content-Encoding") from None
    except BadEncoding:
        raise Refusal("bad_encoding", "it is broken or ends early; nothing was accepted") from None
    except TooLarge:
        raise Refusal("too_large", f"the decoded body exceeds {limit} bytes", limit=limit) from None
