"""The ingest listener: guard, token, health and handlers on one socket. A reload gives it new settings."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from relay.ingest.admission import Admission
from relay.ingest.handlers import Describe, DropIn, Handlers
from relay.ingest.posts import Directory
from relay.store.base import Inbox
from relay.telemetry.events import Events
from relay.web.decoding import PIECE_BYTES, Decoder
from relay.web.dispatch import Routes
from relay.web.guard import Bearer
from relay.web.health import Ping
from relay.web.refusal import Refusal
from relay.web.server import WebServer
from relay.wire.compress import BadEncoding, TooLarge, UnsupportedEncoding, decode_pieces

LISTENER = "ingest"
# Memory for requests: two of the largest bulk requests complete, and one coming in. An idle relay takes 75 MB, the
# cache of the store 32 MB, and some bytes are counted twice for a moment; so the process stays below 250 MB.
_MAX_WAITING_BYTES = 64 * 1024 * 1024
_MAX_UPLOADING_BYTES = 34 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """The part of the ``ingest:`` section of the configuration that a running listener needs."""

    listen: str = "127.0.0.1:8787"
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body: int = 1024 * 1024  # bytes of one payload
    max_bulk: int = 32 * 1024 * 1024  # bytes of one NDJSON request
    body_timeout_s: float = 30.0


class Intake:
    """What all ingest listeners share: the room for requests, and threads for work that would hold up the loop."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        max_waiting_bytes: int = _MAX_WAITING_BYTES,
        max_uploading_bytes: int = _MAX_UPLOADING_BYTES,
    ) -> None:
        self.admission = Admission(inbox=inbox, max_bytes=max_waiting_bytes, max_uploading_bytes=max_uploading_bytes)
        self.decoder = Decoder(decode)
        self.searching = ThreadPoolExecutor(1, thread_name_prefix="ingest-search")

    def close(self) -> None:
        """Let the threads end when their work is done."""
        self.decoder.close()
        self.searching.shutdown(wait=False, cancel_futures=True)


class IngestServer(WebServer):
    """Everything between the order center and the store."""

    def __init__(
        self,
        *,
        settings: IngestSettings,
        directory: Directory,
        drop_ins: Sequence[DropIn] = (),
        intake: Intake,
        ping: Ping,
        describe: Describe,
        events: Events,
        duration: Callable[[str], float],
        expiring: Callable[[float], None],
    ) -> None:
        """Put it together.

        ``duration`` reads ``30m`` as seconds; it raises ``ValueError``. ``describe`` returns a callback without its
        payload. ``expiring`` is called after a commit with the seconds until the first of its callbacks expires.
        """
        super().__init__(name=LISTENER, listen=settings.listen, ping=ping, events=events)
        self._handlers = Handlers(
            bearer=Bearer(settings.token),
            directory=directory,
            admission=intake.admission,
            describe=describe,
            events=events,
            decode=intake.decoder,
            searching=intake.searching,
            duration=duration,
            max_body=settings.max_body,
            max_bulk=settings.max_bulk,
            body_timeout_s=settings.body_timeout_s,
            expiring=expiring,
        )
        self.configure(settings=settings, directory=directory, drop_ins=drop_ins)

    def configure(self, *, settings: IngestSettings, directory: Directory, drop_ins: Sequence[DropIn] = ()) -> None:
        """Use new settings for all requests from now on. The listening address stays until a restart."""
        self._handlers.bearer = Bearer(settings.token)
        self._handlers.directory = directory
        self._handlers.max_body = settings.max_body
        self._handlers.max_bulk = settings.max_bulk
        self._handlers.body_timeout_s = settings.body_timeout_s
        routes = Routes()
        self._handlers.add_to(routes, drop_ins)
        self._serve(routes, hosts=settings.hosts, origins=settings.origins)


def decode(body: bytes, coding: str, limit: int) -> Iterator[bytes]:
    """Decode a body for ``web.decoding``. Failures become refusals that quote nothing of the body."""
    try:
        yield from decode_pieces(body, coding, limit, PIECE_BYTES)
    except UnsupportedEncoding:
        raise Refusal("unsupported_encoding", "use gzip, zstd or no Content-Encoding") from None
    except BadEncoding:
        raise Refusal("bad_encoding", "it is broken or ends early; nothing was accepted") from None
    except TooLarge:
        raise Refusal("too_large", f"the decoded body exceeds {limit} bytes", limit=limit) from None
