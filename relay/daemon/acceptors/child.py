"""An acceptor: a process that was forked from the template (``template.py``).

It accepts connections on the daemon's sockets, beside other acceptors. It reads a post, checks guard, token and body,
and turns it into rows. The daemon gets the rows over the stream, writes them, and says when they are on disk. Only then
the post gets its 202. What is no post, or a large or encoded one, is the daemon's: the client's connection moves there,
with what was read of it. So every other route, every malformed request and every large body is served where it always
was.

It ends when the stream ends, which is when the daemon ends, whatever ended it. Only when that is sure it gets the
sockets that are listened on, so that it never keeps them from the next daemon.
"""

import asyncio
import os
import pickle
import re
import socket
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, NamedTuple

import uvloop

from relay.config.schema.file import Config
from relay.daemon.acceptors.duplex import (
    Done,
    Duplex,
    Failed,
    Finish,
    Follows,
    FoundState,
    FromDaemon,
    Hello,
    Here,
    Look,
    Moved,
    ProblemTold,
    Use,
)
from relay.daemon.acceptors.far_inbox import FarInbox
from relay.daemon.acceptors.shared_room import SharedRoom
from relay.daemon.intake import directory, ingest_settings
from relay.ingest.intake import Intake
from relay.ingest.server import IngestServer
from relay.store.base import OWN_ROWS_S, SHARED_ROWS_S
from relay.telemetry.failure import describe
from relay.web.connection.protocol import HttpConnection
from relay.web.connection.remembered import body_bytes

# Larger bodies are the daemon's, and encoded ones, which may become large. Of a bulk an acceptor could do an eighth of
# the work, and its rows would lie in memory in both processes.
_MOST_BYTES = 64 * 1024
_ENCODED = re.compile(rb"\r\n(?i:content-encoding):")
# Of unfinished uploads in all acceptors; a part of what `ingest/intake.py` allows all processes together.
_MAX_UPLOADING_BYTES = 8 * 1024 * 1024
_POSTS = ("POST", "PUT", "PATCH")
# With a daemon that answers nothing at all. That its store hangs the daemon tells, within 1 s (I12).
_PATIENCE_S = 3.0
_MOST_ADDRESSES = 16  # of one listener: a name may have several


class _Leaving(NamedTuple):
    """A connection that is to move to the daemon."""

    connection: HttpConnection
    place: int
    data: bytes


