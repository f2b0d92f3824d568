"""A connection that may move to another process between two requests.

So each request is looked at before any of it is parsed. What comes while one is under way is held until that is
answered and the answer is sent: no pipelined request may be parsed here that others must serve, and two processes must
not write to one client.
"""

from typing import Any

from relay.web.connection.protocol import HttpConnection

_LOOK_S = 0.005  # how often it is looked whether the request is answered behind which another was pipelined
_UNSENT_LOOK_S = 0.1  # at most so often where the client reads no answers


class MovableConnection(HttpConnection):
    """A connection of a ``Listener`` that gives some away."""

    __slots__ = ("_held",)

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self._held = b""  # the begin of the next request

    def data_received(self, data: bytes) -> None:
        """Serve or move the next request, or take more of the body of the one under way."""
        if not data:
            super().data_received(data)
        elif self._held:
            self._held += data
        elif self._left > 0:
            part, rest = data[: self._left], data[self._left :]
            super().data_received(part)
            if rest:
                self._hold(rest)
        elif self._sleeps:
            self._next(data)
        else:
            self._hold(data)

    @property
    def _sleeps(self) -> bool:
        """Whether nothing is under way, and all answers are sent."""
        waiting = self._waiter is not None and not self._waiter.done()
        return waiting and not self._left and not self._rest and not self._unsent

    @property
    def _unsent(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def _next(self, data: bytes) -> None:
        if self._serving.move(self, data):
            self._held = data  # so that nothing more is read here until it has moved
            self._pause_transport_reading()
        else:
            super().data_received(data)

    def _hold(self, data: bytes) -> None:
        self._held = data
        self._pause_transport_reading()
        self._loop.call_soon(self._go_on)

    def _go_on(self, look_s: float = _LOOK_S) -> None:
        if self.transport is None or self.transport.is_closing() or self._close or self._force_close:
            return
        if self._sleeps:
            data, self._held = self._held, b""
            self._next(data)
            if not self._reading_paused and not self._buffer_paused:
                self._resume_transport_reading()
        elif self._unsent:
            self._loop.call_later(look_s, self._go_on, min(look_s * 2, _UNSENT_LOOK_S))
        elif self.idle:
            self._loop.call_soon(self._go_on)  # the task is about to sleep
        else:
            self._loop.call_later(_LOOK_S, self._go_on)

    def _resume_transport_reading(self) -> None:
        if not self._held:
            super()._resume_transport_reading()
