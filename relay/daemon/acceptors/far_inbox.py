"""The store as an acceptor sees it: rows go over the stream, and the answer comes back after their commit."""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from relay.core.errors import IdempotencyConflict, NoTarget, RelayError, StoreFailed, StoreFull
from relay.core.model import Accepted, AcceptedPosts, Cancelled, NewCallback, RoutedPost
from relay.daemon.acceptors.duplex import AskState, Done, Duplex, Failed, FoundState, Posts, Rows
from relay.store.base import OWN_ROWS_S


class FarInbox:
    """A ``store.base.Inbox`` on the other end of a stream."""

    def __init__(self, stream: Duplex) -> None:
        self._stream = stream
        self.slowest_rows_s = OWN_ROWS_S  # of the daemon's store, which the configuration tells
        self._number = 0
        self._asked: dict[int, asyncio.Future[Any]] = {}

    def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
        """Queue ``rows`` durably, all or none."""
        number, future = self._ask()
        self._stream.send(Rows(number, list(rows)))
        return future

    def accept_posts(self, posts: Sequence[RoutedPost]) -> "asyncio.Future[AcceptedPosts]":
        """Queue the rows of routed posts durably, all or none."""
        number, future = self._ask()
        self._stream.send(Posts(number, list(posts)))
        return future

    async def state(self, callback_id: str) -> str | None:
        """Return the state of a callback; None if there is none. Raises ``StoreFailed``."""
        number, future = self._ask()
        self._stream.send(AskState(number, callback_id))
        found: str | None = await future
        return found

    def cancel(self, callback_id: str) -> "asyncio.Future[Cancelled]":
        """Not here: such requests are the daemon's."""
        self._not_here()

    def cancel_key(self, platform: str, key: str) -> "asyncio.Future[Cancelled]":
        """Not here: such requests are the daemon's."""
        self._not_here()

    @staticmethod
    def _not_here() -> NoReturn:
        raise AssertionError("an acceptor serves posts alone")

    def _ask(self) -> tuple[int, "asyncio.Future[Any]"]:
        self._number += 1
        future = self._asked[self._number] = asyncio.get_running_loop().create_future()
        return self._number, future

    def answered(self, message: Done | Failed | FoundState) -> None:
        """Take what the daemon says became of a request."""
        future = self._asked.pop(message.number)
        if future.done():
            return  # its caller went away
        match message:
            case Done(ids=ids, duplicates=duplicates):
                kind: Any = AcceptedPosts if ids and isinstance(ids[0], dict) else Accepted
                future.set_result(kind(ids, frozenset(duplicates)))
            case Failed():
                future.set_exception(_error(message))
            case FoundState(failed=True):
                future.set_exception(StoreFailed("the store cannot be read now"))
            case FoundState(state=state):
                future.set_result(state)


def failure(number: int, error: BaseException) -> Failed:
    """Return what tells an acceptor of an error of the store."""
    match error:
        case IdempotencyConflict() | NoTarget():
            return Failed(number, type(error).__name__, "", error.index)
        case StoreFull():
            return Failed(number, StoreFull.__name__, str(error))
        case RelayError():
            return Failed(number, StoreFailed.__name__, str(error))
        case _:  # a bug, whose message may hold anything
            return Failed(number, StoreFailed.__name__, type(error).__name__)


def _error(message: Failed) -> RelayError:
    match message.kind:
        case IdempotencyConflict.__name__:
            return IdempotencyConflict(message.index)
        case NoTarget.__name__:
            return NoTarget(message.index)
        case StoreFull.__name__:
            return StoreFull(message.text)
        case _:
            return StoreFailed(message.text)
