"""An answer of unknown length, written part by part as fast as its client reads it."""

from collections.abc import AsyncIterator, Mapping

from aiohttp import HttpVersion11
from aiohttp.web import BaseRequest

from relay.web.response import Response


class Streamed(Response):
    """An answer made while it is read. Its connection closes behind it.

    In HTTP/1.1 the parts go as chunks (RFC 9112 section 7.1), so a client sees when the end is missing.
    """

    __slots__ = ("_lines", "_parts", "_streamed")

    def __init__(self, parts: AsyncIterator[bytes], *, content_type: str, headers: Mapping[str, str]) -> None:
        """Header values must be free of CR and LF."""
        super().__init__(200, close=True)
        self._parts = parts
        lines = {"Content-Type": content_type, "Connection": "close", "Cache-Control": "no-store", **headers}
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")
        self._streamed: BaseRequest | None = None

    async def prepare(self, request: BaseRequest) -> None:
        """Take the request this answers; aiohttp calls it."""
        self._streamed = request

    async def write_eof(self) -> None:
        """Write all parts; aiohttp calls it."""
        request = self._streamed
        if request is None or request.transport is None:
            return
        transport, chunked = request.transport, request.version == HttpVersion11
        coding = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        transport.write(b"HTTP/1.1 200 OK\r\n%b%b\r\n" % (self._lines, coding))
        if request.method == "HEAD":
            return
        try:
            async for part in self._parts:
                transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                await request.writer.drain()
        except BaseException:  # whatever it was, also a cancellation: the client must not take it for the end
            transport.abort()
            raise
        if chunked:
            transport.write(b"0\r\n\r\n")
