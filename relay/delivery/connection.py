"""One connection to a platform inside aiohttp: what arrives on it, and whether that is an answer at all.

aiohttp's pool and its writing are used as they are. Its reading is replaced, for three reasons: it takes bytes that
came before a request for that request's answer (RFC 9112 section 9.2 calls them none), it refuses heads that browsers
read, and it parses as much in one turn of the loop as one read brings.
"""

import asyncio
import contextlib
import functools
import select
import socket
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpVersion, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from relay.wire.answers.framing import AnswerFraming, AnswerHead, BadAnswer, NotHttp

# What one connection may have parsed in one turn of the loop: the worst there is, chunks of one byte, takes 4 ms.
_TURN_BYTES: Final = 16 * 1024
# More of a body than twice this, not taken by whoever reads the answer, waits in the kernel.
_BUFFER_BYTES: Final = 64 * 1024
# Turns in which what waits in the kernel is read: one with uvloop, two with asyncio, more for what TLS itself sends.
_LOOKS: Final = 4


class NeverAsked(aiohttp.ClientError):
    """The connection ended, or its other end spoke, before a byte of the request was sent: it was not used."""

    def __init__(self, what: str, *, fresh: bool) -> None:
        super().__init__(what)
        self.fresh = fresh  # no earlier request used it


class UnreadableAnswer(aiohttp.ClientError):
    """What came cannot be read as an answer; the text is ours and holds nothing of it.

    ``begun``: it began as one.
    """

    def __init__(self, text: str, *, begun: bool) -> None:
        super().__init__(text)
        self.begun = begun


