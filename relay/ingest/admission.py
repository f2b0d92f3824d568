"""What a request passes on its way to the disk: room for its bytes, a place in a line, a watch on the commit.

``room`` counts bytes, ``pressure`` counts work, ``commit_watch`` is for a disk that hangs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from relay.core.clock import elapsed_s
from relay.core.errors import StoreError, StoreFull
from relay.core.model import Accepted, AcceptedPosts, NewCallback, RoutedPost
from relay.ingest.pressure import Line, Pressure, rows_of
from relay.ingest.room import ALONE, Beside, Room, Upload
from relay.store.base import Inbox
from relay.store.commit_watch import PATIENCE_S, CommitWatch
from relay.web.refusal import Refusal

_Result = TypeVar("_Result")


class Held:
    """What one request holds: memory from its head to its commit, and a place in line once its body is complete.

    It is the ``Reserve`` of ``web.body``. ``release`` gives everything back.
    """

    __slots__ = (
        *("_before", "_began_s", "_bulk", "_line", "_pressure", "_room", "_rows", "_searches", "_upload"),
        *("handed_over", "size"),
    )

    def __init__(self, room: Room, pressure: Pressure, bulk: bool, searches: bool) -> None:
        self.size = 0
        self.handed_over = False  # to the store; from then on ``Admission`` releases it
        self._room = room
        self._pressure = pressure
        self._bulk = bulk
        self._searches = searches
        self._upload: Upload | None = None
        self._line: Line | None = None  # this and what stands below are set when its body is complete
        self._rows: int
        self._before: int
        self._began_s: float

    def begin_upload(self, give_up: Callable[[], None]) -> None:
        """Get ready for a body that comes in pieces; ``give_up`` is called if it must make way for others."""
        self._upload = self._room.upload(give_up)

    def uploaded(self, size: int) -> None:
        """Hold ``size`` bytes more of it; raises ``Refusal`` (``overloaded``)."""
        assert self._upload is not None
        self._upload.grow(size)

    @property
    def given_up(self) -> Refusal | None:
        """Why the upload had to make way; None if it did not."""
        return None if self._upload is None else self._upload.refusal

    def complete(self, size: int) -> None:
        """Count a complete body as work under way. Raises ``Refusal`` (``overloaded``)."""
        if self._upload is not None:
            self._upload.end()
            self._upload = None
        line = self._pressure.line(size, self._bulk, self._searches)
        line.check()
        self._room.hold(size, 0)
        self.size = size
        self._line = line
        self._before = line.under_way
        self._rows = rows_of(size, self._bulk)
        line.under_way += self._rows
        line.requests += 1
        self._began_s = elapsed_s()

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more, fewer if negative; raises ``Refusal`` (``overloaded``) when they have no room."""
        self._room.hold(size, self.size)
        self.size += size

    def weigh(self, rows: int) -> None:
        """Replace the guess from the size by the number of ``rows``."""
        assert self._line is not None
        rows += rows_of(self.size, False)
        self._line.under_way += rows - self._rows
        self._rows = rows

    def release(self, *, committed: bool = False) -> None:
        """Give everything back; safe to call twice."""
        if self._upload is not None:
            self._upload.end()
            self._upload = None
        self._room.hold(-self.size, 0)
        self.size = 0
        line, self._line = self._line, None
        if line is not None:
            line.under_way -= self._rows
            line.requests -= 1
            if committed:
                line.finished(self._rows, self._began_s, self._before)


class Admission:
    """Lets requests in, hands their rows to the store, and watches that the store commits. All listeners share one."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        max_bytes: int,
        max_uploading_bytes: int,
        beside: Beside = ALONE,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.room = Room(max_bytes=max_bytes, max_uploading_bytes=max_uploading_bytes, beside=beside)
        self.pressure = Pressure()
        self.watch = CommitWatch(inbox, patience_s)
        self._inbox = inbox

    def enter(self, declared: int | None, *, bulk: bool, searches: bool) -> Held:
        """Let a request in after its head was read. Raises ``Refusal`` (``overloaded``) before its body is read.

        ``declared`` is the length in its head. ``searches``: its payload needs a search in pure Python, which is slow.
        """
        self.pressure.line(declared, bulk, searches).check()
        return Held(self.room, self.pressure, bulk, searches)

    def commit(self, rows: Sequence[NewCallback], held: Held) -> "asyncio.Future[Accepted]":
        """Hand ``rows`` to the store; the future ends when they are on disk, or with a ``Refusal``.

        ``held`` is released when the store is done with them, not before. A ``Refusal`` before the hand-over is raised
        at once, and leaves ``held`` to the caller. The store's future is never cancelled: the commit goes on when the
        client goes away or gets a 503. Nothing here keeps ``rows`` meanwhile, so that the store can free what it has
        packed.
        """
        return self._hand_over(partial(self._inbox.accept, rows), len(rows), held)

    def commit_posts(self, posts: Sequence[RoutedPost], held: Held) -> "asyncio.Future[AcceptedPosts]":
        """Do for routed ``posts`` what ``commit`` does for rows."""
        count = sum(len(post.rows) for post in posts)
        return self._hand_over(partial(self._inbox.accept_posts, posts), count, held)

    def _hand_over(self, accept: Callable[[], Awaitable[_Result]], rows: int, held: Held) -> "asyncio.Future[_Result]":
        def ended(stored: "asyncio.Future[_Result]") -> None:
            held.release(committed=not stored.cancelled() and stored.exception() is None)

        answer = self.watch.follow(accept, rows, ended=ended, told=_refusal)
        held.handed_over = True
        return answer


def _refusal(error: StoreError) -> Refusal:
    if isinstance(error, StoreFull):
        return Refusal("store_full", f"{error}; nothing was accepted")
    return Refusal("store_failed", f"{error}; repeat with the same Idempotency-Key")
