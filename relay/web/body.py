"""Reads a request's body: bounded in bytes before and after decoding, and in time.

aiohttp has no time limit for a whole body, and its decoder has no bound for concatenated members. So its decoding is
off (``listen``), and both bounds are here. A body is returned in pieces. A caller that needs it whole joins them; one
that needs its lines takes them from the pieces, so that 32 MiB are not in memory twice.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import HttpVersion11, StreamReader
from aiohttp.web import BaseRequest, RequestPayloadError

from relay.web.refusal import Refusal

# Compression makes random bytes a little longer: these must not be refused.
_CODING_SLACK_BYTES = 4096
# Smaller pieces are joined: as an object of its own each byte would take forty times its memory.
_PIECE_BYTES = 64 * 1024


class Reserve(Protocol):
    """Grants memory before it is used. Each method may raise ``Refusal``."""

    @property
    def given_up(self) -> Refusal | None:
        """Why the upload had to make way; None if it did not."""
        ...

    def begin_upload(self, give_up: Callable[[], None]) -> None:
        """A body starts to come in pieces; ``give_up`` may be called to end the upload."""
        ...

    def uploaded(self, size: int) -> None:
        """``size`` more bytes of it came."""
        ...

    def complete(self, size: int) -> None:
        """The body is complete: ``size`` bytes as they came, before decoding."""
        ...

    def grow(self, size: int) -> None:
        """``size`` more bytes are about to be used for it; if negative, so many are free again."""
        ...


class Unbounded:
    """A ``Reserve`` that grants everything: for bodies that ``limit`` keeps small enough."""

    given_up: Refusal | None = None

    def begin_upload(self, give_up: Callable[[], None]) -> None:
        """Take note of nothing."""

    def uploaded(self, size: int) -> None:
        """Take note of nothing."""

    def complete(self, size: int) -> None:
        """Take note of nothing."""

    def grow(self, size: int) -> None:
        """Take note of nothing."""


class Decode(Protocol):
    """Decodes a body; ``web.decoding`` has one."""

    async def __call__(self, body: bytes, coding: str, limit: int, reserve: Reserve) -> list[bytes]:
        """Return the decoded body in pieces, ``limit`` bytes in all at the most.

        Raises ``Refusal`` (bad_encoding, unsupported_encoding, too_large, overloaded).
        """
        ...


async def read_body(
    request: BaseRequest, *, limit: int, timeout_s: float, decode: Decode, reserve: Reserve
) -> list[bytes]:
    """Return the decoded body in pieces, at most ``limit`` bytes in all.

    Raises ``Refusal`` (``too_large``, ``body_timeout``, ``bad_encoding``, ``unsupported_encoding``, ``bad_request``, or
    what ``reserve`` raises). Raises ``ConnectionError`` if the client went away before the end; then nothing of the
    body may be used.
    """
    codings = request.headers.getall("Content-Encoding", None)
    coding = None if codings is None else ", ".join(codings)  # several lines are one list (RFC 9110 section 5.3)
    bound = limit if coding is None else limit + _CODING_SLACK_BYTES
    content = request.content
    if content.is_eof():  # it came with the head, as small bodies do
        parts = [_read_now(content, bound=bound, limit=limit, reserve=reserve)]
    else:
        declared = declared_length(request)
        if declared is not None and declared > bound:
            raise body_too_large(limit)
        expect = request.headers.get("Expect", "").lower()
        if expect == "100-continue" and request.version == HttpVersion11 and request.transport is not None:
            # RFC 9110 section 10.1.1; without it curl waits a second before it sends a large body.
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts = await _read_all(request, bound=bound, limit=limit, timeout_s=timeout_s, reserve=reserve)
        reserve.complete(sum(map(len, parts)))
    if coding is None:
        return parts
    if len(parts) == 1:
        return await decode(parts.pop(), coding, limit, reserve)
    size = sum(map(len, parts))
    reserve.grow(size)  # for a moment it is here twice
    body = b"".join(parts)
    parts.clear()
    reserve.grow(-size)
    return await decode(body, coding, limit, reserve)


def declared_length(request: BaseRequest) -> int | None:
    """Return the Content-Length of a request; None without one. aiohttp has checked that it is a number."""
    declared = request.headers.get("Content-Length")
    return None if declared is None else int(declared)


def _read_now(content: StreamReader, *, bound: int, limit: int, reserve: Reserve) -> bytes:
    try:
        body = content.read_nowait()
    except RequestPayloadError:
        raise Refusal("bad_request", "the body is not framed as its headers say") from None
    if len(body) > bound:
        raise body_too_large(limit)
    reserve.complete(len(body))
    return body


async def _read_all(request: BaseRequest, *, bound: int, limit: int, timeout_s: float, reserve: Reserve) -> list[bytes]:
    parts: list[bytes] = []
    size = 0
    content = request.content
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            reserve.begin_upload(lambda: timeout.reschedule(0.0))  # a time that is past: it ends now
            while part := await content.readany():
                size += len(part)
                if size > bound:
                    raise body_too_large(limit)
                reserve.uploaded(len(part))
                if parts and len(parts[-1]) + len(part) <= _PIECE_BYTES:
                    parts[-1] += part
                else:
                    parts.append(part)
    except TimeoutError:
        if reserve.given_up is not None:
            raise reserve.given_up from None
        raise Refusal("body_timeout", f"the body did not arrive within {timeout_s:g} s", close=True) from None
    except RequestPayloadError:
        raise Refusal("bad_request", "the body is not framed as its headers say", close=True) from None
    return parts


def body_too_large(limit: int) -> Refusal:
    """Return the refusal of a body of more than ``limit`` bytes."""
    return Refusal("too_large", f"the body exceeds {limit} bytes", limit=limit)
