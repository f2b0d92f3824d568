"""How much may wait for the disk, and for how long a client waits for its 202.

Two bounds keep intake honest when the disk is slow or hangs: bytes held for requests that are not committed yet, and
the time a request waits while nothing gets committed at all (I12: 503 within 1 s, never a 202 before the commit).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from relay.core.clock import elapsed_s
from relay.core.errors import StoreError, StoreFailed, StoreFull
from relay.core.model import Accepted, AcceptedPosts, NewCallback, RoutedPost
from relay.store.base import Inbox
from relay.web.problem import Refusal

# Below the 1 s of I12, with room for the answer itself.
_PATIENCE_S = 0.9
# The slowest measured load went at 69,000 rows a second; a large request is given its time, and no more.
_SLOWEST_ROWS_S = 50_000

_Result = TypeVar("_Result")


class Held:
    """The bytes one request holds in memory, given back by ``release``."""

    __slots__ = ("_admission", "handed_over", "size")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0
        self.handed_over = False  # to the store: from then on ``Admission`` releases it

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more; raises ``Refusal`` (``store_failed``) when that is more than may wait."""
        admission = self._admission
        if admission.held_bytes + size > admission.max_bytes and admission.held_bytes > self.size:
            raise Refusal("store_failed", f"{admission.held_bytes} bytes already wait for the disk; repeat in a moment")
        self.size += size
        admission.held_bytes += size

    def release(self) -> None:
        """Give everything back; safe to call twice."""
        self._admission.held_bytes -= self.size
        self.size = 0


class Admission:
    """Hands rows to the store and watches that it moves."""

    def __init__(self, *, inbox: Inbox, max_bytes: int, patience_s: float = _PATIENCE_S) -> None:
        """Build it. A single request may exceed ``max_bytes``, or a large one could never be accepted."""
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._inbox = inbox
        self._patience_s = patience_s
        self._waiting: dict[asyncio.Future[Any], asyncio.Future[Any]] = {}
        self._waiting_rows = 0
        self._moved_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def commit(self, rows: Sequence[NewCallback], held: Held) -> Accepted:
        """Return once ``rows`` are on disk; ``held`` is released when the store is done with them, not before.

        Raised before the hand-over, a ``Refusal`` leaves ``held`` to the caller. The store's future is never cancelled:
        a client that goes away, or is told 503, leaves the commit to finish.
        """
        return await self._hand_over(partial(self._inbox.accept, rows), len(rows), held)

    async def commit_posts(self, posts: Sequence[RoutedPost], held: Held) -> AcceptedPosts:
        """Return once routed ``posts`` are on disk; as ``commit``."""
        count = sum(len(post.rows) for post in posts)
        return await self._hand_over(partial(self._inbox.accept_posts, posts), count, held)

    async def _hand_over(self, accept: Callable[[], Awaitable[_Result]], rows: int, held: Held) -> _Result:
        if self._waiting:
            if self._stalled():
                raise _not_committing()
        else:
            self._moved_at = elapsed_s()
        try:
            stored = asyncio.ensure_future(accept())
        except StoreError as error:  # a store may know before it makes a future
            raise _refusal(error) from None
        held.handed_over = True
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting[stored] = answer
        self._waiting_rows += rows
        stored.add_done_callback(partial(self._done, held, rows))
        if self._timer is None:
            self._watch()
        try:
            return await answer
        except StoreError as error:
            raise _refusal(error) from None

    def _done(self, held: Held, rows: int, stored: asyncio.Future[Any]) -> None:
        answer = self._waiting.pop(stored)
        self._waiting_rows -= rows
        self._moved_at = elapsed_s()
        held.release()
        error = StoreFailed("the store closed") if stored.cancelled() else stored.exception()
        if answer.done():
            return  # told 503 before, or cancelled with its connection: the outcome is for the repeat to find
        if error is None:
            answer.set_result(stored.result())
        else:
            answer.set_exception(error)

    def _bound_s(self) -> float:
        return self._patience_s + self._waiting_rows / _SLOWEST_ROWS_S

    def _stalled(self) -> bool:
        return elapsed_s() - self._moved_at > self._bound_s()

    def _watch(self) -> None:
        """Refuse everyone waiting when nothing was committed for too long; runs only while somebody waits."""
        self._timer = None
        if not self._waiting:
            return
        if self._stalled():
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_not_committing())
            return  # the next request starts the watch again, or is refused at once
        left_s = self._moved_at + self._bound_s() - elapsed_s()
        # Timers may fire a little early (uvloop: 1.25 ms); asking again right then would spin.
        self._timer = asyncio.get_running_loop().call_later(max(left_s, 0.0) + 0.002, self._watch)


def _refusal(error: StoreError) -> Refusal:
    if isinstance(error, StoreFull):
        return Refusal("store_full", f"{error}; nothing was accepted")
    return Refusal("store_failed", f"{error}; repeat with the same Idempotency-Key")


def _not_committing() -> Refusal:
    return Refusal("store_failed", "the store has not committed for a while; repeat with the same Idempotency-Key")
