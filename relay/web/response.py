"""One small HTTP response as ready bytes.

aiohttp's ``web.Response`` builds a header dictionary, joins it, and writes head and body separately. For an answer of a
hundred bytes that takes a third of the time of the whole request. ``Response`` has the three members that aiohttp's
protocol uses (``prepare``, ``write_eof``, ``keep_alive``) and writes once.
"""

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from relay.core.clock import wall_s
from relay.core.unsafe import escaped
from relay.views.moments import to_json

if TYPE_CHECKING:  # commands that read the store themselves need no HTTP library
    from aiohttp.web import BaseRequest

_HTTP_1_1 = (1, 1)
_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: ".encode("ascii") for status in HTTPStatus
}
_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n"


class Response:
    """A complete response; use it for one request only."""

    __slots__ = ("_head", "_request", "body", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        """Build it; ``close`` ends the connection afterwards. Header values must be free of CR and LF."""
        self.status = status
        self.body = body
        self.keep_alive = not close
        if status == 204:  # RFC 9110 section 8.6: no content, and no Content-Length
            head = _NO_CONTENT
        else:
            head = b"%b%b\r\nContent-Length: %d\r\n" % (_LINES[status], content_type.encode("latin-1"), len(body))
        if headers:
            for name, value in headers.items():
                if "\r" in value or "\n" in value:
                    raise ValueError(f"header {name} holds a line break")
                head += f"{name}: {value}\r\n".encode("latin-1")
        self._head = head
        self._request: BaseRequest | None = None

    async def prepare(self, request: "BaseRequest") -> None:
        """Take the request this answers; aiohttp calls it."""
        self._request = request

    async def write_eof(self) -> None:
        """Write everything at once; aiohttp calls it after ``prepare``."""
        request = self._request
        if request is None or request.transport is None:
            self.keep_alive = False
            return
        self._request = None
        # HTTP/1.0 would need its own keep-alive header; a client that old gets one answer per connection.
        # The unread rest of a body would be taken for the next request, so there must be none (RFC 9112 section 9.6).
        stays = request.content.is_eof() and request.keep_alive and request.version == _HTTP_1_1
        request.transport.write(self.framed(stays=stays, bodiless=request.method == "HEAD"))
        # A client that sends and reads no answers must wait; else it would fill our memory.
        await request.writer.drain()

    def framed(self, *, stays: bool, bodiless: bool = False) -> bytes:
        """Return head and body as they are sent. Not ``stays``: the connection ends with this answer."""
        head = self._head
        if not stays or not self.keep_alive:
            self.keep_alive = False
            head += b"Connection: close\r\n"
        body = b"" if bodiless or self.status == 204 else self.body
        return b"%bDate: %b\r\n\r\n%b" % (head, _date(), body)


class _Date:
    """The Date header (RFC 9110 section 6.6.1), formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(wall_s())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode("ascii")
        return self._text


_date = _Date()


def encoded(value: Any, *, shift_s: float = 0.0) -> bytes:
    """Return ``value`` as JSON that is safe on a terminal: control characters are escaped (``core/unsafe.py``).

    ``shift_s``: how far the wall clock is ahead of the times in the views it holds, in seconds.
    """
    body = to_json(value, shift_s=shift_s)
    return body if body.isascii() and b"\x7f" not in body else escaped(body.decode()).encode()


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, shift_s: float = 0.0
) -> Response:
    """Return ``value`` as JSON that nothing may cache: it holds for this moment. ``shift_s`` as for ``encoded``."""
    return Response(status, encoded(value, shift_s=shift_s), headers={"Cache-Control": "no-store", **(headers or {})})
