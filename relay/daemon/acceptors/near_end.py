"""The daemon's end of the stream to one acceptor: it writes what comes, counts it, and answers after the commit."""

import asyncio
import pickle
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from relay.config.schema.file import Config
from relay.core.errors import RelayError, StoreError
from relay.core.model import Accepted, AcceptedPosts, RoutedPost
from relay.daemon.acceptors.duplex import (
    AskState,
    Done,
    Duplex,
    Finish,
    Follows,
    FoundState,
    FromAcceptor,
    Hello,
    Here,
    Look,
    Moved,
    Posts,
    ProblemTold,
    Rows,
    Use,
)
from relay.daemon.acceptors.far_inbox import failure
from relay.ingest.server import LISTENER
from relay.ingest.told import IntakeEvents, RowsToReport, report_posts
from relay.store.base import Inbox
from relay.store.commit_watch import CommitWatch

_READ_S = 5.0
_PER_TURN = 64  # connections, as `web/admit.py` takes them


class AcceptorFailed(Exception):
    """What an acceptor says of a failure of its own."""


class NearEnd:
    """Serves one acceptor."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        watch: CommitWatch,
        state: Callable[[str], Awaitable[str | None]],
        take: Callable[[int, socket.socket, bytes], None],
        events: IntakeEvents,
        expiring: Callable[[float], None],
        ready: Callable[[], None],
        config: Callable[[], Config],
        listeners: Sequence[Sequence[socket.socket]],
    ) -> None:
        """Prepare to serve it.

        ``watch`` is the daemon's watch on the store. ``take`` serves a connection that moves here, of the listener with
        that place. ``ready``: it takes posts. ``config()`` is in force. ``listeners`` are the sockets that it accepts
        connections from.
        """
        self._inbox = inbox
        self._watch = watch
        self._state = state
        self._take = take
        self._events = events
        self._expiring = expiring
        self._ready = ready
        self._config = config
        self._listeners = listeners
        self._stream = Duplex(FromAcceptor, self._received, self._ended)
        self._moving: socket.socket
        self._sockets: dict[int, socket.socket | None] = {}  # of connections that move here; None: it could not come
        self._moved: dict[int, Moved] = {}  # what was read of them
        self._has_sockets = False
        self._following = 0  # configurations that were sent and are not in force there yet
        self._in_force: asyncio.Event = asyncio.Event()
        self._unanswered = 0
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self, stream: socket.socket, moving: socket.socket) -> None:
        """Speak to the acceptor."""
        moving.setblocking(False)
        self._moving = moving
        asyncio.get_running_loop().add_reader(moving, self._comes)
        await self._stream.open(stream)

    def send(self) -> None:
        """Have it put the configuration in force there too; one that has no sockets yet gets it with them."""
        self._in_force.clear()
        if self._has_sockets:
            self._following += 1
            self._stream.send(Use(pickle.dumps(self._config())))

    def _greeted(self) -> None:
        for sockets in self._listeners:
            socket.send_fds(self._moving, [b"x"], [sock.fileno() for sock in sockets])
        self._has_sockets = True
        self.send()

    async def in_force(self) -> None:
        """Wait until the configuration that was sent last is in force there."""
        await self._in_force.wait()

    def look(self) -> int:
        """Ask whether it works; return how many times in a row it has been asked before, and has not answered."""
        unanswered, self._unanswered = self._unanswered, self._unanswered + 1
        self._stream.send(Look())
        return unanswered

    def stop(self, grace_s: float) -> None:
        """Have it finish what is under way, and end."""
        self._stream.send(Finish(grace_s))

    def close(self) -> None:
        """End the stream; the acceptor ends with it."""
        self._stream.close()

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._moving)
        self._moving.close()
        for sock in self._sockets.values():
            if sock is not None:
                sock.close()

    def _received(self, message: FromAcceptor) -> None:
        match message:
            case Hello():
                self._greeted()
            case Rows(number=number, rows=rows):
                report = partial(self._report, RowsToReport(rows))
                self._accept(number, partial(self._inbox.accept, rows), len(rows), report)
            case Posts(number=number, posts=posts):
                count = sum(len(post.rows) for post in posts)
                report = partial(self._report_posts, posts)
                self._accept(number, partial(self._inbox.accept_posts, posts), count, report)
            case AskState(number=number, callback_id=callback_id):
                task = asyncio.ensure_future(self._answer_state(number, callback_id))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            case Moved(number=number):
                self._moved[number] = message
                self._match(number)
            case ProblemTold(code=code, error=""):
                self._events.refused(listener=LISTENER, code=code)
            case ProblemTold(error=error):
                self._events.handler_failed(listener=LISTENER, route="POST", error=AcceptorFailed(error))
            case Follows():
                self._following -= 1
                if not self._following:
                    self._in_force.set()
                self._ready()
            case Here():
                self._unanswered = 0

    def _accept(
        self, number: int, accept: Callable[[], Awaitable[Any]], rows: int, report: Callable[[Any], None]
    ) -> None:
        def ended(stored: "asyncio.Future[Any]") -> None:
            if not stored.cancelled() and stored.exception() is None:
                report(stored.result())  # also where the acceptor has ended meanwhile: it is on disk

        try:
            answer = self._watch.follow(accept, rows, ended=ended, told=lambda error: error)
        except StoreError as error:
            self._stream.send(failure(number, error))
            return
        answer.add_done_callback(partial(self._stored, number))

    def _stored(self, number: int, answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled():  # the loop ends
            return
        if (error := answer.exception()) is not None:
            if not isinstance(error, RelayError):  # a bug of the store: the log says where, and the client posts again
                self._events.handler_failed(listener=LISTENER, route="POST", error=error)
            self._stream.send(failure(number, error))
            return
        accepted = answer.result()
        self._stream.send(Done(number, accepted.ids, sorted(accepted.duplicates)))

    def _report(self, told: RowsToReport, accepted: Accepted) -> None:
        told.report(accepted, self._events, self._expiring)

    def _report_posts(self, posts: Sequence[RoutedPost], accepted: AcceptedPosts) -> None:
        report_posts(posts, accepted, self._events, self._expiring)

    async def _answer_state(self, number: int, callback_id: str) -> None:
        try:
            async with asyncio.timeout(_READ_S):
                self._stream.send(FoundState(number, await self._state(callback_id)))
        except (StoreError, TimeoutError):
            self._stream.send(FoundState(number, None, failed=True))
        except Exception as error:  # noqa: BLE001 - a bug: it is told of, and the client gets an answer all the same
            self._events.handler_failed(listener=LISTENER, route="POST", error=error)
            self._stream.send(FoundState(number, None, failed=True))

    def _comes(self) -> None:
        """Take the sockets of connections that move here."""
        for _ in range(_PER_TURN):
            try:
                said, descriptors, _, _ = socket.recv_fds(self._moving, 8, 1)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:  # the acceptor has ended; the stream says so too
                asyncio.get_running_loop().remove_reader(self._moving)
                return
            number = int.from_bytes(said, "big")
            # None where this process has no descriptor left for it: then the kernel has closed it.
            self._sockets[number] = socket.socket(fileno=descriptors[0]) if descriptors else None
            self._match(number)

    def _match(self, number: int) -> None:
        if number not in self._sockets or number not in self._moved:
            return
        moved, client = self._moved.pop(number), self._sockets.pop(number)
        if client is not None:
            self._take(moved.listener, client, moved.data)