class Acceptor:
    """The parts of the process."""

    def __init__(self, moving: socket.socket, room: SharedRoom) -> None:
        moving.setblocking(False)
        self._moving = moving
        self._moved = 0
        self._leaving: deque[_Leaving] = deque()
        self._room = room
        self._stream = Duplex(FromDaemon, self._received, lambda: os._exit(0))
        self._inbox = FarInbox(self._stream)
        self._events = FarEvents(self._stream)
        self._servers: list[IngestServer] = []
        self._work: set[asyncio.Task[None]] = set()
        self._using = asyncio.Lock()  # a second configuration may come while sockets are opened for the first

    async def run(self, stream: socket.socket) -> None:
        """Serve until the stream ends, and the process with it."""
        await self._stream.open(stream)
        self._stream.send(Hello())
        await asyncio.Event().wait()

    def _received(self, message: FromDaemon) -> None:
        match message:
            case Done() | Failed() | FoundState():
                self._inbox.answered(message)
            case Use(config=config):
                self._begin(self._use(pickle.loads(config)))  # noqa: S301 -- from the daemon, over a socket pair
            case Look():
                self._stream.send(Here())
            case Finish(grace_s=grace_s):
                self._begin(self._stop(grace_s))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._work.discard(task)
        if (error := task.exception()) is not None:
            self._events.handler_failed(listener="", route="", error=error)
            asyncio.get_running_loop().call_later(0.1, os._exit, 1)  # the daemon starts another, and tells of it

    async def _use(self, config: Config) -> None:
        """Serve posts by this configuration from now on."""
        async with self._using:
            await self._put_in_force(config)
        self._stream.send(Follows())

    async def _put_in_force(self, config: Config) -> None:
        intakes = directory(config)
        self._inbox.slowest_rows_s = OWN_ROWS_S if config.server is None else SHARED_ROWS_S
        for server in self._servers:
            server.configure(settings=ingest_settings(config, server.listen), directory=intakes)
        if not self._servers:
            uploading_bytes = _MAX_UPLOADING_BYTES // max(1, config.ingest.processes)
            intake = Intake(
                inbox=self._inbox,
                max_uploading_bytes=uploading_bytes,
                beside=self._room,
                patience_s=_PATIENCE_S,
            )
            for place, listen in enumerate(config.ingest.listen):
                # They came before the configuration.
                _, passed, _, _ = socket.recv_fds(self._moving, 1, _MOST_ADDRESSES)
                server = IngestServer(
                    settings=ingest_settings(config, listen),
                    directory=intakes,
                    intake=intake,
                    ping=_unasked,
                    describe=_unasked,
                    openapi=bytes,
                    events=self._events,
                    expiring=lambda _seconds: None,  # the daemon looks at the rows
                    state=self._inbox.state,
                )
                await server.start(
                    inherited=[socket.socket(fileno=each) for each in passed], move=partial(self._move, place, server)
                )
                self._servers.append(server)

    def _move(self, place: int, server: IngestServer, connection: HttpConnection, data: bytes) -> bool:
        """Give a connection to the daemon, unless its next request is a post that is served here."""
        if is_ours(data, server):
            return False
        self._leaving.append(_Leaving(connection, place, data))
        if len(self._leaving) == 1:
            self._give()
        return True

    def _give(self) -> None:
        """Give away the connections that are to move, as far as the daemon takes them now."""
        loop = asyncio.get_running_loop()
        while self._leaving:
            connection, place, data = self._leaving[0]
            if connection.transport is not None:  # else the client has gone
                client = connection.transport.get_extra_info("socket")
                try:
                    socket.send_fds(self._moving, [self._moved.to_bytes(8, "big")], [client.fileno()])
                except BlockingIOError:  # a daemon that is busy, or stands still, must not hold up posts
                    loop.add_writer(self._moving, self._give)
                    return
                except OSError:  # too many are under way: a client that is cut off here tries again
                    pass
                else:
                    self._stream.send(Moved(self._moved, place, data))
                    self._moved += 1
                connection.force_close()  # here; the socket lives on in the daemon
            self._leaving.popleft()
        loop.remove_writer(self._moving)

    async def _stop(self, grace_s: float) -> None:
        await asyncio.gather(*(server.close(grace_s) for server in self._servers))
        os._exit(0)


def is_ours(data: bytes, server: IngestServer) -> bool:
    """Return whether ``data`` is the begin of one post that an acceptor serves, with its whole head."""
    end = data.find(b"\r\n\r\n")
    length = None if end < 0 else body_bytes(data[: end + 2])  # as the connection itself reads it
    if length is None or length > _MOST_BYTES or len(data) > end + 4 + length:
        return False
    if _ENCODED.search(data, 0, end + 2):
        return False
    method, _, rest = data[:end].decode("latin-1").partition(" ")
    return method in _POSTS and server.serves(method, rest.partition(" ")[0])


class FarEvents:
    """Tells the daemon of what it cannot see itself. What was accepted it counts where it writes."""

    def __init__(self, stream: Duplex) -> None:
        self._stream = stream

    def accepted(self, *, platform: str, count: int, duplicates: int) -> None:
        """Nothing: the daemon knows."""

    def dead(self, *, platform: str, count: int, reason: str) -> None:
        """Nothing: the daemon knows."""

    def refused(self, *, listener: str, code: str) -> None:
        """Tell of a problem."""
        self._stream.send(ProblemTold(code))

    def handler_failed(self, *, listener: str, route: str, error: BaseException) -> None:
        """Tell of a bug."""
        self._stream.send(
            ProblemTold("internal", ", ".join(f"{name} {text}" for name, text in describe(error).items()))
        )


async def _unasked(*_: str) -> None:
    """Answer what no post asks."""


def run(stream: socket.socket, moving: socket.socket, room: SharedRoom) -> None:
    """Be an acceptor until the stream ends."""

    async def serve() -> None:
        await Acceptor(moving, room).run(stream)

    uvloop.run(serve())
