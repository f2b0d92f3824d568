"""What is queued to the writing thread, what it asks of its store, and which errors are whose."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import apsw

from relay.core.errors import RelayError, StoreDamaged
from relay.store.sqlite.file.checksums import as_damaged
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


class BadTotals(Exception):
    """What a group changes of the totals cannot be written, because a page is damaged."""

    def __init__(self, error: StoreDamaged) -> None:
        super().__init__(str(error))
        self.error = error


def run_units(
    transaction: Transaction, units: Sequence[Unit], intake: GroupWriter, damaged: Callable[[StoreDamaged], object]
) -> list[Finished]:
    """Run the units of a group; return their answers. Raises ``BadUnit`` and errors of the disk.

    ``damaged`` is told of damaged content, which is the answer of the unit that met it.
    """
    done: list[Finished] = []
    for unit in units:
        try:
            if isinstance(unit, list):
                for post, result in zip(unit, intake(transaction, unit), strict=True):
                    refused = isinstance(result, BaseException)
                    done.append((post.future, None, result) if refused else (post.future, result, None))
            else:
                done.append((unit.future, unit.run(transaction), None))
        except (*DISK_ERRORS, StoreDamaged) as error:
            if (found := as_damaged(error)) is None:
                raise
            damaged(found)
            raise BadUnit(unit, found) from error
        except RelayError as refusal:
            assert isinstance(unit, Job), "the intake returns refusals"
            done.append((unit.future, None, refusal))
        except Exception as error:  # whatever one request's code raises is that request's answer, not the group's
            raise BadUnit(unit, error) from error
    return done


def works_of(units: Sequence[Unit]) -> list[Any]:
    """Return the jobs and posts of a group, in its order."""
    return [work for unit in units for work in (unit if isinstance(unit, list) else [unit])]


def answered_alone(units: list[Unit], error: Exception) -> list[Finished]:
    """Take a job or post that is alone out of its group, answered with ``error``; of more, nobody is answered yet."""
    works = works_of(units)
    if len(works) > 1:
        return []
    units.clear()
    return [(work.future, None, error) for work in works]


def halves(units: Sequence[Unit]) -> list[list[Any]]:
    """Return the jobs and posts of a group as two groups, without empty ones."""
    works = works_of(units)
    middle = len(works) // 2
    return [half for half in (works[:middle], works[middle:]) if half]


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
