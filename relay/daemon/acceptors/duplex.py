"""The stream between the daemon and one of its acceptors: messages, gathered into one frame per round of the loop.

A frame is four bytes of length and a MessagePack list. Both ends are the same code of the same version, so there is no
version in it. The stream is a socket pair, which nobody else can reach.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import msgspec

from relay.core.model import NewCallback, RoutedPost

_LENGTH_BYTES = 4


class Message(msgspec.Struct, array_like=True, tag=True, gc=False, frozen=True):
    """One message; its class is its tag."""


class Rows(Message, frozen=True):
    """Accept the rows of one request."""

    number: int
    rows: list[NewCallback]


class Posts(Message, frozen=True):
    """Accept routed posts."""

    number: int
    posts: list[RoutedPost]


class AskState(Message, frozen=True):
    """Tell the state of a callback that was accepted earlier."""

    number: int
    callback_id: str


class Moved(Message, frozen=True):
    """A client's connection is the daemon's from now on; its socket comes beside the stream, under this number."""

    number: int
    listener: int
    data: bytes  # what was read of it


class ProblemTold(Message, frozen=True):
    """A problem was answered, or a handler failed (``error``)."""

    code: str
    error: str = ""


class Hello(Message, frozen=True):
    """An acceptor will end with the daemon from now on, so it may be given the sockets that are listened on."""


class Follows(Message, frozen=True):
    """The last configuration that came is in force, and posts are taken in."""


class Look(Message, frozen=True):
    """Answer ``Here`` at once: it shows that the acceptor works."""


class Here(Message, frozen=True):
    """The answer to ``Look``."""


class Done(Message, frozen=True):
    """The rows or posts are on disk. ``ids`` are texts, or for each post the ids by platform."""

    number: int
    ids: list[Any]
    duplicates: list[int]


class Failed(Message, frozen=True):
    """The rows or posts were refused, or it is not known what became of them."""

    number: int
    kind: str
    text: str
    index: int = 0


class FoundState(Message, frozen=True):
    """The state that was asked for; None: there is no such callback, or ``failed``: nobody knows now."""

    number: int
    state: str | None
    failed: bool = False


class Use(Message, frozen=True):
    """Put this configuration in force."""

    config: bytes  # pickled


class Finish(Message, frozen=True):
    """Finish what is under way, then end."""

    grace_s: float


FromAcceptor = Hello | Rows | Posts | AskState | Moved | ProblemTold | Follows | Here
FromDaemon = Done | Failed | FoundState | Use | Finish | Look
_encode = msgspec.msgpack.Encoder().encode


class Duplex(asyncio.Protocol):
    """One end of it."""

    def __init__(self, kinds: Any, received: Callable[[Any], None], ended: Callable[[], None]) -> None:
        """``kinds`` are the messages that may come; ``ended`` is called when the other end is gone."""
        self._decode = msgspec.msgpack.Decoder(list[kinds]).decode
        self._received = received
        self._ended = ended
        self._read = bytearray()
        self._waiting: list[Message] = []
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Speak over ``sock``, one of a pair."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, message: Message) -> None:
        """Send a message with all others of this round of the loop. Where the other end is gone it is dropped."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(message)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._transport is not None:
            frame = _encode(waiting)
            self._transport.writelines((len(frame).to_bytes(_LENGTH_BYTES, "big"), frame))

    def data_received(self, data: bytes) -> None:
        """Hand on the messages of each complete frame."""
        read = self._read
        read += data
        at = 0
        while len(read) - at >= _LENGTH_BYTES:
            begin = at + _LENGTH_BYTES
            end = begin + int.from_bytes(read[at:begin], "big")
            if len(read) < end:
                break
            messages = self._decode(bytes(memoryview(read)[begin:end]))
            at = end
            for message in messages:
                self._received(message)
        if at:
            del read[:at]

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell that the other end is gone."""
        self._transport = None
        self._ended()

    def close(self) -> None:
        """Close this end."""
        if self._transport is not None:
            self._transport.close()
