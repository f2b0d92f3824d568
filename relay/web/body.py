"""Reads a request's body: bounded in bytes before and after decoding, and in time.

aiohttp reads bodies without an overall time limit, and decodes them with none on concatenated members; so its decoding
is off (``listen``) and both bounds are ours.
"""

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion11, StreamReader
from aiohttp.web import BaseRequest, RequestPayloadError

from relay.web.problem import Refusal

# Coding what cannot be packed makes it a little longer: that must not be refused.
_CODING_SLACK_BYTES = 4096
# From here on a body may decode to megabytes, which would hold up the loop for milliseconds: a thread does it.
_THREAD_BYTES = 16 * 1024

Decode = Callable[[bytes, str, int], bytes]
"""``(body, content_coding, limit) -> decoded``; raises ``Refusal`` (bad_encoding, unsupported_encoding, too_large)."""


async def read_body(
    request: BaseRequest,
    *,
    limit: int,
    timeout_s: float,
    decode: Decode,
    grow: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Return the decoded body, at most ``limit`` bytes.

    ``grow`` is told of bytes as they are held in memory and may raise to refuse them. Raises ``Refusal``
    (``too_large``, ``body_timeout``, ``bad_encoding``, ``unsupported_encoding``, ``bad_request``) and
    ``ConnectionError`` when the client went away before its end: then nothing of it may be used.
    """
    coding = request.headers.get("Content-Encoding")
    bound = limit if coding is None else limit + _CODING_SLACK_BYTES
    content = request.content
    if content.is_eof():  # it came in one piece with the head, as small ones do
        body = _read_now(content)
        if len(body) > bound:
            raise _too_large(limit)
        grow(len(body))
    else:
        declared = request.headers.get("Content-Length")
        if declared is not None and int(declared) > bound:
            raise _too_large(limit)
        expect = request.headers.get("Expect", "").lower()
        if expect == "100-continue" and request.version == HttpVersion11 and request.transport is not None:
            # RFC 9110 section 10.1.1; without it curl waits a second before it sends a large body.
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _read_all(request, bound=bound, limit=limit, timeout_s=timeout_s, grow=grow)
    if coding is None:
        return body
    if len(body) > _THREAD_BYTES:
        decoded = await asyncio.to_thread(decode, body, coding, limit)
    else:
        decoded = decode(body, coding, limit)
    grow(max(0, len(decoded) - len(body)))
    return decoded


def _read_now(content: StreamReader) -> bytes:
    try:
        return content.read_nowait()
    except RequestPayloadError:
        raise Refusal("bad_request", "the body is not framed as its headers say") from None


async def _read_all(
    request: BaseRequest, *, bound: int, limit: int, timeout_s: float, grow: Callable[[int], None]
) -> bytes:
    parts: list[bytes] = []
    size = 0
    content = request.content
    try:
        async with asyncio.timeout(timeout_s):
            while part := await content.readany():
                size += len(part)
                if size > bound:
                    raise _too_large(limit)
                grow(len(part))
                parts.append(part)
    except TimeoutError:
        raise Refusal("body_timeout", f"the body did not arrive within {timeout_s:g} s", close=True) from None
    except RequestPayloadError:
        raise Refusal("bad_request", "the body is not framed as its headers say", close=True) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal("too_large", f"the body exceeds {limit} bytes", limit=limit)
