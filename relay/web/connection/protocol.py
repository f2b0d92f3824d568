"""One HTTP connection: aiohttp's protocol, which in some cases does not do what aiohttp does.

1. Bytes that are slow to parse are parsed in parts (``turns``).
2. A request whose head is known (``remembered``) is neither parsed nor served by a task. It must be complete and come
   alone, with nothing before it under way. The task that aiohttp has for each connection sleeps meanwhile. Whatever
   else comes goes through aiohttp: bodies that come later, pipelined requests, other heads, malformed ones. So aiohttp
   has all the difficult cases, and its limits and times hold for both.
3. The answer to malformed HTTP quotes nothing of it: the bytes may be a body, read as a head. What comes after
   it is dropped: aiohttp would keep it all, in the error of each piece.
"""

import asyncio
from typing import Any, NamedTuple, Protocol, cast

from aiohttp.http_parser import RawRequestMessage
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from relay.web.connection.begun import Begun
from relay.web.connection.refused import too_long
from relay.web.connection.remembered import Cut, KnownHead, cut, length_of
from relay.web.connection.turns import LONG_BYTES, ParserTurns, is_costly
from relay.web.refusal import problem
from relay.web.response import Response

# After so many heads in a row that were not known no more are looked up on a connection: its client never repeats one.
_TRIES = 16
_OPEN = -1


class Serving(Protocol):
    """What a connection asks its listener."""

    def recall(self, rest: bytes) -> KnownHead | None:
        """Return what is known of a head."""
        ...

    def learn(self, rest: bytes, request: BaseRequest) -> None:
        """Remember the head of ``request``, if requests with it need no task."""
        ...

    def begin(self, connection: "HttpConnection", known: KnownHead, part: Cut) -> Begun | Response | None:
        """Begin to answer a request with a known head. A response is the whole answer; None: aiohttp must serve it."""
        ...

    def move(self, connection: "HttpConnection", data: bytes) -> bool:
        """Give a connection away that is between two requests, with what was read; return whether that was done."""
        ...

    def ended(self, response: Response) -> None:
        """What ``begin`` began has come to this response, which is about to be written."""
        ...

    def closed(self, connection: "HttpConnection") -> None:
        """A connection has ended."""
        ...


class _UnderWay(NamedTuple):
    """A request that is being served without a task."""

    begun: Begun
    sleeper: "asyncio.Future[None]"  # what the task of the connection waits for


