"""What the ingest listeners share: their settings, the room for requests, and threads for long work."""

from collections.abc import Iterator
from dataclasses import dataclass
from ssl import SSLContext

from relay.ingest.admission import Admission
from relay.ingest.room import ALONE, Beside
from relay.ingest.search_thread import SearchThread
from relay.store.base import Inbox
from relay.store.commit_watch import PATIENCE_S
from relay.web.decoding import PIECE_BYTES, Decoder
from relay.web.guard import PostToken
from relay.web.refusal import Refusal
from relay.web.sockets import SocketFile
from relay.wire.compress import BadEncoding, TooLarge, UnsupportedEncoding, decode_pieces

# Memory for requests, unfinished uploads included: one of the largest bulk requests and its rows. An idle relay takes
# 80 MB and the cache of the store 32 MB. With what the allocator keeps, the process stays below 200 MB under attack.
_MAX_WAITING_BYTES = 48 * 1024 * 1024
_MAX_UPLOADING_BYTES = 34 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """The part of the ``ingest:`` section of the configuration that a running listener needs."""

    listen: str = "127.0.0.1:8787"
    token: str | None = None
    tokens: tuple[PostToken, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body: int = 1024 * 1024  # bytes of one payload
    max_bulk: int = 32 * 1024 * 1024  # bytes of one NDJSON request
    body_timeout_s: float = 30.0
    tls: SSLContext | None = None
    file: SocketFile = SocketFile()  # noqa: RUF009 - a value


class Intake:
    """What all ingest listeners share: the room for requests, and threads for work that would hold up the loop."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        max_waiting_bytes: int = _MAX_WAITING_BYTES,
        max_uploading_bytes: int = _MAX_UPLOADING_BYTES,
        beside: Beside = ALONE,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``beside`` are other processes that use the same memory, where there are any.

        ``patience_s`` is how long the store may commit nothing.
        """
        self.inbox = inbox
        self.admission = Admission(
            inbox=inbox,
            max_bytes=max_waiting_bytes,
            max_uploading_bytes=max_uploading_bytes,
            beside=beside,
            patience_s=patience_s,
        )
        self.decoder = Decoder(decode)
        self.searching = SearchThread()

    def close(self) -> None:
        """Let the threads end when their work is done."""
        self.decoder.close()
        self.searching.close()


def decode(body: bytes, coding: str, limit: int) -> Iterator[bytes]:
    """Decode a body for ``web.decoding``. Failures become refusals that quote nothing of the body."""
    try:
        yield from decode_pieces(body, coding, limit, PIECE_BYTES)
    except UnsupportedEncoding:
        known = {"Accept-Encoding": "gzip, zstd"}  # RFC 9110 section 15.5.16
        raise Refusal("unsupported_encoding", "use gzip, zstd or no Content-Encoding", headers=known) from None
    except BadEncoding:
        raise Refusal("bad_encoding", "it is broken or ends early; nothing was accepted") from None
    except TooLarge:
        raise Refusal("too_large", f"the decoded body exceeds {limit} bytes", limit=limit) from None
