"""Watches that the store commits: for a disk that hangs.

If nothing at all is committed for too long, every waiting request ends as failed (I12: 503 within 1 s, never a 202
before the commit). The commit itself goes on; who repeats the post learns what became of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from relay.core.clock import elapsed_s
from relay.core.errors import StoreError, StoreFailed
from relay.store.base import Inbox

# Below the 1 s of I12, with room for the answer itself. A large request gets the time of its rows beside it.
PATIENCE_S = 0.9

_Result = TypeVar("_Result")
_Told = Callable[[StoreError], BaseException]


class CommitWatch:
    """Watches what was handed to the store. All that hand something over share one."""

    def __init__(self, inbox: Inbox, patience_s: float) -> None:
        self._inbox = inbox
        self._patience_s = patience_s
        self._waiting: dict[asyncio.Future[Any], tuple[asyncio.Future[Any], _Told]] = {}
        self._waiting_rows = 0
        self._moved_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def follow(
        self,
        accept: Callable[[], Awaitable[_Result]],
        rows: int,
        *,
        ended: "Callable[[asyncio.Future[_Result]], None]",
        told: _Told,
    ) -> "asyncio.Future[_Result]":
        """Hand ``rows`` to the store by ``accept()``; return what ends when it says so, or fails for too long.

        ``ended`` is called with the store's own answer when it is there, also where nobody waits any more. ``told``
        makes the error that a caller gets of one of the store; it is raised at once if nothing was handed over.
        """
        if self._waiting:
            if self._stalled():
                raise told(_not_committing())
        else:
            self._moved_at = elapsed_s()
        try:
            stored = asyncio.ensure_future(accept())
        except StoreError as error:  # a store may know before it makes a future
            raise told(error) from None
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting[stored] = (answer, told)
        self._waiting_rows += rows
        stored.add_done_callback(partial(self._done, ended, rows))
        if self._timer is None:
            self._watch()
        return answer

    def _done(self, ended: "Callable[[asyncio.Future[Any]], None]", rows: int, stored: "asyncio.Future[Any]") -> None:
        answer, told = self._waiting.pop(stored)
        self._waiting_rows -= rows
        self._moved_at = elapsed_s()
        error = StoreFailed("the store closed") if stored.cancelled() else stored.exception()
        ended(stored)
        if answer.done():
            return  # it got a 503, or its connection is gone: the client learns the outcome when it repeats the post
        if error is None:
            answer.set_result(stored.result())
        else:
            _refuse(answer, told(error) if isinstance(error, StoreError) else error)

    def _bound_s(self) -> float:
        return self._patience_s + self._waiting_rows / self._inbox.slowest_rows_s

    def _stalled(self) -> bool:
        return elapsed_s() - self._moved_at > self._bound_s()

    def _watch(self) -> None:
        """Refuse all waiting requests when nothing was committed for too long. Runs only while a request waits."""
        self._timer = None
        if not self._waiting:
            return
        if self._stalled():
            for answer, told in self._waiting.values():
                if not answer.done():
                    _refuse(answer, told(_not_committing()))
            return  # the next request starts the watch again, or is refused at once
        left_s = self._moved_at + self._bound_s() - elapsed_s()
        # Timers may fire a little early (uvloop: 1.25 ms); asking again right then would spin.
        self._timer = asyncio.get_running_loop().call_later(max(left_s, 0.0) + 0.002, self._watch)


def _refuse(answer: "asyncio.Future[Any]", error: BaseException) -> None:
    """End an answer by ``error``; that nobody asks for it is no fault: whoever waited may be gone."""
    answer.set_exception(error)
    answer.exception()


def _not_committing() -> StoreFailed:
    return StoreFailed("the store has not committed for a while")