class HttpConnection(RequestHandler):
    """A connection of a ``Listener``."""

    __slots__ = ("_broken", "_later", "_left", "_rest", "_serving", "_tries", "_turns", "_under_way")

    def __init__(self, manager: Server, *, serving: Serving, turns: ParserTurns, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._serving = serving
        self._turns = turns
        self._rest = b""  # read but not parsed yet
        self._broken = False  # by malformed HTTP
        self._under_way: _UnderWay | None = None
        self._left = 0  # bytes of the last request that are still to come; _OPEN: nobody knows
        self._tries = _TRIES
        self._later: asyncio.Future[Response] | None = None  # an answer that takes more waiting

    def data_received(self, data: bytes) -> None:
        """Parse what came, in parts if that takes long; or serve the request that it is, if its head is known."""
        if not data:
            super().data_received(data)  # aiohttp itself calls it so, when it goes on after a pause
        elif self._rest:
            self._count(data)
            self._rest += data
        elif len(data) > LONG_BYTES and is_costly(data):
            self._pause_transport_reading()
            self._count(data)
            self._rest = data
            self._turns.add(self)
        elif (sleeper := self._waiter) is None or sleeper.done() or self._left or self._paused or self._upgraded:
            self._parse(data)  # something is under way, or the client does not read its answers
        else:
            self._receive(data, sleeper)

    def feed(self, most_bytes: int) -> bool:
        """Parse the next part of what was kept; return whether more is left."""
        part, rest = self._rest[:most_bytes], self._rest[most_bytes:]
        self._rest = b""
        self._feed(part)
        self._rest = rest
        if rest:
            self._pause_transport_reading()  # handling the part may have resumed reading
        elif not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()
        return bool(rest)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on where reading was paused. aiohttp asks for it after each read of a body, mostly without need."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _resume_transport_reading(self) -> None:
        if not self._rest:
            super()._resume_transport_reading()

    def _count(self, data: bytes) -> None:
        """Count how much is left of the request."""
        if self._left == 0:
            self._left = length_of(data)
        if self._left > 0:
            self._left = max(_OPEN, self._left - len(data))

    def _parse(self, data: bytes) -> None:
        self._count(data)
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._broken:  # read and dropped: a connection that is closed with bytes unread loses its answer
            return
        super().data_received(data)
        if self._messages and not isinstance(told := self._messages[-1][0], RawRequestMessage):
            self._broken = True
            told.exc.__traceback__ = None  # its frames hold what was read

    def _receive(self, data: bytes, sleeper: "asyncio.Future[None]") -> None:
        """Take what came while nothing was under way."""
        part = cut(data) if self._tries else None
        known = None if part is None else self._serving.recall(part.rest)
        if part is not None and known is not None and self._begin(known, part, sleeper):
            self._tries = _TRIES
            return
        self._parse(data)
        if part is not None and len(self._messages) == 1 and not self._upgraded:
            self._tries -= 1
            message, payload = self._messages[0]
            if isinstance(message, RawRequestMessage) and payload.is_eof():
                # The request is only looked at, so it needs neither writer nor task.
                nobody = cast(Any, None)
                self._serving.learn(part.rest, BaseRequest(message, payload, self, nobody, nobody, self._loop))

    def _begin(self, known: KnownHead, part: Cut, sleeper: "asyncio.Future[None]") -> bool:
        """Begin a request without a task; return whether that was possible."""
        begun = self._serving.begin(self, known, part)
        if begun is None:
            return False
        if isinstance(begun, Response):
            self._write(begun)
        else:
            self._waiter = None  # until it is answered: nothing else is begun, and the connection is not idle
            self._request_in_progress = True
            self._under_way = _UnderWay(begun, sleeper)
            begun.done.add_done_callback(self._done)
        return True

    def _done(self, _done: "asyncio.Future[Any]") -> None:
        assert self._under_way is not None
        answer = self._under_way.begun.answer()
        if isinstance(answer, Response):
            self._end(answer)
        else:
            self._later = asyncio.ensure_future(answer)
            self._later.add_done_callback(self._done_later)

    def _done_later(self, later: "asyncio.Future[Response]") -> None:
        self._later = None
        if not later.cancelled():  # else the loop ends
            self._end(later.result())

    def _end(self, response: Response) -> None:
        """Answer what was begun, and let the connection go on as aiohttp does after a request."""
        assert self._under_way is not None
        sleeper = self._under_way.sleeper
        self._under_way = None
        self._serving.ended(response)
        self._request_in_progress = False
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)
        if self.transport is None or sleeper.done():
            sleeper.cancel()  # the client went away meanwhile, or the listener closed
            return
        self._waiter = sleeper
        self._write(response)

    def _write(self, response: Response) -> None:
        assert self.transport is not None
        self.transport.write(response.framed(stays=not self._close))
        if not response.keep_alive:
            self.force_close()  # what was written still goes out
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if self._messages and self._waiter is not None:
            self._waiter.set_result(None)  # what came meanwhile

    @property
    def idle(self) -> bool:
        """Whether no request is under way. It may have read a part of a head."""
        return not self._request_in_progress and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report its end."""
        self._serving.closed(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Return the response to a request that could not be parsed or served."""
        self.log_exception("request failed", exc_info=exc)
        code, detail = ("internal", "") if status >= 500 else too_long(exc) or ("bad_request", "")
        return cast(StreamResponse, problem(code, detail, close=True))