class PlatformConnection(ResponseHandler):
    """The protocol of one connection. Only what comes after the first byte of a request was sent is its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, secured: Callable[[str], None] | None = None) -> None:
        super().__init__(loop)
        self._secured = secured  # told when the certificate of the other end ends, as OpenSSL writes it
        self._poll = select.poll()
        self._framing: AnswerFraming | None = None
        self._asked = False  # at least a byte of the present request was sent
        self._used = False  # at least a byte of any request was
        self._spoke = False  # bytes came that nobody asked for
        self._unread = bytearray()  # arrived, and not looked at yet
        self._handed_over = False  # the head went to whoever waits for it
        self._spare: socket.socket | None = None
        self._wire: asyncio.Transport | None = None  # ``transport`` is forgotten by ``close``, which still sends

    @property
    def should_close(self) -> bool:
        """Whether the connection must not be used again."""
        return super().should_close or not self._ended or bool(self._unread)

    @property
    def _ended(self) -> bool:
        return self._framing is None or self._framing.ended

    def set_response_params(self, *, skip_payload: bool = False, **_others: Any) -> None:
        """Begin a request. aiohttp calls this for CONNECT when it was written, for others just before ``hold``."""
        self._framing = AnswerFraming(bodiless=skip_payload)
        self._handed_over = False
        self._asked = True

    async def hold(self) -> None:
        """Look whether anything came before the request goes out. Raises ``NeverAsked`` where it must not."""
        self._asked = False
        for _ in range(_LOOKS):
            if not self._readable():
                break
            await asyncio.sleep(0)
        if not self.is_connected():
            raise self._never_asked()

    def ask(self) -> bool:
        """Call right before the first byte is written; False: write nothing, whoever waits is told why."""
        if not self.is_connected():
            return False
        self._asked = self._used = True
        return True

    def keep_spare(self) -> None:
        """Keep a second handle on the socket until ``drop_spare``, for what came before writing to it failed.

        A platform that refuses a large body sends its answer, closes, and the next write meets the reset; the loop
        then closes its own handle with the answer unread. Under TLS there is no such way, only ``heard``.
        """
        transport = self.transport
        if transport is not None and transport.get_extra_info("sslcontext") is None:
            with contextlib.suppress(OSError):  # no descriptor left: it goes without
                self._spare = transport.get_extra_info("socket").dup()

    def drop_spare(self) -> None:
        """Close the second handle: with it the connection would outlive its reset."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    async def heard(self) -> bool:
        """Whether the answer is there or the connection gone: then nobody is left to send the rest of a body to."""
        for _ in range(_LOOKS):
            if self._ended or not self._readable():
                break
            await asyncio.sleep(0)
        return self._ended or not self.is_connected()

    def cut(self) -> None:
        """Reset the connection: what is not on the wire yet stays here."""
        self.drop_spare()
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection on which nothing was asked."""
        super().connection_made(transport)
        self._wire = self.transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        shown = transport.get_extra_info("peercert")  # kept by the handshake, so this costs nothing
        if shown and self._secured is not None:
            self._secured(shown["notAfter"])

    def data_received(self, data: bytes) -> None:
        """Take what arrived: some of it now, the rest in the next turns of the loop."""
        if self._ended or not self._asked:
            self._spoke = True
            self._should_close = True
            self.cut()
            return
        at_work = bool(self._unread)
        self._unread += data
        if not at_work:
            self._work()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Read what had arrived before the connection ended; only then is it lost."""
        framing = self._framing
        if exc is not None and self._spare is not None:
            self._unread += _left_in(self._spare)
        self.drop_spare()
        self._wire = None
        if framing is not None and self._asked and not framing.ended and self._exception is None:
            self._read_on(len(self._unread))
            if exc is None and framing.feed_end():
                self._give()
        if not self._asked:
            self.set_exception(self._never_asked())
        self._fail_payload(aiohttp.ClientPayloadError("the answer ended early"))
        super().connection_lost(exc)

    def pause_reading(self) -> None:
        """Hold what arrives back: whoever reads the answer is behind."""
        self._reading_paused = True
        self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on where ``pause_reading`` stopped."""
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Read a turn's share of what arrived; no more is taken from the kernel until it is all read."""
        if self._reading_paused or self.transport is None:
            return
        self._read_on(_TURN_BYTES)
        if self._unread and not self._ended:
            self._pause_transport_reading()
            self._loop.call_soon(self._work)
        elif not self._reading_paused:
            self._resume_transport_reading()

    def _read_on(self, most: int) -> None:
        framing = self._framing
        assert framing is not None
        part = bytes(self._unread[:most])
        del self._unread[:most]
        try:
            framing.feed(part)
        except BadAnswer as error:
            self._give()
            self._framing = None  # nothing more is read
            unreadable = UnreadableAnswer(str(error), begun=not isinstance(error, NotHttp))
            self.set_exception(unreadable)
            self._fail_payload(unreadable)
            self._unread.clear()
            self.cut()
        else:
            self._give()

    def _give(self) -> None:
        """Hand over what was read: the head once, the body as it comes, and its end."""
        framing = self._framing
        assert framing is not None
        head = framing.head
        if head is None:
            return
        if not self._handed_over:
            self._handed_over = True
            bodiless = framing.ended and not framing.body
            self._payload = EMPTY_PAYLOAD if bodiless else StreamReader(self, _BUFFER_BYTES, loop=self._loop)
            self._should_close = not head.lasts or framing.surplus
            self.feed_data((_message(head), self._payload), 0)
        payload = self._payload
        if payload is None:
            return
        if framing.body:
            payload.feed_data(framing.take_body())
        if framing.ended:
            self._should_close = not head.lasts or framing.surplus
            payload.feed_eof()

    def _fail_payload(self, error: Exception) -> None:
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(error)

    def _never_asked(self) -> NeverAsked:
        what = "spoke before it was asked" if self._spoke else "closed the connection before it was asked"
        return NeverAsked(f"the platform {what}", fresh=not self._used)

    def _readable(self) -> bool:
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        return bool(self._poll.poll(0))


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool over ``PlatformConnection``."""

    def __init__(self, *, secured: Callable[[str], None] | None = None, **options: Any) -> None:
        super().__init__(**options)
        made = functools.partial(PlatformConnection, loop=self._loop, secured=secured)
        self._factory = made  # type: ignore[assignment]  # a subclass


def _message(head: AnswerHead) -> RawResponseMessage:
    fields = CIMultiDictProxy(CIMultiDict(head.fields))
    return RawResponseMessage(
        HttpVersion(1, head.minor), head.status, "", fields, (), not head.lasts, None, False, False
    )


def _left_in(spare: socket.socket) -> bytes:
    """Return what had arrived on a connection that was reset since."""
    left = bytearray()
    while len(left) < 2 * _BUFFER_BYTES:
        try:
            part = spare.recv(_BUFFER_BYTES, socket.MSG_DONTWAIT)
        except OSError:  # nothing more there
            break
        if not part:
            break
        left += part
    return bytes(left)
