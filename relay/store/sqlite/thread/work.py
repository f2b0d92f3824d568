"""What is queued to the writing thread, what it asks of its store, and which errors are whose."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import apsw

from relay.core.errors import StoreDamaged
from relay.store.sqlite.file.transaction import Transaction

JOB_ROWS = 20  # a job weighs as much as so many rows in that bound
# Errors that say that the file or the disk is not well. All others come from one request's statements.
DISK_ERRORS = (
    apsw.IOError,
    apsw.FullError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.NoMemError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ProtocolError,
    apsw.PermissionsError,
    apsw.NoLFSError,
)


@dataclass(frozen=True, slots=True)
class WriterHooks:
    """What the writer asks of its store and tells it; the first four are called in the thread, the others on the loop.

    ``check`` raises an error of the disk when the file is no longer in its place. ``recover`` makes the file fit what
    memory holds after a failure. ``totals`` writes what a group changes of the totals, as the last of the group.
    ``wakes`` gives the platforms whose wait a group shortened. ``after_commit`` gets wakes, seconds and rows,
    ``damaged`` what a request met, ``failed`` what went wrong, ``recovered`` how many seconds it lasted.
    """

    check: Callable[[], None]
    recover: Callable[[Transaction], None]
    totals: Callable[[Transaction], None]
    wakes: Callable[[], Iterable[str]]
    after_commit: Callable[[dict[str, int], float, int], None]
    damaged: Callable[[StoreDamaged], None]
    failed: Callable[[BaseException], None]
    recovered: Callable[[float], None]


class Job:
    """A function of the transaction and the future that gets its result.

    The function may raise a ``RelayError`` to refuse, before it has written anything.
    """

    __slots__ = ("future", "run")
    weight = JOB_ROWS

    def __init__(self, future: "asyncio.Future[Any]", run: Callable[[Transaction], Any]) -> None:
        self.future = future
        self.run = run


class Post(Protocol):
    """Rows to accept, prepared on the loop."""

    future: "asyncio.Future[Any]"
    weight: int


class GroupWriter(Protocol):
    """Writes the posts of a group; the answer is one result or refusal per post."""

    def __call__(self, transaction: Transaction, posts: Sequence[Any]) -> list[Any]:
        """Write all posts that are not refused."""
        ...


# What runs together in a group: one job, or posts that are written by the same statements.
Unit = Job | list[Any]
Finished = tuple["asyncio.Future[Any]", Any, BaseException | None]


class BadUnit(Exception):
    """One unit's code failed; the group must run again without it."""

    def __init__(self, unit: Unit, error: Exception) -> None:
        super().__init__(str(error))
        self.unit = unit
        self.error = error


def without(units: list[Unit], bad: BadUnit) -> list[Finished]:
    """Take the unit that failed out of a group, or its posts apart; return what is answered by that."""
    at = units.index(bad.unit)
    if isinstance(bad.unit, list):
        if len(bad.unit) > 1:
            units[at : at + 1] = [[post] for post in bad.unit]
            return []
        work = bad.unit[0]
    else:
        work = bad.unit
    del units[at]
    return [(work.future, None, bad.error)]
