"""Shows on standard error how far long work has come: one line with a bar, gone when the work ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relay.cli.support.human import duration
from relay.core.clock import elapsed_s
from relay.simulate.record import Record

_EVERY_S = 0.25  # often enough to be seen moving
_BAR = 20  # columns
_TITLE = 24  # columns; with the bar it leaves 34 of 80 to words such as "1h59m of 2h30m, 1,234,567 pending"

Move = Callable[[float, str], None]
"""Says how much is done, in the unit of the bar's total, and the same in words."""


@contextmanager
def bar(title: str, total: float) -> Iterator[Move]:
    """Show a bar until the block ends, and yield what moves it. Only for a standard error that is a terminal.

    The line is never longer than 80 columns. Of a long ``title``, such as a path, it shows the end.
    """
    from rich.console import Console  # loaded only for work that is long and watched
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=_BAR),
        TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True)),
    )
    title = title if len(title) <= _TITLE else f"…{title[1 - _TITLE :]}"
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=1 / _EVERY_S) as shown:
        task = shown.add_task(title, total=total, words="")
        yield lambda done, words: shown.update(task, completed=done, words=words)


class Watched(Record):
    """The record of a simulation that moves a bar; ``for_s`` is how long callbacks come in, in virtual seconds."""

    def __init__(self, move: Move, for_s: float) -> None:
        super().__init__()
        self._move = move
        self._for_s = for_s
        self._moved_s = elapsed_s()

    def level(self, at_s: float, *, pending: int, waiting: int) -> None:
        """Note the backlog; four times a second say where the virtual time is."""
        super().level(at_s, pending=pending, waiting=waiting)
        now_s = elapsed_s()
        if now_s - self._moved_s > _EVERY_S:
            self._moved_s = now_s
            self._move(at_s, f"{duration(at_s)} of {duration(self._for_s)}, {pending:,} pending")
