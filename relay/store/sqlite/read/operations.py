"""What the store tells of an operation: how far it has come, and what it set aside."""

from collections.abc import Callable
from typing import Any

import msgspec

from relay.sealing.codec import NOBODY, Column
from relay.store.sqlite.file.sealed_values import Seals
from relay.views.moments import Instant, moment, read
from relay.views.operation_view import FilterView, OperationOptions, OperationView

COLUMNS = """number, action, matched, done, skipped, failed, started_at, finished_at, filter, options,
  (SELECT count(*) FROM operation_wait AS w WHERE w.operation = number AND w.batch <> 0), sealed_key"""
PROGRESS = f"SELECT {COLUMNS} FROM operation WHERE number = ?"  # noqa: S608 - a constant of this file


def progress(execute: Callable[..., Any], number: int, seals: Seals) -> OperationView | None:
    """Return an operation's progress, or None; ``execute`` is that of any connection."""
    row = execute(PROGRESS, (number,)).get
    return None if row is None else shown(row, seals)


def shown(row: Any, seals: Seals) -> OperationView:
    """Return a row of ``PROGRESS`` as an operation's progress."""
    number, action, matched, done, skipped, failed, started_at, finished_at, wanted, options, waiting, key = row
    meant = msgspec.json.decode(wanted)
    if key is not None:
        meant["key"] = seals.shown(Column.FILTER, NOBODY, number, key)
    return OperationView(
        id=number,
        action=action,
        state="running" if finished_at is None else "done",
        matched=matched,
        done=done,
        skipped=msgspec.json.decode(skipped),
        failed=msgspec.json.decode(failed),
        waiting=waiting,
        started_at=Instant(started_at),
        finished_at=moment(finished_at),
        filter=read(FilterView, meant),
        options=msgspec.json.decode(options, type=OperationOptions),
    )
