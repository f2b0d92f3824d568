"""The ingest listener: wires guard, token, health and handlers to a socket, and takes new settings at a reload."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.ingest.admission import Admission
from relay.ingest.handlers import DropIn, Handlers
from relay.ingest.posts import Directory
from relay.store.base import Inbox, Ledger
from relay.telemetry.events import Events
from relay.web.guard import Bearer, Guard
from relay.web.health import Health
from relay.web.listen import Listener, open_listener
from relay.web.problem import Refusal
from relay.web.router import Router, Routes
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


class IngestServer:
    """Everything between the order center and the store."""

    def __init__(
        self,
        *,
        settings: IngestSettings,
        directory: Directory,
        drop_ins: Sequence[DropIn] = (),
        inbox: Inbox,
        ledger: Ledger,
        events: Events,
        duration: Callable[[str], float],
        expiring: Callable[[float], None],
    ) -> None:
        """Wire it; ``duration`` reads ``30m`` as seconds and raises ``ValueError``.

        ``expiring`` is told, after a commit, in how many seconds the first of its callbacks expires.
        """
        self.health = Health(ping=ledger.ping)
        self._events = events
        self._listener: Listener | None = None
        self._admission = Admission(inbox=inbox, max_bytes=settings.max_waiting_bytes)
        self._handlers = Handlers(
            bearer=Bearer(settings.token),
            directory=directory,
            admission=self._admission,
            ledger=ledger,
            events=events,
            decode=decode,
            duration=duration,
            max_body=settings.max_body,
            max_bulk=settings.max_bulk,
            body_timeout_s=settings.body_timeout_s,
            expiring=expiring,
        )
        self._router = Router(routes=Routes(), checks=(), refused=self._refused, failed=self._failed)
        self._listen = settings.listen
        self.configure(settings=settings, directory=directory, drop_ins=drop_ins)

    name = LISTENER  # also the ``FileDescriptorName=`` of a socket unit

    @property
    def address(self) -> str:
        """Where it listens, with the port it really got."""
        return self._listener.address if self._listener is not None else self._listen

    def configure(self, *, settings: IngestSettings, directory: Directory, drop_ins: Sequence[DropIn] = ()) -> None:
        """Put new settings in force for requests from now on; the listening address stays until a restart."""
        guard = Guard(listen=self._listen, hosts=settings.hosts, origins=settings.origins)
        self._router.checks = (guard.check,)
        self._handlers.bearer = Bearer(settings.token)
        self._handlers.directory = directory
        self._handlers.max_body = settings.max_body
        self._handlers.max_bulk = settings.max_bulk
        self._handlers.body_timeout_s = settings.body_timeout_s
        self._admission.max_bytes = settings.max_waiting_bytes
        routes = Routes()
        self._handlers.add_to(routes, drop_ins)
        self.health.add_to(routes)
        self._router.routes = routes

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
